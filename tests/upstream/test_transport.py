"""The transport on real sockets: what goes out, what each failure counts as, which connection is used again."""

import asyncio
import contextlib
import gzip
import socket
import tracemalloc
import zlib
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from connector_mcp.upstream.client import ClientLimits
from connector_mcp.upstream.responses import RawResponse
from connector_mcp.upstream.retries import was_never_sent
from connector_mcp.upstream.transport import AiohttpTransport
from tests.upstream.raw_server import FINE, failed, fetch, never_sent, says, sent, serving, silence

pytestmark = pytest.mark.anyio

OK = b"HTTP/1.1 200 OK\r\n"
EVIL = b'HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n"evil"'
# aiohttp advises to stream bodies above a megabyte; those of platforms are rarely that large.
LARGE_BODY = pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
METHODS = ["GET", "PUT", "DELETE", "POST"]


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    if request.param == "uvloop":
        pytest.importorskip("uvloop")
    return "asyncio", {"use_uvloop": request.param == "uvloop"}


async def cancelled(task: asyncio.Future[Any]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def arrive() -> None:
    """Let what was written on one side reach the other one, even where timers run before what has arrived is read."""
    await asyncio.sleep(0.01)
    for _ in range(10):
        await asyncio.sleep(0)


async def test_the_url_goes_out_as_it_was_written() -> None:
    targets = [
        "/a%2Fb/%25/%2E%2E/%C3%BC",
        "/%2e%2E/c%3Fd%23e?next=a%3Db%26c&plus=%2B&space=%20&slash=%2F",
        "/a:b@c;d,e~f!$'()*/?q=%7Etilde",
        "/",
    ]
    async with serving(says(FINE)) as (transport, origin, heads):
        for target in targets:
            assert await fetch(transport, origin + target) == RawResponse(200, b"{}")
        assert [head.split(b" ")[1].decode() for head in heads] == targets


async def test_no_header_is_added_no_cookie_is_kept_and_no_redirect_is_followed() -> None:
    moved = b"HTTP/1.1 302 Found\r\nLocation: /other\r\nSet-Cookie: a=b; Path=/\r\nContent-Length: 0\r\n\r\n"
    async with serving(says(moved)) as (transport, origin, heads):
        for _ in range(2):
            assert await fetch(transport, origin + "/one", Host="x", Accept="application/json") == RawResponse(302)
        assert heads == [b"GET /one HTTP/1.1\r\nHost: x\r\nAccept: application/json\r\n\r\n"] * 2


@pytest.mark.parametrize(
    ("method", "content", "length"),
    [
        ("POST", b'{"a":1}', b"7"),
        ("POST", None, b"0"),
        ("DELETE", None, b"0"),
        ("DELETE", b"{}", b"2"),
        ("GET", b"{}", b"2"),
        ("GET", None, b""),
    ],
)
async def test_a_body_goes_out_with_its_length(method: str, content: bytes | None, length: bytes) -> None:
    async def answer(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0] == length
        assert b"ransfer-" not in head
        assert await reader.readexactly(int(length or 0)) == (content or b"")
        writer.write(FINE)

    async with serving(answer) as (transport, origin, _):
        for _i in range(2):
            assert await fetch(transport, origin + "/", method, content) == RawResponse(200, b"{}")


@pytest.mark.parametrize("value", ["secret\r\nX-Other: 1", "secret\n", "secret\r", "secret\0"])
async def test_a_header_that_would_break_its_line_is_refused_without_its_text(value: str) -> None:
    async with serving(says(FINE)) as (transport, origin, heads):
        result = await fetch(transport, origin + "/", Authorization=value)
        assert failed(result) is httpx.LocalProtocolError
        assert "secret" not in repr(result)
        assert heads == []


def refused_port() -> socket.socket:
    """A bound socket that does not listen: connections to its port are refused, and no other process gets it."""
    taken = socket.socket()
    taken.bind(("127.0.0.1", 0))
    return taken


async def test_a_refused_connection_was_never_sent() -> None:
    with refused_port() as taken:
        origin = f"http://127.0.0.1:{taken.getsockname()[1]}"
        async with contextlib.aclosing(AiohttpTransport(ClientLimits())) as transport:
            result = await fetch(transport, origin + "/", "POST")
            assert never_sent(result) is httpx.ConnectError


async def test_an_unresolved_name_was_never_sent() -> None:
    async with contextlib.aclosing(AiohttpTransport(ClientLimits())) as transport:
        result = await fetch(transport, "http://nowhere.sandbox.invalid/", "POST")
        assert never_sent(result) is httpx.ConnectError


async def test_a_connection_that_takes_too_long_was_never_sent() -> None:
    with socket.socket() as full, contextlib.ExitStack() as others:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):
            waiting = others.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        origin = f"http://127.0.0.1:{full.getsockname()[1]}"
        async with contextlib.aclosing(AiohttpTransport(ClientLimits(connect=0.05))) as transport:
            result = await fetch(transport, origin + "/", "POST")
            assert never_sent(result) is httpx.ConnectTimeout


async def test_a_request_that_waited_too_long_for_a_connection_was_never_sent() -> None:
    async with serving(silence, in_flight=-3, connect=0.3) as (transport, origin, heads):
        first = asyncio.ensure_future(fetch(transport, origin + "/"))
        await asyncio.sleep(0)
        result = await fetch(transport, origin + "/", "POST")
        assert never_sent(result) is httpx.ConnectTimeout
        await cancelled(first)
    assert len(heads) == 1


@LARGE_BODY
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("moment", ["before", "during", "after"])
@pytest.mark.parametrize("kept", [False, True])
async def test_a_hang_up_counts_as_sent_and_is_not_retried(method: str, reset: bool, moment: str, kept: bool) -> None:
    content = None if moment == "after" else bytes(4_000_000)
    connections: set[Any] = set()
    requests = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal requests
        connections.add(writer)
        if kept and len(connections) == 1:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(FINE)
            # The hang-up before the request is one that the client has not noticed yet.
            await reader.read(1)
        if moment != "before":
            await reader.readuntil(b"\r\n\r\n")
        requests += 1
        writer.transport.abort() if reset else writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    origin = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, contextlib.aclosing(AiohttpTransport(ClientLimits())) as transport:
        if kept:
            assert await fetch(transport, origin + "/") == RawResponse(200, b"{}")
        result = await fetch(transport, origin + "/", method, content)
        assert sent(result) in {httpx.RemoteProtocolError, httpx.ReadError}
    assert (requests, len(connections)) == (1, 1)


async def test_silence_is_a_read_timeout_and_counts_as_sent() -> None:
    async with serving(silence, read=0.05) as (transport, origin, heads):
        result = await fetch(transport, origin + "/", "PUT", b"{}")
        assert sent(result) is httpx.ReadTimeout
    assert len(heads) == 1


@pytest.mark.parametrize(
    "begun", [OK + b"Content-Length: 9\r\n\r\n{", OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{"]
)
async def test_half_an_answer_counts_as_sent_whether_it_breaks_off_or_stalls(begun: bytes) -> None:
    async def stall(_: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(begun)
        await silence(_, reader, writer)

    cases = ((says(begun, b""), httpx.RemoteProtocolError, 30.0), (stall, httpx.ReadTimeout, 0.05))
    for answer, kind, read in cases:
        async with serving(answer, read=read) as (transport, origin, heads):
            result = await fetch(transport, origin + "/", "DELETE")
            assert sent(result) is kind
        assert len(heads) == 1


async def test_half_an_answer_behind_an_error_status_is_that_status() -> None:
    head = b"HTTP/1.1 503 Away\r\nRetry-After: 3\r\nX-Request-Id: r\r\nContent-Length: 9\r\n\r\n{"
    async with serving(says(head, b"")) as (transport, origin, _):
        assert await fetch(transport, origin + "/") == RawResponse(503, b"", "r", 3.0)


@pytest.mark.parametrize(
    "answer",
    [
        b"220 mail.example ESMTP\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", OK + b"A : b\r\n\r\n", OK + b"A: b\0\r\n\r\n",
        OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", OK + b"Content-Length: -2\r\n\r\n{}",
        OK + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n", OK + b"X: " + b"x" * 70_000 + b"\r\n\r\n",
        OK + b"X: y\r\n" * 300 + b"\r\n",
    ],
)  # fmt: skip
async def test_an_answer_that_is_not_valid_http_counts_as_sent(answer: bytes) -> None:
    async with serving(says(answer)) as (transport, origin, heads):
        result = await fetch(transport, origin + "/", "POST")
        assert failed(result) in {httpx.RemoteProtocolError, httpx.ReadError}
        assert len(heads) == 1


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (OK + b"Transfer-Encoding: chunked\r\n\r\n1;x=y\r\n{\r\n1\r\n}\r\n0\r\nTrailer: x\r\n\r\n", b"{}"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: </x>\r\n\r\n" + FINE, b"{}"),
        (OK + b"X: " + b"x" * 60_000 + b"\r\nContent-Length: 2\r\n\r\n{}", b"{}"),
        (b"HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n", b""),
        (OK + b"Connection: close\r\n\r\n{}", b"{}"),
    ],
)
async def test_a_body_is_read_to_its_end(answer: bytes, body: bytes) -> None:
    parts = (answer, b"") if b"close" in answer else (answer,)
    async with serving(says(*parts)) as (transport, origin, _):
        for _i in range(2):
            assert await fetch(transport, origin + "/") == RawResponse(200, body)


def compressed(coding: bytes, body: bytes) -> bytes:
    return OK + b"Content-Encoding: %b\r\nContent-Length: %d\r\n\r\n%b" % (coding, len(body), body)


def deflate_without_header(body: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(body) + packer.flush()


@pytest.mark.parametrize(
    ("coding", "pack"),
    [
        (b"gzip", gzip.compress),
        (b"GZip", gzip.compress),
        (b"deflate", zlib.compress),
        (b"deflate", deflate_without_header),
    ],
)
async def test_a_compressed_body_is_read_up_to_the_cap(coding: bytes, pack: Callable[[bytes], bytes]) -> None:
    body = b'{"name":"a connector"}' * 5000
    async with serving(says(compressed(coding, pack(body)))) as (transport, origin, _):
        for _i in range(2):
            assert await fetch(transport, origin + "/") == RawResponse(200, body)
        assert await fetch(transport, origin + "/", answer_bytes=len(body) - 1) == RawResponse(200, too_large=True)


@pytest.mark.parametrize(
    "answer",
    [
        compressed(b"gzip", b"this is not gzip"),
        compressed(b"gzip, gzip", gzip.compress(gzip.compress(b"{}"))),
        compressed(b"deflate, gzip", gzip.compress(zlib.compress(b"{}"))),
        compressed(b"gzip\r\nContent-Encoding: gzip", gzip.compress(gzip.compress(b"{}"))),
        compressed(b"identity, gzip", gzip.compress(b"{}")),
        compressed(b"compress", b"{}"),
    ],
    ids=["not gzip", "twice", "two", "two headers", "identity", "unknown"],
)
async def test_an_unknown_doubled_or_wrong_content_coding_is_refused(answer: bytes) -> None:
    async with serving(says(answer)) as (transport, origin, _):
        assert await fetch(transport, origin + "/") == RawResponse(200, unreadable=True)


def bomb(levels: int) -> bytes:
    """Two hundred megabytes of zeros, compressed so many times."""
    packed = gzip.compress(bytes(10_000_000)) * 20
    for _ in range(levels - 1):
        packed = gzip.compress(packed)
    return packed


@pytest.mark.parametrize(
    ("coding", "levels"), [(b"gzip", 1), (b"gzip, gzip", 2), (b"gzip\r\nContent-Encoding: gzip", 2)]
)
async def test_a_decompression_bomb_takes_little_more_memory_than_the_cap(coding: bytes, levels: int) -> None:
    answer = compressed(coding, bomb(levels))
    async with serving(says(answer)) as (transport, origin, _):
        tracemalloc.start()
        try:
            result = await fetch(transport, origin + "/", answer_bytes=5_000_000)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert isinstance(result, RawResponse)
        assert result.too_large or result.unreadable
        assert peak < 12_000_000


@pytest.mark.parametrize("length", [b"Content-Length: 2000000\r\n\r\n{", b"Transfer-Encoding: chunked\r\n\r\n"])
async def test_a_body_over_the_cap_is_given_up_and_its_connection_closed(length: bytes) -> None:
    closed = asyncio.Event()

    async def answer(_: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OK + length)
        if b"chunked" in length:
            writer.write(b"200000\r\n" + bytes(0x200000))
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        closed.set()
        raise ConnectionError

    async with serving(answer) as (transport, origin, _):
        assert await fetch(transport, origin + "/") == RawResponse(200, too_large=True)
        await closed.wait()


async def test_connections_are_kept_and_used_again() -> None:
    writers: list[Any] = []

    async def answer(_: bytes, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        writer.write(FINE)

    async with serving(answer) as (transport, origin, _):
        await asyncio.gather(*(fetch(transport, origin + "/") for _ in range(3)))
        for _ in range(5):
            await fetch(transport, origin + "/")
        assert len(set(writers)) == 3


@pytest.mark.parametrize(
    "answer",
    [
        OK + b"Connection: close\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        FINE + EVIL,
    ],
)
async def test_a_connection_that_is_to_be_closed_or_brings_too_much_is_not_used_again(answer: bytes) -> None:
    writers: set[Any] = set()

    async def serve(_: bytes, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.add(writer)
        writer.write(answer)

    async with serving(serve) as (transport, origin, _):
        for _i in range(3):
            assert await fetch(transport, origin + "/") == RawResponse(200, b"{}")
        assert len(writers) == 3


@pytest.mark.parametrize("pushed", [EVIL, FINE + EVIL])
async def test_an_answer_that_comes_before_its_request_is_not_taken_for_the_answer_to_it(pushed: bytes) -> None:
    came, written = asyncio.Event(), asyncio.Event()

    async def answer(_: bytes, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(FINE)
        if len(heads) == 1:
            await came.wait()
            writer.write(pushed)
            written.set()

    async with serving(answer) as (transport, origin, heads):
        assert await fetch(transport, origin + "/") == RawResponse(200, b"{}")
        came.set()
        await written.wait()
        await arrive()
        result = await fetch(transport, origin + "/", "PUT")
        assert sent(result) in {httpx.RemoteProtocolError, httpx.ReadError}
        assert await fetch(transport, origin + "/") == RawResponse(200, b"{}")


async def test_a_connection_that_was_closed_while_idle_is_not_used() -> None:
    async def answer(_: bytes, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(FINE)
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        raise ConnectionError

    async with serving(answer) as (transport, origin, heads):
        for _ in range(5):
            assert await fetch(transport, origin + "/", "POST") == RawResponse(200, b"{}")
            await arrive()
        assert len(heads) == 5


@LARGE_BODY
async def test_an_answer_before_the_body_was_taken_counts_and_its_connection_is_not_used_again() -> None:
    connections: set[Any] = set()

    async def answer(_: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.add(writer)
        if len(heads) == 1:
            writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
            raise ConnectionError
        writer.write(FINE)

    async with serving(answer) as (transport, origin, heads):
        result = await fetch(transport, origin + "/", "POST", bytes(16 * 1024 * 1024))
        # A hang-up with bytes under way may overtake the answer.
        assert result == RawResponse(413) or failed(result) in {httpx.ReadError, httpx.RemoteProtocolError}
        assert await fetch(transport, origin + "/") == RawResponse(200, b"{}")
        assert len(connections) == 2


async def test_an_idle_connection_is_closed_when_its_time_is_over() -> None:
    closed = asyncio.Event()

    async def answer(_: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(FINE)
        assert await reader.read() == b""
        closed.set()
        raise ConnectionError

    async with serving(answer, keep_alive=0.02) as (transport, origin, _):
        await fetch(transport, origin + "/")
        await closed.wait()


async def test_connections_are_bounded_and_waiting_requests_are_served() -> None:
    open_now, most = 0, 0
    both = asyncio.Event()

    async def answer(_: bytes, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal open_now, most
        open_now += 1
        most = max(most, open_now)
        if open_now == 2:
            both.set()
        await both.wait()
        await arrive()
        open_now -= 1
        writer.write(FINE)

    async with serving(answer, in_flight=-2) as (transport, origin, heads):
        results = await asyncio.gather(*(fetch(transport, f"{origin}/{number}") for number in range(6)))
        assert results == [RawResponse(200, b"{}")] * 6
        assert (most, len(heads)) == (2, 6)


async def test_a_cancelled_request_closes_its_connection_and_gives_its_place_back() -> None:
    arrived, closed = asyncio.Event(), asyncio.Event()

    async def answer(_: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(heads) > 1:
            writer.write(FINE)
            return
        arrived.set()
        assert await reader.read() == b""
        closed.set()
        raise ConnectionError

    async with serving(answer, in_flight=-3) as (transport, origin, heads):
        request = asyncio.ensure_future(fetch(transport, origin + "/"))
        await arrived.wait()
        waiting = asyncio.ensure_future(fetch(transport, origin + "/"))
        given_up = asyncio.ensure_future(fetch(transport, origin + "/"))
        await asyncio.sleep(0)
        await cancelled(given_up)
        await cancelled(request)
        await closed.wait()
        assert await waiting == RawResponse(200, b"{}")
        assert await fetch(transport, origin + "/") == RawResponse(200, b"{}")


async def test_a_request_that_is_cancelled_at_any_moment_does_no_harm_to_the_next() -> None:
    async with serving(says(FINE), in_flight=-3) as (transport, origin, _):
        for turns in range(16):
            request = asyncio.ensure_future(fetch(transport, origin + "/"))
            for _i in range(turns):
                await asyncio.sleep(0)
            await cancelled(request)
            assert await fetch(transport, origin + "/") == RawResponse(200, b"{}")


async def test_closing_the_transport_ends_the_requests_under_way() -> None:
    arrived = asyncio.Event()

    async def answer(_: bytes, reader: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
        arrived.set()
        assert await reader.read() == b""
        raise ConnectionError

    async with serving(answer) as (transport, origin, _):
        waiting = asyncio.ensure_future(fetch(transport, origin + "/"))
        await arrived.wait()
        await transport.aclose()
        result = await waiting
        assert sent(result) in {httpx.RemoteProtocolError, httpx.ReadError}
        assert was_never_sent(await fetch(transport, origin + "/"))


async def test_every_address_of_a_name_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    if not isinstance(asyncio.get_running_loop(), asyncio.BaseEventLoop):
        pytest.skip("the names that uvloop looks up cannot be given here")
    async with serving(says(FINE)) as (transport, origin, _):
        port = int(origin.rpartition(":")[2])
        # No server listens on the first address.
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port)) for host in ("127.0.0.2", "127.0.0.1")]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        assert await fetch(transport, f"http://two.example:{port}/") == RawResponse(200, b"{}")


async def test_ipv6_is_spoken() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK + b"Connection: close\r\nContent-Length: 2\r\n\r\n{}")
        writer.close()

    try:
        server = await asyncio.start_server(answer, "::1", 0)
    except OSError:
        pytest.skip("this machine has no IPv6")
    origin = f"http://[::1]:{server.sockets[0].getsockname()[1]}"
    async with server, contextlib.aclosing(AiohttpTransport(ClientLimits())) as transport:
        assert await fetch(transport, origin + "/") == RawResponse(200, b"{}")
