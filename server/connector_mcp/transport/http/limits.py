"""How much the server takes over HTTP, and how many requests a principal may make."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from connector_mcp.transport.auth.principal import Principal
from connector_mcp.transport.mcp.tools import MAX_CALLS
from connector_mcp.upstream.rate import SharedRateLimit

_PRINCIPALS: Final = 1024
"""How many principals are remembered before the idle ones are removed."""

_ROUNDING: Final = 0.0001


@dataclass(frozen=True)
class HttpLimits:
    """What one process takes over HTTP; the settings of these names say more.

    `body_bytes` is the size of a request's body. `patience` is how many seconds a client has to send a body, or to read
    a part of an answer; a reverse proxy must limit the time for a request's head. `calls` is how many tool calls run at
    the same time.
    """

    body_bytes: int = 4_194_304
    connections: int = 10_000
    patience: float = 30.0
    calls: int = MAX_CALLS


class RequestRate:
    """How many requests a principal may make in a minute: a burst of a minute's worth, then at an even rate.

    With `shared`, replicas count together; while its store is unreachable, each process counts by itself. `clock` is
    monotonic.
    """

    def __init__(
        self, per_minute: int, shared: SharedRateLimit | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._burst = per_minute
        self._interval = 60 / per_minute
        self._shared = shared
        self._clock = clock
        self._paid: dict[str, float] = {}
        self._clean_up_at = _PRINCIPALS

    async def seconds_to_wait(self, principal: str) -> int:
        """Count a request of this principal; return 0 if it may be served, else the seconds until one may."""
        wait = None
        if self._shared is not None:
            # A name may hold any character and be of any length.
            key = hashlib.sha256(principal.encode("utf-8", "surrogatepass")).hexdigest()
            wait = await self._shared.take(f"http:{key}", interval=self._interval, burst=self._burst)
        return math.ceil(self._take(principal) if wait is None else wait)

    def _take(self, principal: str) -> float:
        now = self._clock()
        paid = max(self._paid.get(principal, now), now)
        wait = paid + self._interval - 60 - now
        if wait > _ROUNDING:
            return wait
        self._paid[principal] = paid + self._interval
        if len(self._paid) > self._clean_up_at:
            self._paid = {name: until for name, until in self._paid.items() if until > now}
            self._clean_up_at = _PRINCIPALS + 2 * len(self._paid)
        return 0.0


class RateLimitGuard:
    """ASGI middleware: answer 429 with `Retry-After` to a principal that makes too many requests.

    Without tokens there are no principals to tell apart, and nothing is counted.
    """

    def __init__(self, app: ASGIApp, rate: RequestRate | None) -> None:
        self._app = app
        self._rate = rate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        user = scope.get("user")
        wait = 0
        if self._rate is not None and isinstance(user, Principal):
            wait = await self._rate.seconds_to_wait(user.name)
        if wait:
            refusal = too_many("rate_limited", "You made too many requests within a minute.", wait)
            await refusal(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def too_many(error: str, message: str, wait: int) -> Response:
    """The response with status 429 that says when to try again."""
    content = {"error": error, "error_description": message, "retry_after": wait}
    headers = {"Retry-After": str(wait), "Cache-Control": "no-store"}
    return Response(json.dumps(content), status_code=429, media_type="application/json", headers=headers)
