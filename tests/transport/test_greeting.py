"""The first answers over stdio: they are the SDK's own, and what is not beyond reproach is left to it."""

import json
import os
from collections.abc import Iterator
from typing import Any

import anyio
import pytest
from mcp.shared.message import SessionMessage
from mcp_types import JSONRPCResponse, jsonrpc_message_adapter
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS

from connector_mcp.transport import greeting
from connector_mcp.transport.greeting import Greeting, greet, handshake, is_initialized, list_request
from connector_mcp.transport.mcp.server import build_server
from connector_mcp.transport.mcp.server_info import HANDSHAKES, introduced, listed
from connector_mcp.transport.standard_streams import MessageInput, MessageOutput

KEY = b"k" * 32
INFO = {"name": "c", "version": "1"}
INITIALIZED: dict[str, Any] = {"jsonrpc": "2.0", "method": "notifications/initialized"}
LIST: dict[str, Any] = {"jsonrpc": "2.0", "id": 2, "method": "tools/list"}


def hello(
    version: Any = "2025-11-25", capabilities: Any = None, info: Any = None, identifier: Any = 1, **more: Any
) -> dict[str, Any]:
    params = {"protocolVersion": version, "capabilities": capabilities or {}, "clientInfo": info or INFO, **more}
    return {"jsonrpc": "2.0", "id": identifier, "method": "initialize", "params": params}


def line(message: Any) -> bytes:
    return json.dumps(message).encode() + b"\n"


ACCEPTED = [
    *(hello(version) for version in sorted(HANDSHAKES)),
    hello(identifier="one"),
    hello(info={"name": "", "version": "", "title": "C"}),
    hello(capabilities={"roots": {}, "sampling": {}, "elicitation": {}}),
    hello(capabilities={"roots": {"listChanged": True}, "elicitation": {"form": {}, "url": {}}}),
    hello(capabilities={"sampling": {"context": {}, "tools": {}}}),
]

LEFT = [
    b"",
    b"not json\n",
    b"[]\n",
    line([hello()]),
    line(LIST),
    line(hello("2026-07-28")),
    line(hello("1999-01-01")),
    line(hello(["2025-11-25"])),
    line(hello(capabilities={"tasks": {}})),
    line(hello(capabilities={"roots": 5})),
    line(hello(capabilities={"elicitation": {"form": 1}})),
    line(hello(capabilities={"elicitation": {"sound": {}}})),
    line(hello(capabilities=[1])),
    line(hello(info={"name": "c"})),
    line(hello(info={"name": "c", "version": 1})),
    line(hello(info={"name": "c", "version": "1", "icons": []})),
    line(hello(info=["c"])),
    line(hello(_meta={})),
    line(hello(identifier=None)),
    line(hello(identifier=True)),
    line(hello(identifier=1.5)),
    line(hello(identifier=1 << 60)),
    line(hello(identifier="\ud800")),
    line(hello() | {"jsonrpc": "1.0"}),
    line(hello() | {"extra": 1}),
    line(hello() | {"params": None}),
]


async def answers(engine: Any, *messages: Any) -> list[dict[str, Any]]:
    """The results that the SDK gives to the requests among these messages."""
    server = build_server(engine, request_state_key=KEY)
    to_server, incoming = anyio.create_memory_object_stream[SessionMessage | Exception](9)
    outgoing, from_server = anyio.create_memory_object_stream[SessionMessage](9)
    found: list[dict[str, Any]] = []
    async with to_server, from_server, anyio.create_task_group() as tasks:
        tasks.start_soon(server.run, incoming, outgoing, server.create_initialization_options())
        for message in messages:
            await to_server.send(SessionMessage(jsonrpc_message_adapter.validate_python(message)))
            if "id" in message:
                answer = (await from_server.receive()).message
                assert isinstance(answer, JSONRPCResponse)
                found.append(answer.result)
        tasks.cancel_scope.cancel()
    return found


@pytest.mark.anyio
@pytest.mark.parametrize("message", ACCEPTED, ids=lambda message: json.dumps(message["params"])[:80])
async def test_a_client_is_told_what_the_sdk_would_tell_it(make_engine: Any, message: dict[str, Any]) -> None:
    greeted = handshake(line(message))
    assert greeted == (message["id"], message["params"]["protocolVersion"])
    first, second = await answers(make_engine(), message, INITIALIZED, LIST)
    assert introduced(greeted[1]) == first
    assert listed(make_engine().tools()) == second


def test_every_revision_that_begins_with_a_handshake_is_known() -> None:
    assert set(HANDSHAKE_PROTOCOL_VERSIONS) == HANDSHAKES


@pytest.mark.parametrize("sent", LEFT)
def test_whatever_is_not_beyond_reproach_is_no_handshake(sent: bytes) -> None:
    assert handshake(sent) is None


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (INITIALIZED, True),
        (INITIALIZED | {"params": {}}, True),
        (INITIALIZED | {"params": {"_meta": {}}}, False),
        (INITIALIZED | {"id": 1}, False),
        (LIST, False),
        ([INITIALIZED], False),
    ],
)
def test_the_end_of_the_handshake_is_known(sent: Any, expected: bool) -> None:
    assert is_initialized(line(sent)) is expected


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (LIST, 2),
        (LIST | {"id": "two", "params": {}}, "two"),
        (LIST | {"params": {"cursor": "x"}}, None),
        (LIST | {"params": {"_meta": {"progressToken": 1}}}, None),
        (LIST | {"id": None}, None),
        ({"jsonrpc": "2.0", "method": "tools/list"}, None),
        (LIST | {"method": "prompts/list"}, None),
    ],
)
def test_a_list_of_all_tools_is_known(sent: Any, expected: Any) -> None:
    assert list_request(line(sent)) == expected


class Pipes:
    """What the client writes to and reads from, and the other ends of both."""

    def __init__(self) -> None:
        self.source, self.to_us = os.pipe()
        self.from_us, self.sink = os.pipe()
        self._open = {self.source, self.to_us, self.from_us, self.sink}

    def close(self, *descriptors: int) -> None:
        for descriptor in descriptors or tuple(self._open):
            self._open.discard(descriptor)
            os.close(descriptor)

    def written(self) -> list[Any]:
        self.close(self.sink)
        with os.fdopen(self.from_us, closefd=False) as file:
            return [json.loads(text) for text in file]


@pytest.fixture
def pipes() -> Iterator[Pipes]:
    both = Pipes()
    yield both
    both.close()


async def greeted(engine: Any, pipes: Pipes, *chunks: bytes, ends: bool = True) -> Greeting:
    """What is made of a client that writes these one after the other and, unless told otherwise, ends then."""
    found = Greeting()

    async def run() -> None:
        nonlocal found
        found = await greet(engine.tools, pipes.source, pipes.sink)

    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run)
            for chunk in chunks:
                os.write(pipes.to_us, chunk)
                await anyio.wait_all_tasks_blocked()
            if ends:
                pipes.close(pipes.to_us)
    return found


@pytest.mark.anyio
@pytest.mark.parametrize("size", [7, 10_000], ids=["in pieces", "at once"])
async def test_the_tools_are_listed_and_the_sdk_is_left_the_handshake_and_what_follows(
    make_engine: Any, pipes: Pipes, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(greeting, "PATIENCE", 60)
    sent = line(hello()) + line(INITIALIZED) + line(LIST) + b'{"jsonrpc":'
    engine = make_engine()
    left = await greeted(engine, pipes, *(sent[at : at + size] for at in range(0, len(sent), size)))
    # In pieces, what is not read here is in the pipe still.
    rest = os.read(pipes.source, 1 << 16)
    assert left.unread + rest == line(hello()) + line(INITIALIZED) + b'{"jsonrpc":'
    assert (left.answered, left.listed) == (1, True)
    assert pipes.written() == [
        {"jsonrpc": "2.0", "id": 1, "result": introduced("2025-11-25")},
        {"jsonrpc": "2.0", "id": 2, "result": listed(engine.tools())},
    ]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("sent", "answered"),
    [
        ([], []),
        ([line(hello(capabilities={"tasks": {}})), line(INITIALIZED)], []),
        ([line(hello())[:-1]], []),
        ([line(hello(info={"name": "c" * 500, "version": "1"}))], []),
        ([line(hello())], [1]),
        ([line(hello()), line(LIST)], [1]),
        ([line(hello()), line(INITIALIZED)], [1]),
        ([line(hello()), line(INITIALIZED), line(INITIALIZED), line(LIST)], [1]),
        ([line(hello()), line(INITIALIZED), line(LIST | {"id": 1})], [1]),
    ],
    ids=["nothing", "left", "no end", "too long", "ends", "no order", "no list", "twice", "same id"],
)
async def test_at_the_first_line_that_is_not_awaited_the_sdk_gets_all_there_was(
    make_engine: Any, pipes: Pipes, sent: list[bytes], answered: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(greeting, "LONGEST", 300)
    left = await greeted(make_engine(), pipes, *sent)
    assert left.unread + os.read(pipes.source, 1 << 17) == b"".join(sent)
    assert not left.listed
    assert [left.answered] == (answered or [None])
    assert [message["id"] for message in pipes.written()] == answered


@pytest.mark.anyio
async def test_a_client_that_does_not_ask_for_the_tools_is_left_to_the_sdk_after_a_while(
    make_engine: Any, pipes: Pipes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(greeting, "PATIENCE", 0)
    left = await greeted(make_engine(), pipes, line(hello()), ends=False)
    assert left == Greeting(line(hello()), answered=1)


@pytest.mark.anyio
async def test_a_client_that_does_not_read_is_left_to_the_sdk_which_notices(make_engine: Any, pipes: Pipes) -> None:
    pipes.close(pipes.from_us)
    left = await greeted(make_engine(), pipes, line(hello()))
    assert left == Greeting(line(hello()))


@pytest.mark.anyio
async def test_what_was_read_comes_first_and_what_was_answered_is_not_answered_twice(pipes: Pipes) -> None:
    output = MessageOutput(pipes.sink, lambda: None, lambda: None, answered=1)
    source = MessageInput(pipes.source, output, unread=line(LIST) + line(LIST)[:9])
    os.write(pipes.to_us, line(LIST)[9:])
    for _ in range(2):
        read = await source.receive()
        assert isinstance(read, SessionMessage)
        assert read.message.model_dump(exclude_unset=True) == LIST
    for _ in range(2):
        await output.send(SessionMessage(JSONRPCResponse(jsonrpc="2.0", id=1, result={})))
    await source.aclose()
    output.abandon()
    assert len(pipes.written()) == 1
