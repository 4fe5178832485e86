"""What clients may rely on, over stdio, `/mcp` and `/sse` and in both eras of the protocol."""

import asyncio
import json
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import anyio
import pytest
from mcp.shared.message import SessionMessage
from mcp_types import jsonrpc_message_adapter

from connector_mcp import __version__
from connector_mcp.config.settings import Settings
from connector_mcp.engine.caller import CallResult, CannotAsk, Question
from connector_mcp.transport.auth.static_tokens import StaticToken
from connector_mcp.transport.http.limits import MAX_UNREAD, HttpLimits, MessageGuard
from connector_mcp.transport.mcp.server import build_server
from connector_mcp.transport.mcp.tools import CallsInFlight
from connector_mcp.transport.process import logging_to_stderr
from connector_mcp.transport.streams import throttled
from tests.documents import ROOT
from tests.transport.conftest import KEY, FakeEngine, hang
from tests.transport.wires import ACCEPT, TOOL, WIRES, StdioWire, Wire, connected

pytestmark = pytest.mark.anyio

OTHER = "vectorize_get_source_connector"
FORMS = {"elicitation": {"form": {}}}
SCHEMA = {"type": "object", "properties": {"confirm": {"type": "string"}}, "required": ["confirm"]}
LEGACY_HTTP = ("/mcp", "legacy")

each_wire = pytest.mark.parametrize("wire", WIRES, ids=" ".join)


async def asks(engine: Any, name: str, arguments: Any, caller: Any) -> CallResult:
    """Asks, and answers with the reply."""
    if caller.resumed is not None:
        reply = caller.resumed.reply
    else:
        engine.begun.set()
        try:
            reply = await caller.ask(Question("Delete it?", SCHEMA), "ticket")
        except CannotAsk:
            return CallResult({"outcome": "cannot_ask", "can_ask": caller.can_ask}, is_error=True)
    return CallResult({"action": reply.action, "content": dict(reply.content)}, is_error=False)


async def gated(engine: Any, name: str, arguments: Any, caller: Any) -> CallResult:
    """Answers the tool `OTHER` at once, and others only when they are cancelled."""
    if name == OTHER:
        return CallResult({"data": arguments, "meta": {}}, is_error=False)
    return await hang(engine, name, arguments, caller)


def cancel(identifier: Any) -> dict[str, Any]:
    return {"method": "notifications/cancelled", "params": {"requestId": identifier}}


@each_wire
async def test_the_server_introduces_itself_and_says_how_to_begin(wire: Any) -> None:
    async with connected(FakeEngine(), wire) as client:
        result = (await client.open())["result"]
    info = result["_meta"]["io.modelcontextprotocol/serverInfo"] if client.modern else result["serverInfo"]
    (icon,) = info.pop("icons")
    assert info == {"name": "connector-mcp", "title": "Connectors", "version": __version__}
    assert (icon["mimeType"], icon["sizes"]) == ("image/svg+xml", ["any"])
    picture = (ROOT / "docs/icon.svg").read_text().strip().replace('"', "'")
    assert unquote(icon["src"]) == f"data:image/svg+xml,{picture}"
    assert len(icon["src"]) < 360
    assert " " not in icon["src"]
    assert all(word in result["instructions"] for word in ("describe_connector_type", "[redacted]", "approved"))
    assert result["capabilities"].keys() == {"completions", "prompts", "resources", "tools"}


@each_wire
async def test_tools_are_listed_and_called(wire: Any) -> None:
    engine = FakeEngine()
    async with connected(engine, wire) as client:
        await client.open()
        listed = await client.ask({"id": 1, "method": "tools/list", "params": client.params()})
        called = [await client.ask(client.call(each, arguments={"a": None, "b": "ü"})) for each in (7, "seven")]
    assert [tool["name"] for tool in listed["result"]["tools"]] == [tool.name for tool in engine.tools()]
    assert [answer["id"] for answer in called] == [7, "seven"]
    for answer in called:
        told = answer["result"]["structuredContent"]
        assert (told["arguments"], told["client"], told["can_ask"]) == ({"a": None, "b": "ü"}, "test 1", False)
        over = ("stdio", "local") if wire[0] == "stdio" else ("http", "anonymous")
        assert (told["transport"], told["principal"], told["scopes"]) == (*over, None)
        assert json.loads(answer["result"]["content"][0]["text"]) == told
        assert answer["result"]["isError"] is False
        assert answer["result"].get("resultType") == ("complete" if client.modern else None)


@each_wire
async def test_an_unknown_tool_or_method_is_an_error_of_the_protocol(wire: Any) -> None:
    async with connected(FakeEngine(), wire) as client:
        await client.open()
        tool = await client.ask(client.call(1, "vectorize_get_source_conectors"))
        method = await client.ask({"id": 2, "method": "no/such", "params": client.params()})
    assert (tool["error"]["code"], tool["error"]["data"]) == (-32602, {"candidates": [TOOL]})
    assert method["error"]["code"] == -32601


@each_wire
@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        ({"action": "accept", "content": {"confirm": "x"}}, {"action": "accept", "content": {"confirm": "x"}}),
        ({"action": "decline"}, {"action": "decline", "content": {}}),
        ({"action": "cancel"}, {"action": "cancel", "content": {}}),
    ],
)
async def test_a_question_is_put_and_its_answer_taken(wire: Any, answer: dict[str, Any], outcome: Any) -> None:
    async with connected(FakeEngine(asks), wire) as client:
        await client.open(FORMS)
        question = await client.ask(client.call(1))
        if client.modern:
            result = question["result"]
            assert result["resultType"] == "input_required"
            assert result["inputRequests"]["confirm"]["params"]["message"] == "Delete it?"
            again = client.call(2, requestState=result["requestState"], inputResponses={"confirm": answer})
            final = await client.ask(again)
        else:
            assert (question["method"], question["params"]["message"]) == ("elicitation/create", "Delete it?")
            final = await client.ask({"id": question["id"], "result": answer})
    assert final["result"]["structuredContent"] == outcome


@pytest.mark.parametrize("transport", ["stdio", "/mcp", "/sse"])
@pytest.mark.parametrize("answer", [{"result": {"action": "perhaps"}}, {"error": {"code": -32601, "message": "no"}}])
async def test_an_error_for_an_answer_means_that_nobody_can_be_asked(transport: str, answer: dict[str, Any]) -> None:
    async with connected(FakeEngine(asks), (transport, "legacy")) as client:
        await client.open(FORMS)
        question = await client.ask(client.call(1))
        final = await client.ask({"id": question["id"], **answer})
    assert final["result"]["structuredContent"] == {"outcome": "cannot_ask", "can_ask": True}


@each_wire
async def test_progress_comes_before_the_answer_of_a_call_that_asked_for_it(wire: Any) -> None:
    async def works(engine: Any, name: str, arguments: Any, caller: Any) -> CallResult:
        await caller.progress("one")
        await caller.progress("two")
        return CallResult({"data": [], "meta": {}}, is_error=False)

    async with connected(FakeEngine(works), wire) as client:
        await client.open()
        await client.say(client.call(1, _meta={"progressToken": "p"}))
        heard = [await client.hear() for _ in range(3)]
        silent = await client.ask(client.call(2))
    assert [message.get("id") for message in heard] == [None, None, 1]
    assert [message["params"] for message in heard[:2]] == [
        {"progressToken": "p", "progress": 1, "message": "one"},
        {"progressToken": "p", "progress": 2, "message": "two"},
    ]
    assert silent["id"] == 2


@pytest.mark.parametrize("wire", [wire for wire in WIRES if wire != ("/mcp", "modern")], ids=" ".join)
async def test_a_cancelled_call_ends_and_its_answer_says_nothing(wire: Any) -> None:
    engine = FakeEngine(gated)
    async with connected(engine, wire) as client:
        await client.open()
        await client.say(client.call(7))
        await engine.begun.wait()
        await client.say(cancel("unknown"), cancel(7))
        if wire == LEGACY_HTTP:
            # There a request ends only with an answer.
            assert (await client.hear())["error"]["code"] == -32800
        await client.say(client.call("next", OTHER))
        assert (await client.hear())["id"] == "next"
    assert engine.records == ["cancelled"]


async def test_a_client_of_2026_that_hangs_up_cancels_its_call() -> None:
    engine = FakeEngine(hang)
    async with connected(engine, ("/mcp", "modern")) as client:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.post, json.dumps({"jsonrpc": "2.0", **client.call()}).encode(), client.call())
            await engine.begun.wait()
            tasks.cancel_scope.cancel()
        with anyio.fail_after(120):
            while engine.records != ["cancelled"]:
                await client.http.get("/healthz")


@each_wire
@pytest.mark.parametrize("identifier", ['{"a":1}', "1.5", "true", "null", "NaN"])
async def test_a_request_whose_id_is_not_valid_is_refused(wire: Any, identifier: str) -> None:
    engine = FakeEngine()
    async with connected(engine, wire) as client:
        await client.open()
        body = json.dumps({"jsonrpc": "2.0", **client.call("ID")}).replace('"ID"', identifier).encode()
        client.statuses.clear()
        await client.send_body(body, client.call())
        if wire[0] != "/sse":
            refused = await client.hear()
            assert refused["error"]["code"] in ({-32600, -32700} if identifier == "NaN" else {-32600})
            assert refused.get("id") is None
        assert (await client.ask(client.call(2)))["id"] == 2
    assert client.statuses[:1] in ([], [400])
    assert engine.calls == [TOOL]


@each_wire
@pytest.mark.parametrize(
    "body", [b"not json", b"[]", b"5", b'{"jsonrpc":"1.0","id":3,"method":"ping"}', b'{"jsonrpc":"2.0","id":"\\ud800"}']
)
async def test_a_malformed_message_is_refused_and_the_session_goes_on(wire: Any, body: bytes) -> None:
    async with connected(FakeEngine(), wire) as client:
        await client.open()
        client.statuses.clear()
        await client.send_body(body)
        if wire[0] != "/sse":
            assert (await client.hear())["error"]["code"] in {-32700, -32600, -32602}
        assert (await client.ask(client.call(2)))["id"] == 2
    assert client.statuses[:1] in ([], [400])


@pytest.mark.parametrize("transport", ["stdio", "/sse"])
async def test_a_call_before_the_handshake_is_refused(transport: str) -> None:
    engine = FakeEngine()
    async with connected(engine, (transport, "legacy")) as client:
        assert (await client.ask(client.call()))["error"]["code"] == -32602
    assert engine.calls == []


@pytest.mark.parametrize("wire", [wire for wire in WIRES if wire[0] != "/mcp"], ids=" ".join)
async def test_a_request_of_the_other_era_is_refused(wire: Any) -> None:
    engine = FakeEngine()
    async with connected(engine, wire) as client:
        await client.open()
        client.modern = not client.modern
        assert "error" in await client.ask(client.call())
    assert engine.calls == []


@each_wire
async def test_many_calls_at_once_are_all_answered(wire: Any) -> None:
    async with connected(FakeEngine(gated), wire) as client:
        await client.open()
        await client.say(*(client.call(number, OTHER, arguments={"n": number}) for number in range(60)))
        answers = [await client.hear() for _ in range(60)]
    assert sorted(answer["result"]["structuredContent"]["data"]["n"] for answer in answers) == list(range(60))


@each_wire
async def test_a_call_beyond_the_bound_is_refused_and_a_later_one_served(wire: Any) -> None:
    engine = FakeEngine(gated)
    options = {"most": 1} if wire[0] == "stdio" else {"limits": HttpLimits(calls=1)}
    async with connected(engine, wire, **options) as client:
        await client.open()
        await client.say(client.call(1))
        await engine.begun.wait()
        client.statuses.clear()
        await client.say(client.call(2, OTHER))
        if wire[0] == "stdio":
            refused = (await client.hear())["result"]
            assert (refused["isError"], refused["structuredContent"]["error"]["code"]) == (True, "rate_limited")
        elif wire[0] == "/mcp":
            assert (await client.hear())["error"] == "busy"
        assert client.statuses[-1:] in ([], [429])
    assert engine.calls == [TOOL]


# Clients that do not read -------------------------------------------------------------------------------------------


def requests(many: int) -> list[dict[str, Any]]:
    hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "c", "version": "1"}}
    first = {"jsonrpc": "2.0", "id": "open", "method": "initialize", "params": hello}
    return [first, *({"jsonrpc": "2.0", "id": number, "method": "tools/list"} for number in range(many))]


async def test_nothing_more_is_read_while_an_answer_waits_to_be_written() -> None:
    server = build_server(FakeEngine(), request_state_key=KEY)
    to_server, read = anyio.create_memory_object_stream[SessionMessage | Exception](500)
    write, from_server = anyio.create_memory_object_stream[SessionMessage](0)
    for message in requests(400):
        to_server.send_nowait(SessionMessage(jsonrpc_message_adapter.validate_python(message)))
    async with to_server, from_server, anyio.create_task_group() as tasks:
        tasks.start_soon(server.run, *throttled(read, write), server.create_initialization_options())
        await from_server.receive()
        await anyio.wait_all_tasks_blocked()
        assert len(asyncio.all_tasks()) < 20
        answered = [(await from_server.receive()).message for _ in range(400)]
        tasks.cancel_scope.cancel()
    assert len({answer.id for answer in answered}) == 400


async def test_over_stdio_a_flood_of_requests_waits_in_the_pipe_while_nothing_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(StdioWire, "listen", lambda self: anyio.sleep_forever())
    async with connected(FakeEngine(), ("stdio", "legacy")) as client:
        assert isinstance(client, StdioWire)
        os.set_blocking(client.to_us, False)
        lines = b"".join(json.dumps(message).encode() + b"\n" for message in requests(20_000))
        with suppress(BlockingIOError):
            while lines:
                lines = lines[os.write(client.to_us, lines[:4096]) :]
                await anyio.wait_all_tasks_blocked()
        assert lines
        assert len(asyncio.all_tasks()) < 20


async def test_posted_messages_that_the_server_cannot_read_yet_are_bounded() -> None:
    sent: list[Any] = []

    async def never_reads(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await anyio.sleep_forever()

    async def receive() -> Any:
        return {"type": "http.request", "body": b'{"jsonrpc":"2.0","method":"notifications/x"}'}

    async def send(message: Any) -> None:
        sent.append(message)

    guard = MessageGuard(never_reads, CallsInFlight(), 1024)
    scope = {"type": "http", "method": "POST", "headers": [], "query_string": b"session_id=1"}
    async with anyio.create_task_group() as tasks:
        for _ in range(MAX_UNREAD):
            tasks.start_soon(guard, scope, receive, send)
        await anyio.wait_all_tasks_blocked()
        assert sent == []
        await guard(scope, receive, send)
        tasks.cancel_scope.cancel()
    assert sent[0]["status"] == 429


# Sessions before 2026-07-28 over /mcp -------------------------------------------------------------------------------


async def a_minute_passes(client: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: now() + 61)


async def a_stranger_uses_the_session(client: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    headers = {**ACCEPT, **client.session, "Authorization": "Bearer second"}
    message = {"jsonrpc": "2.0", "id": 9, "method": "ping"}
    assert (await client.http.post("/mcp", json=message, headers=headers)).status_code == 404


TOKENS = [StaticToken.from_secret("first", name="first"), StaticToken.from_secret("second", name="second")]
meanwhile = pytest.mark.parametrize("event", [a_minute_passes, a_stranger_uses_the_session])


@meanwhile
async def test_a_call_in_a_session_can_be_cancelled(event: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = FakeEngine(hang)
    async with connected(engine, LEGACY_HTTP, token="first", tokens=TOKENS) as client:
        await client.open()
        await client.say(client.call(7))
        await engine.begun.wait()
        await event(client, monkeypatch)
        await client.say(cancel(7))
        assert (await client.hear())["error"]["code"] == -32800
    assert engine.records == ["cancelled"]


@meanwhile
async def test_an_answer_in_a_session_reaches_its_call(event: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async with connected(FakeEngine(asks), LEGACY_HTTP, token="first", tokens=TOKENS) as client:
        await client.open(FORMS)
        question = await client.ask(client.call(1))
        await event(client, monkeypatch)
        final = await client.ask({"id": question["id"], "result": {"action": "decline"}})
    assert final["result"]["structuredContent"]["action"] == "decline"


async def test_a_second_request_with_the_id_of_one_in_flight_is_refused() -> None:
    engine = FakeEngine(gated)
    async with connected(engine, LEGACY_HTTP) as client:
        await client.open()
        await client.say(client.call(7))
        await engine.begun.wait()
        refused = await client.ask(client.call("7", OTHER))
        await client.say(cancel(7))
        ended = await client.hear()
        while "error" in (again := await client.ask(client.call(7, OTHER))):
            pass
    assert (refused["error"]["code"], ended["id"], again["id"]) == (-32600, 7, 7)
    assert engine.calls == [TOOL, OTHER]


# Logs ---------------------------------------------------------------------------------------------------------------


@each_wire
async def test_messages_are_not_written_to_the_log_at_any_level(wire: Any, capsys: pytest.CaptureFixture[str]) -> None:
    engine = FakeEngine(asks)
    engine.settings = Settings(state_dir=Path("unused"), log_level="DEBUG")
    with logging_to_stderr(engine.scrub, "DEBUG"):
        async with connected(engine, wire) as client:
            await client.open(FORMS)
            asked = await client.ask(client.call(1, arguments={"api_key": "planted-in-a-call"}))
            if not client.modern:
                answer = {"action": "accept", "content": {"confirm": "planted-in-an-answer"}}
                await client.ask({"id": asked["id"], "result": answer})
            await client.ask(client.call(2, "planted-in-a-name"))
    assert "planted" not in capsys.readouterr().err
