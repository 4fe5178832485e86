"""The MCP server around an engine, in both eras."""

import json
import logging
from typing import Any

import pytest
from mcp import Client
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS, Implementation, TextContent, TextResourceContents

from connector_mcp.engine.caller import CallResult
from connector_mcp.operations.connector_types import connector_types
from tests.transport.conftest import FakeEngine, client_of

pytestmark = pytest.mark.anyio

TOOL = "vectorize_get_source_connectors"


def answering(content: dict[str, Any], *, is_error: bool = False) -> Any:
    async def behaviour(*_: Any) -> CallResult:
        return CallResult(content, is_error)

    return behaviour


async def read_json(client: Client, uri: str) -> Any:
    (content,) = (await client.read_resource(uri)).contents
    assert isinstance(content, TextResourceContents)
    return json.loads(content.text)


async def test_every_tool_is_listed_as_declared(mode: Any) -> None:
    engine = FakeEngine()
    async with client_of(engine, mode) as client:
        listed = (await client.list_tools()).tools
    assert [tool.model_dump(by_alias=True, exclude_unset=True) for tool in listed] == [
        tool.as_dict() for tool in engine.tools()
    ]


NOT_FOUND = {"error": {"code": "not_found", "message": "m", "fix": "f", "retryable": False}}
NESTED = {"data": {"name": "Bücher 日本", "none": None, "list": [1, None, {"deep": None}]}, "meta": {}}


@pytest.mark.parametrize(
    ("content", "is_error", "told"),
    [
        (NESTED, False, NESTED),
        (NOT_FOUND, True, NOT_FOUND),
        ({"data": {"name": "a\ud800b"}, "meta": {}}, False, {"data": {"name": "ab"}, "meta": {}}),
    ],
    ids=["a success", "a failure of the call", "half a surrogate pair"],
)
async def test_a_result_is_structured_and_the_same_as_compact_text(
    content: Any, is_error: bool, told: Any, mode: Any
) -> None:
    async with client_of(FakeEngine(answering(content, is_error=is_error)), mode) as client:
        result = await client.call_tool(TOOL, {})
    assert (result.structured_content, result.is_error) == (told, is_error)
    assert isinstance(result.content[0], TextContent)
    assert result.content[0].text == json.dumps(told, ensure_ascii=False, separators=(",", ":"))


async def test_an_unknown_tool_is_the_protocols_error_with_the_nearest_name(mode: Any) -> None:
    engine = FakeEngine()
    async with client_of(engine, mode) as client:
        with pytest.raises(MCPError) as caught:
            await client.call_tool("vectorize_get_source_conectors", {})
        with pytest.raises(MCPError) as lost:
            await client.call_tool("zzz\u202e\n", {})
    assert caught.value.code == INVALID_PARAMS
    assert caught.value.data == {"candidates": [TOOL]}
    assert lost.value.code == INVALID_PARAMS
    assert "\u202e" not in lost.value.message
    assert "\n" not in lost.value.message
    assert engine.calls == []


async def test_an_unforeseen_exception_is_told_to_the_log_only(mode: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def broken(*_: Any) -> CallResult:
        raise ZeroDivisionError("with marked-secret-value inside")

    with caplog.at_level(logging.ERROR):
        async with client_of(FakeEngine(broken), mode) as client:
            result = await client.call_tool(TOOL, {})
    assert result.is_error
    assert result.structured_content is not None
    assert result.structured_content["error"]["code"] == "internal"
    assert "ZeroDivisionError" not in json.dumps(result.structured_content)
    assert "ZeroDivisionError" in caplog.text
    assert "Traceback" in caplog.text
    assert "marked-secret-value" not in caplog.text


async def test_the_engine_hears_who_calls_from_what(mode: Any) -> None:
    info = Implementation(name="agent\u202e\x07" + "x" * 200, version="1.2")
    async with client_of(FakeEngine(), mode, client_info=info) as client:
        told = (await client.call_tool(TOOL, {"a": None, "b": "1"})).structured_content
    assert told is not None
    assert told["arguments"] == {"a": None, "b": "1"}
    assert told["principal"] == "local"
    assert told["transport"] == "stdio"
    assert told["scopes"] is None
    assert told["can_ask"] is False
    assert told["client"].startswith("agentxxx")
    assert len(told["client"]) <= 80


async def test_connector_types_are_resources(mode: Any) -> None:
    async with client_of(FakeEngine(), mode) as client:
        listed = (await client.list_resources()).resources
        templates = (await client.list_resource_templates()).resource_templates
        index = await read_json(client, str(listed[0].uri))
        one = await read_json(client, index[0]["uri"])
    known = connector_types("vectorize")
    assert [str(each.uri) for each in listed if not str(each.uri).startswith("skill:")] == [
        "connector-type://vectorize"
    ]
    assert [template.uri_template for template in templates] == ["connector-type://{platform}/{type}"]
    assert [entry["type"] for entry in index] == list(known)
    assert one["config"] == known[index[0]["type"]].config
    assert one["secret_paths"] == list(known[index[0]["type"]].secret_paths)


@pytest.mark.parametrize(
    "uri",
    [
        "connector-type://vectorize/NOPE",
        "connector-type://logto",
        "connector-type://../errors",
        "file:///etc/passwd",
        "connector-type://",
    ],
)
async def test_a_resource_that_is_not_there_is_named_in_the_error(mode: Any, uri: str) -> None:
    async with client_of(FakeEngine(), mode) as client:
        with pytest.raises(MCPError) as caught:
            await client.read_resource(uri)
    assert caught.value.code == INVALID_PARAMS
    assert caught.value.data == {"uri": uri}
