"""`connector-mcp secrets`: store the secrets that calls refer to as `secret://NAME`. No command prints a value."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from connector_mcp.cli.options import load_settings
from connector_mcp.cli.output import Failure, print_list
from connector_mcp.cli.terminal import is_terminal
from connector_mcp.composition.storage import open_secret_store, open_secrets, secret_record
from connector_mcp.config.settings import Settings
from connector_mcp.errors import Misconfigured
from connector_mcp.input_text import decode, drop_mark
from connector_mcp.operations.catalog import PLATFORMS
from connector_mcp.secrets.reference import KINDS, LONGEST_NAME, SCHEME, SecretLimits, check_hosts, is_name
from connector_mcp.secrets.sources import LARGEST, open_keyring
from connector_mcp.text import clean


@click.group()
def secrets() -> None:
    """Store the secrets that calls refer to, and list them."""


@secrets.command("set")
@click.argument("name")
@click.option("--platform", multiple=True, type=click.Choice(PLATFORMS), help="Allow it for this platform; repeatable.")
@click.option("--profile", multiple=True, metavar="NAME", help="Allow it for this profile; repeatable.")
@click.option("--field", multiple=True, metavar="PATH", help="Allow it in this field, such as secret-key; repeatable.")
@click.option("--host", multiple=True, metavar="HOST", help="Allow it for this host, or *.HOST; repeatable.")
def set_secret(
    name: str, platform: tuple[str, ...], profile: tuple[str, ...], field: tuple[str, ...], host: tuple[str, ...]
) -> None:
    """Store the secret NAME, replacing one of this name.

    The value is typed without echo, or read from standard input if that is not a terminal.
    """
    _require_name(name)
    check_hosts(host, "--host")
    settings = load_settings()
    value = _value()
    open_secret_store(settings).put(name, value, SecretLimits(platform, profile, field, host))
    click.echo(f"{SCHEME}{name} is stored.")
    elsewhere = next((each for each in open_secrets(settings, os.environ).listing() if each.name == name), None)
    if elsewhere is not None and elsewhere.source != "store":
        click.echo(f"It is not used: the {elsewhere.source} has a secret of this name and comes first.", err=True)


@secrets.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
def list_secrets(as_json: bool) -> None:
    """List the secrets, where they may be used and when they last changed."""
    records = [secret_record(listed) for listed in open_secrets(load_settings(), os.environ).listing()]
    rows = (
        (
            str(record["reference"]),
            str(record["source"]),
            *(clean(", ".join(record.get(kind, ("any",)))) for kind in KINDS),
            str(record.get("changed", "unknown")),
        )
        for record in records
    )
    header = ("reference", "source", *KINDS, "changed")
    print_list(records, rows, header=header, as_json=as_json, empty="No secret is stored.")


@secrets.command("rm")
@click.argument("name")
def remove(name: str) -> None:
    """Remove the secret NAME."""
    _require_name(name)
    if not open_secret_store(load_settings()).remove(name):
        raise Failure(
            f"The secret store has no {name}.", fix="`connector-mcp secrets list` shows the names.", exit_status=2
        )
    click.echo(f"{SCHEME}{name} is removed.")


@secrets.command()
def check() -> None:
    """Check that each secret can be read and that files are private. The exit status is 1 if something is wrong."""
    settings = load_settings()
    found = open_secrets(settings, os.environ)
    wrong = 0
    for source in found.sources:
        try:
            for name in source.names():
                fine = bool((source.read(name) or "").strip())
                wrong += not fine
                click.echo(f"{SCHEME}{name}: {'fine' if fine else 'empty'} ({source.title})")
        except Misconfigured as failure:
            wrong += 1
            click.echo(f"{source.title}: {clean(failure.message)}")
            click.echo(f"  fix: {clean(failure.fix)}")
    # A source that cannot be read was reported already, and would make all its names look missing.
    complaints = [f"{SCHEME}{name}: has limits, but is not stored" for name in (found.missing() if not wrong else ())]
    complaints += _exposed(settings)
    if settings.secrets_keyring and open_keyring() is None:
        complaints.append("keyring: not available; install connector-mcp[keyring] and unlock a keyring")
    for complaint in complaints:
        click.echo(complaint)
    wrong += len(complaints)
    click.echo("Nothing is wrong." if not wrong else f"Wrong: {wrong}.")
    sys.exit(1 if wrong else 0)


def _value() -> str:
    if is_terminal(sys.stdin):
        value: str = click.prompt("Value", hide_input=True, confirmation_prompt="Once more", err=True)
    else:
        try:
            value = decode(sys.stdin.buffer.read(4 * LARGEST)).rstrip("\r\n")
        except UnicodeDecodeError:
            raise Failure("The value is not UTF-8 text.", fix="Check the file.", exit_status=2) from None
    if not value.strip():
        raise Failure("The value is empty, so nothing was stored.", fix="Type or pipe the value.", exit_status=2)
    if len(value.encode(errors="replace")) > LARGEST:
        raise Failure(f"The value is larger than {LARGEST} bytes.", fix="Check the file.", exit_status=2)
    return drop_mark(value)


def _require_name(name: str) -> None:
    if not is_name(name):
        raise Failure(
            "This is not a valid name for a secret, so nothing was done.",
            fix=f"Use up to {LONGEST_NAME} letters, digits, _, - and single dots inside. "
            "If it was the value, it is now in your shell's history; leave it out and type it when asked.",
            exit_status=2,
        )


def _exposed(settings: Settings) -> Iterator[str]:
    """Describe our files that other users can read or write."""
    store = open_secret_store(settings).path
    for path in (store, settings.secrets_limits, settings.secrets_dir):
        if path is not None and (what := _open_to_others(path, private=path == store)):
            yield f"{path}: {what}; run `chmod {'600' if path == store else 'go-w'} {path}`"


def _open_to_others(path: Path, *, private: bool) -> str | None:
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return None
    # With the sticky bit, as volumes are mounted, other users can only add files.
    if os.name == "posix" and not mode & stat.S_ISVTX and mode & (0o077 if private else 0o022):
        return f"mode {mode:04o} lets other users {'read' if private and mode & 0o044 else 'change'} it"
    return None
