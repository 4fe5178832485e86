"""What a caller's token allows bounds what it sees, what it can call by name, and what a call may turn out to do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client

from connector_mcp.composition.engine import open_engine
from connector_mcp.config.settings import Settings
from connector_mcp.transport.auth.authorization import Callers
from tests.end_to_end.faces import World, serving, world
from tests.end_to_end.test_nothing_is_destroyed_undecided import DESTRUCTIVE
from tests.transport.auth.issuer import Issuer, token

pytestmark = pytest.mark.anyio

# A policy that lets everything through, so that only the scopes are left to refuse.
POLICY = {"CONNECTOR_MCP_POLICY": "destroy=allow", "CONNECTOR_MCP_INLINE_SECRETS": "allow"}


@asynccontextmanager
async def client_with(secret: str, era: Any, upstream: World) -> AsyncIterator[Client]:
    environ = {**upstream.environ, **POLICY}
    settings = Settings.load(environ)
    async with (
        open_engine(settings, environ, "http") as engine,
        serving(engine, callers=Callers(oauth=Issuer().oauth())) as origin,
        create_mcp_http_client(headers={"Authorization": f"Bearer {secret}"}) as http,
        Client(streamable_http_client(f"{origin}/mcp", http_client=http), mode=era) as connected,
    ):
        yield connected


@pytest.mark.parametrize("era", ["auto", "legacy"])
async def test_without_the_scope_no_tool_destroys_anything(tmp_path: Path, era: str) -> None:
    secret = token(scope="connectors:read connectors:write")
    async with world(tmp_path) as upstream, client_with(secret, era, upstream) as client:
        listed = {tool.name: tool.annotations for tool in (await client.list_tools()).tools}
        for tool, arguments, _, _ in DESTRUCTIVE:
            result = await client.call_tool(tool, arguments)
            told: Any = result.structured_content
            assert result.is_error, tool
            assert told["error"]["code"] == "blocked", tool
            assert "connectors:destroy" in told["error"]["message"], tool
        assert upstream.writes() == []
        sent = [value for request in upstream.sandbox.requests for value in request.headers.values()]
        assert sent
        assert not any(secret in value for value in sent)
    assert "logto_update_connector" in listed
    assert not [name for name in listed if "_delete_" in name]


async def test_with_the_scope_alone_that_deletes_a_tool_is_served_and_others_are_not(tmp_path: Path) -> None:
    tool, arguments, method, _ = DESTRUCTIVE[0]
    async with world(tmp_path) as upstream, client_with(token(scope="connectors:destroy"), "auto", upstream) as client:
        listed = {each.name for each in (await client.list_tools()).tools}
        done = await client.call_tool(tool, arguments)
        refused = await client.call_tool("vectorize_get_source_connectors", {})
        assert [verb for verb, _ in upstream.writes()] == [method]
    told: Any = refused.structured_content
    assert not done.is_error
    assert told["error"]["code"] == "blocked"
    assert tool in listed
    assert "vectorize_get_source_connectors" not in listed
