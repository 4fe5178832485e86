"""Turns at a rate that replicas share. While the store that they share is away each process counts for itself."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

import anyio
from aiolimiter import AsyncLimiter

from connector_mcp.errors import StoreUnavailable

PAUSE: Final = 5.0
"""Seconds for which a store that gave no answer is not asked again, so that not every request waits for it."""

RESERVED: Final = 1.0
"""Seconds ahead that a turn is reserved. A reserved one that is not used is lost to everybody."""

logger = logging.getLogger("connector_mcp.upstream")


class Turns(Protocol):
    """Counts turns by key: `burst` of them at once, and one more every `interval` seconds."""

    async def take(self, key: str, *, interval: float, burst: float, longest: float = 0.0) -> float:
        """Seconds until this turn, 0 where it is now. One that is further away than `longest` is not taken.

        Raises:
            StoreUnavailable: Nobody knows.
        """
        ...


class SharedTurns:
    """Turns out of a store that may be away; `what` names in the log whose they are. `clock` is monotonic."""

    def __init__(self, turns: Turns, what: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._turns = turns
        self._what = what
        self._clock = clock
        self._away = False
        self._ask_again = 0.0

    async def take(self, key: str, *, interval: float, burst: float, longest: float = 0.0) -> float | None:
        """As `Turns.take`; None where the store is away, so that this process has to count by itself."""
        if self._away:
            now = self._clock()
            if now < self._ask_again:
                return None
            # One asks; the others do not wait for what it finds.
            self._ask_again = now + PAUSE
        try:
            wait = await self._turns.take(key, interval=interval, burst=burst, longest=longest)
        except StoreUnavailable as failure:
            if not self._away:
                logger.error("%s are counted by this process alone: %s", self._what, failure.message)
            self._away, self._ask_again = True, self._clock() + PAUSE
            return None
        if self._away:
            self._away = False
            logger.warning("%s are counted by all replicas together again", self._what)
        return wait


class SharedPace:
    """The pace of one account towards its platform: that of all replicas, and this process's own behind it.

    `key` is the account's; `burst` requests may go out at once, and so many every `period` seconds.
    """

    def __init__(
        self,
        turns: SharedTurns,
        key: str,
        burst: float,
        period: float,
        *,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
    ) -> None:
        self._turns = turns
        self._key = key
        self._burst = burst
        self._interval = period / burst
        self._sleep = sleep
        # Always kept, so that it knows where it stands when the store goes away.
        self._own = AsyncLimiter(burst, period)

    async def acquire(self) -> None:
        """Return when the next request may go out."""
        while wait := await self._turns.take(self._key, interval=self._interval, burst=self._burst, longest=RESERVED):
            await self._sleep(min(wait, RESERVED))
            if wait <= RESERVED:
                break
        await self._own.acquire()
