"""Logs on stderr, with every secret that the process knows taken out."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import TracebackType

from pydantic import ValidationError


class ScrubbedFormatter(logging.Formatter):
    """Scrubs the finished record, traceback included.

    A validation error is reduced to where it is: its text repeats the input, which may hold secrets that came with the
    message and that the process does not know.
    """

    def __init__(self, scrub: Callable[[str], str]) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")
        self._scrub = scrub

    def format(self, record: logging.LogRecord) -> str:
        return self._scrub(super().format(record))

    def formatException(  # noqa: N802 - the name is the standard library's
        self, ei: tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
    ) -> str:
        if isinstance(ei[1], ValidationError):
            places = {".".join(str(step) for step in issue["loc"]) for issue in ei[1].errors(include_input=False)}
            return f"{ei[1].title} is not valid at: {', '.join(sorted(places))}"
        return super().formatException(ei)


@contextmanager
def logging_to_stderr(scrub: Callable[[str], str], level: str = "WARNING") -> Generator[None]:
    """Log to stderr only, scrubbed, for as long as the context lasts; what was set up before comes back after it."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(ScrubbedFormatter(scrub))
    root = logging.getLogger()
    handlers, before = root.handlers, root.level
    root.handlers = [handler]
    root.setLevel(level)
    try:
        yield
    finally:
        root.handlers = handlers
        root.setLevel(before)
