"""A proxy before a PostgreSQL server that loses, holds or cuts single messages.

It reads the protocol just far enough to count the round trips: everything that a client sends before it waits for an
answer is one request.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio
from anyio.abc import AnyByteStream, SocketAttribute, SocketStream
from anyio.streams.buffered import BufferedByteReceiveStream

Handler = Callable[["Request"], Awaitable[None]]


class Cut(Exception):
    """Raised by a handler to end the connection, without passing on what it was called for."""


async def silence(_: object = None) -> None:
    """Hold what comes, until the connection ends."""
    await anyio.sleep_forever()


async def cut(_: object = None) -> None:
    """End the connection instead of passing on what comes."""
    raise Cut


@dataclass
class Request:
    """What a client sent in one go."""

    number: int
    """Counted over all connections, from 1, without those that begin a connection."""
    sql: tuple[str, ...]
    """The statements that it prepares, or executes prepared."""


@dataclass
class PostgresProxy:
    """The faults are set while it runs. `on_request` is called before a request, `on_answer` before its answer."""

    socket: Path
    port: int = 0
    requests: list[Request] = field(default_factory=list)
    on_connect: Callable[[], Awaitable[None]] | None = None
    on_request: Handler | None = None
    on_answer: Handler | None = None

    def url(self, database: str) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}?sslmode=disable&gssencmode=disable"

    def reset(self) -> None:
        """Count from 1 again, without faults."""
        self.requests = []
        self.on_connect = self.on_request = self.on_answer = None

    def fail(self, number: int, *, request: Handler | None = None, answer: Handler | None = None) -> None:
        """Give one request a fault: before it reaches the server, or before its answer reaches the client."""

        def only(handler: Handler | None) -> Handler | None:
            async def handle(each: Request) -> None:
                if each.number == number and handler is not None:
                    await handler(each)

            return handler and handle

        self.on_request, self.on_answer = only(request), only(answer)

    async def serve(self, client: AnyByteStream) -> None:
        async with client:
            try:
                if self.on_connect is not None:
                    await self.on_connect()
                async with await anyio.connect_unix(self.socket) as server, anyio.create_task_group() as group:
                    connection = _Connection(self, client, server)
                    group.start_soon(connection.pass_answers, group.cancel_scope)
                    await connection.pass_requests()
                    group.cancel_scope.cancel()
            except* (Cut, anyio.EndOfStream, anyio.IncompleteRead, anyio.BrokenResourceError, OSError):
                pass


class _Connection:
    def __init__(self, proxy: PostgresProxy, client: AnyByteStream, server: SocketStream) -> None:
        self._proxy = proxy
        self._client = client
        self._server = server
        self._prepared: dict[bytes, str] = {}
        self._open: Request | None = None
        self._executions = 0
        self._waits_for_ready = False
        self._answered = anyio.Event()

    async def pass_requests(self) -> None:
        reader = BufferedByteReceiveStream(self._client)
        length = await reader.receive_exactly(4)
        await self._server.send(length + await reader.receive_exactly(int.from_bytes(length) - 4))
        while True:
            sent, sql, executions, kind = b"", list[str](), 0, b""
            while kind not in (b"S", b"H", b"Q", b"X", b"p"):
                kind, body = await _message(reader)
                sent += kind + (len(body) + 4).to_bytes(4) + body
                match kind:
                    case b"P":
                        name, query = body.split(b"\0")[:2]
                        self._prepared[name] = query.decode()
                    case b"B":
                        sql.append(self._prepared.get(body.split(b"\0")[1], ""))
                    case b"E":
                        executions += 1
                    case b"Q":
                        sql.append(body.rstrip(b"\0").decode())
                    case _:
                        pass
            if kind in (b"X", b"p") or not sql:
                await self._server.send(sent)
                continue
            request = Request(len(self._proxy.requests) + 1, tuple(sql))
            self._proxy.requests.append(request)
            if self._proxy.on_request is not None:
                await self._proxy.on_request(request)
            self._executions, self._waits_for_ready = executions, kind in (b"S", b"Q")
            self._answered = anyio.Event()
            self._open = request
            await self._server.send(sent)
            await self._answered.wait()

    async def pass_answers(self, scope: anyio.CancelScope) -> None:
        reader = BufferedByteReceiveStream(self._server)
        held = b""
        failed = False
        try:
            while True:
                kind, body = await _message(reader)
                held += kind + (len(body) + 4).to_bytes(4) + body
                request = self._open
                if request is None:
                    await self._client.send(held)
                    held = b""
                    continue
                failed = failed or kind == b"E"
                self._executions -= kind in (b"C", b"I", b"s")
                if kind == b"Z" or (not self._waits_for_ready and (failed or self._executions <= 0)):
                    if self._proxy.on_answer is not None:
                        await self._proxy.on_answer(request)
                    self._open = None
                    await self._client.send(held)
                    held = b""
                    failed = False
                    self._answered.set()
        except (Cut, anyio.EndOfStream, anyio.IncompleteRead, anyio.BrokenResourceError, OSError):
            # An error that ends a connection comes without a request.
            if held and self._open is None:
                await self._client.send(held)
            scope.cancel()


async def _message(reader: BufferedByteReceiveStream) -> tuple[bytes, bytes]:
    kind = await reader.receive_exactly(1)
    length = int.from_bytes(await reader.receive_exactly(4))
    return kind, await reader.receive_exactly(length - 4) if length > 4 else b""


@asynccontextmanager
async def postgres_proxy(folder: Path, port: int = 5432) -> AsyncIterator[PostgresProxy]:
    """A proxy on a free loopback port before the server with a socket in this folder."""
    proxy = PostgresProxy(folder / f".s.PGSQL.{port}")
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as group:
        proxy.port = listener.extra(SocketAttribute.local_port)  # noqa: S610 - no Django
        group.start_soon(listener.serve, proxy.serve)
        yield proxy
        group.cancel_scope.cancel()
