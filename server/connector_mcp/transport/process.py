"""Process-wide set-up of both transports: logs on stderr, and the signals that end the process."""

from __future__ import annotations

import gc
import logging
import signal
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Final, Literal

import anyio

from connector_mcp.telemetry.log_lines import JsonFormatter, ScrubbedFormatter

LogFormat = Literal["text", "json"]

QUIET: Final = ("mcp", "sse_starlette")
"""Loggers that write down whole messages below WARNING, with secrets that the process does not know."""


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
