"""MCP over HTTP: Streamable HTTP on `/mcp` for both eras, SSE on `/sse` and `/messages/`, and `/healthz`.

Every request passes the same checks in this order: Host and Origin, the bearer token if one is required, the caller's
rate of requests. Only then is it routed and its body read.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypedDict, Unpack

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
from connector_mcp.transport.auth.authorization import WELL_KNOWN, BearerAuthorization, Callers, ScopeCheck
from connector_mcp.transport.auth.static_tokens import SETTING
from connector_mcp.transport.http.addresses import is_loopback
from connector_mcp.transport.http.host_guard import HostAndOriginGuard, Reach, RequestIds, RequestPath
from connector_mcp.transport.http.limits import (
    HttpLimits,
    MessageGuard,
    RateLimitGuard,
    RequestRate,
    SessionGuard,
    SessionQuota,
)
from connector_mcp.transport.http.listener import GRACE, serve_app
from connector_mcp.transport.http.shutdown import Drain
from connector_mcp.transport.mcp.server import build_server
from connector_mcp.transport.mcp.tools import CallsInFlight
from connector_mcp.transport.process import logging_to_stderr
from connector_mcp.transport.streams import throttled

MESSAGES = "/messages/"


class AppOptions(TypedDict, total=False):
    """Options of an application."""

    callers: Callers
    """The callers that are accepted. Without it, everyone who can reach the server."""
    limits: HttpLimits
    rate: RequestRate
    pages: Sequence[BaseRoute]
    """Served beside the protocol."""
    open_paths: Collection[str]
    """Paths below which no token of `callers` is required. The authorization of those pages is their own."""
    drain: Drain
    """Ends the application's requests and calls."""
    scopes: ScopeCheck
    """Refuses calls without the scope that they need. Set by `http_app`."""
    prefix: str
    """The path of the public address, without a slash at the end. A proxy in front may take it off or leave it on."""


def http_app(engine: Engine, *, request_state_key: bytes, reach: Reach, **options: Unpack[AppOptions]) -> Starlette:
    """Build the ASGI application of an engine. Its lifespan runs the sessions of `/mcp`, and leaves the engine open."""
    drain = options.setdefault("drain", Drain())
    options["scopes"] = ScopeCheck(engine, options.get("callers", Callers()).resource)
    drain.calls = CallsInFlight(options.setdefault("limits", HttpLimits()).calls)
    server = build_server(engine, request_state_key=request_state_key, transport="http", calls=drain.calls)
    return protocol_app(server, reach=reach, **options)


def protocol_app(server: Server[dict[str, Any]], *, reach: Reach, **options: Unpack[AppOptions]) -> Starlette:
    """Build the ASGI application of any MCP server; the arguments are those of `http_app`."""
    callers, limits = options.get("callers", Callers()), options.get("limits", HttpLimits())
    drain = options.get("drain", Drain())
    metadata_paths = (WELL_KNOWN,) if callers.resource else ()
    open_paths = ("/healthz", *metadata_paths, *options.get("open_paths", ()))
    # Host and Origin are checked on every route below, so the SDK's transports need not check them again.
    # Sessions are kept for clients before 2026-07-28: without a session they could not be asked anything.
    sessions = StreamableHTTPSessionManager(server, max_request_body_size=limits.body_bytes)
    sse = SseServerTransport(MESSAGES, max_request_body_size=limits.body_bytes)

    quota = SessionQuota(limits.sessions)
    # On `/sse` the answer to a call has no HTTP status, so the refusal is the result of the call.
    messages = MessageGuard(
        StreamableHTTPASGIApp(sessions), drain.calls, limits.body_bytes, scopes=options.get("scopes")
    )

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None]:
        async with sessions.run():
            yield

    app = Starlette(
        routes=[
            Route("/mcp", SessionGuard(messages, quota)),
            Route("/sse", SessionGuard(_SseEndpoint(server, sse), quota, streams=True), methods=["GET"]),
            Mount(MESSAGES, app=MessageGuard(sse.handle_post_message, drain.calls, limits.body_bytes)),
            Route("/healthz", _healthz, methods=["GET"]),
            *(callers.resource.routes() if callers.resource else ()),
            *options.get("pages", ()),
        ],
        middleware=[
            Middleware(RequestIds),
            Middleware(RequestPath, prefix=options.get("prefix", ""), kept=(MESSAGES,)),
            Middleware(drain.requests),
            Middleware(HostAndOriginGuard, reach=reach),
            Middleware(BearerAuthorization, callers=callers, open_paths=open_paths),
            Middleware(RateLimitGuard, rate=options.get("rate")),
        ],
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    return app


async def serve_http(
    engine: Engine,
    host: str,
    port: int,
    *,
    hosts: Collection[str] = (),
    origins: Collection[str] = (),
    grace: float = GRACE,
    task_status: TaskStatus[str] = anyio.TASK_STATUS_IGNORED,
    **options: Unpack[AppOptions],
) -> int:
    """Serve until a signal ends the server or the caller cancels it; return the exit status.

    Without `callers`, everyone on this machine may call. Port 0 takes any free port. `task_status` gets the server's
    address, `http://host:port`, once it listens. `hosts` and `origins` are allowed beside the server's own; the other
    options are those of `http_app`. When the server ends, calls in flight have `grace` seconds to finish. Then they are
    cancelled; all have ended when this returns. The status is 0 on SIGTERM and 130 on SIGINT.

    Raises:
        Misconfigured: The host is not a loopback address and no token is required, or the server cannot listen on it.
        ConnectorError: The store does not give the key that seals questions.
    """
    require_authorization(host, options.setdefault("callers", Callers()))
    limits, drain = options.setdefault("limits", HttpLimits()), options.setdefault("drain", Drain(engine.end_waiting))
    key = await engine.request_state_key()

    def app(reach: Reach, drain: Drain) -> Starlette:
        return http_app(engine, request_state_key=key, reach=reach, **options)

    with logging_to_stderr(engine.scrub, engine.settings.log_level, engine.settings.log_format):
        return await serve_app(
            app,
            host,
            port,
            limits=limits,
            hosts=hosts,
            origins=origins,
            grace=grace,
            drain=drain,
            task_status=task_status,
        )


def require_authorization(host: str, callers: Callers) -> None:
    """Raise if everyone on the network could call.

    Raises:
        Misconfigured: The host is not a loopback address and no token is required.
    """
    if callers.allow_anonymous and not is_loopback(host):
        raise Misconfigured(
            f"Serving on {host} without authorization would let anyone on the network use the connectors.",
            fix="Set CONNECTOR_MCP_OAUTH_ISSUER to your identity provider, CONNECTOR_MCP_TOKENS_FILE to a file that "
            f"`connector-mcp tokens new` wrote, or {SETTING} to a long random value; or bind a loopback address such "
            "as 127.0.0.1.",
        )


class _SseEndpoint:
    """The stream of one client of the older transport, and the MCP connection on it."""

    def __init__(self, server: Server[dict[str, Any]], transport: SseServerTransport) -> None:
        self._server = server
        self._transport = transport

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._transport.connect_sse(scope, receive, send) as streams:
            await self._server.run(*throttled(*streams), self._server.create_initialization_options())


async def _healthz(request: Request) -> Response:
    return JSONResponse({"status": "ok"}, headers={"Cache-Control": "no-store"})
