"""Listening on a port: an ASGI application from the socket to its orderly end."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Collection, Generator, Sequence
from contextlib import contextmanager

import anyio
import uvicorn
from anyio.abc import TaskStatus
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from connector_mcp.errors import Misconfigured
from connector_mcp.transport.http.host_guard import HostAndOriginGuard, Reach
from connector_mcp.transport.http.limits import HttpLimits
from connector_mcp.transport.http.shutdown import Drain
from connector_mcp.transport.logs import logging_to_stderr
from connector_mcp.transport.signals import ending_signal
from connector_mcp.transport.strict_httptools import bounded_protocol

GRACE = 5.0
"""Seconds that calls in flight have when the server is told to end."""

BESIDE_GRACE = 1.0
"""The same of pages beside a server whose client has gone."""

BACKSTOP = 2.0
"""Seconds after that until uvicorn gives up on connections of which we do not know."""


async def serve_app(
    make_app: Callable[[Reach, Drain], Starlette],
    host: str,
    port: int,
    *,
    limits: HttpLimits | None = None,
    hosts: Collection[str] = (),
    origins: Collection[str] = (),
    grace: float = GRACE,
    drain: Drain | None = None,
    until: Callable[[], Awaitable[int]] = ending_signal,
    task_status: TaskStatus[str] = anyio.TASK_STATUS_IGNORED,
) -> int:
    """Serve the application that is made once the port is known, until a signal ends it; the rest as `serve_http`.

    `until` is what to wait for in place of a signal, and gives the exit status.

    Who may call is for the application to see to.

    Raises:
        Misconfigured: The address cannot be had.
    """
    limits, drain = limits or HttpLimits(), drain or Drain()
    with _listening(host, port) as listener:
        bound: int = listener.getsockname()[1]
        config = uvicorn.Config(
            make_app(Reach.of(host, bound, hosts=hosts, origins=origins), drain),
            log_config=None,
            http=bounded_protocol(patience=limits.patience, most=limits.connections),
            # Addresses can carry what somebody put into a query by mistake.
            access_log=False,
            ws="none",
            server_header=False,
            timeout_graceful_shutdown=int(grace + BACKSTOP),
        )
        address = f"http://[{host}]:{bound}" if ":" in host else f"http://{host}:{bound}"
        return await _run(_Uvicorn(config, address, task_status), listener, drain, grace, until)


async def serve_pages(
    pages: Sequence[BaseRoute],
    port: int,
    *,
    log_level: str = "WARNING",
    task_status: TaskStatus[str] = anyio.TASK_STATUS_IGNORED,
) -> int:
    """Serve pages alone, to this machine alone, in the manner of `serve_app`; they see to their own authorization."""

    with logging_to_stderr(lambda text: text, log_level):
        return await serve_app(_app_of(pages), "127.0.0.1", port, task_status=task_status)


async def serve_pages_beside(
    pages: Sequence[BaseRoute], *, task_status: TaskStatus[str] = anyio.TASK_STATUS_IGNORED
) -> None:
    """The same on any free port, beside a server that has the log and the signals; it ends when it is cancelled."""

    async def cancelled() -> int:
        await anyio.sleep_forever()
        raise AssertionError

    await serve_app(_app_of(pages), "127.0.0.1", 0, grace=BESIDE_GRACE, until=cancelled, task_status=task_status)


def _app_of(pages: Sequence[BaseRoute]) -> Callable[[Reach, Drain], Starlette]:
    def app(reach: Reach, drain: Drain) -> Starlette:
        guards = [Middleware(Around, wrap=drain.requests), Middleware(HostAndOriginGuard, reach=reach)]
        return Starlette(routes=list(pages), middleware=guards)

    return app


class Around:
    """A function around an ASGI application, in the form in which Starlette takes middleware."""

    def __init__(self, app: ASGIApp, wrap: Callable[[ASGIApp], ASGIApp]) -> None:
        self._app = wrap(app)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)


async def _run(
    server: _Uvicorn, listener: socket.socket, drain: Drain, grace: float, until: Callable[[], Awaitable[int]]
) -> int:
    async def serve() -> None:
        # Cancelled midway, uvicorn would leave its sessions running: it is told to end instead.
        with anyio.CancelScope(shield=True):
            await server.serve(sockets=[listener])
        tasks.cancel_scope.cancel()

    status = 1
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(serve)
        try:
            status = await until()
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
        # asyncio sets it only on sockets whose protocol number is given. Without it the body of an answer waits up to
        # 40 ms for the acknowledgement of its head. Accepted connections inherit it.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
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
