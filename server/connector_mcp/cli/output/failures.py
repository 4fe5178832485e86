"""How a failure ends a command: two lines on stderr, `error:` and `fix:`, and the exit status of its code."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import click

from connector_mcp.cli.output.text import printable
from connector_mcp.errors import ConnectorError, Internal


class Failure(Exception):
    """Ends the command with these two lines and this status."""

    def __init__(self, message: str, *, fix: str, exit_status: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.fix = fix
        self.exit_status = exit_status


def show_failure(message: str, fix: str) -> None:
    """Write the two lines to stderr."""
    click.echo(f"error: {printable(message)}", err=True)
    if fix:
        click.echo(f"fix: {printable(fix)}", err=True)


def as_failure(error: BaseException) -> Failure | None:
    """The failure that an error of ours is, also when task groups are wrapped around it; None for any other error."""
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
    """The exit status that belongs to an error code; that of a fault of ours for a code that is not in the set."""
    return next((each.exit_status for each in _tree(ConnectorError) if each.code == code), Internal.exit_status)


def _tree(root: type[ConnectorError]) -> Iterator[type[ConnectorError]]:
    for child in root.__subclasses__():
        yield child
        yield from _tree(child)
