"""`connector-mcp secrets`: the operator stores what calls refer to as `secret://NAME`. No command prints a value."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from connector_mcp.cli.options import load_settings
from connector_mcp.cli.output.failures import Failure
from connector_mcp.cli.output.terminal import is_terminal
from connector_mcp.cli.output.text import json_text, one_line, table
from connector_mcp.composition.storage import as_record, open_secret_store, open_secrets
from connector_mcp.config.settings import Settings
from connector_mcp.errors import Misconfigured
from connector_mcp.operations.catalog import PLATFORMS
from connector_mcp.secrets.reference import KINDS, LONGEST_NAME, SCHEME, SecretLimits, is_name
from connector_mcp.secrets.sources import LARGEST, open_keyring


@click.group()
def secrets() -> None:
    """Store the secrets that calls refer to, and see where they are."""


@secrets.command("set")
@click.argument("name")
@click.option("--platform", multiple=True, type=click.Choice(PLATFORMS), help="Use it there only; repeatable.")
@click.option("--profile", multiple=True, metavar="NAME", help="Use it under this profile only; repeatable.")
@click.option(
    "--field", multiple=True, metavar="PATH", help="Use it in this field only, such as secret-key; repeatable."
)
def set_secret(name: str, platform: tuple[str, ...], profile: tuple[str, ...], field: tuple[str, ...]) -> None:
    """Store the secret NAME, in place of one that has this name.

    The value is typed without echo, or read from standard input where that is no terminal.
    """
    _insist_on_name(name)
    settings = load_settings()
    value = _value()
    open_secret_store(settings).put(name, value, SecretLimits(platform, profile, field))
    click.echo(f"{SCHEME}{name} is stored.")
    elsewhere = next((each for each in open_secrets(settings, os.environ).listing() if each.name == name), None)
    if elsewhere is not None and elsewhere.source != "store":
        click.echo(f"It is not used: one in the {elsewhere.source} has the same name and comes first.", err=True)


@secrets.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
def list_secrets(as_json: bool) -> None:
    """List the secrets, where they may be used and when they last changed."""
    records = [as_record(listed) for listed in open_secrets(load_settings(), os.environ).listing()]
    if as_json:
        click.echo(json_text(records))
    elif records:
        rows = [
            (
                str(record["reference"]),
                str(record["source"]),
                *(one_line(", ".join(record.get(kind, ("any",)))) for kind in KINDS),
                str(record.get("changed", "not known")),
            )
            for record in records
        ]
        click.echo(table(rows, header=("reference", "source", *KINDS, "changed")))
    else:
        click.echo("No secret is stored.")


@secrets.command("rm")
@click.argument("name")
def remove(name: str) -> None:
    """Forget the secret NAME."""
    _insist_on_name(name)
    if not open_secret_store(load_settings()).remove(name):
        raise Failure(
            f"The secret store holds no {name}.", fix="`connector-mcp secrets list` shows the names.", exit_status=2
        )
    click.echo(f"{SCHEME}{name} is forgotten.")


@secrets.command()
def check() -> None:
    """Check that each secret can be read and its files are private. Ends with status 1 where something is wrong."""
    settings = load_settings()
    found = open_secrets(settings, os.environ)
    wrong = 0
    for source in found.sources:
        try:
            for name in source.names():
                fine = bool((source.read(name) or "").strip())
                wrong += not fine
                click.echo(f"{SCHEME}{name}: {'fine' if fine else 'holds nothing'} ({source.title})")
        except Misconfigured as failure:
            wrong += 1
            click.echo(f"{source.title}: {one_line(failure.message)}")
            click.echo(f"  fix: {one_line(failure.fix)}")
    # A place that cannot be read was told of already.
    for name in found.missing() if not wrong else ():
        wrong += 1
        click.echo(f"{SCHEME}{name}: has limits, and is not stored")
    for complaint in _exposed(settings):
        wrong += 1
        click.echo(complaint)
    if settings.secrets_keyring and open_keyring() is None:
        wrong += 1
        click.echo("keyring: not available; install connector-mcp[keyring] and unlock a keyring")
    click.echo("Nothing is wrong." if not wrong else f"Wrong: {wrong}.")
    sys.exit(1 if wrong else 0)


def _value() -> str:
    if is_terminal(sys.stdin):
        value: str = click.prompt("Value", hide_input=True, confirmation_prompt="Once more", err=True)
    else:
        value = sys.stdin.read(LARGEST + 1).rstrip("\r\n")
    if not value.strip():
        raise Failure("The value is empty, so nothing was stored.", fix="Type or pipe the value.", exit_status=2)
    if len(value.encode(errors="replace")) > LARGEST:
        raise Failure(f"The value is larger than {LARGEST} bytes.", fix="Is it the right file?", exit_status=2)
    return value


def _insist_on_name(name: str) -> None:
    if not is_name(name):
        raise Failure(
            "This cannot be a secret's name, so nothing was done.",
            fix=f"Take up to {LONGEST_NAME} letters, digits, _, - and single dots inside. "
            "If it was the value: it is in your shell's history now; leave it out and type it when asked.",
            exit_status=2,
        )


def _exposed(settings: Settings) -> Iterator[str]:
    """Files of ours that others may read or write."""
    store = open_secret_store(settings).path
    for path in (store, settings.secrets_limits, settings.secrets_dir):
        if path is not None and (what := _open_to_others(path, private=path == store)):
            yield f"{path}: {what}; run `chmod {'600' if path == store else 'go-w'} {path}`"


def _open_to_others(path: Path, *, private: bool) -> str | None:
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return None
    # In a directory with the sticky bit, as volumes are mounted, others can only add to what is there.
    if os.name == "posix" and not mode & stat.S_ISVTX and mode & (0o077 if private else 0o022):
        return f"mode {mode:04o} lets others {'read' if private and mode & 0o044 else 'change'} it"
    return None
