"""Logs on stderr, as text or as JSON lines, with every secret that the process knows taken out."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from types import TracebackType
from typing import Literal

from pydantic import ValidationError

from connector_mcp.telemetry.events import current_ids

LogFormat = Literal["text", "json"]


class ScrubbedFormatter(logging.Formatter):
    """Scrubs the finished record, traceback included, and adds the ids of the call and the HTTP request it is of.

    A validation error is reduced to where it is: its text repeats the input, which may hold secrets that came with the
    message and that the process does not know.
    """

    def __init__(self, scrub: Callable[[str], str]) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")
        self._scrub = scrub

    def format(self, record: logging.LogRecord) -> str:
        return self._scrub(super().format(record))

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name is the standard library's
        ids = " ".join(f"{name}={value}" for name, value in current_ids().items())
        where = f"{record.name} [{ids}]" if ids else record.name
        return f"{record.asctime} {record.levelname} {where}: {record.message}"

    def formatException(  # noqa: N802 - the name is the standard library's
        self, ei: tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
    ) -> str:
        if isinstance(ei[1], ValidationError):
            places = {".".join(str(step) for step in issue["loc"]) for issue in ei[1].errors(include_input=False)}
            return f"{ei[1].title} is not valid at: {', '.join(sorted(places))}"
        return super().formatException(ei)


class JsonFormatter(ScrubbedFormatter):
    """One JSON object a line. Each text is scrubbed before it is encoded, which would hide a secret with a quote."""

    def format(self, record: logging.LogRecord) -> str:
        members = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            **current_ids(),
            "message": self._scrub(record.getMessage()),
        }
        if record.exc_info:
            members["exception"] = self._scrub(self.formatException(record.exc_info))
        if record.stack_info:
            members["stack"] = self._scrub(self.formatStack(record.stack_info))
        return json.dumps(members)


@contextmanager
def logging_to_stderr(scrub: Callable[[str], str], level: str = "WARNING", form: LogFormat = "text") -> Generator[None]:
    """Log to stderr only, scrubbed, for as long as the context lasts; what was set up before comes back after it."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(scrub) if form == "json" else ScrubbedFormatter(scrub))
    root = logging.getLogger()
    handlers, before = root.handlers, root.level
    root.handlers = [handler]
    root.setLevel(level)
    try:
        yield
    finally:
        root.handlers = handlers
        root.setLevel(before)
