"""A server that answers byte by byte as a test tells it, and a transport to it."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx

from connector_mcp.upstream.client import ClientLimits
from connector_mcp.upstream.responses import AttemptResult, read_response
from connector_mcp.upstream.retries import was_never_sent
from connector_mcp.upstream.transport import AiohttpTransport

FINE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
ANSWER_BYTES = 1_000_000

Answer = Callable[[bytes, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def serving(
    answer: Answer,
    context: ssl.SSLContext | None = None,
    trusting: ssl.SSLContext | None = None,
    proxy: str | None = None,
    **limits: float,
) -> AsyncIterator[tuple[AiohttpTransport, str, list[bytes]]]:
    """A transport to a server, its origin, and the heads of the requests that came. `answer` is called for each."""
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
        async with contextlib.aclosing(AiohttpTransport(ClientLimits(**limits), trusting, proxy)) as transport:
            yield transport, origin, heads
        await asyncio.gather(*filter(None, served))


def says(*parts: bytes) -> Answer:
    """Answer in pieces, each of which arrives by itself. An empty piece hangs up."""

    async def answer(_: bytes, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for part in parts:
            if not part:
                writer.close()
                raise ConnectionError
            writer.write(part)
            await asyncio.sleep(0)

    return answer


async def silence(_: bytes, reader: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
    """Answer nothing until the client hangs up."""
    while await reader.read(65536):
        pass
    raise ConnectionError


async def fetch(
    transport: httpx.AsyncBaseTransport,
    url: str,
    method: str = "GET",
    content: bytes | None = None,
    answer_bytes: int = ANSWER_BYTES,
    **headers: str,
) -> AttemptResult:
    """One attempt as the client makes it."""
    try:
        response = await transport.handle_async_request(httpx.Request(method, url, headers=headers, content=content))
    except httpx.RequestError as error:
        return error
    return await read_response(response, answer_bytes, 0.0)


def failed(result: AttemptResult) -> type[Exception]:
    assert isinstance(result, httpx.RequestError)
    return type(result)


def never_sent(result: AttemptResult) -> type[Exception]:
    """The failure of a request that counts as never sent."""
    assert was_never_sent(result)
    return failed(result)


def sent(result: AttemptResult) -> type[Exception]:
    """The failure of a request that counts as sent."""
    assert not was_never_sent(result)
    return failed(result)
