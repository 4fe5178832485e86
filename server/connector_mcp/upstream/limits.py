"""How long, how often, how many at once and how much: the bounds of the shared client."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from aiolimiter import AsyncLimiter


class Pace(Protocol):
    """Lets requests go out one by one."""

    async def acquire(self) -> None:
        """Return when the next request may go out."""
        ...


@dataclass(frozen=True)
class Limits:
    """Times are in seconds, sizes in bytes.

    The phases (`connect`, `read`, `write`) bound the wait for a connection, for the next bytes in and for the next
    bytes out. `deadline` bounds a whole call: waiting for its turn, a token, every attempt and the pauses between them.
    """

    connect: float = 10.0
    read: float = 30.0
    write: float = 30.0
    deadline: float = 50.0
    attempts: int = 4
    first_pause: float = 0.5
    """Upper bound of the random pause before the second attempt; it doubles with each further one."""
    longest_pause: float = 8.0
    answer_bytes: int = 5 * 1024 * 1024
    in_flight: int = 32
    requests_per_second: float | None = None
    """Sustained rate; the platform's own where None, no bound where infinite."""
    burst_seconds: float = 10.0
    """How many seconds' worth of requests may go out at once after a quiet spell."""
    keep_alive: float = 30.0
    """How long an idle connection is kept."""
    make_pace: Callable[[float, float], Pace] = AsyncLimiter
    """Makes the pace of so many requests at once, and so many every so many seconds."""


DEFAULT_LIMITS = Limits()
