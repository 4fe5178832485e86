import contextlib
import gzip
import itertools
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector_mcp.upstream.answer_reader import MOST_HEAD, MOST_HEADERS, AnswerReader
from connector_mcp.upstream.exchange import Reply
from connector_mcp.upstream.wire_errors import ReadError, RemoteProtocolError

OK = b"HTTP/1.1 200 OK\r\n"
FINE = OK + b"Content-Length: 2\r\n\r\n{}"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


def reader(answer_bytes: int = 1000, *, head_only: bool = False) -> AnswerReader:
    made = AnswerReader(answer_bytes, lambda: 0.0)
    made.begin(head_only=head_only)
    return made


def read(parts: Iterable[bytes], made: AnswerReader | None = None) -> Reply | None:
    made = made or reader()
    for part in parts:
        reply = made.feed(part)
        if reply is not None:
            return reply
    return None


@pytest.mark.parametrize(
    ("answer", "reply", "reusable"),
    [
        (FINE, Reply(200, b"{}"), True),
        (CHUNKED + b"1;x=y\r\n{\r\n1\r\n}\r\n0\r\nTrailer: x\r\n\r\n", Reply(200, b"{}"), True),
        (b"HTTP/1.1 204 None\r\n\r\n", Reply(204, b""), True),
        (b"HTTP/1.1 304 Same\r\nContent-Length: 5\r\n\r\n", Reply(304, b""), True),
        (b"HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n", Reply(200, b""), True),
        (OK + b"Connection: close\r\nContent-Length: 2\r\n\r\n{}", Reply(200, b"{}"), False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}", Reply(200, b"{}"), False),
        (b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 2\r\n\r\n{}", Reply(200, b"{}"), True),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + FINE, Reply(200, b"{}"), True),
        (b"HTTP/1.1 103 Hints\r\nRetry-After: 9\r\nLink: </x>\r\n\r\n" + FINE, Reply(200, b"{}"), True),
        (OK + b"X-Request-Id: r\r\nRetry-After: 3\r\nContent-Length: 0\r\n\r\n", Reply(200, b"", "r", 3.0), True),
        (OK + b"Upgrade: h2c\r\nConnection: upgrade\r\nContent-Length: 2\r\n\r\n{}", Reply(200, b"{}"), True),
        # What comes behind an answer.
        (FINE + FINE, Reply(200, b"{}"), False),
        (FINE + b"H", Reply(200, b"{}"), False),
        (FINE + b"\0", Reply(200, b"{}"), False),
        (FINE + b"HTTP/1.1 100 Continue\r\n\r\n", Reply(200, b"{}"), False),
        (b"HTTP/1.1 304 Same\r\nContent-Length: 5\r\n\r\nHTTP/", Reply(304, b""), False),
        (OK + b"Connection: close\r\nContent-Length: 2\r\n\r\n{}x", Reply(200, b"{}"), False),
        # More than the cap, announced or not.
        (OK + b"Content-Length: 1001\r\n\r\n", Reply(200, b"", too_large=True), False),
        (OK + b"Content-Length: 99999999999999999\r\n\r\n", Reply(200, b"", too_large=True), False),
        (CHUNKED + b"3E9\r\n" + bytes(1001) + b"\r\n0\r\n\r\n", Reply(200, b"", too_large=True), False),
    ],
)
def test_an_answer_is_read_and_its_connection_used_again_only_where_nothing_speaks_against_it(
    answer: bytes, reply: Reply, reusable: bool
) -> None:
    made = reader()
    assert made.feed(answer) == reply
    assert made.reusable is reusable


@pytest.mark.parametrize(
    "answer",
    [
        b"220 mail.example ESMTP\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"HTTP/1.1 20\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        OK + b"A : b\r\n\r\n",
        OK + b"A: b\r\n c\r\n\r\n",
        OK + b"A: b\0\r\n\r\n",
        OK + b"A: b\rc\r\n\r\n",
        OK + b"no colon\r\n\r\n",
        # Two ways to say where the body ends, or none that is clear.
        OK + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
        OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        OK + b"Content-Length: 2, 2\r\n\r\n{}",
        OK + b"Content-Length: -2\r\n\r\n{}",
        OK + b"Content-Length: +2\r\n\r\n{}",
        OK + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: gzip\r\n\r\n{}",
        OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: chunked, identity\r\n\r\n{}",
        OK + b"Transfer-Encoding: xchunked\r\n\r\n{}",
        OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        CHUNKED + b"2\n{}\n0\n\n",
        CHUNKED + b"fffffffffffffffff\r\n",
        CHUNKED + b"-1\r\n",
        # Another protocol, and an interim answer that is none.
        b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n" + FINE,
        b"HTTP/1.1 101 Switching\r\n\r\n" + FINE,
        b"HTTP/1.1 150 Odd\r\nContent-Length: 2\r\n\r\n{}" + FINE,
    ],
)
def test_what_is_not_http_as_it_should_be_is_refused(answer: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        reader().feed(answer)


@pytest.mark.parametrize(
    "answer",
    [
        OK + b"X: " + bytes(MOST_HEAD).replace(b"\0", b"x") + b"\r\n\r\n",
        OK + b"X: y\r\n" * (MOST_HEADERS + 1) + b"\r\n",
        b"".join(b"HTTP/1.1 103 Hints\r\nX: " + b"x" * 1000 + b"\r\n\r\n" for _ in range(70)) + FINE,
        CHUNKED + b"1\r\nx\r\n0\r\n" + b"X: y\r\n" * (MOST_HEADERS + 1) + b"\r\n",
    ],
)
def test_a_head_that_is_too_long_is_refused(answer: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        reader().feed(answer)


@pytest.mark.parametrize(
    "begun", [b"HTTP/1.1 200 ", OK + b"X", OK + b"X: ", CHUNKED + b"1;", CHUNKED + b"1\r\nx\r\n0\r\nX: "]
)
def test_a_line_that_does_not_end_is_given_up(begun: bytes) -> None:
    made = reader()
    with pytest.raises(RemoteProtocolError):
        read([begun, *[b"x" * 1000] * (MOST_HEAD // 1000 + 2)], made)


def test_the_answer_to_head_has_no_body_and_its_connection_is_not_used_again() -> None:
    made = reader(head_only=True)
    assert made.feed(OK + b"Content-Length: 5000\r\n\r\n") == Reply(200, b"")
    assert not made.reusable


def test_a_body_without_a_length_ends_with_the_connection() -> None:
    made = reader()
    assert read([OK + b"\r\n", b"{", b"}"], made) is None
    assert made.end() == Reply(200, b"{}")
    assert not made.reusable


@pytest.mark.parametrize("begun", [b"", b"HTTP/1.1 200", OK, FINE[:-1], CHUNKED + b"2\r\n{}\r\n0\r\n", FINE[:0]])
def test_the_end_of_the_connection_is_not_that_of_an_answer_which_says_where_it_ends(begun: bytes) -> None:
    made = reader()
    assert made.feed(begun) is None
    with pytest.raises(RemoteProtocolError):
        made.end()


def test_an_answer_that_breaks_off_is_known_by_its_status_where_that_is_an_error() -> None:
    error = ReadError("reset")
    made = reader()
    assert made.break_off(error) is error
    made.feed(FINE[:-1])
    assert made.break_off(error) is error
    made = reader()
    made.feed(b"HTTP/1.1 429 Slow\r\nRetry-After: 2\r\nContent-Length: 9\r\n\r\n{")
    assert made.break_off(error) == Reply(429, b"", retry_after=2.0)


def test_nothing_of_an_answer_is_left_for_the_next() -> None:
    made = reader()
    first = OK + b"X-Request-Id: r-1\r\nContent-Encoding: gzip\r\nContent-Length: 0\r\n\r\n"
    assert made.feed(first) == Reply(200, b"", "r-1")
    made.begin(head_only=False)
    assert not made.reusable
    assert made.feed(FINE) == Reply(200, b"{}")


@pytest.mark.parametrize(
    ("coding", "body", "reply"),
    [
        (b"gzip", gzip.compress(b"{}", mtime=0), Reply(200, b"{}")),
        (b" GZip ", gzip.compress(b"{}", mtime=0), Reply(200, b"{}")),
        (b"gzip", gzip.compress(bytes(1001), mtime=0), Reply(200, b"", too_large=True)),
        (b"gzip", gzip.compress(b"{}", mtime=0)[:-9], Reply(200, b"", unreadable=True)),
        (b"gzip", b"{}", Reply(200, b"", unreadable=True)),
        (b"deflate, gzip", gzip.compress(b"{}", mtime=0), Reply(200, b"", unreadable=True)),
        (b"gzip\r\nContent-Encoding: gzip", gzip.compress(b"{}", mtime=0), Reply(200, b"", unreadable=True)),
        (b"identity", b"{}", Reply(200, b"{}")),
    ],
)
def test_a_compressed_body_is_inflated_up_to_the_cap(coding: bytes, body: bytes, reply: Reply) -> None:
    head = OK + b"Content-Encoding: %b\r\nContent-Length: %d\r\n\r\n" % (coding, len(body))
    assert reader().feed(head + body) == reply


WHOLE = b"HTTP/1.1 100 Continue\r\n\r\n" + CHUNKED + b'3;a=b\r\n{"a\r\n4\r\n":1}\r\n0\r\nX: y\r\n\r\n'


@given(st.lists(st.integers(1, len(WHOLE) - 1)))
def test_it_does_not_matter_where_an_answer_is_cut_into_pieces(cuts: list[int]) -> None:
    marks = [0, *sorted(set(cuts)), len(WHOLE)]
    made = reader()
    assert read((WHOLE[start:end] for start, end in itertools.pairwise(marks)), made) == Reply(200, b'{"a":1}')
    assert made.reusable


@given(st.binary(max_size=300))
def test_no_bytes_whatsoever_do_more_than_be_refused(noise: bytes) -> None:
    for start in (b"", OK, CHUNKED):
        with contextlib.suppress(RemoteProtocolError):
            reply = reader().feed(start + noise)
            assert reply is None or isinstance(reply, Reply)
