"""What commands print, and how they ask the person at the terminal."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any, TextIO, cast

import anyio.to_thread
import click

from connector_mcp.composition.health import LocalCaller
from connector_mcp.engine.caller import CannotAsk, ElicitationReply, Question
from connector_mcp.errors import Blocked, ConnectorError, Internal
from connector_mcp.json_values import JsonObject
from connector_mcp.text import is_visible, strip_hidden


class Failure(Exception):
    """Ends a command with an error, a fix and an exit status."""

    def __init__(self, message: str, *, fix: str, exit_status: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.fix = fix
        self.exit_status = exit_status


def show_failure(message: str, fix: str) -> None:
    """Write `error:` and `fix:` to stderr."""
    click.echo(f"error: {strip_hidden(message)}", err=True)
    if fix:
        click.echo(f"fix: {strip_hidden(fix)}", err=True)


def as_failure(error: BaseException) -> Failure | None:
    """Return the failure for a `ConnectorError`, also inside exception groups, or None for any other error."""
    if isinstance(error, Failure):
        return error
    if isinstance(error, ConnectorError):
        return Failure(error.message, fix=error.fix, exit_status=error.exit_status)
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        failures = [as_failure(inner) for inner in group.exceptions]
        return failures[0] if all(failures) else None
    return None


def exit_status_of(code: str) -> int:
    """Return the exit status of an error code; an unknown code gets that of an internal error."""
    return next((each.exit_status for each in _subclasses(ConnectorError) if each.code == code), Internal.exit_status)


def _subclasses(root: type[ConnectorError]) -> Iterator[type[ConnectorError]]:
    for child in root.__subclasses__():
        yield child
        yield from _subclasses(child)


def json_text(value: Any, *, indent: int | None = 2) -> str:
    """Return the value as readable JSON that is safe on a terminal: invisible characters are escaped."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    return re.sub(r"[^\n\x20-\x7e]", _escape_hidden, text)


def _escape_hidden(match: re.Match[str]) -> str:
    character = match.group()
    return character if is_visible(character) else json.dumps(character)[1:-1]


def table(rows: list[tuple[str, ...]], *, header: tuple[str, ...]) -> str:
    """Return aligned columns; the last one is not padded."""
    cells = [header, *rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header) - 1)]
    padded = [[cell.ljust(width) for cell, width in zip(row, [*widths, 0], strict=True)] for row in cells]
    return "\n".join("  ".join(row).rstrip() for row in padded)


def is_terminal(stream: TextIO) -> bool:
    """Check that the stream is a terminal, by its file descriptor and not by the object in front of it."""
    try:
        return os.isatty(stream.fileno())
    except (OSError, ValueError):
        return False


def person_present() -> bool:
    """Check that a person can read a question (stderr) and type an answer (stdin)."""
    return is_terminal(sys.stdin) and is_terminal(sys.stderr)


def require_terminal(present: bool, outcome: str, command: str) -> None:
    """Raise unless a person is `present`: a pipe may be an agent's.

    Raises:
        Blocked: `outcome` says what was not done, `command` how a person does it.
    """
    if not present:
        raise Blocked(
            f"There is no terminal, so {outcome}: a pipe may be an agent's.",
            fix=f"A person runs `connector-mcp {command}` in a terminal.",
        )


class CliCaller(LocalCaller):
    """The caller of `connector-mcp call`: the person who types, if there is a terminal."""

    def __init__(self, *, can_ask: bool | None = None) -> None:
        self.can_ask = person_present() if can_ask is None else can_ask

    async def ask(self, question: Question, ticket: str) -> ElicitationReply:
        """Show the question on stderr and read the form's values from the terminal."""
        if not self.can_ask:
            raise CannotAsk
        return await anyio.to_thread.run_sync(ask_form, question, abandon_on_cancel=True)

    async def progress(self, message: str) -> None:
        click.echo(strip_hidden(message), err=True)


def ask_form(question: Question) -> ElicitationReply:
    """Ask for each member of the form. An empty answer or a no declines, the end of the input cancels."""
    click.echo("\n" + strip_hidden(question.message) + "\n", err=True)
    content: dict[str, Any] = {}
    properties: Mapping[str, JsonObject] = question.schema.get("properties", {})
    for name, schema in properties.items():
        try:
            value = _ask_member(name, schema)
        except (click.Abort, EOFError, KeyboardInterrupt):
            return ElicitationReply("cancel", {})
        if value is None:
            return ElicitationReply("decline", {})
        content[name] = value
    return ElicitationReply("accept", content)


def _ask_member(name: str, schema: JsonObject) -> Any:
    label = strip_hidden(str(schema.get("title") or schema.get("description") or name)).rstrip(":.?")
    if schema.get("type") == "boolean":
        return True if click.confirm(label, default=False, err=True) else None
    choices = [strip_hidden(str(choice)) for choice in schema.get("enum", ())]
    hint = f" ({', '.join(choices)})" if choices else ""
    typed: str = click.prompt(f"{label}{hint}, or nothing to decline", default="", show_default=False, err=True)
    return typed or None
