"""What a line on stdin is answered with, and that lines stay whole whatever happens to whoever writes them."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
import pytest
from mcp.shared.message import SessionMessage
from mcp_types import JSONRPCNotification, JSONRPCRequest, JSONRPCResponse

from connector_mcp.transport.message_output import MessageOutput
from connector_mcp.transport.standard_streams import MOST_AHEAD, MessageInput

pytestmark = pytest.mark.anyio

PING = b'{"jsonrpc":"2.0","id":1,"method":"ping"}\n'


class Ends:
    """Both pipes: what the client writes to and reads from, and the streams between them."""

    def __init__(self) -> None:
        self.their_in, self.to_us = os.pipe()
        self.from_us, self.their_out = os.pipe()
        self.gone = anyio.Event()
        self.answers = 0
        self.output = MessageOutput(self.their_out, self.gone.set, self._count)
        self.input = MessageInput(self.their_in, self.output)
        self._open = {self.their_in, self.to_us, self.from_us, self.their_out}

    def _count(self) -> None:
        self.answers += 1

    def close(self, *descriptors: int) -> None:
        for descriptor in descriptors or tuple(self._open):
            self._open.discard(descriptor)
            os.close(descriptor)

    async def write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            await anyio.wait_writable(self.to_us)
            rest = rest[os.write(self.to_us, rest[:4096]) :]

    async def read(self, lines: int) -> list[Any]:
        text = b""
        while text.count(b"\n") < lines:
            await anyio.wait_readable(self.from_us)
            text += os.read(self.from_us, 1 << 20)
        return [json.loads(line) for line in text.splitlines()]


@asynccontextmanager
async def ends() -> AsyncIterator[Ends]:
    pair = Ends()
    try:
        with anyio.fail_after(60):
            yield pair
    finally:
        await pair.input.aclose()
        pair.output.abandon()
        pair.close()


@pytest.mark.parametrize(
    ("line", "code", "identifier"),
    [
        (b"not json", -32700, None),
        (b'{"jsonrpc":"2.0","id":1,"method":', -32700, None),
        (b'{"jsonrpc":"2.0","id":1,"method":"p\xff\xfe"}', -32700, None),
        (b"[" * 100_000, -32700, None),
        (b"[" + PING.strip() + b"]", -32600, None),
        (b'"text"', -32600, None),
        (b"{}", -32600, None),
        (b'{"id":7,"method":"ping"}', -32600, 7),
        (b'{"jsonrpc":"1.0","id":"seven","method":"ping"}', -32600, "seven"),
        (b'{"jsonrpc":"2.0","id":8,"method":5}', -32600, 8),
        (b'{"jsonrpc":"2.0","id":{"a":1},"method":"ping"}', -32600, None),
        (b'{"jsonrpc":"2.0","id":true,"method":"ping"}', -32600, None),
        (b'{"jsonrpc":"2.0","id":1.5,"method":"ping"}', -32600, None),
        (b'{"jsonrpc":"2.0","id":9,"method":"ping","params":{"a":"\\ud800"}}', -32600, 9),
        (b'{"jsonrpc":"2.0","id":"\\ud800","method":"ping"}', -32600, None),
    ],
)
async def test_a_line_that_is_no_message_is_answered_and_the_next_one_is_read(
    line: bytes, code: int, identifier: object
) -> None:
    async with ends() as pair, anyio.create_task_group() as tasks:
        tasks.start_soon(pair.write, line + b"\n" + PING)
        message = await pair.input.receive()
        assert isinstance(message, SessionMessage)
        assert isinstance(message.message, JSONRPCRequest)
        [answer] = await pair.read(1)
    assert (answer["jsonrpc"], answer["id"], answer["error"]["code"]) == ("2.0", identifier, code)


@pytest.mark.parametrize("line", [b"", b"  \r", b'{"id":1,"result":5}', b'{"id":1,"error":"no"}'])
async def test_blank_lines_and_broken_answers_are_passed_over_in_silence(line: bytes) -> None:
    async with ends() as pair:
        await pair.write(line + b"\nbroken\n" + PING)
        await pair.input.receive()
        assert [answer["error"]["code"] for answer in await pair.read(1)] == [-32700]


async def test_a_notification_whose_text_mentions_an_id_is_a_notification() -> None:
    async with ends() as pair:
        await pair.write(b'{"jsonrpc":"2.0","method":"notifications/x","params":{"id":1},"id":null}\n')
        message = await pair.input.receive()
        assert isinstance(message, SessionMessage)
        assert isinstance(message.message, JSONRPCNotification)


async def test_eight_megabytes_pass_in_both_directions_as_one_line_each() -> None:
    text = "ü" * 4_000_000
    line = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "m", "params": {"t": text}}, ensure_ascii=False).encode()
    async with ends() as pair, anyio.create_task_group() as tasks:
        tasks.start_soon(pair.write, line + b"\n")
        message = await pair.input.receive()
        assert isinstance(message, SessionMessage)
        assert isinstance(message.message, JSONRPCRequest)
        assert message.message.params == {"t": text}
        answer = JSONRPCResponse(jsonrpc="2.0", id=1, result={"t": text})
        tasks.start_soon(pair.output.send, SessionMessage(answer))
        assert await pair.read(1) == [{"jsonrpc": "2.0", "id": 1, "result": {"t": text}}]
    assert pair.answers == 1


async def test_the_end_in_the_middle_of_a_message_is_answered_and_ends_the_stream() -> None:
    async with ends() as pair:
        await pair.write(PING + b'{"jsonrpc":"2.0","id":2,')
        pair.close(pair.to_us)
        await pair.input.receive()
        with pytest.raises(anyio.EndOfStream):
            await pair.input.receive()
        assert [answer["error"]["code"] for answer in await pair.read(1)] == [-32700]


async def test_many_lines_at_once_all_arrive_in_order() -> None:
    count = 4 * MOST_AHEAD
    lines = b"".join(b'{"jsonrpc":"2.0","id":%d,"method":"m"}\n' % number for number in range(count))
    async with ends() as pair, anyio.create_task_group() as tasks:
        tasks.start_soon(pair.write, lines)
        seen: list[object] = []
        while len(seen) < count:
            message = await pair.input.receive()
            assert isinstance(message, SessionMessage)
            assert isinstance(message.message, JSONRPCRequest)
            seen.append(message.message.id)
    assert seen == list(range(count))


async def test_a_sender_that_is_cancelled_midway_leaves_a_whole_line_and_the_others_theirs() -> None:
    def answer(number: int) -> SessionMessage:
        return SessionMessage(JSONRPCResponse(jsonrpc="2.0", id=number, result={"t": "x" * 300_000}))

    async with ends() as pair:
        first, second = (asyncio.ensure_future(pair.output.send(answer(number))) for number in (1, 2))
        await anyio.lowlevel.checkpoint()
        first.cancel()
        with suppress(asyncio.CancelledError):
            await first
        assert [answer["id"] for answer in await pair.read(2)] == [1, 2]
        await second


async def test_an_answer_that_cannot_be_encoded_becomes_an_error_with_its_id() -> None:
    async with ends() as pair:
        await pair.output.send(SessionMessage(JSONRPCResponse(jsonrpc="2.0", id=3, result={"t": "\ud800"})))
        [answer] = await pair.read(1)
        assert (answer["id"], answer["error"]["code"]) == (3, -32603)


async def test_a_number_beyond_64_bits_is_written_as_it_is() -> None:
    async with ends() as pair:
        await pair.output.send(SessionMessage(JSONRPCResponse(jsonrpc="2.0", id=4, result={"n": 2**70})))
        assert await pair.read(1) == [{"jsonrpc": "2.0", "id": 4, "result": {"n": 2**70}}]


async def test_a_client_that_is_gone_is_noticed_and_nothing_more_can_be_sent() -> None:
    async with ends() as pair:
        pair.close(pair.from_us)
        message = SessionMessage(JSONRPCResponse(jsonrpc="2.0", id=5, result={}))
        for _ in range(2):
            with pytest.raises(anyio.BrokenResourceError):
                await pair.output.send(message)
        assert pair.gone.is_set()


async def test_a_closed_output_takes_nothing_more() -> None:
    async with ends() as pair:
        await pair.output.aclose()
        with pytest.raises(anyio.ClosedResourceError):
            await pair.output.send(SessionMessage(JSONRPCResponse(jsonrpc="2.0", id=6, result={})))
