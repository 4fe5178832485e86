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
from connector_mcp.transport.mcp.server import build_server

KEY = b"k" * 32


def answering(content: dict[str, Any], *, is_error: bool = False) -> Any:
    async def behaviour(*_: Any) -> CallResult:
        return CallResult(content, is_error)

    return behaviour


async def read_json(client: Client, uri: str) -> Any:
    (content,) = (await client.read_resource(uri)).contents
    assert isinstance(content, TextResourceContents)
    return json.loads(content.text)


@pytest.mark.anyio
async def test_every_tool_is_listed_as_declared(make_engine: Any, mode: Any) -> None:
    engine = make_engine()
    async with Client(build_server(engine, request_state_key=KEY), mode=mode) as client:
        listed = (await client.list_tools()).tools
    assert [tool.name for tool in listed] == [tool.name for tool in engine.tools()]
    for tool, declared in zip(listed, engine.tools(), strict=True):
        assert tool.description == declared.description
        assert (tool.title, tool.input_schema) == (declared.title, declared.listed_schema)
        assert tool.output_schema == declared.output_schema
        assert tool.annotations is not None
        assert (
            tool.annotations.read_only_hint,
            tool.annotations.destructive_hint,
            tool.annotations.idempotent_hint,
            tool.annotations.open_world_hint,
        ) == (
            declared.annotations.read_only,
            declared.annotations.destructive,
            declared.annotations.idempotent,
            declared.annotations.open_world,
        )


@pytest.mark.anyio
async def test_a_result_is_structured_and_the_same_as_compact_text(make_engine: Any, mode: Any) -> None:
    content = {"data": {"name": "Bücher 日本", "none": None, "list": [1, None, {"deep": None}]}, "meta": {}}
    engine = make_engine(answering(content))
    async with Client(build_server(engine, request_state_key=KEY), mode=mode) as client:
        result = await client.call_tool("vectorize_get_source_connectors", {})
    assert result.structured_content == content
    assert isinstance(result.content[0], TextContent)
    assert result.content[0].text == json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    assert not result.is_error


@pytest.mark.anyio
async def test_a_failure_of_the_call_is_a_result_not_a_protocol_error(make_engine: Any, mode: Any) -> None:
    content = {"error": {"code": "not_found", "message": "m", "fix": "f", "retryable": False}}
    engine = make_engine(answering(content, is_error=True))
    async with Client(build_server(engine, request_state_key=KEY), mode=mode) as client:
        result = await client.call_tool("vectorize_get_source_connectors", {})
    assert result.is_error
    assert result.structured_content == content


@pytest.mark.anyio
async def test_half_a_surrogate_pair_in_a_result_is_left_out(make_engine: Any, mode: Any) -> None:
    engine = make_engine(answering({"data": {"name": "a\ud800b"}, "meta": {}}))
    async with Client(build_server(engine, request_state_key=KEY), mode=mode) as client:
        result = await client.call_tool("vectorize_get_source_connectors", {})
    assert result.structured_content == {"data": {"name": "ab"}, "meta": {}}


@pytest.mark.anyio
async def test_an_unknown_tool_is_the_protocols_error_with_the_nearest_name(make_engine: Any, mode: Any) -> None:
    engine = make_engine()
    async with Client(build_server(engine, request_state_key=KEY), mode=mode) as client:
        with pytest.raises(MCPError) as caught:
            await client.call_tool("vectorize_get_source_conectors", {})
        with pytest.raises(MCPError) as lost:
            await client.call_tool("zzz\u202e\n", {})
    assert caught.value.code == INVALID_PARAMS
    assert caught.value.data == {"candidates": ["vectorize_get_source_connectors"]}
    assert lost.value.code == INVALID_PARAMS
    assert "\u202e" not in lost.value.message
    assert "\n" not in lost.value.message
    assert engine.calls == []


@pytest.mark.anyio
async def test_an_unforeseen_exception_is_told_to_the_log_only(
    make_engine: Any, mode: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: Any) -> CallResult:
        raise ZeroDivisionError("with marked-secret-value inside")

    with caplog.at_level(logging.ERROR):
        async with Client(build_server(make_engine(broken), request_state_key=KEY), mode=mode) as client:
            result = await client.call_tool("vectorize_get_source_connectors", {})
    assert result.is_error
    assert result.structured_content is not None
    assert result.structured_content["error"]["code"] == "internal"
    assert "ZeroDivisionError" not in json.dumps(result.structured_content)
    assert "ZeroDivisionError" in caplog.text
    assert "Traceback" in caplog.text
    assert "marked-secret-value" not in caplog.text


@pytest.mark.anyio
async def test_the_engine_hears_who_calls_from_what(make_engine: Any, mode: Any) -> None:
    info = Implementation(name="agent\u202e\x07" + "x" * 200, version="1.2")
    async with Client(build_server(make_engine(), request_state_key=KEY), mode=mode, client_info=info) as client:
        told = (await client.call_tool("vectorize_get_source_connectors", {"a": None, "b": "1"})).structured_content
    assert told is not None
    assert told["arguments"] == {"a": None, "b": "1"}
    assert told["principal"] == "local"
    assert told["transport"] == "stdio"
    assert told["scopes"] is None
    assert told["can_ask"] is False
    assert told["client"].startswith("agentxxx")
    assert len(told["client"]) <= 80


@pytest.mark.anyio
async def test_progress_reaches_the_client_that_asked_for_it_and_rises(make_engine: Any, mode: Any) -> None:
    async def works(engine: Any, name: str, arguments: Any, caller: Any) -> CallResult:
        await caller.progress("one")
        await caller.progress("two")
        return CallResult({"data": [], "meta": {}}, is_error=False)

    heard: list[tuple[float, str | None]] = []

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        heard.append((progress, message))

    async with Client(build_server(make_engine(works), request_state_key=KEY), mode=mode) as client:
        await client.call_tool("vectorize_get_source_connectors", {}, progress_callback=on_progress)
        await client.call_tool("vectorize_get_source_connectors", {})
    assert heard == [(1, "one"), (2, "two")]


@pytest.mark.anyio
async def test_connector_types_are_resources(make_engine: Any, mode: Any) -> None:
    async with Client(build_server(make_engine(), request_state_key=KEY), mode=mode) as client:
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


@pytest.mark.anyio
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
async def test_a_resource_that_is_not_there_is_named_in_the_error(make_engine: Any, mode: Any, uri: str) -> None:
    async with Client(build_server(make_engine(), request_state_key=KEY), mode=mode) as client:
        with pytest.raises(MCPError) as caught:
            await client.read_resource(uri)
    assert caught.value.code == INVALID_PARAMS
    assert caught.value.data == {"uri": uri}
