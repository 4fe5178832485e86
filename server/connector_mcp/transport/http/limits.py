"""How much callers may have of the server: requests a minute each, and calls at the same time together."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, cast

import orjson
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp_types import CallToolResult, TextContent
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from connector_mcp.errors import ConnectorError, RateLimited
from connector_mcp.transport.auth.principal import Principal
from connector_mcp.transport.http.headers import values_of
from connector_mcp.upstream.rate import SharedRateLimit

RETRY_AFTER: Final = 1
"""Seconds after which one of many calls is likely to have ended."""

_CALL: Final = "tools/call"
_PRINCIPALS: Final = 1024
"""Those that are remembered before it is looked whom to forget."""
_ROUNDING: Final = 0.0001


@dataclass(frozen=True)
class HttpLimits:
    """What one process takes over HTTP. Sizes in bytes, `patience` in seconds; see the settings of these names."""

    body_bytes: int = 4_194_304
    connections: int = 10_000
    patience: float = 30.0
    calls: int = 256


class RequestRate:
    """Requests a minute of one principal: a minute's worth at once, and then one whenever the minute has room for it.

    Replicas count together where they are given `shared` turns; while those are away each counts for itself. `clock` is
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
        self._look_through = _PRINCIPALS

    async def seconds_to_wait(self, principal: str) -> int:
        """Counts a request of this principal; 0 where it may be served, else the seconds until one may."""
        wait = None
        if self._shared is not None:
            # The name may be anything, and as long as the identity provider likes.
            key = hashlib.sha256(principal.encode("utf-8", "surrogatepass")).hexdigest()
            wait = await self._shared.take(f"http:{key}", interval=self._interval, burst=self._burst)
        return math.ceil(self._take(principal) if wait is None else wait)

    def _take(self, principal: str) -> float:
        """What `Turns.take` does, within this process: a library's takes twenty times as long."""
        now = self._clock()
        paid = max(self._paid.get(principal, now), now)
        wait = paid + self._interval - 60 - now
        # Shorter than this, it is what rounding leaves.
        if wait > _ROUNDING:
            return wait
        self._paid[principal] = paid + self._interval
        if len(self._paid) > self._look_through:
            self._paid = {name: until for name, until in self._paid.items() if until > now}
            self._look_through = _PRINCIPALS + 2 * len(self._paid)
        return 0.0


class CallBound:
    """At most so many calls of tools at the same time, whichever HTTP request carries their answers.

    A stream on which a client listens is no call, and neither is the answer to a question that a call asked.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._running = 0

    @property
    def is_reached(self) -> bool:
        """Whether a further call would be refused."""
        return self._running >= self._most

    async def bound_calls(self, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        """MCP middleware that refuses a call for which there is no room."""
        if ctx.method != _CALL:
            return await call_next(ctx)
        if self.is_reached:
            return _busy()
        self._running += 1
        try:
            return await call_next(ctx)
        finally:
            self._running -= 1


class RequestLimits:
    """ASGI middleware: 429 with `Retry-After` to a principal with too many requests, and to calls beyond the bound.

    Who needs no token is nobody in particular, and not counted.
    """

    def __init__(self, app: ASGIApp, calls: CallBound, rate: RequestRate | None, body_bytes: int) -> None:
        self._app = app
        self._calls = calls
        self._rate = rate
        self._body_bytes = body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        user = scope.get("user")
        if self._rate is not None and isinstance(user, Principal):
            wait = await self._rate.seconds_to_wait(user.name)
            if wait:
                await _too_many("rate_limited", "You made too many requests within a minute.", wait)(
                    scope, receive, send
                )
                return
        # The bound is kept by `CallBound`; here it is said in the way that HTTP has for it.
        if scope["type"] == "http" and scope["method"] == "POST" and self._calls.is_reached:
            method = next(iter(values_of(scope, b"mcp-method")), None)
            if method is None:
                body = await self._body(scope, receive)
                if body is not None:
                    method, receive = _method_of(body), _replayed(body, receive)
            if method == _CALL:
                message = "The server has as many calls at the same time as it takes."
                await _too_many("busy", message, RETRY_AFTER)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    async def _body(self, scope: Scope, receive: Receive) -> bytes | None:
        """The body, where it says its size and that is within the limit: what else there is, others refuse."""
        size = next(iter(values_of(scope, b"content-length")), "")
        if not size.isdecimal() or int(size) > self._body_bytes:
            return None
        return await Request(scope, receive).body()


def _method_of(body: bytes) -> str | None:
    try:
        message: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    method: Any = cast("dict[str, Any]", message).get("method") if isinstance(message, dict) else None
    return method if isinstance(method, str) else None


def _replayed(body: bytes, receive: Receive) -> Receive:
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return waiting.pop() if waiting else await receive()

    return replay


def _too_many(error: str, message: str, wait: int) -> Response:
    told = {"error": error, "error_description": message, "retry_after": wait}
    headers = {"Retry-After": str(wait), "Cache-Control": "no-store"}
    return Response(json.dumps(told), status_code=429, media_type="application/json", headers=headers)


def _busy() -> CallToolResult:
    return error_result(
        RateLimited(
            "The server has as many calls at the same time as it takes. Nothing was done.",
            fix="Make the same call again in a moment.",
            retry_after=RETRY_AFTER,
        )
    )


def error_result(error: ConnectorError) -> CallToolResult:
    """The answer to a call that the transport ends by itself, in the form of the engine's."""
    told = error.as_dict()
    return CallToolResult(
        content=[TextContent(text=orjson.dumps({"error": told}).decode())],
        structured_content={"error": told},
        is_error=True,
    )
