"""The rate limit of requests to a platform: of this process, and of all replicas together where they share a store."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

import anyio
from aiolimiter import AsyncLimiter

from connector_mcp.errors import StoreUnavailable

RETRY_STORE_AFTER: Final = 5.0
"""Seconds before an unreachable store is asked again, so that not every request waits for it."""

BLOCK_SECONDS: Final = 0.25
"""How many seconds' worth of requests a process counts at once, so that most requests do not wait for the store.

What it has counted it may send at any later time, so after a quiet period each process may send so many more.
"""

MAX_RESERVATION: Final = 1.0
"""Seconds ahead that a request may be reserved. A reservation that is not used is lost to all replicas."""

logger = logging.getLogger("connector_mcp.upstream")


class RateLimitStore(Protocol):
    """Counts requests by key for all replicas."""

    async def take(self, key: str, *, interval: float, burst: float, longest: float = 0.0) -> float:
        """Count one request and return the seconds until it may go out, 0 for now.

        `burst` requests may go out at once, and one more every `interval` seconds. A request that would have to wait
        for more than `longest` seconds is not counted.

        Raises:
            StoreUnavailable: The store cannot be reached.
        """
        ...


class SharedRateLimit:
    """A rate limit shared by all replicas. The caller falls back to its own limit while the store is unreachable.

    `what` names the counted requests in the log. `clock` is monotonic.
    """

    def __init__(self, store: RateLimitStore, what: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._what = what
        self._clock = clock
        self._unavailable = False
        self._retry_at = 0.0

    async def take(self, key: str, *, interval: float, burst: float, longest: float = 0.0) -> float | None:
        """Count one request as `RateLimitStore.take` does. Return None while the store is unreachable."""
        if self._unavailable:
            now = self._clock()
            if now < self._retry_at:
                return None
            # Only this caller asks again; the others do not wait for the store.
            self._retry_at = now + RETRY_STORE_AFTER
        try:
            wait = await self._store.take(key, interval=interval, burst=burst, longest=longest)
        except StoreUnavailable as failure:
            if not self._unavailable:
                logger.error("%s are counted by this process alone: %s", self._what, failure.message)
            self._unavailable, self._retry_at = True, self._clock() + RETRY_STORE_AFTER
            return None
        if self._unavailable:
            self._unavailable = False
            logger.warning("%s are counted by all replicas together again", self._what)
        return wait


class RateLimiter:
    """Spaces the requests of one account: a burst at once, then `per_second` of them each second.

    With a `shared` limit all replicas keep the rate together under `key`. While its store is unreachable each of them
    keeps the rate by itself, without a burst.
    """

    def __init__(
        self,
        per_second: float,
        burst: float,
        *,
        shared: SharedRateLimit | None = None,
        key: str = "",
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._interval = 1 / per_second
        self._burst = burst
        self._shared = shared
        self._key = key
        self._sleep = sleep
        self._clock = clock
        self._counted: deque[float] = deque()
        """When each request that is counted, and was not made yet, may go out."""
        self._counting = anyio.Lock()
        # When the store is lost, what the replicas have already sent together is not known.
        own_burst = burst if shared is None else 1.0
        self._own = AsyncLimiter(own_burst, own_burst / per_second)

    async def acquire(self) -> None:
        """Return when the next request may go out."""
        if self._shared is None:
            await self._own.acquire()
            return
        async with self._counting:
            if not self._counted:
                await self._count(self._shared)
            due = self._counted.popleft() if self._counted else None
        if due is None:
            await self._own.acquire()
        elif (pause := due - self._clock()) > 0:
            await self._sleep(pause)

    async def _count(self, shared: SharedRateLimit) -> None:
        """Count the next requests. Do nothing while the store is unreachable."""
        count = max(1, int(min(BLOCK_SECONDS / self._interval, self._burst)))
        # For the store they are one request at a lower rate.
        interval, burst = self._interval * count, self._burst / count
        while (
            wait := await shared.take(self._key, interval=interval, burst=burst, longest=MAX_RESERVATION)
        ) is not None:
            if wait <= MAX_RESERVATION:
                last = self._clock() + wait
                self._counted.extend(last - self._interval * later for later in reversed(range(count)))
                return
            await self._sleep(MAX_RESERVATION)
