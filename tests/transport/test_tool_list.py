"""The list of tools, which is kept from one request to the next."""

from types import SimpleNamespace
from typing import Any

import pytest
from mcp import Client
from mcp.shared.exceptions import MCPError
from mcp_types import ListToolsResult, PaginatedRequestParams, ServerResult
from mcp_types import Request as WireRequest
from pydantic import TypeAdapter

from connector_mcp.transport.mcp.server import build_server
from connector_mcp.transport.mcp.tool_list import ToolList

KEY = b"k" * 32


class Malformed(WireRequest[dict[str, Any], str]):
    """A list whose cursor is no text."""

    method: str = "tools/list"
    params: dict[str, Any] = {"cursor": {"no": "text"}}


@pytest.mark.anyio
async def test_a_second_list_is_the_first_one_again_and_is_not_made_anew(
    make_engine: Any, mode: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    list_tools = ToolList.list_tools

    async def noting(self: ToolList, ctx: Any, params: PaginatedRequestParams | None) -> ListToolsResult:
        made.append(ctx.method)
        return await list_tools(self, ctx, params)

    monkeypatch.setattr(ToolList, "list_tools", noting)
    server = build_server(make_engine(), request_state_key=KEY)
    lists: list[ListToolsResult] = []
    for _ in range(2):
        async with Client(server, mode=mode) as client:
            lists.extend([await client.list_tools(cache_mode="bypass") for _ in range(2)])
    assert made == ["tools/list"]
    assert all(each == lists[0] for each in lists)


@pytest.mark.anyio
async def test_a_list_holds_what_the_policy_lets_through_when_it_is_asked_for(make_engine: Any, mode: Any) -> None:
    engine = make_engine()
    every = engine.tools()
    async with Client(build_server(engine, request_state_key=KEY), mode=mode) as client:
        whole = (await client.list_tools(cache_mode="bypass")).tools
        engine.tools = lambda caller=None: every[:2]
        part = (await client.list_tools(cache_mode="bypass")).tools
    assert [tool.name for tool in whole] == [tool.name for tool in every]
    assert [tool.name for tool in part] == [tool.name for tool in every[:2]]


@pytest.mark.anyio
async def test_a_malformed_list_is_refused_also_where_an_answer_is_kept(make_engine: Any, mode: Any) -> None:
    async with Client(build_server(make_engine(), request_state_key=KEY), mode=mode) as client:
        await client.list_tools(cache_mode="bypass")
        with pytest.raises(MCPError):
            await client.session.send_request(Malformed(), TypeAdapter(ServerResult))


@pytest.mark.anyio
async def test_before_the_handshake_the_sdk_decides_although_an_answer_is_kept(make_engine: Any) -> None:
    listing = ToolList(lambda ctx: make_engine().tools())
    shaken = SimpleNamespace(
        method="tools/list", request_id=1, params=None, protocol_version="2025-11-25", session=SimpleNamespace()
    )

    async def answered(ctx: Any) -> dict[str, Any]:
        return {"tools": []}

    async def refused(ctx: Any) -> dict[str, Any]:
        raise LookupError

    shaken.session.client_params = object()
    await listing.from_memory(shaken, answered)
    assert await listing.from_memory(shaken, refused) == {"tools": []}
    shaken.session.client_params = None
    with pytest.raises(LookupError):
        await listing.from_memory(shaken, refused)
