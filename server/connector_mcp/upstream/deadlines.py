"""Ends calls that take too long, with one timer for all of a client's calls.

As all of them have the same time, the one that began first is due first. What that buys: a scope of anyio for each
call, with a timer set and taken back for an event that hardly ever comes, takes five times as long (58 function calls
instead of 13).
"""

from __future__ import annotations

import asyncio
from typing import Final

_AGAIN: Final = 0.05
"""Seconds after which a call is looked at again that is being cancelled by somebody else."""


class Running:
    """A call under way in the current task."""

    __slots__ = ("_before", "_expired", "_task", "due")

    def __init__(self, due: float) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a call outside of any task")
        self.due = due
        self._task = task
        self._before = task.cancelling()
        self._expired = False

    def expire(self) -> bool:
        """Cancel it, unless somebody else is just doing that, who then decides what becomes of the task."""
        if self._task.cancelling() != self._before:
            return False
        self._expired = True
        self._task.cancel()
        return True

    def has_expired(self) -> bool:
        """Whether the time is what ended it. To be asked once, of a call that was cancelled."""
        if not self._expired:
            return False
        self._expired = False
        return self._task.uncancel() <= self._before


class Deadlines:
    """Bounds calls to `seconds` each. Belongs to one event loop."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._running: dict[Running, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> Running:
        """A call begins. When its time is over, its task is cancelled; `end` must be called in any case."""
        loop = asyncio.get_running_loop()
        running = Running(loop.time() + self._seconds)
        self._running[running] = None
        if self._timer is None:
            self._timer = loop.call_at(running.due, self._look)
        return running

    def end(self, running: Running) -> None:
        """A call is over."""
        self._running.pop(running, None)
        running.has_expired()

    def close(self) -> None:
        """No more calls begin."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        loop = asyncio.get_running_loop()
        now = loop.time()
        for running in list(self._running):
            if running.due > now:
                self._timer = self._timer or loop.call_at(running.due, self._look)
                return
            if running.expire():
                del self._running[running]
            else:
                self._timer = self._timer or loop.call_at(now + _AGAIN, self._look)
