"""Serving an ASGI application with uvicorn, from the socket to the orderly end."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Collection, Generator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import anyio
import uvicorn
from anyio.abc import TaskStatus
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import BaseRoute

from connector_mcp.errors import Misconfigured
from connector_mcp.transport.http.host_guard import HEAD_BYTES, HostAndOriginGuard, Reach
from connector_mcp.transport.http.limits import HttpLimits
from connector_mcp.transport.http.shutdown import Drain
from connector_mcp.transport.process import ending_signal, logging_to_stderr

GRACE = 5.0
"""Seconds that calls in flight have to finish when the server is told to end."""

PAGES_GRACE = 1.0
"""The same for the pages of a stdio server that has lost its client."""

ARRIVING = 0.1
"""Seconds in which a request arrives on a connection that was made before the server was told to end."""

LOOKS = 10
"""Number of such waits for connections without any request yet."""

KEPT = 10
"""Seconds that an idle connection is kept: longer than the SDK's client reuses one, or a request may meet its end."""

BACKSTOP = 4.0
"""Seconds after that until uvicorn closes the connections that are left."""


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
    """Serve the application that `make_app` returns once the port is known. The rest is as in `serve_http`.

    The server ends when `until` returns the exit status: by default on a signal. Authorization is the application's
    task. There is no time limit for the head of a request: a public server needs a proxy that sets one.

    Raises:
        Misconfigured: The server cannot listen on the address.
    """
    limits, drain = limits or HttpLimits(), drain or Drain()
    drain.timeout = limits.patience
    with _listening(host, port) as listener:
        bound: int = listener.getsockname()[1]
        config = uvicorn.Config(
            make_app(Reach.for_address(host, bound, hosts=hosts, origins=origins), drain),
            log_config=None,
            # uvicorn's other parser, httptools, lets large heads pass and merges trailers into the headers.
            http="h11",
            h11_max_incomplete_event_size=HEAD_BYTES,
            limit_concurrency=limits.connections + 1,
            # A query may hold a secret by mistake.
            access_log=False,
            ws="none",
            server_header=False,
            timeout_keep_alive=KEPT,
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
    """Serve pages and nothing else on loopback, like `serve_app`. Authorization is the pages' task."""
    with logging_to_stderr(lambda text: text, log_level):
        return await serve_app(_app_of(pages), "127.0.0.1", port, task_status=task_status)


async def serve_pages_beside(
    pages: Sequence[BaseRoute], *, task_status: TaskStatus[str] = anyio.TASK_STATUS_IGNORED
) -> None:
    """Serve pages on any free loopback port until cancelled. The caller's server handles the log and the signals."""

    async def cancelled() -> int:
        await anyio.sleep_forever()
        raise AssertionError

    await serve_app(_app_of(pages), "127.0.0.1", 0, grace=PAGES_GRACE, until=cancelled, task_status=task_status)


def _app_of(pages: Sequence[BaseRoute]) -> Callable[[Reach, Drain], Starlette]:
    def app(reach: Reach, drain: Drain) -> Starlette:
        guards = [Middleware(drain.requests), Middleware(HostAndOriginGuard, reach=reach)]
        return Starlette(routes=list(pages), middleware=guards)

    return app


async def _run(
    server: _Uvicorn, listener: socket.socket, drain: Drain, grace: float, until: Callable[[], Awaitable[int]]
) -> int:
    async def serve() -> None:
        # If uvicorn were cancelled midway, it would leave sessions running. It is told to end instead.
        with anyio.CancelScope(shield=True):
            await server.serve(sockets=[listener])
        tasks.cancel_scope.cancel()

    status = 1
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(serve)
        try:
            status = await until()
        finally:
            with anyio.CancelScope(shield=True):
                await server.stop_listening(listener, drain)
                server.should_exit = True
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
        # Without this, the body of an answer may wait 40 ms for the acknowledgement of its head. asyncio sets it on
        # sockets made with a protocol number only. Accepted connections inherit it.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield listener


class _Uvicorn(uvicorn.Server):
    """uvicorn without its signal handlers: they would end the process before the audit log and the store are closed."""

    def __init__(self, config: uvicorn.Config, address: str, task_status: TaskStatus[str]) -> None:
        super().__init__(config)
        self._address = address
        self._task_status = task_status

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield

    async def stop_listening(self, listener: socket.socket, drain: Drain) -> None:
        """Close the listener, and the connections once the requests that are on their way have come.

        Requests that were sent before this are served. Where there is a proxy, it has them already and will not send
        them to another server.
        """
        drain.has_begun = True
        waiting: list[socket.socket] = []
        # Closing a listener resets what waits in its queue, so its copy is closed as soon as nothing waits.
        with listener.dup() as last, suppress(BlockingIOError):
            for server in self.servers if self.started else ():
                server.close()
            while self.started:
                waiting.append(last.accept()[0])
        for connection in waiting:
            connection.setblocking(False)
            await asyncio.get_running_loop().connect_accepted_socket(self._protocol, connection)
        for _ in range(LOOKS if self.server_state.connections else 0):
            await anyio.sleep(ARRIVING)
            # A connection without any request yet was made a moment ago; its request is on the way.
            if all(getattr(each, "cycle", True) for each in self.server_state.connections):
                break
        for connection in list(self.server_state.connections):
            connection.shutdown()

    def _protocol(self) -> asyncio.Protocol:
        protocol: Any = self.config.http_protocol_class
        return protocol(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._task_status.started(self._address)
