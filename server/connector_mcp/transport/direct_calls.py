"""The way past the SDK's HTTP transport for what nearly every request is: a call of a tool that exists.

Whatever is not, or is not beyond reproach, goes to the SDK as it came, which judges it. So there is one place where
requests are refused, and it is the SDK's. The call itself goes through the SDK's own dispatch and middleware.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, cast

import anyio
from anyio.abc import TaskGroup
from mcp.server.connection import Connection
from mcp.server.lowlevel.server import Server
from mcp.server.runner import ServerRunner
from mcp.server.streamable_http import MCP_SESSION_ID_HEADER
from mcp.server.transport_security import DEFAULT_MAX_REQUEST_BODY_SIZE
from mcp.shared.inbound import (
    InboundModernRoute,
    classify_inbound_request,
    find_duplicated_routing_header,
    x_mcp_header_map,
)
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS, MODERN_PROTOCOL_VERSIONS
from pydantic_core import from_json
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from connector_mcp.transport.exchange import Exchange
from connector_mcp.transport.sessions import Session, Sessions

PATH: Final = "/mcp"
ACCEPTED: Final = frozenset({"application/json", "text/event-stream"})

_VERSION: Final = b"mcp-protocol-version"
_SESSION: Final = MCP_SESSION_ID_HEADER.encode()
_MEMBERS: Final = frozenset({"jsonrpc", "id", "method", "params"})


class DirectCalls:
    """Answers calls of tools; `around` is the ASGI middleware, `running` is to be open while it serves."""

    def __init__(self, server: Server[dict[str, Any]], hanging_up: anyio.Event) -> None:
        self._server = server
        self._hanging_up = hanging_up
        self._sessions = Sessions(server)
        self._tasks: TaskGroup | None = None
        self._simple: dict[str, bool] = {}

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Hold the tasks that watch over slow calls."""
        async with anyio.create_task_group() as self._tasks:
            yield
            self._tasks.cancel_scope.cancel()

    def around(self, app: ASGIApp) -> ASGIApp:
        """The application, without the calls that need not reach it."""

        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http" or scope["path"] != PATH:
                await app(scope, receive, send)
                return
            headers = _single(scope)
            if headers is None:
                await app(scope, receive, send)
                return
            known = headers.get(_SESSION, b"").decode("latin-1")
            session = self._sessions.get(known)
            if scope["method"] == "POST" and _is_ordinary(headers):
                body, receive = await _read(receive)
                if body is not None and await self._answered(body, headers, session, scope, receive, send):
                    return
                send = self._noting_sessions(body, known, scope, send)
            elif session is not None:
                send = self._noting_ends(known, scope, send)
            await app(scope, receive, send)

        return serve

    async def _answered(
        self,
        body: bytes,
        headers: Mapping[bytes, bytes],
        session: Session | None,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> bool:
        message = _message(body)
        if message is None or self._tasks is None:
            return False
        modern = headers.get(_VERSION, b"").decode("latin-1") in MODERN_PROTOCOL_VERSIONS
        if not modern and session is not None and session.may_pass_by(scope) and session.hear(message):
            await send({"type": "http.response.start", "status": 202, "headers": [*session.headers, _EMPTY]})
            await send({"type": "http.response.body"})
            return True
        if not self._is_call(message):
            return False
        request = Request(scope, receive)
        if modern:
            route = _route(message, request)
            if route is None:
                return False
            connection = Connection.from_envelope(route.protocol_version, route.client_info, route.client_capabilities)
            runner = ServerRunner(self._server, connection, {})
            exchange = Exchange(request, send, message, tasks=self._tasks, hanging_up=self._hanging_up)
            await exchange.run(lambda context: runner.on_request(context, message["method"], message["params"]))
            return True
        if session is None or not session.may_pass_by(scope):
            return False
        exchange = Exchange(request, send, message, tasks=self._tasks, hanging_up=self._hanging_up, channel=session)
        await session.call(exchange, message)
        return True

    def _is_call(self, message: Mapping[str, Any]) -> bool:
        """Whether this is a call, well-formed, of a tool that takes nothing from headers."""
        identifier, params = message.get("id"), message.get("params")
        if message.get("method") != "tools/call" or not message.keys() <= _MEMBERS or message.get("jsonrpc") != "2.0":
            return False
        if isinstance(identifier, bool) or not isinstance(identifier, str | int) or not isinstance(params, dict):
            return False
        name = cast("dict[str, Any]", params).get("name")
        if not isinstance(name, str):
            return False
        simple = self._simple.get(name)
        if simple is None:
            schema = self._server.get_tool_input_schema(name) if self._server.get_tool_input_schema else None
            if schema is None:
                return False
            simple = self._simple[name] = not x_mcp_header_map(schema)
        return simple

    def _noting_sessions(self, body: bytes | None, known: str, scope: Scope, send: Send) -> Send:
        """Know the sessions that the SDK opens, and the ones that it sees used."""
        if known:
            return self._noting_ends(known, scope, send)
        message = _message(body or b"")
        if message is None or message.get("method") != "initialize":
            return send

        async def noting(event: Message) -> None:
            if event["type"] == "http.response.start" and event["status"] == 200:
                identifier = dict(event["headers"]).get(_SESSION)
                if identifier:
                    self._sessions.opened(identifier.decode("latin-1"), message.get("params"), scope)
            await send(event)

        return noting

    def _noting_ends(self, known: str, scope: Scope, send: Send) -> Send:
        async def noting(event: Message) -> None:
            if event["type"] == "http.response.start":
                if event["status"] == 404 or (scope["method"] == "DELETE" and event["status"] < 300):
                    self._sessions.ended(known)
                elif event["status"] < 300:
                    self._sessions.shown(known)
            await send(event)

        return noting


_EMPTY: Final = (b"content-length", b"0")


def _single(scope: Scope) -> dict[bytes, bytes] | None:
    """The headers by name; None where one comes twice, of which nothing is taken for granted."""
    lines: list[tuple[bytes, bytes]] = scope["headers"]
    found = dict(lines)
    return found if len(found) == len(lines) else None


def _is_ordinary(headers: Mapping[bytes, bytes]) -> bool:
    """Whether the SDK would read this body: JSON, of a length that it takes, to be answered in either form."""
    kind = headers.get(b"content-type", b"")
    if kind != b"application/json" and not kind.startswith(b"application/json;"):
        return False
    length = headers.get(b"content-length", b"0")
    if not length.isdigit() or len(length) > 9 or int(length) > DEFAULT_MAX_REQUEST_BODY_SIZE:
        return False
    accepted = {part.strip() for part in headers.get(b"accept", b"").decode("latin-1").split(",")}
    version = headers.get(_VERSION, b"").decode("latin-1")
    return accepted >= ACCEPTED and (not version or version in _VERSIONS)


_VERSIONS: Final = frozenset((*HANDSHAKE_PROTOCOL_VERSIONS, *MODERN_PROTOCOL_VERSIONS))


async def _read(receive: Receive) -> tuple[bytes | None, Receive]:
    """The body, None where it is too long or breaks off, and a `receive` that gives it once more."""
    events: list[Message] = []
    size = 0
    while True:
        event = await receive()
        events.append(event)
        size += len(event.get("body", b""))
        if event["type"] != "http.request" or size > DEFAULT_MAX_REQUEST_BODY_SIZE:
            body = None
            break
        if not event.get("more_body", False):
            body = events[0]["body"] if len(events) == 1 else b"".join(each.get("body", b"") for each in events)
            break
    events.reverse()

    async def again() -> Message:
        return events.pop() if events else await receive()

    return body, again


def _message(body: bytes) -> dict[str, Any] | None:
    try:
        decoded: Any = from_json(body)
    except ValueError:
        return None
    return cast("dict[str, Any]", decoded) if isinstance(decoded, dict) else None


def _route(message: Mapping[str, Any], request: Request) -> InboundModernRoute | None:
    """What the envelope of a 2026-07-28 request says, None where anything is wrong with it."""
    headers = request.headers
    if find_duplicated_routing_header(headers.items()) is not None:
        return None
    verdict = classify_inbound_request(message, headers=dict(headers))
    return verdict if isinstance(verdict, InboundModernRoute) else None
