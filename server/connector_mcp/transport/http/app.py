"""MCP over HTTP: Streamable HTTP on `/mcp` for both eras, SSE on `/sse` and `/messages/`, and `/healthz`.

Every request passes the same gates in this order: the server is not ending, Host and Origin are ours, the bearer token
is right where one is needed, the caller has not had too much, and only then a route and a body.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
from anyio.abc import TaskStatus
from mcp.server.lowlevel.server import Server
from mcp.server.sse import SseServerTransport
from mcp.server.streamable_http_manager import StreamableHTTPASGIApp, StreamableHTTPSessionManager
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import Receive, Scope, Send

from connector_mcp.engine.engine import Engine
from connector_mcp.errors import Misconfigured
from connector_mcp.transport.auth.authorization import BearerAuthorization, Callers
from connector_mcp.transport.auth.resource_metadata import WELL_KNOWN
from connector_mcp.transport.auth.static_tokens import SETTING, StaticToken, TokenFile
from connector_mcp.transport.direct_calls import DirectCalls
from connector_mcp.transport.event_stream import PATH as MESSAGES
from connector_mcp.transport.event_stream import EventStreams
from connector_mcp.transport.http.host_guard import HostAndOriginGuard, Reach, is_loopback
from connector_mcp.transport.http.limits import CallBound, HttpLimits, RequestLimits, RequestRate
from connector_mcp.transport.http.listener import GRACE, Around, serve_app
from connector_mcp.transport.http.request_ids import RequestIds
from connector_mcp.transport.http.shutdown import Drain
from connector_mcp.transport.logs import logging_to_stderr
from connector_mcp.transport.mcp.server import build_server

if TYPE_CHECKING:
    from connector_mcp.telemetry.spans import Spans
    from connector_mcp.transport.auth.jwt import JwtVerifier


def http_app(
    engine: Engine,
    *,
    request_state_key: bytes,
    reach: Reach,
    callers: Callers | None = None,
    limits: HttpLimits | None = None,
    rate: RequestRate | None = None,
    pages: Sequence[BaseRoute] = (),
    open_paths: Collection[str] = (),
    drain: Drain | None = None,
    spans: Spans | None = None,
) -> Starlette:
    """The ASGI application. Its lifespan runs the sessions of `/mcp`; the engine stays the caller's.

    Without `callers` everybody whom `reach` lets in may call. `pages` are served beside the protocol; those under
    `open_paths` need no token of the callers' and see to their own authorization. `drain` is told of what is in
    flight. With `spans` every request has one.
    """
    return protocol_app(
        build_server(engine, request_state_key=request_state_key, transport="http", spans=spans),
        reach=reach,
        callers=callers or Callers(),
        limits=limits or HttpLimits(),
        rate=rate,
        pages=pages,
        open_paths=open_paths,
        drain=drain or Drain(),
    )


def protocol_app(
    server: Server[dict[str, Any]],
    *,
    reach: Reach,
    callers: Callers,
    limits: HttpLimits,
    rate: RequestRate | None = None,
    pages: Sequence[BaseRoute] = (),
    open_paths: Collection[str] = (),
    drain: Drain,
) -> Starlette:
    """The ASGI application of any MCP server; the arguments are those of `http_app`."""
    calls = CallBound(limits.calls)
    # The innermost answers calls by itself: what bounds and counts them must be outside of it.
    server.middleware[-1:-1] = [calls.bound_calls, drain.count_calls]
    security = reach.as_sdk_settings()
    # Sessions are kept for clients before 2026-07-28: without one there is no way to ask a person anything.
    sessions = StreamableHTTPSessionManager(server, security_settings=security, max_request_body_size=limits.body_bytes)
    sse = SseServerTransport(MESSAGES, security_settings=security, max_request_body_size=limits.body_bytes)
    streams = EventStreams(server)
    server.middleware.insert(0, streams.learn)
    direct = DirectCalls(server, drain.hanging_up, streams, limits.body_bytes)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None]:
        async with direct.running(), sessions.run():
            yield

    return Starlette(
        routes=[
            Route("/mcp", StreamableHTTPASGIApp(sessions)),
            Route("/sse", _SseEndpoint(server, sse, streams), methods=["GET"]),
            Mount(MESSAGES, app=sse.handle_post_message),
            Route("/healthz", _healthz, methods=["GET"]),
            *(callers.resource.routes() if callers.resource else ()),
            *pages,
        ],
        middleware=[
            Middleware(RequestIds),
            Middleware(Around, wrap=drain.requests),
            Middleware(HostAndOriginGuard, reach=reach),
            Middleware(BearerAuthorization, callers=callers, open_paths=(*_open_paths(callers), *open_paths)),
            Middleware(RequestLimits, calls=calls, rate=rate, body_bytes=limits.body_bytes),
            Middleware(Around, wrap=direct.around),
        ],
        lifespan=lifespan,
    )


async def serve_http(
    engine: Engine,
    host: str,
    port: int,
    *,
    tokens: Sequence[StaticToken] = (),
    token_file: TokenFile | None = None,
    oauth: JwtVerifier | None = None,
    limits: HttpLimits | None = None,
    rate: RequestRate | None = None,
    pages: Sequence[BaseRoute] = (),
    open_paths: Collection[str] = (),
    hosts: Collection[str] = (),
    origins: Collection[str] = (),
    grace: float = GRACE,
    drain: Drain | None = None,
    spans: Spans | None = None,
    task_status: TaskStatus[str] = anyio.TASK_STATUS_IGNORED,
) -> int:
    """Serve until a signal ends the server or the caller cancels it; the exit status (0 on SIGTERM, 130 on SIGINT).

    Who may call is whoever has one of `tokens`, one in `token_file` or one that `oauth` verifies; with none of these
    three, anybody on this machine. Port 0 takes any free port. `task_status` gets the server's address,
    `http://host:port`, once it listens. `hosts` and `origins` are let in beside those that `Reach.of` knows; `pages`,
    `open_paths`, `drain` and `spans` are those of `http_app`. Calls in flight have `grace` seconds to finish when the
    server ends, then they are cancelled; they have ended when this returns.

    Raises:
        Misconfigured: The host is beyond loopback and no token is needed, or the address cannot be had.
        ConnectorError: The store does not give the key that seals questions.
    """
    callers, limits = Callers(tokens, token_file, oauth), limits or HttpLimits()
    if callers.allow_anonymous and not is_loopback(host):
        raise Misconfigured(
            f"Serving on {host} without authorization would let anyone on the network use the connectors.",
            fix="Set CONNECTOR_MCP_OAUTH_ISSUER to your identity provider, CONNECTOR_MCP_TOKENS_FILE to a file that "
            f"`connector-mcp tokens new` wrote, or {SETTING} to a long random value; or bind a loopback address such "
            "as 127.0.0.1.",
        )
    key = await engine.request_state_key()

    def app(reach: Reach, drain: Drain) -> Starlette:
        return http_app(
            engine,
            request_state_key=key,
            reach=reach,
            callers=callers,
            limits=limits,
            rate=rate,
            pages=pages,
            open_paths=open_paths,
            drain=drain,
            spans=spans,
        )

    with logging_to_stderr(engine.scrub, engine.settings.log_level, engine.settings.log_format):
        return await serve_app(
            app,
            host,
            port,
            limits=limits,
            hosts=hosts,
            origins=origins,
            grace=grace,
            drain=drain or Drain(engine.end_waiting),
            task_status=task_status,
        )


class _SseEndpoint:
    """One connection of the older transport: its stream, and the server's end of it for as long as it is open."""

    def __init__(self, server: Server[dict[str, Any]], transport: SseServerTransport, streams: EventStreams) -> None:
        self._server = server
        self._transport = transport
        self._streams = streams

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._streams.opened(scope, send) as stream:
            async with self._transport.connect_sse(scope, receive, stream.pass_on) as (read, write):
                await self._server.run(read, write, self._server.create_initialization_options())


def _open_paths(callers: Callers) -> tuple[str, ...]:
    return ("/healthz", WELL_KNOWN) if callers.resource else ("/healthz",)


async def _healthz(request: Request) -> Response:
    return JSONResponse({"status": "ok"}, headers={"Cache-Control": "no-store"})
