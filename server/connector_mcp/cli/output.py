"""What commands print: JSON, tables, a server's address, and failures as `error:` and `fix:` with an exit status."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator
from io import TextIOWrapper
from typing import TYPE_CHECKING, Any, NoReturn, cast

import click

from connector_mcp.errors import ConnectorError, Internal
from connector_mcp.json_values import JsonObject
from connector_mcp.program import runnable
from connector_mcp.text import CUT, is_visible, strip_hidden

if TYPE_CHECKING:
    from anyio.abc import TaskStatus


INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it: 128 and the number of the signal."""

_PIPE_CLOSED = 141
"""The same for a reader that has gone."""

_NARROWEST = 8
"""Columns below which a value is not cut further."""


class Failure(Exception):
    """Ends a command with an error, a fix and an exit status."""

    def __init__(self, message: str, *, fix: str, exit_status: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.fix = runnable(fix)
        self.exit_status = exit_status


class _Output(TextIOWrapper):
    """Standard output. A failed write ends the command, without a word if the reader has gone."""

    def write(self, text: str, /) -> int:
        try:
            return super().write(text)
        except OSError as error:
            self.fail(error)
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            self.fail(error)

    def fail(self, error: OSError) -> None:
        if error.errno == errno.EPIPE:
            raise Failure("", fix="", exit_status=_PIPE_CLOSED) from error
        raise Failure(f"The output cannot be written: {error.strerror}.", fix="") from error


class _Messages(_Output):
    """Standard error. A failed write does not keep the command from its work."""

    are_lost = False

    def fail(self, error: OSError) -> None:
        self.are_lost |= error.errno != errno.EPIPE


def check_streams() -> None:
    """Handle failed writes to the standard streams of this process."""
    for name, kind in ("stdout", _Output), ("stderr", _Messages):
        old: Any = getattr(sys, name)
        # It is None if the descriptor was closed at the start.
        if old is not None:
            new = kind(old.buffer, old.encoding, old.errors, None, old.line_buffering, old.write_through)
            setattr(sys, name, new)


def end_process(status: int) -> NoReturn:
    """End this process. Messages that could not be written make a success a failure."""
    out = sys.stdout
    if isinstance(out, _Output):
        try:
            out.flush()
        except Failure:
            # Python would try again, and complain.
            os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())
    if status == INTERRUPTED:
        # A thread may still wait for a line from the terminal, and Python would wait for that thread.
        os._exit(status)
    sys.exit(status or int(isinstance(sys.stderr, _Messages) and sys.stderr.are_lost))


def show_failure(message: str, fix: str) -> None:
    """Write `error:` and `fix:` to stderr, or nothing without a message. Further lines of the fix are indented."""
    if message:
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
