"""How often a login may fail before nobody from there, or nobody at all, may try for a while."""

from __future__ import annotations

import math
import time

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter

from connector_mcp.console.problem import Problem

PER_NETWORK = 10
"""Wrong tokens a minute from one network."""

ALTOGETHER = 200
"""Wrong tokens a minute from anywhere; far more than people mistype, far fewer than guessing takes."""


class Attempts:
    """Counts the failures in this process. Right tokens are never counted."""

    def __init__(self) -> None:
        self._limiter = FixedWindowRateLimiter(MemoryStorage())
        self._one = RateLimitItemPerMinute(PER_NETWORK)
        self._all = RateLimitItemPerMinute(ALTOGETHER)

    def check(self, network: str) -> None:
        """To be called before a token is looked at.

        Raises:
            Problem: Too many were wrong.
        """
        for limit, who in ((self._one, network), (self._all, "")):
            if not self._limiter.test(limit, "console", who):
                resets_at = self._limiter.get_window_stats(limit, "console", who).reset_time
                raise Problem(
                    429,
                    "Too many attempts",
                    "Too many wrong tokens were tried, so this one was not looked at.",
                    "Try again in a minute.",
                    retry_after=max(1, math.ceil(resets_at - time.time())),
                )

    def failed(self, network: str) -> None:
        """Count a wrong token."""
        self._limiter.hit(self._one, "console", network)
        self._limiter.hit(self._all, "console", "")
