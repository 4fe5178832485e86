"""The head of an answer and its body in one write."""

import asyncio
from collections.abc import Iterable
from typing import Any

import anyio.lowlevel
import pytest

from connector_mcp.transport.gathering import GatheringTransport


class Wire(asyncio.Transport):
    """Keeps what it is given, a piece a write."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.ended = ""

    def write(self, data: Any) -> None:
        self.written.append(bytes(data))

    def writelines(self, list_of_data: Iterable[Any]) -> None:
        self.written.append(b"".join(list_of_data))

    def close(self) -> None:
        self.ended = "closed"

    def abort(self) -> None:
        self.ended = "aborted"


def gathering() -> tuple[GatheringTransport, Wire]:
    wire = Wire()
    return GatheringTransport(wire, asyncio.get_running_loop()), wire


@pytest.mark.anyio
async def test_two_pieces_of_one_turn_are_written_at_once_and_in_order() -> None:
    transport, wire = gathering()
    transport.write(b"head ")
    assert wire.written == []
    transport.write(b"body")
    assert wire.written == [b"head body"]
    await anyio.lowlevel.checkpoint()
    assert wire.written == [b"head body"]


@pytest.mark.anyio
async def test_a_piece_that_nothing_follows_is_written_in_the_next_turn() -> None:
    transport, wire = gathering()
    transport.write(b"one ")
    transport.write(b"two ")
    transport.write(b"three")
    await anyio.lowlevel.checkpoint()
    transport.writelines([b"fo", b"ur"])
    await anyio.lowlevel.checkpoint()
    assert wire.written == [b"one two ", b"three", b"four"]


@pytest.mark.anyio
async def test_what_is_held_is_written_before_the_end_and_dropped_where_the_connection_is_cut() -> None:
    transport, wire = gathering()
    transport.write(b"last")
    transport.close()
    assert (wire.written, wire.ended) == ([b"last"], "closed")
    cut, wire = gathering()
    cut.write(b"lost")
    cut.abort()
    await anyio.lowlevel.checkpoint()
    assert (wire.written, wire.ended) == ([], "aborted")
