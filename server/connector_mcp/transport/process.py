"""What both transports do to the process: logs on stderr, and the signals that end it."""

from __future__ import annotations

import gc
import json
import logging
import signal
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from types import TracebackType
from typing import Final, Literal

import anyio
from pydantic import ValidationError

from connector_mcp.telemetry.events import current_ids

LogFormat = Literal["text", "json"]

QUIET: Final = ("mcp", "sse_starlette")
"""Loggers that write down whole messages below WARNING, with secrets that the process does not know."""


class ScrubbedFormatter(logging.Formatter):
    """Removes known secrets from the record, its traceback included, and adds the ids of the call and HTTP request.

    Of a validation error only the location is shown: its text repeats the input, which may hold secrets that came with
    the message and that the process does not know.
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
    """One JSON object per line. Secrets are removed before encoding, which could change how a secret looks."""

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
    """Log to stderr only, without known secrets, until the context ends; then restore the previous set-up.

    The loggers in `QUIET` stay at WARNING or above, whatever the level.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(scrub) if form == "json" else ScrubbedFormatter(scrub))
    root = logging.getLogger()
    quiet = [logging.getLogger(name) for name in QUIET]
    handlers, levels = root.handlers, [logger.level for logger in (root, *quiet)]
    root.handlers = [handler]
    root.setLevel(level)
    for logger in quiet:
        logger.setLevel(max(root.level, logging.WARNING))
    try:
        yield
    finally:
        root.handlers = handlers
        for logger, before in zip((root, *quiet), levels, strict=True):
            logger.setLevel(before)


# A server that ends because it was told to has not failed. An interrupt is reported as shells expect it.
EXIT_STATUS = {signal.SIGTERM: 0, signal.SIGINT: 130}


async def ending_signal() -> int:
    """Wait for SIGTERM or SIGINT and return the exit status that it asks for.

    Afterwards both have their default effect again, so that a second signal ends a server that hangs.
    """
    if sys.platform == "win32":
        # Event loops cannot handle signals there; an interrupt arrives as KeyboardInterrupt.
        await anyio.sleep_forever()
    with anyio.open_signal_receiver(*EXIT_STATUS) as signals:
        received = await anext(signals)
    return EXIT_STATUS[received]


def exempt_from_garbage_collection() -> None:
    """Keep the garbage collector from searching what exists now: mostly modules and classes, which last to the end."""
    gc.collect()
    gc.freeze()
