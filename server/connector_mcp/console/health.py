"""The platforms' health: looked at when somebody asks, and kept until somebody asks again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import anyio

from connector_mcp.json_values import JsonObject

FRESH_SECONDS = 10.0
"""For how long a check is as good as another one."""

PATIENCE_SECONDS = 10.0
"""After how long a check is given up."""


@dataclass(frozen=True)
class Checkup:
    """What a check found. `platforms` is None where it did not come to an end in time."""

    at: float
    platforms: Sequence[JsonObject] | None


class Health:
    """The last check."""

    def __init__(self, check: Callable[[], Awaitable[Sequence[JsonObject]]], clock: Callable[[], float]) -> None:
        self._check = check
        self._clock = clock
        self._one_at_a_time = anyio.Lock()
        self.last: Checkup | None = None

    async def check(self) -> None:
        """Check anew, unless that was just done."""
        async with self._one_at_a_time:
            if self.last is not None and self._clock() - self.last.at < FRESH_SECONDS:
                return
            found = None
            with anyio.move_on_after(PATIENCE_SECONDS):
                found = await self._check()
            self.last = Checkup(self._clock(), found)
