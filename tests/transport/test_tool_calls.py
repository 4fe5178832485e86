"""Calls that are answered without the SDK's models: what they are answered is what the SDK would have made of them."""

import json
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from mcp.server.connection import Connection
from mcp.server.lowlevel.server import Server
from mcp.server.runner import ServerRunner
from mcp.shared.exceptions import MCPError
from mcp.shared.jsonrpc_dispatcher import handler_exception_to_error_data
from mcp.shared.transport_context import TransportContext
from mcp_types import JSONRPCResponse
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS, MODERN_PROTOCOL_VERSIONS
from pydantic import ValidationError

from connector_mcp.engine.caller import Caller, CallResult, Question
from connector_mcp.transport.lines import encode
from connector_mcp.transport.mcp.server import build_server
from tests.transport.conftest import FakeEngine

pytestmark = pytest.mark.anyio

KEY = b"k" * 32
TOOL = "vectorize_get_source_connectors"
INFO = {"name": "c", "version": "1"}
FORMS = {"elicitation": {"form": {}}}
VERSIONS = (HANDSHAKE_PROTOCOL_VERSIONS[0], HANDSHAKE_PROTOCOL_VERSIONS[-1], *MODERN_PROTOCOL_VERSIONS)
SCHEMA = {"type": "object", "properties": {"confirm": {"type": "string"}}, "required": ["confirm"]}

ANSWERS: dict[str, CallResult] = {
    "plain": CallResult({"data": {"name": "Bücher 日本"}, "meta": {"tenant": "t"}}, is_error=False),
    "with nulls": CallResult({"data": [None, {"a": None}, []], "meta": {}}, is_error=False),
    "failed": CallResult({"error": {"code": "not_found", "message": "m", "retryable": False}}, is_error=True),
    "half a pair": CallResult({"data": {"na\udc00me": ["a\ud800b"]}, "meta": {}}, is_error=False),
    "odd numbers": CallResult({"data": [2**70, -0.0, 1e300, float("nan"), True], "meta": {}}, is_error=False),
    "empty": CallResult({}, is_error=False),
}


async def behaving(engine: Any, name: str, arguments: Mapping[str, Any], caller: Caller) -> CallResult:
    """Does what the argument `do` says."""
    match arguments.get("do"):
        case "break":
            raise ZeroDivisionError
        case "ask":
            question = Question("Delete it?", SCHEMA)
            reply = caller.resumed.reply if caller.resumed else await caller.ask(question, "ticket")
            return CallResult({"action": reply.action, "content": dict(reply.content)}, is_error=False)
        case str(told) if told in ANSWERS:
            return ANSWERS[told]
        case _:
            return CallResult({"arguments": dict(arguments), "client": caller.client}, is_error=False)


class Dispatched:
    """A request that has just come in."""

    def __init__(self) -> None:
        self.request_id = 1
        self.message_metadata = None
        self.cancel_requested = anyio.Event()
        self.can_send_request = True
        self.transport = TransportContext(kind="test", can_send_request=True)

    async def send_raw_request(self, method: str, params: Any, opts: Any = None) -> dict[str, Any]:
        return {"action": "accept", "content": {"confirm": "orders"}}

    async def notify(self, method: str, params: Any, opts: Any = None) -> None:
        raise AssertionError

    async def progress(self, progress: float, total: float | None = None, message: str | None = None) -> None:
        raise AssertionError


@pytest.fixture(scope="module")
def servers() -> tuple[Server[Any], Server[Any]]:
    """One as it is shipped, and one where the SDK makes every answer."""
    shipped, plain = (build_server(FakeEngine(behaving), request_state_key=KEY) for _ in range(2))
    assert "ToolCalls" in repr(plain.middleware.pop())
    return shipped, plain


async def answered(server: Server[Any], version: str, params: Any, *, shaken: bool = True) -> Any:
    capabilities = FORMS if shaken else None
    connection = Connection.from_envelope(version, INFO if shaken else None, capabilities)
    if not shaken:
        connection.initialized = anyio.Event()
    try:
        return await ServerRunner(server, connection, {}).on_request(Dispatched(), "tools/call", params)
    except (MCPError, ValidationError) as error:
        refused = handler_exception_to_error_data(error)
        assert refused is not None
        return refused


def call(version: str, **more: Any) -> dict[str, Any]:
    meta = {
        "io.modelcontextprotocol/protocolVersion": version,
        "io.modelcontextprotocol/clientInfo": INFO,
        "io.modelcontextprotocol/clientCapabilities": FORMS,
    }
    return {"name": TOOL, "arguments": {}, **({"_meta": meta} if version in MODERN_PROTOCOL_VERSIONS else {}), **more}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("do", [*ANSWERS, "break", "echo"])
async def test_an_answer_is_what_the_sdk_makes_of_it(servers: Any, version: str, do: str) -> None:
    params = call(version, arguments={"do": do})
    shipped, plain = [await answered(server, version, params) for server in servers]
    first, second = (JSONRPCResponse(jsonrpc="2.0", id=1, result=result) for result in (shipped, plain))
    assert json.loads(encode(first)) == json.loads(encode(second))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    "odd",
    [
        {"name": "nope"},
        {"name": 5},
        {"name": "\ud800"},
        {"arguments": None},
        {"arguments": []},
        {"arguments": "{}"},
        {"arguments": {5: 5}},
        {"_meta": None},
        {"_meta": []},
        {"_meta": {"progressToken": []}},
        {"_meta": {"progressToken": 1.5}},
        {"task": {"ttl": 1}},
        {"task": "soon"},
        {"inputResponses": {}},
        {"inputResponses": 5},
        {"requestState": "invented"},
        {"requestState": None},
        {"requestState": 5},
        {"unheard": "of"},
    ],
)
async def test_what_is_odd_is_taken_or_refused_as_by_the_sdk(servers: Any, version: str, odd: Any) -> None:
    params = call(version, **odd)
    shipped, plain = [await answered(server, version, params) for server in servers]
    assert shipped == plain


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("params", [None, {}, {"arguments": {}}])
async def test_a_call_without_a_name_is_refused_as_by_the_sdk(servers: Any, version: str, params: Any) -> None:
    shipped, plain = [await answered(server, version, params) for server in servers]
    assert shipped == plain
    assert not isinstance(shipped, dict)


@pytest.mark.parametrize("version", HANDSHAKE_PROTOCOL_VERSIONS)
async def test_before_the_handshake_the_sdk_decides(servers: Any, version: str) -> None:
    shipped, plain = [await answered(server, version, call(version), shaken=False) for server in servers]
    assert shipped == plain
    assert not isinstance(shipped, dict)


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_question_is_put_as_by_the_sdk_and_its_answer_taken(servers: Any, version: str) -> None:
    params = call(version, arguments={"do": "ask"})
    shipped, plain = [await answered(server, version, params) for server in servers]
    if version in MODERN_PROTOCOL_VERSIONS:
        # What seals a state is new each time.
        assert shipped.pop("requestState") != plain.pop("requestState")
        assert shipped["resultType"] == "input_required"
    assert shipped == plain


async def test_the_answer_to_a_question_is_taken_up(servers: Any) -> None:
    server, _ = servers
    params = call("2026-07-28", arguments={"do": "ask"})
    asked = await answered(server, "2026-07-28", params)
    yes = {"confirm": {"action": "accept", "content": {"confirm": "orders"}}}
    brought = {**params, "requestState": asked["requestState"], "inputResponses": yes}
    result = await answered(server, "2026-07-28", brought)
    assert result["structuredContent"] == {"action": "accept", "content": {"confirm": "orders"}}


async def test_another_request_and_a_notification_pass_untouched(servers: Any) -> None:
    server, _ = servers
    passed: list[Any] = []

    async def call_next(ctx: Any) -> None:
        passed.append(ctx)

    others = [
        SimpleNamespace(method="tools/list", request_id=1, params=call("2025-11-25")),
        SimpleNamespace(method="tools/call", request_id=None, params=call("2025-11-25")),
    ]
    for ctx in others:
        await server.middleware[-1](ctx, call_next)
    assert passed == others


async def test_an_unknown_tool_is_an_error_of_the_protocol(servers: Any) -> None:
    server, _ = servers
    connection = Connection.from_envelope("2025-11-25", INFO, {})
    with pytest.raises(MCPError, match="Unknown tool"):
        await ServerRunner(server, connection, {}).on_request(Dispatched(), "tools/call", {"name": "nope"})
