"""The transport by itself on a real socket: what goes over the wire, and what each failure is taken for."""

import asyncio
import contextlib
import gzip
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest

from connector_mcp.upstream.aiohttp_transport import AiohttpTransport
from connector_mcp.upstream.limits import Limits
from connector_mcp.upstream.retries import was_never_sent

pytestmark = pytest.mark.anyio

FINE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"

Answer = Callable[[bytes, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def transport(**changes: float) -> AiohttpTransport:
    return AiohttpTransport(Limits(**changes), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))


@contextlib.asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[tuple[str, list[bytes]]]:
    """An address, and the heads of the requests that came there; `answer` is called for each."""
    heads: list[bytes] = []
    served: list[asyncio.Task[None] | None] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.append(asyncio.current_task())
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                heads.append(await reader.readuntil(b"\r\n\r\n"))
                await answer(heads[-1], reader, writer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", heads
        await asyncio.gather(*filter(None, served))


async def fetch(wire: AiohttpTransport, method: str, url: str, **options: Any) -> httpx.Response:
    response = await wire.handle_async_request(httpx.Request(method, url, **options))
    try:
        await response.aread()
    finally:
        await response.aclose()
    return response


async def test_the_address_goes_out_as_it_was_written() -> None:
    async def answer(_: bytes, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(FINE)

    targets = [
        "/a%2Fb/%25/%2E%2E/%C3%BC",
        "/%2e%2E/c%3Fd%23e?next=a%3Db%26c&plus=%2B&space=%20&slash=%2F",
        "/a:b@c;d,e~f!$'()*/?q=%7Etilde",
        "/",
    ]
    async with serving(answer) as (origin, heads), contextlib.aclosing(transport()) as wire:
        for target in targets:
            assert (await fetch(wire, "GET", origin + target)).json() == {}
        assert [head.split(b" ")[1].decode() for head in heads] == targets


async def test_nothing_is_added_to_the_headers_and_no_cookie_or_redirect_is_followed() -> None:
    async def answer(_: bytes, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 302 Found\r\nLocation: /other\r\nSet-Cookie: a=b; Path=/\r\nContent-Length: 0\r\n\r\n")

    headers = {"Host": "x", "Accept": "application/json", "Accept-Encoding": "gzip", "User-Agent": "us"}
    async with serving(answer) as (origin, heads), contextlib.aclosing(transport()) as wire:
        for _ in range(2):
            assert (await fetch(wire, "GET", origin + "/one", headers=headers)).status_code == 302
        sent = [sorted(head.decode().lower().split("\r\n")[1:-2]) for head in heads]
        expected = ["accept-encoding: gzip", "accept: application/json", "host: x", "user-agent: us"]
        assert sent == [expected, expected]


async def test_a_compressed_body_comes_as_it_was_sent_and_is_decoded_above_this_transport() -> None:
    packed = gzip.compress(b'{"a":1}')

    async def answer(_: bytes, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(packed)}\r\n\r\n"
        writer.write(head.encode() + packed)

    async with serving(answer) as (origin, _), contextlib.aclosing(transport()) as wire:
        response = await wire.handle_async_request(httpx.Request("GET", origin))
        assert b"".join([chunk async for chunk in response.aiter_raw()]) == packed
        await response.aclose()
        assert (await fetch(wire, "GET", origin)).json() == {"a": 1}


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "POST"])
async def test_a_request_on_a_kept_connection_that_is_hung_up_is_sent_once_and_counts_as_sent(method: str) -> None:
    async def answer(_: bytes, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(heads) > 1:
            raise ConnectionError
        writer.write(FINE)

    async with serving(answer) as (origin, heads), contextlib.aclosing(transport()) as wire:
        await fetch(wire, "GET", origin)
        with pytest.raises(httpx.RequestError) as failure:
            await fetch(wire, method, origin)
        assert not was_never_sent(failure.value)
        assert len(heads) == 2


async def test_a_server_that_answers_something_else_than_http_counts_as_having_been_sent_to() -> None:
    async def answer(_: bytes, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n\r\n")

    async with serving(answer) as (origin, heads), contextlib.aclosing(transport()) as wire:
        with pytest.raises(httpx.RemoteProtocolError):
            await fetch(wire, "POST", origin, content=b"{}")
        assert len(heads) == 1


async def test_silence_is_a_read_timeout_and_not_a_failure_to_connect() -> None:
    async def answer(_: bytes, reader: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
        await reader.read()

    async with serving(answer) as (origin, _), contextlib.aclosing(transport(read=0.05)) as wire:
        with pytest.raises(httpx.ReadTimeout):
            await fetch(wire, "GET", origin)


async def test_a_full_backlog_is_a_connect_timeout() -> None:
    with socket.socket() as full, contextlib.ExitStack() as others:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):
            waiting = others.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        async with contextlib.aclosing(transport(connect=0.05)) as wire:
            with pytest.raises(httpx.ConnectTimeout) as failure:
                await fetch(wire, "POST", f"http://127.0.0.1:{full.getsockname()[1]}")
            assert was_never_sent(failure.value)


async def test_a_name_without_an_address_is_a_failure_to_connect() -> None:
    async with contextlib.aclosing(transport()) as wire:
        with pytest.raises(httpx.ConnectError):
            await fetch(wire, "GET", "http://nowhere.invalid/")


async def test_a_server_that_speaks_no_tls_was_never_sent_the_request() -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(FINE)
        writer.close()

    server = await asyncio.start_server(plain, "127.0.0.1", 0)
    async with server, contextlib.aclosing(transport()) as wire:
        with pytest.raises(httpx.ConnectError):
            await fetch(wire, "POST", f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}")


async def test_a_cancelled_request_closes_its_connection() -> None:
    arrived, closed = asyncio.Event(), asyncio.Event()

    async def answer(_: bytes, reader: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
        arrived.set()
        assert await reader.read() == b""
        closed.set()

    async with serving(answer) as (origin, _), contextlib.aclosing(transport()) as wire:
        request = asyncio.ensure_future(fetch(wire, "GET", origin))
        await arrived.wait()
        request.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await request
        await closed.wait()


async def test_an_answer_that_is_given_up_closes_its_connection() -> None:
    closed = asyncio.Event()

    async def answer(_: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{")
        assert await reader.read() == b""
        closed.set()

    async with serving(answer) as (origin, _), contextlib.aclosing(transport()) as wire:
        response = await wire.handle_async_request(httpx.Request("GET", origin))
        await response.aclose()
        await closed.wait()


async def test_a_header_that_would_break_its_line_is_refused_without_its_text() -> None:
    async def answer(_: bytes, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(FINE)

    async with serving(answer) as (origin, heads), contextlib.aclosing(transport()) as wire:
        with pytest.raises(httpx.LocalProtocolError) as failure:
            await fetch(wire, "GET", origin, headers={"Authorization": "secret\r\nX-Other: 1"})
        assert "secret" not in str(failure.value)
        assert heads == []
