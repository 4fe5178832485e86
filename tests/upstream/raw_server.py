"""A server that answers byte by byte as it is told, and a wire to it."""

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable

from connector_mcp.upstream.exchange import Outcome, Sending
from connector_mcp.upstream.limits import Limits
from connector_mcp.upstream.pool import PooledWire
from connector_mcp.upstream.urls import read_address

FINE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
EMPTY = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

Answer = Callable[[bytes, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def wire_to(origin: str, context: ssl.SSLContext = EMPTY, **changes: float) -> PooledWire:
    address = read_address(origin)
    return PooledWire(address, Limits(**changes), context if address.scheme == "https" else None, time.time)


@contextlib.asynccontextmanager
async def serving(
    answer: Answer, context: ssl.SSLContext | None = None, trusting: ssl.SSLContext = EMPTY, **changes: float
) -> AsyncIterator[tuple[PooledWire, str, list[bytes]]]:
    """A wire to a server, its address, and the heads of the requests that came; `answer` is called for each."""
    heads: list[bytes] = []
    served: list[asyncio.Task[None] | None] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.append(asyncio.current_task())
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            while True:
                heads.append(await reader.readuntil(b"\r\n\r\n"))
                await answer(heads[-1], reader, writer)
        writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    scheme = "http" if context is None else "https"
    origin = f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        async with contextlib.aclosing(wire_to(origin, trusting, **changes)) as wire:
            yield wire, origin, heads
        await asyncio.gather(*filter(None, served))


def says(*parts: bytes) -> Answer:
    """An answer in pieces, each of which arrives by itself; an empty one hangs up."""

    async def answer(_: bytes, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for part in parts:
            if not part:
                writer.close()
                raise ConnectionError
            writer.write(part)
            await asyncio.sleep(0)

    return answer


async def silence(_: bytes, reader: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
    assert await reader.read() == b""
    raise ConnectionError


async def fetch(
    wire: PooledWire, address: str, method: str = "GET", content: bytes | None = None, **headers: str
) -> Outcome:
    return await wire.exchange(Sending(method, address, {"Host": "x", **headers}, content))


def failed(outcome: Outcome) -> type[Exception]:
    assert isinstance(outcome, Exception)
    return type(outcome)
