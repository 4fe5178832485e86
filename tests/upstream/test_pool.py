"""The wire by itself on a real socket: what goes out, what failures are taken for, which connection is used again."""

import asyncio
import contextlib
import gzip
import socket
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from connector_mcp.upstream import wire_errors
from connector_mcp.upstream.dialing import dial
from connector_mcp.upstream.exchange import Reply
from connector_mcp.upstream.retries import was_never_sent
from tests.upstream.raw_server import FINE, failed, fetch, says, serving, silence, wire_to

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    if request.param == "uvloop":
        pytest.importorskip("uvloop")
    return "asyncio", {"use_uvloop": request.param == "uvloop"}


async def test_the_address_goes_out_as_it_was_written() -> None:
    targets = [
        "/a%2Fb/%25/%2E%2E/%C3%BC",
        "/%2e%2E/c%3Fd%23e?next=a%3Db%26c&plus=%2B&space=%20&slash=%2F",
        "/a:b@c;d,e~f!$'()*/?q=%7Etilde",
        "/",
    ]
    async with serving(says(FINE)) as (wire, origin, heads):
        for target in targets:
            assert await fetch(wire, origin + target) == Reply(200, b"{}")
        assert [head.split(b" ")[1].decode() for head in heads] == targets


async def test_nothing_is_added_to_the_headers_and_no_cookie_or_redirect_is_followed() -> None:
    moved = b"HTTP/1.1 302 Found\r\nLocation: /other\r\nSet-Cookie: a=b; Path=/\r\nContent-Length: 0\r\n\r\n"
    async with serving(says(moved)) as (wire, origin, heads):
        for _ in range(2):
            assert await fetch(wire, origin + "/one", Accept="application/json") == Reply(302, b"")
        assert heads == [b"GET /one HTTP/1.1\r\nHost: x\r\nAccept: application/json\r\n\r\n"] * 2


@pytest.mark.parametrize(
    ("method", "content", "said"),
    [
        ("POST", b'{"a":1}', b"7"),
        ("POST", None, b"0"),
        ("DELETE", None, b"0"),
        ("GET", b"{}", b"2"),
        ("GET", b"", None),
    ],
)
async def test_a_body_goes_out_with_its_length(method: str, content: bytes | None, said: bytes | None) -> None:
    bodies: list[bytes] = []

    async def answer(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        length = head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0]
        bodies.append(await reader.readexactly(int(length or 0)))
        assert length == (said or b"")
        writer.write(FINE)

    async with serving(answer) as (wire, origin, heads):
        for _ in range(2):
            assert await fetch(wire, origin + "/", method, content) == Reply(200, b"{}")
        assert bodies == [content or b""] * 2
        assert b"Content-Length" in heads[0] or said is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Authorization", "secret\r\nX-Other: 1"),
        ("Authorization", "secret\n"),
        ("Authorization", "secret\0"),
        ("Authorization", "secret\u2028"),
        ("secret: x\r\nOther", "1"),
        ("secret ", "1"),
    ],
)
async def test_a_header_that_would_break_its_line_is_refused_without_its_text(name: str, value: str) -> None:
    async with serving(says(FINE)) as (wire, origin, heads):
        outcome = await fetch(wire, origin + "/", **{name: value})
        assert failed(outcome) is wire_errors.LocalProtocolError
        assert "secret" not in repr(outcome)
        assert heads == []


@pytest.mark.parametrize("target", ["", "x", "/a b", "/a\r\nX: 1", "/ü", "/a\0"])
async def test_a_target_that_would_break_its_line_is_refused(target: str) -> None:
    async with serving(says(FINE)) as (wire, origin, heads):
        assert failed(await fetch(wire, origin + target)) is wire_errors.LocalProtocolError
        assert failed(await fetch(wire, origin + "/", "GET /x HTTP/1.1\r\nX:")) is wire_errors.LocalProtocolError
        assert heads == []


async def test_what_is_another_hosts_is_not_sent_to_this_one() -> None:
    async with serving(says(FINE)) as (wire, _, heads):
        assert failed(await fetch(wire, "http://localhost:1/")) is wire_errors.UnsupportedProtocol
        assert heads == []


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "POST"])
async def test_a_request_on_a_kept_connection_that_is_hung_up_is_sent_once_and_counts_as_sent(method: str) -> None:
    async def answer(_: bytes, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(heads) > 1:
            raise ConnectionError
        writer.write(FINE)

    async with serving(answer) as (wire, origin, heads):
        await fetch(wire, origin + "/")
        outcome = await fetch(wire, origin + "/", method)
        assert failed(outcome) in {wire_errors.RemoteProtocolError, wire_errors.ReadError}
        assert isinstance(outcome, wire_errors.WireError)
        assert not was_never_sent(outcome)
        assert len(heads) == 2


async def test_silence_is_a_read_timeout_and_not_a_failure_to_connect() -> None:
    async with serving(silence, read=0.05) as (wire, origin, _):
        assert failed(await fetch(wire, origin + "/")) is wire_errors.ReadTimeout


async def test_silence_in_mid_body_is_a_read_timeout() -> None:
    async def answer(_: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{")
        await silence(_, reader, writer)

    async with serving(answer, read=0.05) as (wire, origin, _):
        assert failed(await fetch(wire, origin + "/")) is wire_errors.ReadTimeout


async def test_a_peer_that_takes_no_more_bytes_is_a_write_timeout() -> None:
    stopped = asyncio.Event()

    async def answer(_: bytes, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await stopped.wait()
        raise ConnectionError

    async with serving(answer, write=0.05) as (wire, origin, _):
        outcome = await fetch(wire, origin + "/", "POST", bytes(16 * 1024 * 1024))
        stopped.set()
        assert failed(outcome) is wire_errors.WriteTimeout
        assert isinstance(outcome, wire_errors.WireError)
        assert not was_never_sent(outcome)


async def test_an_answer_before_the_request_was_taken_counts_and_its_connection_is_not_used_again() -> None:
    connections: set[Any] = set()

    async def answer(_: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.add(writer)
        if len(heads) == 1:
            writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
            raise ConnectionError
        writer.write(FINE)

    async with serving(answer) as (wire, origin, heads):
        outcome = await fetch(wire, origin + "/", "POST", bytes(16 * 1024 * 1024))
        # A hang-up with bytes under way may overtake the answer.
        assert outcome == Reply(413, b"") or failed(outcome) is wire_errors.ReadError
        assert await fetch(wire, origin + "/") == Reply(200, b"{}")
        assert len(connections) == 2


async def test_a_full_backlog_is_a_connect_timeout() -> None:
    with socket.socket() as full, contextlib.ExitStack() as others:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):
            waiting = others.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        origin = f"http://127.0.0.1:{full.getsockname()[1]}"
        async with contextlib.aclosing(wire_to(origin, connect=0.05)) as wire:
            assert failed(await fetch(wire, origin + "/", "POST")) is wire_errors.ConnectTimeout


@pytest.mark.parametrize("host", ["nowhere.sandbox.invalid", f"{'x' * 70}.sandbox.invalid"])
async def test_a_name_without_an_address_is_a_failure_to_connect(host: str) -> None:
    async with contextlib.aclosing(wire_to(f"http://{host}")) as wire:
        assert failed(await fetch(wire, f"http://{host}/")) is wire_errors.ConnectError


async def test_where_nobody_listens_nothing_was_sent() -> None:
    with socket.socket() as taken:
        # Bound but not listening: nobody else gets the port, and connections to it are refused.
        taken.bind(("127.0.0.1", 0))
        origin = f"http://127.0.0.1:{taken.getsockname()[1]}"
        async with contextlib.aclosing(wire_to(origin)) as wire:
            assert failed(await fetch(wire, origin + "/", "POST")) is wire_errors.ConnectError


async def test_every_address_of_a_name_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    if not isinstance(asyncio.get_running_loop(), asyncio.BaseEventLoop):
        pytest.skip("the names that uvloop looks up cannot be given here")
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    there = server.sockets[0].getsockname()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        # One of a family that this machine has not, one where nobody listens, and the one that it is.
        found: list[Any] = [(-2, socket.SOCK_STREAM, 6, "", ("::1", 1, 0, 0))]
        found += [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in (taken.getsockname(), there)]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        async with server:
            with await dial("two.example", 1) as made:
                assert made.getpeername() == there


async def test_ipv6_is_spoken() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}")
        writer.close()

    try:
        server = await asyncio.start_server(answer, "::1", 0)
    except OSError:
        pytest.skip("this machine has no IPv6")
    origin = f"http://[::1]:{server.sockets[0].getsockname()[1]}"
    async with server, contextlib.aclosing(wire_to(origin)) as wire:
        assert await fetch(wire, origin + "/") == Reply(200, b"{}")


async def test_connections_are_kept_and_the_last_one_used_is_taken_first() -> None:
    writers: list[Any] = []

    async def answer(_: bytes, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        writer.write(FINE)

    async with serving(answer) as (wire, origin, _):
        await asyncio.gather(*(fetch(wire, origin + "/") for _ in range(3)))
        for _ in range(5):
            await fetch(wire, origin + "/")
        assert len(set(writers)) == 3
        assert len(set(writers[3:])) == 1


@pytest.mark.parametrize(
    "close",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        # What comes behind an answer belongs to nobody.
        FINE + b'HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n{"a"',
        FINE + b"x",
    ],
)
async def test_a_connection_that_is_to_be_closed_or_says_too_much_is_not_used_again(close: bytes) -> None:
    writers: set[Any] = set()

    async def answer(_: bytes, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.add(writer)
        writer.write(close)

    async with serving(answer) as (wire, origin, _):
        for _i in range(3):
            assert await fetch(wire, origin + "/") == Reply(200, b"{}")
        assert len(writers) == 3


async def test_an_answer_that_comes_while_nothing_was_asked_is_nobodys() -> None:
    pushed = asyncio.Event()

    async def answer(_: bytes, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(FINE)
        if len(heads) == 1:
            await asyncio.sleep(0)
            writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n"evil"')
            pushed.set()

    async with serving(answer) as (wire, origin, heads):
        assert await fetch(wire, origin + "/") == Reply(200, b"{}")
        await pushed.wait()
        assert await fetch(wire, origin + "/") == Reply(200, b"{}")
        assert len(heads) == 2


@pytest.mark.parametrize("news", [b'HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n"evil"', None])
async def test_what_came_before_the_event_loop_looked_is_seen_all_the_same(news: bytes | None) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        origin = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with contextlib.aclosing(wire_to(origin)) as wire:
            first = asyncio.ensure_future(fetch(wire, origin + "/"))
            server, _ = await asyncio.to_thread(listener.accept)
            with server:
                await asyncio.to_thread(server.recv, 1000)
                server.sendall(FINE)
                assert await first == Reply(200, b"{}")
                # From here to the next request the event loop does not run.
                server.sendall(news) if news else server.shutdown(socket.SHUT_WR)
                second = asyncio.ensure_future(fetch(wire, origin + "/"))
                again, _ = await asyncio.to_thread(listener.accept)
                with again:
                    await asyncio.to_thread(again.recv, 1000)
                    again.sendall(FINE)
                    assert await second == Reply(200, b"{}")


async def test_a_connection_that_was_closed_while_idle_is_not_used() -> None:
    async def answer(_: bytes, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(FINE)
        await writer.drain()
        writer.close()
        raise ConnectionError

    async with serving(answer) as (wire, origin, heads):
        for _ in range(5):
            assert await fetch(wire, origin + "/", "POST") == Reply(200, b"{}")
            await asyncio.sleep(0)
        assert len(heads) == 5


async def test_an_idle_connection_is_closed_when_its_time_is_over() -> None:
    closed = asyncio.Event()

    async def answer(_: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(FINE)
        assert await reader.read() == b""
        closed.set()
        raise ConnectionError

    async with serving(answer, keep_alive=0.02) as (wire, origin, _):
        await fetch(wire, origin + "/")
        await closed.wait()


async def test_connections_are_bounded_and_who_waits_longest_is_served_first() -> None:
    asked: list[asyncio.StreamWriter] = []
    arrived = asyncio.Semaphore(0)

    async def answer(_: bytes, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(writer)
        arrived.release()

    async with serving(answer, in_flight=-2) as (wire, origin, heads):
        calls = [asyncio.ensure_future(fetch(wire, f"{origin}/{number}")) for number in range(5)]
        await arrived.acquire()
        for turn in range(5):
            if turn < 4:
                await arrived.acquire()
            # Never more than two at once.
            assert len(asked) == min(turn + 2, 5)
            asked[turn].write(FINE)
            assert await calls[int(heads[turn][5:6])] == Reply(200, b"{}")
        assert {head[5:6] for head in heads[:2]} == {b"0", b"1"}
        assert [head[5:6] for head in heads[2:]] == [b"2", b"3", b"4"]
        assert len(set(asked)) == 2


async def test_the_wait_for_a_connection_is_bounded_and_nothing_was_sent() -> None:
    async with serving(silence, in_flight=-3, connect=0.05) as (wire, origin, heads):
        first = asyncio.ensure_future(fetch(wire, origin + "/"))
        await asyncio.sleep(0)
        outcome = await fetch(wire, origin + "/", "POST")
        assert failed(outcome) is wire_errors.PoolTimeout
        first.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await first
        assert len(heads) == 1


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

    async with serving(answer, in_flight=-3) as (wire, origin, heads):
        request = asyncio.ensure_future(fetch(wire, origin + "/"))
        await arrived.wait()
        waiting = asyncio.ensure_future(fetch(wire, origin + "/"))
        given_up = asyncio.ensure_future(fetch(wire, origin + "/"))
        await asyncio.sleep(0)
        for one in (given_up, request):
            one.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await one
        await closed.wait()
        assert await waiting == Reply(200, b"{}")
        assert await fetch(wire, origin + "/") == Reply(200, b"{}")


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_cancelling_while_the_connection_is_made_leaves_the_place_free(scheme: str) -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        begun.set()
        if scheme == "http" and await reader.read(100):
            writer.write(FINE)
        await reader.read()
        writer.close()

    begun = asyncio.Event()
    server = await asyncio.start_server(plain, "127.0.0.1", 0)
    origin = f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, contextlib.aclosing(wire_to(origin, in_flight=-3, connect=0.1)) as wire:
        for turns in range(4):
            request = asyncio.ensure_future(fetch(wire, origin + "/"))
            for _ in range(turns):
                await asyncio.sleep(0)
            request.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await request
        if scheme == "http":
            assert await fetch(wire, origin + "/") == Reply(200, b"{}")
        else:
            assert failed(await fetch(wire, origin + "/")) is wire_errors.ConnectTimeout


async def test_cancelling_an_exchange_that_has_just_ended_does_no_harm_to_its_connection() -> None:
    async with serving(says(FINE)) as (wire, origin, heads):
        for turns in range(12):
            request = asyncio.ensure_future(fetch(wire, origin + "/"))
            for _ in range(turns):
                await asyncio.sleep(0)
            request.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await request
            assert await fetch(wire, origin + "/") == Reply(200, b"{}")
        assert heads


async def test_closing_the_wire_closes_all_connections_and_ends_who_waits() -> None:
    closed = asyncio.Semaphore(0)

    async def answer(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrived.release()
        if b"/idle" in head:
            writer.write(FINE)
        assert await reader.read() == b""
        closed.release()
        raise ConnectionError

    arrived = asyncio.Semaphore(0)
    async with serving(answer) as (wire, origin, _):
        waiting = asyncio.ensure_future(fetch(wire, origin + "/"))
        await arrived.acquire()
        await fetch(wire, origin + "/idle")
        await wire.aclose()
        assert failed(await waiting) is wire_errors.RemoteProtocolError
        for _i in range(2):
            await closed.acquire()
        assert failed(await fetch(wire, origin + "/")) is wire_errors.ConnectError


async def test_an_answer_that_is_given_up_closes_its_connection() -> None:
    closed = asyncio.Event()

    async def answer(_: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{")
        assert await reader.read() == b""
        closed.set()
        raise ConnectionError

    async with serving(answer, answer_bytes=999) as (wire, origin, _):
        assert await fetch(wire, origin + "/") == Reply(200, b"", too_large=True)
        await closed.wait()


@pytest.mark.parametrize("status", [b"200 OK", b"503 Away"])
async def test_a_body_that_breaks_off_is_an_error_unless_the_status_says_it_all(status: bytes) -> None:
    head = b"HTTP/1.1 " + status + b"\r\nRetry-After: 3\r\nContent-Length: 9\r\n\r\n{"
    async with serving(says(head, b"")) as (wire, origin, _):
        outcome = await fetch(wire, origin + "/")
        if status == b"200 OK":
            assert failed(outcome) in {wire_errors.RemoteProtocolError, wire_errors.ReadError}
        else:
            assert outcome == Reply(503, b"", retry_after=3.0)


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress])
async def test_a_compressed_body_is_read(pack: Callable[[bytes], bytes]) -> None:
    packed = pack(b'{"a":1}')
    coding = b"gzip" if pack is gzip.compress else b"deflate"
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: %b\r\nContent-Length: %d\r\n\r\n" % (coding, len(packed))
    async with serving(says(head, packed)) as (wire, origin, _):
        assert await fetch(wire, origin + "/") == Reply(200, b'{"a":1}')


async def test_no_more_comes_to_light_than_the_cap_allows() -> None:
    packed = gzip.compress(bytes(1_000_000))
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed)
    async with serving(says(head + packed), answer_bytes=999_999) as (wire, origin, _):
        assert await fetch(wire, origin + "/") == Reply(200, b"", too_large=True)
