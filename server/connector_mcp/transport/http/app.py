"""MCP over HTTP: Streamable HTTP on `/mcp` for both eras, SSE on `/sse` and `/messages/`, and `/healthz`.

Every request passes the same checks in this order: Host and Origin, the bearer token if one is required, the caller's
rate of requests. Only then is it routed and its body read.
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
from connector_mcp.transport.http.host_guard import HostAndOriginGuard, Reach, RequestIds, is_loopback
from connector_mcp.transport.http.limits import HttpLimits, MessageGuard, RateLimitGuard, RequestRate
from connector_mcp.transport.http.listener import GRACE, Around, serve_app
from connector_mcp.transport.http.shutdown import Drain
from connector_mcp.transport.mcp.server import build_server
from connector_mcp.transport.mcp.tools import CallsInFlight
from connector_mcp.transport.process import logging_to_stderr
from connector_mcp.transport.streams import throttled

if TYPE_CHECKING:
    from connector_mcp.telemetry.spans import Spans
    from connector_mcp.transport.auth.jwt import JwtVerifier

MESSAGES = "/messages/"


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
    """Build the ASGI application of an engine. Its lifespan runs the sessions of `/mcp`; it does not close the engine.

    Without `callers`, everyone within `reach` may call. `pages` are served beside it. Those under `open_paths`
    require no token of `callers`; their authorization is their own. `drain` ends the application's requests and calls.
    With `spans`, every request has one.
    """
    limits, drain = limits or HttpLimits(), drain or Drain()
    drain.calls = CallsInFlight(limits.calls)
    return protocol_app(
        build_server(engine, request_state_key=request_state_key, transport="http", calls=drain.calls, spans=spans),
        reach=reach,
        callers=callers or Callers(),
        limits=limits,
        rate=rate,
        pages=pages,
        open_paths=open_paths,
        drain=drain,
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
    """Build the ASGI application of any MCP server; the arguments are those of `http_app`."""
    security = reach.as_sdk_settings()
    # Sessions are kept for clients before 2026-07-28: without a session they could not be asked anything.
    sessions = StreamableHTTPSessionManager(server, security_settings=security, max_request_body_size=limits.body_bytes)
    sse = SseServerTransport(MESSAGES, security_settings=security, max_request_body_size=limits.body_bytes)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None]:
        async with sessions.run():
            yield

    return Starlette(
        routes=[
            Route("/mcp", MessageGuard(StreamableHTTPASGIApp(sessions), drain.calls, limits.body_bytes)),
            Route("/sse", _SseEndpoint(server, sse), methods=["GET"]),
            Mount(MESSAGES, app=MessageGuard(sse.handle_post_message, drain.calls, limits.body_bytes)),
            Route("/healthz", _healthz, methods=["GET"]),
            *(callers.resource.routes() if callers.resource else ()),
            *pages,
        ],
        middleware=[
            Middleware(RequestIds),
            Middleware(Around, wrap=drain.requests),
            Middleware(HostAndOriginGuard, reach=reach),
            Middleware(BearerAuthorization, callers=callers, open_paths=(*_open_paths(callers), *open_paths)),
            Middleware(RateLimitGuard, rate=rate),
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
    """Serve until a signal ends the server or the caller cancels it; return the exit status.

    A caller needs one of `tokens`, a token in `token_file`, or one that `oauth` verifies. With none of the three,
    everyone on this machine may call. Port 0 takes any free port. `task_status` gets the server's address,
    `http://host:port`, once it listens. `hosts` and `origins` are allowed beside the server's own; `pages`,
    `open_paths`, `drain` and `spans` are those of `http_app`. When the server ends, calls in flight have `grace`
    seconds to finish. Then they are cancelled; all have ended when this returns. The status is 0 on SIGTERM and 130 on
    SIGINT.

    Raises:
        Misconfigured: The host is not a loopback address and no token is required, or the server cannot listen on it.
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
    """The stream of one client of the older transport, and the MCP connection on it."""

    def __init__(self, server: Server[dict[str, Any]], transport: SseServerTransport) -> None:
        self._server = server
        self._transport = transport

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._transport.connect_sse(scope, receive, send) as streams:
            await self._server.run(*throttled(*streams), self._server.create_initialization_options())


def _open_paths(callers: Callers) -> tuple[str, ...]:
    return ("/healthz", WELL_KNOWN) if callers.resource else ("/healthz",)


async def _healthz(request: Request) -> Response:
    return JSONResponse({"status": "ok"}, headers={"Cache-Control": "no-store"})
