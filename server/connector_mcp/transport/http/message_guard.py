"""What the server checks of a posted message before the SDK gets it."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from mcp_types import INVALID_REQUEST, ErrorData, JSONRPCError
from pydantic_core import from_json
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from connector_mcp.json_values import JsonObject, members
from connector_mcp.transport.auth.principal import Principal
from connector_mcp.transport.http.host_guard import values_of
from connector_mcp.transport.http.limits import too_many
from connector_mcp.transport.mcp.tools import RETRY_AFTER, CallsInFlight
from connector_mcp.transport.streams import has_invalid_id

MAX_UNREAD: Final = 256
"""Posted messages of one session that wait for the server to read them."""

_SESSION: Final = b"mcp-session-id"


class MessageGuard:
    """An ASGI application around an endpoint of the SDK. It reads the body of each POST once.

    It answers 413 to a body that is too large, 400 to an id that is not valid or that a request in flight of the same
    session has, and 429 to a call beyond the bound on calls in flight. The SDK takes a request whose id is not valid
    for a notification, and mixes up the answers to two requests with one id.
    """

    def __init__(self, app: ASGIApp, calls: CallsInFlight, body_bytes: int) -> None:
        self._app = app
        self._calls = calls
        self._body_bytes = body_bytes
        self._ids: set[tuple[object, str]] = set()
        self._unread = Counter[object]()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        body = await self._read_body(scope, receive)
        if isinstance(body, Response):
            await body(scope, receive, send)
        elif body is not None:
            await self._check(body, scope, _replay(body, receive), send)

    async def _read_body(self, scope: Scope, receive: Receive) -> bytes | Response | None:
        """Read the body; a response refuses one that is too large, None means that the client has gone."""
        body = bytearray()
        declared = values_of(scope, b"content-length")
        size = int(declared[0]) if declared and declared[0].isdecimal() else 0
        more = True
        while more:
            if max(size, len(body)) > self._body_bytes:
                return PlainTextResponse("Request body too large", 413)
            event = await receive()
            if event["type"] != "http.request":
                return None
            body += event.get("body", b"")
            more = event.get("more_body", False)
        return bytes(body) if len(body) <= self._body_bytes else PlainTextResponse("Request body too large", 413)

    async def _check(self, body: bytes, scope: Scope, receive: Receive, send: Send) -> None:
        message, session = _decode(body), _session_of(scope)
        request_id = str(message["id"]) if "method" in message and "id" in message else None
        key = None if session is None or request_id is None else (session, request_id)
        if has_invalid_id(message):
            await _invalid("An id must be an integer or a string.")(scope, receive, send)
        elif key in self._ids:
            await _invalid("A request with this id is already in flight in this session.")(scope, receive, send)
        elif message.get("method") == "tools/call" and self._calls.is_full:
            refusal = too_many("busy", "The server is already running as many calls as it takes.", RETRY_AFTER)
            await refusal(scope, receive, send)
        elif session is not None and self._unread[session] >= MAX_UNREAD:
            refusal = too_many("busy", "The server has yet to read earlier messages of this session.", RETRY_AFTER)
            await refusal(scope, receive, send)
        else:
            await self._pass_on(session, key, scope, receive, send)

    async def _pass_on(
        self, session: object, key: tuple[object, str] | None, scope: Scope, receive: Receive, send: Send
    ) -> None:
        if session is None:
            await self._app(scope, receive, send)
            return
        self._unread[session] += 1
        if key is not None:
            self._ids.add(key)
        try:
            await self._app(scope, receive, send)
        finally:
            self._unread[session] -= 1
            if not self._unread[session]:
                del self._unread[session]
            if key is not None:
                self._ids.discard(key)


def _session_of(scope: Scope) -> object:
    """What tells the sessions of all callers apart; None for a request without a session."""
    user = scope.get("user")
    named = values_of(scope, _SESSION)
    session: object = named[0] if named else scope["query_string"]
    return (user.name if isinstance(user, Principal) else None, session) if session else None


def _decode(body: bytes) -> JsonObject:
    """The members of the message; none if the body is not one JSON object, which the SDK refuses."""
    try:
        value: Any = from_json(body)
    except ValueError:
        return {}
    return members(value)


def _replay(body: bytes, receive: Receive) -> Receive:
    unread: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return unread.pop() if unread else await receive()

    return replay


def _invalid(reason: str) -> Response:
    error = JSONRPCError(jsonrpc="2.0", id=None, error=ErrorData(code=INVALID_REQUEST, message=reason))
    text = error.model_dump_json(by_alias=True, exclude_unset=True)
    return Response(text, status_code=400, media_type="application/json")
