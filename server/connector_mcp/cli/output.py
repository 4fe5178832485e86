"""What commands print: JSON, tables, a server's address, and failures as `error:` and `fix:` with an exit status."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, cast

import click

from connector_mcp.errors import ConnectorError, Internal
from connector_mcp.json_values import JsonObject
from connector_mcp.program import runnable
from connector_mcp.text import CUT, is_visible, strip_hidden

if TYPE_CHECKING:
    from anyio.abc import TaskStatus


_NARROWEST = 8
"""Columns below which a value is not cut further."""


class Failure(Exception):
    """Ends a command with an error, a fix and an exit status."""

    def __init__(self, message: str, *, fix: str, exit_status: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.fix = runnable(fix)
        self.exit_status = exit_status


def show_failure(message: str, fix: str) -> None:
    """Write `error:` and `fix:` to stderr. Further lines of the fix are indented."""
    click.echo(f"error: {one_line(message)}", err=True)
    if fix:
        click.echo("fix: " + "\n  ".join(map(one_line, fix.split("\n"))), err=True)


def one_line(text: str) -> str:
    """Return the text without line breaks and invisible characters, so that it cannot begin a line of the output."""
    return " ".join(strip_hidden(text).splitlines())


def as_failure(error: BaseException) -> Failure | ConnectorError | None:
    """Return the failure or `ConnectorError`, also inside exception groups, or None for any other error."""
    if isinstance(error, Failure | ConnectorError):
        return error
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
    """Return aligned columns. On a terminal they fit its width: the widest values are cut, those of the first last."""
    cells = [header, *(tuple(map(one_line, row)) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    room = shutil.get_terminal_size((0, 0)).columns - 2 * (len(header) - 1)
    while 0 < room < sum(widths) and max(widths) > _NARROWEST:
        others = max(widths[1:], default=0)
        widths[widths.index(others, 1) if others > _NARROWEST else 0] -= 1
    padded = [[_cut(cell, width).ljust(width) for cell, width in zip(row, widths, strict=True)] for row in cells]
    return "\n".join("  ".join(row).rstrip() for row in padded)


def _cut(cell: str, width: int) -> str:
    return cell if len(cell) <= width else f"{cell[: width - 1]}{CUT}"


def print_list(
    records: list[JsonObject], rows: Iterable[tuple[str, ...]], *, header: tuple[str, ...], as_json: bool, empty: str
) -> None:
    """Print the records as a JSON array, or else a row for each; without records, print `empty`."""
    if as_json:
        click.echo(json_text(records))
    else:
        click.echo(table(list(rows), header=header) if records else empty)


async def serve_and_announce(
    serve: Callable[..., Awaitable[int]], announce: Callable[[str], Awaitable[None] | None]
) -> int:
    """Run a server until it ends, and return its exit status. `announce` gets the address once the server listens."""
    # Imported here because `--help` and some commands run no event loop.
    import anyio

    status = 1

    async def run(*, task_status: TaskStatus[str]) -> None:
        nonlocal status
        status = await serve(task_status=task_status)

    async with anyio.create_task_group() as tasks:
        announced = announce(await tasks.start(run))
        if announced is not None:
            await announced
    return status
