"""The person at the terminal: whether there is one, and how they are asked."""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Mapping
from typing import Any, TextIO

import anyio.to_thread
import click

from connector_mcp.composition.health import LocalCaller
from connector_mcp.engine.caller import CannotAsk, ElicitationReply, Question
from connector_mcp.errors import Blocked
from connector_mcp.json_values import JsonObject
from connector_mcp.text import strip_hidden


def is_terminal(stream: TextIO) -> bool:
    """Check that the stream is a terminal, by its file descriptor and not by the object in front of it."""
    try:
        return os.isatty(stream.fileno())
    except (OSError, ValueError):
        return False


def person_present() -> bool:
    """Check that a person can read a question (stderr) and type an answer (stdin)."""
    return is_terminal(sys.stdin) and is_terminal(sys.stderr)


def user_name() -> str:
    """Return the name of the user of this process, or nothing if it is not known."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""


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
        super().__init__()
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
