"""Limits of the HTTP server, and the checks of a posted message before the SDK gets it."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qs

from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from connector_mcp.json_values import JsonObject, members
from connector_mcp.transport.auth.authorization import ScopeCheck
from connector_mcp.transport.auth.principal import Principal
from connector_mcp.transport.http.host_guard import json_error, rpc_error, values_of
from connector_mcp.transport.mcp.tools import MAX_CALLS, RETRY_AFTER, CallsInFlight
from connector_mcp.transport.streams import has_invalid_id
from connector_mcp.upstream.rate import SharedRateLimit

_PRINCIPALS: Final = 1024
"""Number of principals that are remembered before the idle ones are removed."""

_ROUNDING: Final = 0.0001


@dataclass(frozen=True)
class HttpLimits:
    """Limits of one process. The settings with these names say more.

    `body_bytes` is the size of a request's body. A client has `patience` seconds to send a body, or to read a part of
    an answer; a reverse proxy must limit the time for a request's head. `calls` is the number of concurrent tool calls,
    and `sessions` the number of open sessions and streams of one caller.
    """

    body_bytes: int = 4_194_304
    connections: int = 10_000
    patience: float = 30.0
    calls: int = MAX_CALLS
    sessions: int = 256


class RequestRate:
    """Limits the requests of a principal: a minute's worth at once, then at an even rate.

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
        if not wait:
            # Counted while the store works too, so that its loss does not let a minute's worth through again.
            own = self._take(principal)
            wait = own if wait is None else 0.0
        return math.ceil(wait)

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
            await _too_many("rate_limited", "You made too many requests within a minute.", wait)(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def _too_many(error: str, message: str, wait: int) -> Response:
    return json_error(429, error, message, {"Retry-After": str(wait)}, retry_after=wait)


MAX_UNREAD: Final = 256
"""Posted messages of one session that wait for the server to read them."""

_SESSION: Final = b"mcp-session-id"
RETRY_SESSION: Final = 60


class MessageGuard:
    """An ASGI application around an endpoint of the SDK. It reads the body of each POST once.

    It answers 413 to a body that is too large, 400 to an id that is not valid or that a request in flight of the same
    session has, 429 to a call beyond the bound on calls in flight, and what `scopes` says to a call without the scope
    that it needs. The SDK takes a request with an invalid id for a notification, and mixes up the answers to two
    requests with the same id.
    """

    def __init__(self, app: ASGIApp, calls: CallsInFlight, body_bytes: int, scopes: ScopeCheck | None = None) -> None:
        self._app = app
        self._calls = calls
        self._body_bytes = body_bytes
        self._scopes = scopes
        self._ids: set[tuple[object, str]] = set()
        self._unread = Counter[object]()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        body: bytes | Response | None = None
        # In the 2026-07-28 protocol the headers tell which tool is called before the body does.
        if self._scopes and values_of(scope, b"mcp-method") == ["tools/call"]:
            body = await self._scopes.refusal(scope, next(iter(values_of(scope, b"mcp-name")), None))
        body = body or await self._read_body(scope, receive)
        if isinstance(body, Response):
            await body(scope, receive, send)
        elif body is not None:
            await self._check(body, scope, _replay(body, receive), send)

    async def _read_body(self, scope: Scope, receive: Receive) -> bytes | Response | None:
        """Read the body; a response refuses one that is too large, None means that the client has gone."""
        body, more = bytearray(), True
        declared = values_of(scope, b"content-length")
        size = int(declared[0]) if declared and declared[0].isdecimal() else 0
        while more and max(size, len(body)) <= self._body_bytes:
            event = await receive()
            if event["type"] != "http.request":
                return None
            body += event.get("body", b"")
            more = event.get("more_body", False)
        if max(size, len(body)) > self._body_bytes:
            return PlainTextResponse("Request body too large", 413)
        return bytes(body)

    async def _check(self, body: bytes, scope: Scope, receive: Receive, send: Send) -> None:
        message, session = _decode(body), _session_of(scope)
        is_call = message.get("method") == "tools/call"
        request_id = str(message["id"]) if "method" in message and "id" in message else None
        key = None if session is None or request_id is None else (session, request_id)
        if has_invalid_id(message):
            refusal = rpc_error(400, "An id must be an integer or a string.")
        elif key in self._ids:
            refusal = rpc_error(400, "A request with this id is already in flight in this session.")
        elif is_call and self._calls.is_full:
            refusal = _too_many("busy", "The server is already running as many calls as it takes.", RETRY_AFTER)
        elif session is not None and self._unread[session] >= MAX_UNREAD:
            refusal = _too_many("busy", "The server has yet to read earlier messages of this session.", RETRY_AFTER)
        else:
            refusal = None
            if is_call and self._scopes:
                name, number = members(message.get("params")).get("name"), message.get("id")
                refusal = await self._scopes.refusal(scope, name, number)
                scope, send = self._scopes.watch(scope, receive, send, number)
        if refusal is None:
            await self._pass_on(session, key, scope, receive, send)
        else:
            await refusal(scope, receive, send)

    async def _pass_on(
        self, session: object, key: tuple[object, str] | None, scope: Scope, receive: Receive, send: Send
    ) -> None:
        if session is None:
            await self._app(scope, receive, send)
            return

        async def send_and_release(message: Message) -> None:
            # Released before the last part goes out: the client may use the id again as soon as it has read that.
            if key is not None and message["type"] == "http.response.body" and not message.get("more_body", False):
                self._ids.discard(key)
            await send(message)

        self._unread[session] += 1
        if key is not None:
            self._ids.add(key)
        try:
            await self._app(scope, receive, send_and_release)
        finally:
            self._unread[session] -= 1
            if not self._unread[session]:
                del self._unread[session]
            if key is not None:
                self._ids.discard(key)


SESSION_SECONDS: Final = 1_800.0
"""Seconds without a request after which a session ends; the SDK's default."""


@dataclass
class _Session:
    used_at: float
    requests: int = 0


class SessionQuota:
    """Bounds the sessions on `/mcp` and the streams on `/sse` of each principal. Callers without a token are one.

    A session counts from the request that opens it until its owner deletes it, or until it was idle for
    `SESSION_SECONDS`. Requests of the 2026-07-28 protocol have no session.
    """

    def __init__(self, most: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._open: dict[str | None, dict[object, _Session]] = {}

    def refusal(self, scope: Scope) -> Response | None:
        """Return the response that refuses another session, or None if the principal may have one."""
        if self._count(_principal_of(scope)) < self._most:
            return None
        message = f"You have {self._most} sessions open, the most for one caller. End one with DELETE, or wait."
        return _too_many("too_many_sessions", message, RETRY_SESSION)

    async def serve(
        self, app: ASGIApp, scope: Scope, receive: Receive, send: Send, key: object, *, keeps: bool
    ) -> None:
        """Serve a request of the session `key`, or one that opens a session; `keeps` if that outlives the request."""
        theirs = self._open.setdefault(principal := _principal_of(scope), {})
        is_new = not isinstance(key, str)
        session = theirs.setdefault(key, _Session(self._clock())) if is_new else theirs.get(key, _Session(0))
        session.requests += 1

        async def send_and_note(message: Message) -> None:
            if message["type"] == "http.response.start":
                is_fine = 200 <= message["status"] < 300
                if is_new and keeps and is_fine and (given := values_of(message, _SESSION)):
                    theirs.pop(key, None)
                    theirs[given[0]] = session
                elif not is_new and ((scope["method"] == "DELETE" and is_fine) or message["status"] == 404):
                    theirs.pop(key, None)
            await send(message)

        try:
            await app(scope, receive, send_and_note)
        finally:
            session.requests -= 1
            session.used_at = self._clock()
            if is_new:
                theirs.pop(key, None)
            if not theirs:
                self._open.pop(principal, None)

    def _count(self, principal: str | None) -> int:
        """Forget the idle sessions of a principal and count the others."""
        theirs, now = self._open.get(principal, {}), self._clock()
        for key, session in list(theirs.items()):
            if not session.requests and now - session.used_at >= SESSION_SECONDS:
                del theirs[key]
        return len(theirs)


class SessionGuard:
    """An ASGI application around an endpoint with sessions. With `streams`, each request is one while it lasts."""

    def __init__(self, app: ASGIApp, quota: SessionQuota, *, streams: bool = False) -> None:
        self._app = app
        self._quota = quota
        self._streams = streams

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        named, version = values_of(scope, _SESSION), values_of(scope, b"mcp-protocol-version")
        opens = self._streams or (not named and (not version or version[0] in HANDSHAKE_PROTOCOL_VERSIONS))
        if opens and (refusal := self._quota.refusal(scope)):
            await refusal(scope, receive, send)
        elif opens or named:
            key = named[0] if named and not self._streams else object()
            await self._quota.serve(self._app, scope, receive, send, key, keeps=not self._streams)
        else:
            await self._app(scope, receive, send)


def _principal_of(scope: Scope) -> str | None:
    user = scope.get("user")
    return user.name if isinstance(user, Principal) else None


def _session_of(scope: Scope) -> object:
    """Return a key that is unique to the session among all callers, or None for a request without a session.

    `/mcp` names the session in a header, `/messages/` in the query. Other members of a query name none.
    """
    named = values_of(scope, _SESSION) or parse_qs(scope["query_string"].decode("latin-1")).get("session_id")
    return (_principal_of(scope), named[0]) if named else None


def _decode(body: bytes) -> JsonObject:
    """Return the members of the message, or none if the body is not one JSON object, which the SDK refuses.

    This is the most lenient of the SDK's parsers, so that no call passes unseen: in the 2026-07-28 protocol a body in
    UTF-16 or with a lone surrogate reaches a tool.
    """
    try:
        return members(json.loads(body))
    except (ValueError, RecursionError):
        return {}


def _replay(body: bytes, receive: Receive) -> Receive:
    unread: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return unread.pop() if unread else await receive()

    return replay
