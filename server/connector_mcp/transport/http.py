"""MCP over HTTP: Streamable HTTP on `/mcp` for both eras, SSE on `/sse` and `/messages/`, and `/healthz`.

Every request passes the same gates in this order: the server is not ending, Host and Origin are ours, the bearer token
is right where there is one, and only then a route and a body.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncGenerator, Callable, Collection, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import anyio
import uvicorn
from anyio.abc import TaskStatus
from mcp.server.lowlevel.server import Server
from mcp.server.sse import SseServerTransport
from mcp.server.streamable_http_manager import StreamableHTTPASGIApp, StreamableHTTPSessionManager
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from connector_mcp.engine.call import Engine
from connector_mcp.errors import Misconfigured
from connector_mcp.transport.authorization import SETTING, BearerAuthorization, BearerToken
from connector_mcp.transport.direct_calls import DirectCalls
from connector_mcp.transport.draining import Drain
from connector_mcp.transport.guard import HostAndOriginGuard, Reach, is_loopback
from connector_mcp.transport.http_parser import http_parser
from connector_mcp.transport.logs import logging_to_stderr
from connector_mcp.transport.server import build_server
from connector_mcp.transport.signals import ending_signal

GRACE = 5.0
"""Seconds that calls in flight have when the server is told to end."""

BACKSTOP = 2.0
"""Seconds after that until uvicorn gives up on connections of which we do not know."""


def http_app(
    engine: Engine,
    *,
    request_state_key: bytes,
    reach: Reach,
    tokens: Sequence[BearerToken] = (),
    pages: Sequence[BaseRoute] = (),
    open_paths: Collection[str] = (),
    drain: Drain | None = None,
) -> Starlette:
    """The ASGI application. Its lifespan runs the sessions of `/mcp`; the engine stays the caller's.

    With no `tokens` everybody whom `reach` lets in may call. `pages` are served beside the protocol; those under
    `open_paths` need no token of the callers' and see to their own authorization. `drain` is told of what is in flight.
    """
    drain = drain or Drain()
    server = build_server(engine, request_state_key=request_state_key, transport="http")
    server.middleware.append(drain.count_calls)
    security = reach.as_sdk_settings()
    # Sessions are kept for clients before 2026-07-28: without one there is no way to ask a person anything.
    sessions = StreamableHTTPSessionManager(server, security_settings=security)
    sse = SseServerTransport("/messages/", security_settings=security)

    direct = DirectCalls(server, drain.hanging_up)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None]:
        async with direct.running(), sessions.run():
            yield

    return Starlette(
        routes=[
            Route("/mcp", StreamableHTTPASGIApp(sessions)),
            Route("/sse", _SseEndpoint(server, sse), methods=["GET"]),
            Mount("/messages/", app=sse.handle_post_message),
            Route("/healthz", _healthz, methods=["GET"]),
            *pages,
        ],
        middleware=[
            Middleware(_Around, wrap=drain.requests),
            Middleware(HostAndOriginGuard, reach=reach),
            Middleware(BearerAuthorization, tokens=tokens, open_paths=("/healthz", *open_paths)),
            Middleware(_Around, wrap=direct.around),
        ],
        lifespan=lifespan,
    )


async def serve_http(
    engine: Engine,
    host: str,
    port: int,
    *,
    tokens: Sequence[BearerToken] = (),
    pages: Sequence[BaseRoute] = (),
    open_paths: Collection[str] = (),
    hosts: Collection[str] = (),
    origins: Collection[str] = (),
    grace: float = GRACE,
    task_status: TaskStatus[str] = anyio.TASK_STATUS_IGNORED,
) -> int:
    """Serve until a signal ends the server or the caller cancels it; the exit status (0 on SIGTERM, 130 on SIGINT).

    Port 0 takes any free port. `task_status` gets the server's address, `http://host:port`, once it listens. `hosts`
    and `origins` are let in beside those that `Reach.of` knows; `pages` and `open_paths` are those of `http_app`. Calls
    in flight have `grace` seconds to finish when the server ends, then they are cancelled; they have ended when this
    returns.

    Raises:
        Misconfigured: The host is beyond loopback and there is no token, or the address cannot be had.
        ConnectorError: The store does not give the key that seals questions.
    """
    if not tokens and not is_loopback(host):
        raise Misconfigured(
            f"Serving on {host} without authorization would let anyone on the network use the connectors.",
            fix=f"Set {SETTING} to a long random value, or bind a loopback address such as 127.0.0.1.",
        )
    key = await engine.request_state_key()
    with _listening(host, port) as listener, logging_to_stderr(engine.scrub, engine.settings.log_level):
        bound: int = listener.getsockname()[1]
        reach = Reach.of(host, bound, hosts=hosts, origins=origins)
        drain = Drain()
        app = http_app(
            engine, request_state_key=key, reach=reach, tokens=tokens, pages=pages, open_paths=open_paths, drain=drain
        )
        config = uvicorn.Config(
            app,
            log_config=None,
            http=http_parser(),
            # Addresses can carry what somebody put into a query by mistake.
            access_log=False,
            ws="none",
            server_header=False,
            timeout_graceful_shutdown=int(grace + BACKSTOP),
        )
        address = f"http://[{host}]:{bound}" if ":" in host else f"http://{host}:{bound}"
        return await _run(_Uvicorn(config, address, task_status), listener, drain, grace)


async def _run(server: _Uvicorn, listener: socket.socket, drain: Drain, grace: float) -> int:
    async def serve() -> None:
        # Cancelled midway, uvicorn would leave its sessions running: it is told to end instead.
        with anyio.CancelScope(shield=True):
            await server.serve(sockets=[listener])
        tasks.cancel_scope.cancel()

    status = 1
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(serve)
        try:
            status = await ending_signal()
        finally:
            server.should_exit = True
            with anyio.CancelScope(shield=True):
                await drain.end(grace)
    return status


@contextmanager
def _listening(host: str, port: int) -> Generator[socket.socket]:
    try:
        listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as failure:
        raise Misconfigured(
            f"Cannot listen on {host} port {port}: {failure.strerror or type(failure).__name__}.",
            fix="Stop what uses the port, or choose another with --port (0 takes any free one).",
        ) from None
    with listener:
        yield listener


class _Uvicorn(uvicorn.Server):
    """uvicorn, without its signal handlers: those end the process before the audit log and the store are closed."""

    def __init__(self, config: uvicorn.Config, address: str, task_status: TaskStatus[str]) -> None:
        super().__init__(config)
        self._address = address
        self._task_status = task_status

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._task_status.started(self._address)


class _Around:
    """A function around an ASGI application, in the form in which Starlette takes middleware."""

    def __init__(self, app: ASGIApp, wrap: Callable[[ASGIApp], ASGIApp]) -> None:
        self._app = wrap(app)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)


class _SseEndpoint:
    """One connection of the older transport: its stream, and the server's end of it for as long as it is open."""

    def __init__(self, server: Server[dict[str, Any]], transport: SseServerTransport) -> None:
        self._server = server
        self._transport = transport

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._transport.connect_sse(scope, receive, send) as (read, write):
            await self._server.run(read, write, self._server.create_initialization_options())


async def _healthz(request: Request) -> Response:
    return JSONResponse({"status": "ok"}, headers={"Cache-Control": "no-store"})
