"""The way past the SDK's HTTP transports for what nearly every request is: a call of a tool that exists.

Whatever is not, or is not beyond reproach, goes to the SDK as it came, which judges it. So there is one place where
requests are refused, and it is the SDK's. The call itself goes through the SDK's own dispatch and middleware.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import anyio
from anyio.abc import TaskGroup
from mcp.server.connection import Connection
from mcp.server.lowlevel.server import Server
from mcp.server.runner import ServerRunner
from mcp.server.streamable_http import MCP_SESSION_ID_HEADER
from mcp.shared.inbound import (
    MCP_METHOD_HEADER,
    MCP_NAME_HEADER,
    MCP_PROTOCOL_VERSION_HEADER,
    InboundModernRoute,
    classify_inbound_request,
)
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS, MODERN_PROTOCOL_VERSIONS
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from connector_mcp.transport.event_stream import PATH as MESSAGES
from connector_mcp.transport.event_stream import EventStreams
from connector_mcp.transport.exchange import Exchange
from connector_mcp.transport.http.headers import Headers, headers_of
from connector_mcp.transport.http_answer import HttpAnswer
from connector_mcp.transport.posted import Calls, is_json, message_of, read_body
from connector_mcp.transport.sessions import OpenSession, Sessions

PATH: Final = "/mcp"
ACCEPTED: Final = frozenset({b"application/json", b"text/event-stream"})

_USUAL: Final = b"application/json, text/event-stream"

_SESSION: Final = MCP_SESSION_ID_HEADER.encode()
_VERSION: Final = MCP_PROTOCOL_VERSION_HEADER.encode()
_ROUTING: Final = tuple(
    (name, name.encode()) for name in (MCP_PROTOCOL_VERSION_HEADER, MCP_METHOD_HEADER, MCP_NAME_HEADER)
)
_MODERN: Final = frozenset(version.encode() for version in MODERN_PROTOCOL_VERSIONS)
_VERSIONS: Final = _MODERN | {version.encode() for version in HANDSHAKE_PROTOCOL_VERSIONS} | {b""}
_EMPTY: Final = (b"content-length", b"0")


class DirectCalls:
    """Answers calls of tools; `around` is the ASGI middleware, `running` is to be open while it serves.

    `streams` are the clients of `/sse`. Bodies of more than `body_bytes` are the SDK's to refuse.
    """

    def __init__(
        self, server: Server[dict[str, Any]], hanging_up: anyio.Event, streams: EventStreams, body_bytes: int
    ) -> None:
        self._server = server
        self._hanging_up = hanging_up
        self._streams = streams
        self._body_bytes = body_bytes
        self._sessions = Sessions(server)
        self._calls = Calls(server.get_tool_input_schema)
        self._tasks: TaskGroup | None = None
        self._latest: tuple[InboundModernRoute, Connection] | None = None

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Hold the tasks that watch over slow calls."""
        async with anyio.create_task_group() as self._tasks:
            yield
            self._tasks.cancel_scope.cancel()

    def around(self, app: ASGIApp) -> ASGIApp:
        """The application, without the calls that need not reach it."""

        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http" and (headers := headers_of(scope)) is not None:
                if scope["path"] == PATH:
                    await self._serve_streamable(app, headers, scope, receive, send)
                    return
                if scope["path"] == MESSAGES and scope["method"] == "POST" and is_json(headers, self._body_bytes):
                    await self._serve_messages(app, scope, receive, send)
                    return
            await app(scope, receive, send)

        return serve

    async def _serve_streamable(
        self, app: ASGIApp, headers: Headers, scope: Scope, receive: Receive, send: Send
    ) -> None:
        known = headers.get(_SESSION, b"")
        opened = self._sessions.get(known)
        if scope["method"] == "POST" and is_json(headers, self._body_bytes) and _takes_either_form(headers):
            body, receive = await read_body(receive, self._body_bytes)
            message = None if body is None else message_of(body)
            if message is not None:
                if await self._answered(message, headers, opened, scope, receive, send):
                    return
                if not known and message.get("method") == "initialize":
                    send = self._noting_sessions(message, scope, send)
            if known:
                send = self._noting_ends(known, scope, send)
        elif opened is not None:
            send = self._noting_ends(known, scope, send)
        await app(scope, receive, send)

    async def _serve_messages(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        stream = self._streams.of(scope)
        if stream is not None:
            body, receive = await read_body(receive, self._body_bytes)
            message = None if body is None else message_of(body)
            if message is not None and await stream.took(message, self._calls, Request(scope, receive), send):
                return
        await app(scope, receive, send)

    async def _answered(
        self,
        message: dict[str, Any],
        headers: Headers,
        opened: OpenSession | None,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> bool:
        if self._tasks is None:
            return False
        is_call = self._calls.include(message)
        if headers.get(_VERSION, b"") in _MODERN:
            connection = self._connection(message, headers) if is_call else None
            if connection is None:
                return False
            answer = HttpAnswer(receive, send)
            exchange = Exchange(Request(scope, receive), message, answer)
            await answer.make(exchange, ServerRunner(self._server, connection, {}), self._tasks)
            return True
        if opened is None or not opened.may_pass_by(scope):
            return False
        session = opened.session
        if is_call:
            answer = HttpAnswer(receive, send, opened.headers)
            exchange = Exchange(Request(scope, receive), message, answer, session.channel)
            session.began(exchange)
            try:
                await answer.make(exchange, session.runner, self._tasks, self._hanging_up)
            finally:
                session.ended(exchange)
            return True
        if session.hear(message):
            await send({"type": "http.response.start", "status": 202, "headers": [*opened.headers, _EMPTY]})
            await send({"type": "http.response.body"})
            return True
        return False

    def _connection(self, message: Mapping[str, Any], headers: Headers) -> Connection | None:
        """What a 2026-07-28 request says of its client, None where anything is wrong with its envelope."""
        routing = {name: headers[key].decode("latin-1") for name, key in _ROUTING if key in headers}
        route = classify_inbound_request(message, headers=routing)
        if not isinstance(route, InboundModernRoute):
            return None
        info, capabilities = route.client_info, route.client_capabilities
        latest = self._latest
        if latest is not None and latest[0] == route and (told := latest[1].client_params) is not None:
            # Most clients are alike: models are taken as they are, and not made again.
            info, capabilities = told.client_info, told.capabilities
        connection = Connection.from_envelope(route.protocol_version, info, capabilities)
        self._latest = route, connection
        return connection

    def _noting_sessions(self, message: Mapping[str, Any], scope: Scope, send: Send) -> Send:
        """Know the sessions that the SDK opens."""

        async def noting(event: Message) -> None:
            if event["type"] == "http.response.start" and event["status"] == 200:
                identifier = dict(event["headers"]).get(_SESSION)
                if identifier:
                    self._sessions.opened(identifier, message.get("params"), scope)
            await send(event)

        return noting

    def _noting_ends(self, known: bytes, scope: Scope, send: Send) -> Send:
        """Know the sessions that the SDK ends, and those that it sees used."""

        async def noting(event: Message) -> None:
            if event["type"] == "http.response.start":
                if event["status"] == 404 or (scope["method"] == "DELETE" and event["status"] < 300):
                    self._sessions.ended(known)
                elif event["status"] < 300:
                    self._sessions.shown(known)
            await send(event)

        return noting


def _takes_either_form(headers: Headers) -> bool:
    """Whether the client takes JSON and events, and speaks a revision of the protocol that there is."""
    accepted = headers.get(b"accept", b"")
    if accepted != _USUAL and not {part.strip() for part in accepted.split(b",")} >= ACCEPTED:
        return False
    return headers.get(_VERSION, b"") in _VERSIONS
