"""The lines of the log: without known secrets, with the ids of the call and of the HTTP request.

What a caller or a platform says can be part of a message, an id or an exception. It can neither begin a line nor steer
a terminal: control and invisible characters are written as JSON escapes, and only the lines of a traceback follow that
of their record, each after `MARGIN`.
"""

from __future__ import annotations

import json
import logging
import re
import traceback
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Final, Self

from pydantic import ValidationError

from connector_mcp.telemetry.events import current_ids

MARGIN: Final = "  | "

_FRAME: Final = re.compile(r'[ |+-]*File "')


class ScrubbedFormatter(logging.Formatter):
    """One line per record, and a line for each of its traceback. `scrub` removes known secrets.

    Of a validation error only the location is shown: its text repeats the input, which may hold secrets that came with
    the message and that the process does not know.
    """

    def __init__(self, scrub: Callable[[str], str]) -> None:
        super().__init__()
        self._scrub = scrub

    def format(self, record: logging.LogRecord) -> str:
        ids = " ".join(f"{name}={value}" for name, value in current_ids().items())
        where = f"{record.name} [{ids}]" if ids else record.name
        head = f"{self.formatTime(record)} {record.levelname} {where}: {message_of(record)}"
        return f"\n{MARGIN}".join([escape(self._scrub(head)), *self.exception(record), *self.stack(record)])

    def exception(self, record: logging.LogRecord) -> list[str]:
        """Return the lines of the exception that was logged with the record, or of a `Trace` among its arguments."""
        error = record.exc_info[1] if record.exc_info else None
        if error is None:
            return [line for trace in _traces(record) for line in trace.lines]
        if isinstance(error, ValidationError):
            places = {".".join(str(step) for step in issue["loc"]) for issue in error.errors(include_input=False)}
            return [escape(self._scrub(f"{error.title} is not valid at: {', '.join(sorted(places))}"))]
        return trace_lines(traceback.format_exception(error), self._scrub)

    def stack(self, record: logging.LogRecord) -> list[str]:
        """Return the lines of the stack that was logged with the record."""
        return trace_lines((record.stack_info or "").splitlines(), self._scrub)


class JsonFormatter(ScrubbedFormatter):
    """One JSON object per line. Secrets are removed before encoding, which could change how a secret looks."""

    def format(self, record: logging.LogRecord) -> str:
        members = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            **current_ids(),
            "message": self._scrub(message_of(record)),
        }
        if exception := self.exception(record):
            members["exception"] = "\n".join(exception)
        if stack := self.stack(record):
            members["stack"] = "\n".join(stack)
        return json.dumps(members)


class Trace(str):
    """A traceback as the last argument of a message. Unlike other text, it is written on lines of its own."""

    lines: Sequence[str]

    @classmethod
    def of(cls, chunks: Iterable[str], scrub: Callable[[str], str]) -> Self:
        """Make one of what `traceback.format_exception` returns. `scrub` removes secrets."""
        lines = trace_lines(chunks, scrub)
        trace = cls("".join(f"\n{MARGIN}{line}" for line in lines))
        trace.lines = lines
        return trace


def message_of(record: logging.LogRecord) -> str:
    """Return the message of a record without the traces among its arguments."""
    message = record.getMessage()
    for trace in _traces(record):
        message = message.replace(trace, "")
    return message


def _traces(record: logging.LogRecord) -> list[Trace]:
    return [each for each in record.args if isinstance(each, Trace)] if isinstance(record.args, tuple) else []


def trace_lines(chunks: Iterable[str], scrub: Callable[[str], str]) -> list[str]:
    """Return the lines of a traceback as `traceback.format_exception` makes it, without known secrets.

    The text of an exception is one line, whatever it contains.
    """
    lines: list[str] = []
    for chunk in chunks:
        text = scrub(chunk.strip("\n"))
        # Only a frame has several lines that are not text of an exception.
        lines += map(escape, text.split("\n") if _FRAME.match(text) else [text])
    return lines


def escape(text: str) -> str:
    """Return the text on one line, with what cannot be seen as JSON escapes."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else json.dumps(character)[1:-1] for character in text)
