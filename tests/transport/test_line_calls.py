"""Calls over stdio that pass the SDK's loop by: what becomes of them is what would have become of them there."""

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from mcp.shared.message import SessionMessage

from connector_mcp.engine.caller import CallResult, CannotAsk, Question
from connector_mcp.transport.line_calls import LineCalls
from connector_mcp.transport.mcp.server import build_server
from connector_mcp.transport.message_output import MessageOutput
from connector_mcp.transport.standard_streams import MessageInput
from tests.transport.conftest import FakeEngine, hang

pytestmark = pytest.mark.anyio

KEY = b"k" * 32
TOOL = "vectorize_get_source_connectors"
OTHER = "vectorize_get_source_connector"
INFO = {"name": "c", "version": "1"}
FORMS = {"elicitation": {"form": {}}}
SCHEMA = {"type": "object", "properties": {"confirm": {"type": "string"}}, "required": ["confirm"]}


class Noted(MessageInput):
    """Keeps what the SDK is given."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.given: list[str | None] = []

    async def receive(self) -> SessionMessage | Exception:
        read = await super().receive()
        assert isinstance(read, SessionMessage)
        self.given.append(getattr(read.message, "method", None))
        return read


class Connected:
    """A client of one revision, that says what it is told to."""

    def __init__(self, mode: str) -> None:
        self.modern = mode == "auto"
        self.their_in, self.to_us = os.pipe()
        self.from_us, self.their_out = os.pipe()
        self.ended = anyio.Event()
        self.scope = anyio.CancelScope()
        self.source: Noted
        self._text = b""

    async def serve(self, engine: Any, *, direct: bool) -> None:
        server = build_server(engine, request_state_key=KEY)
        output = MessageOutput(self.their_out, lambda: None, lambda: None)
        calls = LineCalls(server, output)
        self.source = Noted(self.their_in, output, calls.take if direct else None)
        try:
            with self.scope:
                async with calls:
                    await server.run(self.source, output, server.create_initialization_options())
        finally:
            await self.source.aclose()
            output.abandon()
            self.ended.set()

    async def say(self, *messages: dict[str, Any]) -> None:
        text = b"".join(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n" for message in messages)
        await anyio.wait_writable(self.to_us)
        assert os.write(self.to_us, text) == len(text)

    async def hear(self) -> Any:
        while b"\n" not in self._text:
            await anyio.wait_readable(self.from_us)
            chunk = os.read(self.from_us, 1 << 16)
            assert chunk
            self._text += chunk
        line, _, self._text = self._text.partition(b"\n")
        return json.loads(line)

    async def open(self, capabilities: dict[str, Any] | None = None) -> None:
        """Do what comes before the first call."""
        self.capabilities = capabilities or {}
        if self.modern:
            await self.say(self.list_tools("first"))
            await self.hear()
        else:
            await self.shake_hands(self.capabilities)
        self.source.given.clear()

    async def shake_hands(self, capabilities: dict[str, Any]) -> None:
        params = {"protocolVersion": "2025-11-25", "capabilities": capabilities, "clientInfo": INFO}
        await self.say({"id": "first", "method": "initialize", "params": params})
        assert "result" in await self.hear()
        await self.say({"method": "notifications/initialized"})

    def envelope(self) -> dict[str, Any]:
        return {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": INFO,
            "io.modelcontextprotocol/clientCapabilities": self.capabilities,
        }

    def call(self, identifier: Any = 1, tool: str = TOOL, *, meta: Any = None, **arguments: Any) -> dict[str, Any]:
        whole = {**(meta or {}), **(self.envelope() if self.modern else {})}
        params = {"name": tool, "arguments": arguments, **({"_meta": whole} if whole else {})}
        return {"id": identifier, "method": "tools/call", "params": params}

    def list_tools(self, identifier: Any = 1) -> dict[str, Any]:
        params = {"_meta": self.envelope()} if self.modern else {}
        return {"id": identifier, "method": "tools/list", "params": params}

    def close(self) -> None:
        os.close(self.to_us)
        self.to_us = -1


@asynccontextmanager
async def connected(engine: Any, mode: str, *, direct: bool = True) -> AsyncIterator[Connected]:
    client = Connected(mode)
    try:
        async with anyio.create_task_group() as tasks:
            with anyio.fail_after(60):
                tasks.start_soon(lambda: client.serve(engine, direct=direct))
                await anyio.lowlevel.checkpoint()
                yield client
                client.scope.cancel()
                await client.ended.wait()
    finally:
        for descriptor in (client.their_in, client.to_us, client.from_us, client.their_out):
            if descriptor >= 0:
                os.close(descriptor)


def cancel(identifier: Any) -> dict[str, Any]:
    return {"method": "notifications/cancelled", "params": {"requestId": identifier}}


async def asks(engine: Any, name: str, arguments: Any, caller: Any) -> CallResult:
    """Asks, and answers with what came of it."""
    if caller.resumed is not None:
        return CallResult({"action": caller.resumed.reply.action}, is_error=False)
    try:
        reply = await caller.ask(Question("Delete it?", SCHEMA), "ticket")
    except CannotAsk:
        return CallResult({"cannot": "ask"}, is_error=True)
    return CallResult({"action": reply.action, "content": dict(reply.content)}, is_error=False)


async def gated(engine: Any, name: str, arguments: Any, caller: Any) -> CallResult:
    """Answers the tool `OTHER` at once, and others only when they are cancelled."""
    if name == OTHER:
        return CallResult({"data": arguments, "meta": {}}, is_error=False)
    return await hang(engine, name, arguments, caller)


async def test_a_call_after_the_opening_is_answered_past_the_sdks_loop(mode: Any) -> None:
    async with connected(FakeEngine(), mode) as client:
        await client.open()
        await client.say(client.call(7, a=1), client.call("seven", a=2))
        answers = [await client.hear() for _ in range(2)]
        assert [answer["id"] for answer in answers] == [7, "seven"]
        told = [answer["result"]["structuredContent"] for answer in answers]
        assert [(each["arguments"], each["client"], each["transport"]) for each in told] == [
            ({"a": 1}, "c 1", "stdio"),
            ({"a": 2}, "c 1", "stdio"),
        ]
        assert set(client.source.given) <= {"notifications/initialized"}


async def test_the_list_of_tools_is_the_sdks_again_and_again_and_follows_the_policy(mode: Any) -> None:
    engine, answers = FakeEngine(), list[Any]()
    every = engine.tools()
    for direct in (True, False):
        async with connected(engine, mode, direct=direct) as client:
            await client.open()
            for tools in (every, every, every[:2], every):
                engine.tools = lambda caller=None, tools=tools: tools
                await client.say(client.list_tools("a\u2028b"))
                answers.append(await client.hear())
            assert ("tools/list" in client.source.given) is not direct
    assert answers[:4] == answers[4:]
    assert [len(answer["result"]["tools"]) for answer in answers[:4]] == [len(every), len(every), 2, len(every)]


@pytest.mark.parametrize("params", [None, {}, {"cursor": "x"}, {"cursor": 5}, {"unheard": "of"}, []])
async def test_a_list_with_odd_params_is_answered_as_in_the_sdks_loop(mode: Any, params: Any) -> None:
    found: list[Any] = []
    for direct in (True, False):
        async with connected(FakeEngine(), mode, direct=direct) as client:
            await client.open()
            asked = client.list_tools(1)
            asked["params"] = {**params, **asked["params"]} if isinstance(params, dict) else params
            await client.say(asked, client.call(2))
            found.append(sorted([await client.hear() for _ in range(2)], key=lambda answer: str(answer["id"])))
    assert found[0] == found[1]


async def test_whatever_is_not_a_call_goes_to_the_sdk(mode: Any) -> None:
    async with connected(FakeEngine(), mode) as client:
        await client.open()
        meta = {"_meta": client.envelope()} if client.modern else {}
        await client.say({"id": 1, "method": "prompts/list", "params": meta})
        assert (await client.hear())["result"]["prompts"]
        assert client.source.given[-1] == "prompts/list"


async def test_a_call_before_the_opening_is_refused_by_the_sdk() -> None:
    engine = FakeEngine()
    async with connected(engine, "legacy") as client:
        await client.say(client.call())
        assert (await client.hear())["error"]["code"] == -32602
        assert client.source.given == ["tools/call"]
    assert engine.calls == []


async def test_what_opens_a_connection_of_2026_is_itself_a_call_to_the_sdk() -> None:
    async with connected(FakeEngine(), "auto") as client:
        client.capabilities = {}
        await client.say(client.call(1))
        assert "result" in await client.hear()
        await client.say(client.call(2))
        assert "result" in await client.hear()
        assert client.source.given == ["tools/call"]


async def test_calls_that_come_with_the_handshake_are_answered() -> None:
    async with connected(FakeEngine(), "legacy") as client:
        params = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": INFO}
        hello = {"id": 0, "method": "initialize", "params": params}
        await client.say(hello, {"method": "notifications/initialized"}, client.call(1), client.call(2))
        answers = [await client.hear() for _ in range(3)]
    assert [answer["id"] for answer in answers] == [0, 1, 2]
    assert answers[0]["result"]["protocolVersion"] == "2025-06-18"
    assert all("result" in answer for answer in answers)


async def test_a_handshake_that_is_refused_opens_nothing() -> None:
    engine = FakeEngine()
    async with connected(engine, "legacy") as client:
        await client.say({"id": 0, "method": "initialize", "params": {"protocolVersion": 5}})
        assert "error" in await client.hear()
        await client.say(client.call())
        assert (await client.hear())["error"]["code"] == -32602
    assert engine.calls == []


async def test_a_request_of_the_other_era_is_refused_by_the_sdk(mode: Any) -> None:
    engine = FakeEngine()
    async with connected(engine, mode) as client:
        await client.open()
        client.modern = not client.modern
        await client.say(client.call())
        assert "error" in await client.hear()
        assert client.source.given[-1] == "tools/call"
    assert engine.calls == []


@pytest.mark.parametrize(
    "change",
    [
        {"jsonrpc": "1.0"},
        {"id": True},
        {"id": 1.5},
        {"id": {}},
        {"id": 2**70},
        {"id": "5"},
        {"params": None},
        {"params": []},
        {"params": {}},
        {"params": {"name": 5}},
        {"params": {"name": TOOL, "arguments": []}},
        {"params": {"name": "nope", "arguments": {}}},
        {"params": {"name": TOOL, "_meta": {"io.modelcontextprotocol/protocolVersion": "2031-01-01"}}},
        {"params": {"name": TOOL, "_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}}},
        {"result": {}},
        {"unheard": "of"},
    ],
)
async def test_what_is_odd_is_answered_as_in_the_sdks_loop(mode: Any, change: dict[str, Any]) -> None:
    found: list[Any] = []
    for direct in (True, False):
        async with connected(FakeEngine(), mode, direct=direct) as client:
            await client.open()
            await client.say({**client.call(), **change})
            found.append(await client.hear())
    assert found[0] == found[1]


async def test_progress_comes_before_the_answer_to_who_asked_for_it(mode: Any) -> None:
    async def works(engine: Any, name: str, arguments: Any, caller: Any) -> CallResult:
        await caller.progress("one")
        await caller.progress("two")
        return CallResult({"data": [], "meta": {}}, is_error=False)

    async with connected(FakeEngine(works), mode) as client:
        await client.open()
        await client.say(client.call(1, meta={"progressToken": "p"}), client.call(2))
        heard = [await client.hear() for _ in range(4)]
    told = [message["params"] for message in heard if message.get("method") == "notifications/progress"]
    assert told == [
        {"progressToken": "p", "progress": 1, "message": "one"},
        {"progressToken": "p", "progress": 2, "message": "two"},
    ]
    own = [message.get("id") for message in heard if message.get("id") != 2]
    assert own == [None, None, 1]


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (
            {"result": {"action": "accept", "content": {"confirm": "x"}}},
            {"action": "accept", "content": {"confirm": "x"}},
        ),
        ({"result": {"action": "decline"}}, {"action": "decline", "content": {}}),
        ({"result": {"action": "perhaps"}}, {"cannot": "ask"}),
        ({"error": {"code": -32601, "message": "Method not found"}}, {"cannot": "ask"}),
    ],
)
async def test_an_earlier_client_is_asked_while_its_call_waits(answer: dict[str, Any], outcome: Any) -> None:
    async with connected(FakeEngine(asks), "legacy") as client:
        await client.open(FORMS)
        await client.say(client.call(1))
        question = await client.hear()
        assert (question["method"], question["params"]["message"]) == ("elicitation/create", "Delete it?")
        assert isinstance(question["id"], str)
        assert not question["id"].isdigit()
        await client.say({"id": question["id"], **answer}, {"id": question["id"], **answer})
        assert (await client.hear())["result"]["structuredContent"] == outcome
        assert "tools/call" not in client.source.given


async def test_what_is_no_answer_leaves_the_question_open() -> None:
    async with connected(FakeEngine(asks), "legacy") as client:
        await client.open(FORMS)
        await client.say(client.call(1))
        identifier = (await client.hear())["id"]
        await client.say({"id": identifier, "result": 5}, {"id": "ask-other", "result": {"action": "accept"}})
        await client.say({"id": identifier, "result": {"action": "decline"}})
        assert (await client.hear())["result"]["structuredContent"]["action"] == "decline"


async def test_a_question_that_is_not_waited_for_any_longer_is_withdrawn() -> None:
    async with connected(FakeEngine(asks, ask_timeout=0.01), "legacy") as client:
        await client.open(FORMS)
        await client.say(client.call(1))
        question, withdrawal, answer = [await client.hear() for _ in range(3)]
    assert withdrawal["method"] == "notifications/cancelled"
    assert withdrawal["params"]["requestId"] == question["id"]
    assert answer["result"]["structuredContent"]["action"] == "cancel"


async def test_a_later_client_is_asked_by_the_answer() -> None:
    async with connected(FakeEngine(asks), "auto") as client:
        await client.open(FORMS)
        await client.say(client.call(1))
        asked = (await client.hear())["result"]
        assert asked["resultType"] == "input_required"
        again = client.call(2)
        again["params"] |= {
            "requestState": asked["requestState"],
            "inputResponses": {"confirm": {"action": "decline"}},
        }
        await client.say(again)
        assert (await client.hear())["result"]["structuredContent"] == {"action": "decline"}


async def test_whether_a_client_can_be_asked_is_what_it_declared(mode: Any) -> None:
    for capabilities in ({}, FORMS):
        async with connected(FakeEngine(), mode) as client:
            await client.open(capabilities)
            await client.say(client.call())
            told = (await client.hear())["result"]["structuredContent"]
        assert told["can_ask"] is (capabilities == FORMS)


async def test_what_a_later_client_declares_holds_for_that_request_alone() -> None:
    async with connected(FakeEngine(), "auto") as client:
        await client.open()
        told: list[bool] = []
        for capabilities in ({}, FORMS, {}):
            client.capabilities = capabilities
            await client.say(client.call())
            told.append((await client.hear())["result"]["structuredContent"]["can_ask"])
    assert told == [False, True, False]


async def test_a_second_handshake_leaves_the_calls_after_it_to_the_sdk() -> None:
    async with connected(FakeEngine(), "legacy") as client:
        await client.open()
        await client.shake_hands(FORMS)
        await client.say(client.call())
        assert (await client.hear())["result"]["structuredContent"]["can_ask"] is True
        assert client.source.given[-1] == "tools/call"


@pytest.mark.parametrize(("identifier", "named"), [(7, 7), (7, "7"), ("7", 7), ("x", "x")])
async def test_a_call_that_is_cancelled_ends_and_is_not_answered(mode: Any, identifier: Any, named: Any) -> None:
    engine = FakeEngine(gated)
    async with connected(engine, mode) as client:
        await client.open()
        await client.say(client.call(identifier))
        await engine.begun.wait()
        await client.say(cancel("unknown"), cancel(named), client.call("next", OTHER))
        assert (await client.hear())["id"] == "next"
        assert engine.records == ["cancelled"]
        assert "tools/call" not in client.source.given


async def test_a_call_that_is_cancelled_at_once_does_nothing(mode: Any) -> None:
    engine = FakeEngine(gated)
    async with connected(engine, mode) as client:
        await client.open()
        await client.say(client.call(1), cancel(1), client.call(2, OTHER))
        assert (await client.hear())["id"] == 2
    assert engine.calls == [OTHER]


async def test_of_two_calls_with_one_id_the_later_one_is_cancelled(mode: Any) -> None:
    engine = FakeEngine(gated)
    async with connected(engine, mode) as client:
        await client.open()
        await client.say(client.call(1), client.call(1), cancel(1), client.call(2, OTHER))
        assert (await client.hear())["id"] == 2
        assert len(engine.calls) == 2
        await client.say(cancel(1), client.call(3, OTHER))
        assert (await client.hear())["id"] == 3
        client.close()
        assert (await client.hear())["id"] == 1


@pytest.mark.parametrize("end", ["of stdin", "by a signal"])
async def test_the_end_cancels_calls_and_answers_them_before_the_server_is_over(mode: Any, end: str) -> None:
    engine = FakeEngine(hang)
    async with connected(engine, mode) as client:
        await client.open()
        await client.say(client.call(1), client.call(2))
        await engine.begun.wait()
        if end == "of stdin":
            client.close()
        else:
            client.scope.cancel()
        answers = [await client.hear() for _ in range(2)]
        await client.ended.wait()
        assert sorted(answer["id"] for answer in answers) == [1, 2]
        assert {answer["error"]["code"] for answer in answers} == {-32000}
        assert engine.records == ["cancelled"] * 2


async def test_a_question_that_is_open_at_the_end_does_not_hold_the_server() -> None:
    async with connected(FakeEngine(asks), "legacy") as client:
        await client.open(FORMS)
        await client.say(client.call(1))
        question = await client.hear()
        client.close()
        withdrawal, answer = [await client.hear() for _ in range(2)]
        await client.ended.wait()
    assert withdrawal["params"]["requestId"] == question["id"]
    assert (answer["id"], answer["error"]["code"]) == (1, -32000)


async def test_a_failure_of_the_servers_own_is_told_to_nobody(mode: Any, caplog: pytest.LogCaptureFixture) -> None:
    engine = FakeEngine()
    async with connected(engine, mode) as client:
        await client.open()
        engine.settings = None
        await client.say(client.call(1))
        answer = await client.hear()
    assert answer["error"] == {"code": -32603, "message": "Internal server error"}
    assert "AttributeError" in caplog.text


async def test_many_calls_at_once_are_all_answered(mode: Any) -> None:
    async with connected(FakeEngine(gated), mode) as client:
        await client.open()
        await client.say(*(client.call(number, OTHER, n=number) for number in range(150)))
        answers = [await client.hear() for _ in range(150)]
    assert [answer["result"]["structuredContent"]["data"]["n"] for answer in answers] == list(range(150))
