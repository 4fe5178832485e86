"""Time that passes at once, so that a test of a time limit neither waits nor depends on how fast the machine is."""

from __future__ import annotations

import asyncio
from typing import Any


def let_pass(seconds: float) -> None:
    """Let all timers of the running event loop, those of time limits too, see so many seconds pass."""
    loop: Any = asyncio.get_running_loop()
    time = loop.time
    loop.time = lambda: time() + seconds
