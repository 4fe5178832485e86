"""What a caller's token allows bounds what it can call by name, and what a call may turn out to do."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from mcp.client import Client
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client
from mcp.shared.exceptions import MCPError

from connector_mcp.composition.engine import open_engine
from connector_mcp.config.settings import Settings
from connector_mcp.transport.auth.authorization import Callers
from connector_mcp.transport.auth.static_tokens import StaticToken
from tests.end_to_end.faces import INITIALIZE, META, World, message, modern, serving, world
from tests.end_to_end.test_nothing_is_destroyed_undecided import DESTRUCTIVE
from tests.records import rows
from tests.transport.auth.issuer import PUBLIC_URL, Issuer, token

pytestmark = pytest.mark.anyio

# A policy that lets everything through, so that only the scopes are left to refuse.
HEADERS = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
POLICY = {"CONNECTOR_MCP_POLICY": "destroy=allow", "CONNECTOR_MCP_INLINE_SECRETS": "allow"}


@asynccontextmanager
async def client_with(secret: str, era: Any, upstream: World, face: str = "/mcp") -> AsyncGenerator[Client]:
    environ = {**upstream.environ, **POLICY}
    settings = Settings.load(environ)
    async with (
        open_engine(settings, environ, "http") as engine,
        serving(engine, callers=Callers(oauth=Issuer().oauth())) as origin,
        create_mcp_http_client(headers=(headers := {"Authorization": f"Bearer {secret}"})) as http,
    ):
        mcp, sse = streamable_http_client(f"{origin}/mcp", http_client=http), sse_client(f"{origin}/sse", headers)
        async with Client(sse if face == "/sse" else mcp, mode=era) as connected:
            yield connected


async def refusal(client: Client, tool: str, arguments: dict[str, Any]) -> str:
    """What a client without step-up shows of a call that the server refuses with 403."""
    with pytest.raises(MCPError) as caught:
        await client.call_tool(tool, arguments)
    return str(caught.value)


@pytest.mark.parametrize("era", ["auto", "legacy"])
async def test_without_the_scope_no_tool_destroys_anything(tmp_path: Path, era: str) -> None:
    secret = token(scope="connectors:read connectors:write")
    async with world(tmp_path) as upstream, client_with(secret, era, upstream) as client:
        listed = {tool.name for tool in (await client.list_tools()).tools}
        for tool, arguments, _, _ in DESTRUCTIVE:
            assert "needs the scope connectors:destroy" in await refusal(client, tool, arguments), tool
        assert upstream.writes() == []
        sent = [value for request in upstream.sandbox.requests for value in request.headers.values()]
        assert sent
        assert not any(secret in value for value in sent)
    assert {tool for tool, *_ in DESTRUCTIVE} <= listed, "the issuer may give it the scope"


async def test_with_the_scope_alone_that_deletes_a_tool_is_served_and_others_are_not(tmp_path: Path) -> None:
    tool, arguments, method, _ = DESTRUCTIVE[0]
    async with world(tmp_path) as upstream, client_with(token(scope="connectors:destroy"), "auto", upstream) as client:
        done = await client.call_tool(tool, arguments)
        assert "connectors:read" in await refusal(client, "vectorize_get_source_connectors", {})
        assert [verb for verb, _ in upstream.writes()] == [method]
    assert not done.is_error


STATIC = StaticToken.from_secret("reader", name="reader", scopes=["connectors:read", "connectors:write"])


@pytest.mark.parametrize("policy", ["destroy=allow", "destroy=block"])
@pytest.mark.parametrize("era", ["2026-07-28", "headers alone", "legacy"])
@pytest.mark.parametrize("kind", ["static", "jwt"])
async def test_a_call_without_the_scope_is_403_and_names_it_unless_the_policy_blocks_the_tool_anyway(
    tmp_path: Path, policy: str, era: str, kind: str
) -> None:
    # Made now: a token of the module's import may have expired.
    secret = "reader" if kind == "static" else token(scope="connectors:read connectors:write")
    async with posting(tmp_path, secret, policy) as (post, upstream, engine):
        for tool, arguments, *_ in [each for each in DESTRUCTIVE if era != "headers alone" or "_delete_" in each[0]]:
            answer = await post(era, tool, arguments)
            shown = str(answer.headers.get("www-authenticate", ""))
            if policy == "destroy=allow":
                assert (answer.status_code, upstream.writes()) == (403, []), tool
                assert 'error="insufficient_scope"' in shown
                assert 'scope="connectors:read connectors:write connectors:destroy"' in shown
                assert f'resource_metadata="{PUBLIC_URL}/.well-known/oauth-protected-resource/mcp"' in shown
                assert "needs the scope connectors:destroy" in answer.json()["error"]["message"]
                last = rows(engine.database, "SELECT tool, outcome FROM audit ORDER BY seq DESC LIMIT 1")
                assert last == [{"tool": tool, "outcome": "blocked"}]
            elif era != "headers alone":
                assert (answer.status_code, upstream.writes(), shown) == (200, [], ""), tool
                assert "blocked" in answer.text
        unknown = await post(era, "vectorize_drop_everything", {})
    assert (unknown.status_code == 403, "www-authenticate" in unknown.headers) == (False, False)


async def test_over_sse_the_result_of_the_call_names_the_scope(tmp_path: Path) -> None:
    tool, arguments, *_ = DESTRUCTIVE[0]
    async with world(tmp_path) as upstream, client_with(token(), "legacy", upstream, face="/sse") as client:
        result = await client.call_tool(tool, arguments)
    told: Any = result.structured_content
    assert (told["error"]["code"], told["error"]["scope"]) == ("blocked", "connectors:destroy")


@asynccontextmanager
async def posting(tmp_path: Path, secret: str, policy: str) -> AsyncGenerator[Any]:
    """A function that posts a call as a client of an era does, the world upstream, and the engine."""
    async with world(tmp_path) as upstream:
        environ = {**upstream.environ, **POLICY, "CONNECTOR_MCP_POLICY": policy}
        async with (
            open_engine(Settings.load(environ), environ, "http") as engine,
            serving(engine, callers=Callers([STATIC], oauth=Issuer().oauth())) as origin,
            httpx.AsyncClient(base_url=origin, headers=HEADERS | {"Authorization": f"Bearer {secret}"}) as http,
        ):
            opened = await http.post("/mcp", json=message("initialize", 0, **INITIALIZE))
            session = {"Mcp-Session-Id": opened.headers["mcp-session-id"]}

            async def post(era: str, tool: str, arguments: dict[str, Any]) -> httpx.Response:
                meta = {} if era == "legacy" else {"_meta": META}
                call = message("tools/call", 7, name=tool, arguments=arguments, **meta)
                headers = session if era == "legacy" else modern(tool)
                if era == "headers alone":
                    return await http.post("/mcp", content=b"{", headers=headers)
                return await http.post("/mcp", json=call, headers=headers)

            yield post, upstream, engine
