"""The person at the terminal: whether there is one, and asking them."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any, TextIO

import anyio.to_thread
import click

from connector_mcp import __version__
from connector_mcp.cli.output.text import printable
from connector_mcp.engine.caller import CannotAsk, ElicitationReply, Question, Resumed, TransportName, Visit
from connector_mcp.json_values import JsonObject


def is_terminal(stream: TextIO) -> bool:
    """Whether the stream is a terminal; asks its file descriptor, not the object put before it."""
    try:
        return os.isatty(stream.fileno())
    except (OSError, ValueError):
        return False


def person_present() -> bool:
    """Whether a person can read a question (stderr) and type an answer (stdin)."""
    return is_terminal(sys.stdin) and is_terminal(sys.stderr)


class CliCaller:
    """The caller of `connector-mcp call` and `doctor`: the person who types, where there is a terminal."""

    principal: str = "local"
    client: str | None = f"connector-mcp {__version__}"
    transport: TransportName = "cli"
    scopes: frozenset[str] | None = None
    resumed: Resumed | None = None
    gone: bool = False

    def __init__(self, *, can_ask: bool | None = None) -> None:
        self.can_ask = person_present() if can_ask is None else can_ask

    async def ask(self, question: Question, ticket: str) -> ElicitationReply:
        """Show the question on stderr and read the form's values from the terminal."""
        if not self.can_ask:
            raise CannotAsk
        return await anyio.to_thread.run_sync(ask_form, question, abandon_on_cancel=True)

    @property
    def can_send(self) -> bool:
        return False

    async def send_to(self, visit: Visit, ticket: str) -> ElicitationReply:
        raise CannotAsk

    async def visited(self, visit: Visit) -> None:
        """Nobody was sent to a page."""

    async def progress(self, message: str) -> None:
        click.echo(printable(message), err=True)


def ask_form(question: Question) -> ElicitationReply:
    """Ask for each member of the form in turn. An empty answer or a no declines, the end of the input cancels."""
    click.echo("\n" + printable(question.message) + "\n", err=True)
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
    label = printable(str(schema.get("title") or schema.get("description") or name)).rstrip(":.?")
    if schema.get("type") == "boolean":
        return True if click.confirm(label, default=False, err=True) else None
    choices = [str(choice) for choice in schema.get("enum", ())]
    hint = f" ({', '.join(printable(choice) for choice in choices)})" if choices else ""
    typed: str = click.prompt(f"{label}{hint}, or nothing to decline", default="", show_default=False, err=True)
    if not typed:
        return None
    return typed
