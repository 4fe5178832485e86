"""`connector-mcp tokens`: make bearer tokens, of which a file keeps the digests, and list them."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from connector_mcp.cli.options import load_settings
from connector_mcp.cli.output.failures import Failure
from connector_mcp.cli.output.text import json_text, table
from connector_mcp.transport.auth.principal import SCOPES
from connector_mcp.transport.auth.static_tokens import (
    StaticToken,
    TokenFile,
    append_token,
    new_secret,
    parse_tokens,
    token_entry,
)

_UNITS = {"d": 86_400, "h": 3_600, "m": 60}
_LONGEST = 3_650 * 86_400

_FILE = click.option(
    "--file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="The file.  [default: CONNECTOR_MCP_TOKENS_FILE]",
)


@click.group()
def tokens() -> None:
    """Make the bearer tokens of HTTP callers, and see those there are."""


@tokens.command()
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice([scope.partition(":")[2] for scope in SCOPES]),
    help="What the token allows; repeatable. None includes another.",
)
@click.option("--operator", is_flag=True, help="Make a token of an operator, which has no scopes.")
@click.option("--expires", metavar="TIME", help="How long it holds: 90d, 12h or 30m. Without it, until it is removed.")
@click.option("--append", is_flag=True, help="Add the entry to the file, for which a server need not be restarted.")
@_FILE
def new(
    name: str, scopes: tuple[str, ...], operator: bool, expires: str | None, append: bool, file: Path | None
) -> None:
    """Print a fresh token for NAME, this once, and the entry that a file of tokens needs of it."""
    if operator == bool(scopes):
        raise click.UsageError("Give --scope at least once, or --operator, and not both.")
    granted = None if operator else [f"connectors:{scope}" for scope in scopes]
    secret = new_secret()
    token = replace(StaticToken.from_secret(secret, name=name, scopes=granted), expires=_moment(expires))
    # Also where nothing is appended, so that the entry is one that a server takes.
    parse_tokens(token_entry(token), "The new token", scoped=not operator)
    if append:
        path = _chosen(file, operator=operator)
        append_token(path, token)
        click.echo(f"Added {name} to {path}. This is the token; it is shown only now:", err=True)
        click.echo(secret)
        return
    if file is not None:
        raise click.UsageError("--file is for --append; without it nothing is written.")
    click.echo(f"{secret}\n\n{token_entry(token)}", nl=False)


@tokens.command("list")
@click.option("--operators", is_flag=True, help="The file is one of operators.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
@_FILE
def list_tokens(operators: bool, as_json: bool, file: Path | None) -> None:
    """List the names in the file, with what each may do and until when."""
    held = TokenFile(_chosen(file, operator=operators), scoped=not operators).tokens()
    records = [
        {
            "name": token.name,
            "scopes": None if token.scopes is None else [scope for scope in SCOPES if scope in token.scopes],
            "expires": None if token.expires is None else f"{token.expires.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
            "expired": token.has_expired(),
        }
        for token in held
    ]
    if as_json:
        click.echo(json_text(records))
    elif records:
        rows = [
            (
                str(record["name"]),
                " ".join(scope.partition(":")[2] for scope in SCOPES if scope in (token.scopes or ())) or "operator",
                str(record["expires"] or "never") + (" (has expired)" if record["expired"] else ""),
            )
            for token, record in zip(held, records, strict=True)
        ]
        click.echo(table(rows, header=("name", "allows", "expires")))
    else:
        click.echo("The file holds no token.")


def _chosen(file: Path | None, *, operator: bool) -> Path:
    # Tokens of operators and of callers are never in one file, so only the latter's is known.
    path = file or (None if operator else load_settings().tokens_file)
    if path is None:
        raise Failure(
            "There is no file to look for tokens in.",
            fix="Name one with --file" + ("." if operator else ", or set CONNECTOR_MCP_TOKENS_FILE."),
            exit_status=2,
        )
    return path


def _moment(text: str | None) -> datetime | None:
    if text is None:
        return None
    parts = re.fullmatch(r"([1-9][0-9]{0,5})([dhm])", text)
    seconds = int(parts[1]) * _UNITS[parts[2]] if parts else 0
    if not 0 < seconds <= _LONGEST:
        raise click.BadParameter("write such as 90d, 12h or 30m, up to ten years.", param_hint="--expires")
    return datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=seconds)
