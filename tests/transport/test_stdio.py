"""Lines on descriptors: one message each, whatever their size and whoever is cancelled."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import anyio
import pytest
from mcp.shared.message import SessionMessage
from mcp_types import JSONRPCRequest, JSONRPCResponse

from connector_mcp.transport import stdio
from connector_mcp.transport.stdio import LineReader, LineWriter

pytestmark = pytest.mark.anyio


class Pipes:
    """A client's end of stdin and stdout, and the server's streams on the other end."""

    def __init__(self) -> None:
        stdin, self.to_server = os.pipe()
        self.from_server, stdout = os.pipe()
        self.writer = LineWriter(stdout, anyio.Event(), lambda: None)
        self.reader = LineReader(stdin, self.writer)
        self.descriptors = (stdin, self.to_server, self.from_server, stdout)

    def send(self, text: str) -> None:
        os.write(self.to_server, text.encode())

    def answers(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in os.read(self.from_server, 1 << 20).splitlines()]


@pytest.fixture
def pipes() -> Iterator[Pipes]:
    pipes = Pipes()
    yield pipes
    for descriptor in pipes.descriptors:
        os.close(descriptor)


def ping(identifier: int, **params: Any) -> str:
    return json.dumps({"jsonrpc": "2.0", "id": identifier, "method": "ping", "params": params}) + "\n"


async def received(pipes: Pipes) -> int | str:
    message = await pipes.reader.receive()
    assert isinstance(message, SessionMessage)
    assert isinstance(message.message, JSONRPCRequest)
    return message.message.id


async def test_a_line_that_is_too_long_is_refused_and_the_next_one_read(
    pipes: Pipes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stdio, "MAX_LINE", 100)
    pipes.send(ping(1, filler="x" * 200) + ping(2))

    assert await received(pipes) == 2
    (refusal,) = pipes.answers()
    assert refusal["error"]["code"] == -32600
    assert refusal.get("id") is None


async def test_a_message_that_arrives_in_pieces_is_one_message(pipes: Pipes) -> None:
    line = ping(7, text="…")
    async with anyio.create_task_group() as tasks:
        pipes.send(line[:20])

        async def send_the_rest() -> None:
            await anyio.wait_all_tasks_blocked()
            pipes.send(line[20:])

        tasks.start_soon(send_the_rest)
        assert await received(pipes) == 7


async def test_a_number_beyond_64_bits_reaches_the_tool(pipes: Pipes) -> None:
    pipes.send('{"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {"n": 123456789012345678901234567890}}\n')

    message = await pipes.reader.receive()
    assert isinstance(message, SessionMessage)
    assert isinstance(message.message, JSONRPCRequest)
    assert message.message.params == {"n": 123456789012345678901234567890}


async def test_an_answer_that_cannot_be_encoded_becomes_an_error_with_its_id(pipes: Pipes) -> None:
    await pipes.writer.send(SessionMessage(JSONRPCResponse(jsonrpc="2.0", id=3, result={"text": "\ud800"})))

    (answer,) = pipes.answers()
    assert (answer["id"], answer["error"]["code"]) == (3, -32603)


async def test_a_line_is_written_whole_though_its_sender_is_cancelled_midway(pipes: Pipes) -> None:
    long = SessionMessage(JSONRPCResponse(jsonrpc="2.0", id=1, result={"text": "x" * 300_000}))
    short = SessionMessage(JSONRPCResponse(jsonrpc="2.0", id=2, result={}))
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(pipes.writer.send, long)
            await anyio.wait_all_tasks_blocked()
            scope.cancel()

    text = bytearray()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(pipes.writer.send, short)
        while text.count(b"\n") < 2:
            await anyio.wait_readable(pipes.from_server)
            text += os.read(pipes.from_server, 1 << 16)

    assert [json.loads(line)["id"] for line in text.splitlines()] == [1, 2]
