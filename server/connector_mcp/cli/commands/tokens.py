"""`connector-mcp tokens`: generate bearer tokens, of which a file keeps the digests, and list them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from connector_mcp.cli.options import load_settings, parse_duration
from connector_mcp.cli.output import Failure, print_list
from connector_mcp.json_values import JsonObject
from connector_mcp.transport.auth.principal import SCOPES
from connector_mcp.transport.auth.static_tokens import (
    StaticToken,
    TokenFile,
    append_token,
    new_secret,
    parse_tokens,
    token_entry,
)

_LONGEST = timedelta(days=3_650)

_FILE = click.option(
    "--file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="The file.  [default: CONNECTOR_MCP_TOKENS_FILE]",
)


@click.group()
def tokens() -> None:
    """Generate the bearer tokens of HTTP callers, and list them."""


@tokens.command()
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice([scope.partition(":")[2] for scope in SCOPES]),
    help="What the token allows; repeatable. No scope includes another.",
)
@click.option("--profile", "profiles", multiple=True, metavar="NAME", help="Act only under this profile; repeatable.")
@click.option("--operator", is_flag=True, help="Generate an operator's token, which has no scopes.")
@click.option("--expires", metavar="TIME", help="How long it is valid: 90d, 12h or 30m; by default forever.")
@click.option("--append", is_flag=True, help="Add the entry to the file. A running server picks it up.")
@_FILE
def new(
    name: str,
    scopes: tuple[str, ...],
    profiles: tuple[str, ...],
    operator: bool,
    expires: str | None,
    append: bool,
    file: Path | None,
) -> None:
    """Generate a token for NAME, print it once, and print its entry for a file of tokens."""
    if operator == bool(scopes):
        raise click.UsageError("Give either --scope, at least once, or --operator.")
    granted = None if operator else [f"connectors:{scope}" for scope in scopes]
    if operator and profiles:
        raise click.UsageError("--profile is for callers: operators act under none.")
    secret = new_secret()
    token = replace(
        StaticToken.from_secret(secret, name=name, scopes=granted),
        profiles=frozenset(profiles) or None,
        expires=_moment(expires),
    )
    # Checked even if nothing is appended, so that a server accepts the printed entry.
    parse_tokens(token_entry(token), "The new token", scoped=not operator)
    if append:
        path = _chosen(file, operator=operator)
        append_token(path, token)
        click.echo(f"Added {name} to {path}. This is the token; it is shown only once:", err=True)
        click.echo(secret)
        return
    if file is not None:
        raise click.UsageError("--file needs --append; without that, no file is written.")
    click.echo(f"{secret}\n\n{token_entry(token)}", nl=False)


@tokens.command("list")
@click.option("--operators", is_flag=True, help="The file holds operators' tokens.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
@_FILE
def list_tokens(operators: bool, as_json: bool, file: Path | None) -> None:
    """List the names in the file, what each token allows, and when it expires."""
    records: list[JsonObject] = [
        {
            "name": token.name,
            "scopes": None if token.scopes is None else [scope for scope in SCOPES if scope in token.scopes],
            "profiles": None if token.profiles is None else sorted(token.profiles),
            "expires": None if token.expires is None else f"{token.expires.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
            "expired": token.has_expired(),
        }
        for token in TokenFile(_chosen(file, operator=operators), scoped=not operators).tokens()
    ]
    rows = (
        (
            str(record["name"]),
            (" ".join(scope.partition(":")[2] for scope in record["scopes"] or ()) or "operator")
            + (f" (only profile {', '.join(record['profiles'])})" if record["profiles"] else ""),
            str(record["expires"] or "never") + (" (expired)" if record["expired"] else ""),
        )
        for record in records
    )
    header = ("name", "allows", "expires")
    print_list(records, rows, header=header, as_json=as_json, empty="The file holds no token.")


def _chosen(file: Path | None, *, operator: bool) -> Path:
    # Operators' tokens have a file of their own, which no setting of callers names.
    path = file or (None if operator else load_settings().tokens_file)
    if path is None:
        raise Failure(
            "No file of tokens is named.",
            fix="Name one with --file" + ("." if operator else ", or set CONNECTOR_MCP_TOKENS_FILE."),
            exit_status=2,
        )
    return path


def _moment(text: str | None) -> datetime | None:
    if text is None:
        return None
    duration = parse_duration(text)
    if duration is None or duration > _LONGEST:
        raise click.BadParameter("write for example 90d, 12h or 30m, up to ten years.", param_hint="--expires")
    return datetime.now(UTC).replace(microsecond=0) + duration
