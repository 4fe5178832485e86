"""Writing without blocking to descriptors of every kind, which stay as they were set."""

import fcntl
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import anyio
import pytest

from connector_mcp.transport import sinks
from connector_mcp.transport.message_output import MessageOutput
from connector_mcp.transport.sinks import PIPE_SIZE, sink_of

Pair = tuple[int, int]
LONG = memoryview(b"x" * 4 * PIPE_SIZE)


def sockets() -> Pair:
    ends = socket.socketpair()
    return ends[0].detach(), ends[1].detach()


@pytest.fixture(params=["pipe", "socket", "pipe that cannot be opened anew"])
def pair(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    """The end that is read and the one that is written."""
    if "cannot" in request.param:
        monkeypatch.setattr(sinks, "_opened_again", lambda descriptor: None)
    ends = sockets() if request.param == "socket" else os.pipe()
    yield ends
    for descriptor in ends:
        with suppress(OSError):
            os.close(descriptor)


def filled(write: Callable[[list[memoryview]], int]) -> int:
    """How much it takes before it takes no more."""
    taken = 0
    with suppress(BlockingIOError):
        while True:
            taken += write([LONG])
    return taken


def test_what_it_does_not_take_is_said_and_not_waited_for(pair: Pair) -> None:
    reading, writing = pair
    sink = sink_of(writing)
    taken = filled(sink.write)
    assert len(os.read(reading, 2 * len(LONG))) > 0
    assert 0 < taken < len(LONG)
    assert sink.write([memoryview(b"more")]) == 4
    sink.close()
    sink.close()


def test_the_descriptor_stays_blocking_and_open(pair: Pair) -> None:
    _, writing = pair
    before = fcntl.fcntl(writing, fcntl.F_GETFL)
    sink = sink_of(writing)
    sink.write([memoryview(b"text")])
    sink.close()
    assert fcntl.fcntl(writing, fcntl.F_GETFL) == before
    assert not before & os.O_NONBLOCK
    assert os.write(writing, b"more") == 4


def test_it_fails_when_nobody_reads_any_more(pair: Pair) -> None:
    reading, writing = pair
    sink = sink_of(writing)
    os.close(reading)
    with pytest.raises(BrokenPipeError):
        sink.write([memoryview(b"text")])
    sink.close()


def test_a_pipe_that_nobody_reads_from_the_start_fails_as_well() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    sink = sink_of(writing)
    with pytest.raises(BrokenPipeError):
        sink.write([memoryview(b"text")])
    sink.close()
    os.close(writing)


def test_a_pipe_grows_with_what_is_to_be_written() -> None:
    reading, writing = os.pipe()
    usual = fcntl.fcntl(writing, fcntl.F_GETPIPE_SZ)
    sink = sink_of(writing)
    sink.write([memoryview(b"text")])
    assert fcntl.fcntl(writing, fcntl.F_GETPIPE_SZ) == usual
    assert sink.write([LONG]) > usual
    sink.close()
    os.close(reading)
    os.close(writing)


def test_a_file_is_written_where_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_bytes(b"before ")
    with path.open("r+b", buffering=0) as file:
        file.seek(0, os.SEEK_END)
        sink = sink_of(file.fileno())
        assert sink.write([memoryview(b"after")]) == 5
        sink.close()
    assert path.read_bytes() == b"before after"


@pytest.mark.anyio
async def test_what_is_written_in_one_turn_goes_out_in_one_piece() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        output = MessageOutput(theirs.fileno(), lambda: None, lambda: None)
        for line in (b"1\n", b"2\n", b"3\n"):
            output.write(line)
        await output.written()
        output.write(b"4\n")
        await output.written()
        assert [ours.recv(100), ours.recv(100)] == [b"1\n2\n3\n", b"4\n"]
        output.abandon()


@pytest.mark.anyio
async def test_lines_of_all_lengths_arrive_whole_and_in_order(pair: Pair) -> None:
    reading, writing = pair
    lines = [bytes([65 + number % 26]) * (number * number % 90_000) + b"\n" for number in range(120)]
    whole, read = b"".join(lines), b""
    output = MessageOutput(writing, lambda: None, lambda: None)
    for line in lines:
        output.write(line)
    with anyio.fail_after(60):
        while len(read) < len(whole):
            await anyio.wait_readable(reading)
            read += os.read(reading, 1 << 20)
        await output.written()
    assert read == whole
    output.abandon()
