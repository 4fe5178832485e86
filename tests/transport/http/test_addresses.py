"""The public address, and a server that a proxy serves below a path prefix."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest
from click.testing import CliRunner
from mcp import Client
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from connector_mcp.cli.main import cli
from connector_mcp.errors import Misconfigured
from connector_mcp.transport.auth.authorization import Callers, ProtectedResource
from connector_mcp.transport.http.addresses import PublicAddress
from tests.transport.auth.issuer import ISSUER, Issuer, token
from tests.transport.conftest import FakeEngine, serving

pytestmark = pytest.mark.anyio

TOOL = "vectorize_get_source_connectors"
PREFIX = "/tools/connectors"


@pytest.mark.parametrize(
    ("address", "origin", "prefix"),
    [
        ("https://mcp.example.com", "https://mcp.example.com", ""),
        ("https://MCP.example.com:8443/", "https://mcp.example.com:8443", ""),
        ("http://127.0.0.1:8765/", "http://127.0.0.1:8765", ""),
        ("https://example.com/Tools", "https://example.com", "/Tools"),
        ("https://example.com/tools/mcp-server.v2_~a/", "https://example.com", "/tools/mcp-server.v2_~a"),
    ],
)
def test_a_public_address_has_an_origin_and_maybe_a_prefix(address: str, origin: str, prefix: str) -> None:
    read = PublicAddress.read(address)
    assert (read.origin, read.prefix, str(read)) == (origin, prefix, origin + prefix)


@pytest.mark.parametrize(
    "address",
    [f"https://example.com{path}" for path in ("/mcp", "/sse/", "/tools/mcp", "/console", "/console/x", "/messages")]
    + [f"https://example.com{path}" for path in ("//", "/a//b", "/..", "/a/../b", "/.", "/%61", "/a b", "/ü", "/a?b=c")]
    + [f"https://example.com{path}" for path in ("/a#b", "/a;b", "/{a}", '/"', "/\\", "/.well-known/x", "/a//")]
    + ["http://example.com/a", "example.com/a", "https://user@example.com/a", "https:///a", "/a", "", "https://e:x/a"],
)
def test_an_address_that_cannot_be_the_public_one_names_the_setting(address: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        PublicAddress.read(address)
    assert "CONNECTOR_MCP_PUBLIC_URL" in caught.value.message
    assert caught.value.fix


def test_a_wrong_public_address_ends_the_start_and_is_found_by_config_check() -> None:
    environ = {"CONNECTOR_MCP_PUBLIC_URL": "https://example.com/mcp"}
    for command in ("serve --http --sandbox --port 0", "config check --sandbox"):
        ended = CliRunner().invoke(cli, command.split(), env=environ)
        assert (ended.exit_code, "CONNECTOR_MCP_PUBLIC_URL is 'https://example.com/mcp'" in ended.output) == (2, True)


@pytest.mark.parametrize("prefix", ["/tools", PREFIX, "/mcp-server", "/m"])
def test_the_metadata_is_where_clients_look_for_it(prefix: str) -> None:
    resource = ProtectedResource(PublicAddress.read(f"https://example.com{prefix}"), ISSUER)
    well_known = "https://example.com/.well-known/oauth-protected-resource"
    assert resource.identifiers == tuple(f"https://example.com{prefix}{face}" for face in ("", "/mcp", "/sse"))
    urls = [resource.metadata_url(path) for path in ("/x", "/mcp", "/messages/")]
    assert urls == [f"{well_known}{prefix}{face}" for face in ("", "/mcp", "/sse")]
    paths = [getattr(route, "path", None) for route in resource.routes()]
    assert paths == [f"/.well-known/oauth-protected-resource{prefix}{face}" for face in ("", "/mcp", "/sse")]


@pytest.mark.parametrize("kept", [True, False], ids=["the proxy leaves it on", "the proxy takes it off"])
async def test_a_request_is_answered_alike_whatever_a_proxy_does_with_the_prefix(kept: bool) -> None:
    def page(request: Request) -> Response:
        return Response(request.scope["root_path"] + request.url.path)

    resource = ProtectedResource(PublicAddress.read(f"https://mcp.example{PREFIX}"), ISSUER)
    issuer = Issuer()
    oauth = issuer.oauth(audiences=resource.identifiers)
    oauth.resource = resource
    before = PREFIX if kept else ""
    async with (
        serving(
            FakeEngine(),
            callers=Callers(oauth=oauth),
            prefix=PREFIX,
            pages=[Route("/page", page)],
            open_paths=["/page"],
        ) as address,
        httpx2.AsyncClient(base_url=address) as http,
    ):
        for slash in ("", "/"):
            health = await http.get(f"{before}/healthz{slash}")
            shown = await http.get(f"{before}/page{slash}")
            refused = await http.post(f"{before}/mcp{slash}")
            assert (health.status_code, shown.text, refused.status_code) == (200, f"{PREFIX}/page", 401)
        where = refused.headers["www-authenticate"].partition('resource_metadata="')[2].partition('"')[0]
        assert where == f"https://mcp.example/.well-known/oauth-protected-resource{PREFIX}/mcp"
        document = (await http.get(where.removeprefix("https://mcp.example"))).json()
        assert document["resource"] == f"https://mcp.example{PREFIX}/mcp"
        headers = {"Authorization": f"Bearer {token(aud=document['resource'])}"}
        async with http.stream("GET", f"{before}/sse", headers=headers) as stream:
            lines = stream.aiter_lines()
            while not (line := await anext(lines)).startswith("data: "):
                pass
        assert line.startswith(f"data: {PREFIX}/messages/?session_id=")
        assert (await http.get(f"{before}x/healthz", headers=headers)).status_code == 404
        assert (await http.get(f"{before}/console")).status_code == 401


@pytest.mark.parametrize("face", ["/mcp", "/sse", "/mcp/", "/sse/"])
async def test_a_client_calls_below_a_prefix(mode: Any, face: str) -> None:
    async with serving(FakeEngine(), prefix=PREFIX) as address, httpx2.AsyncClient() as http:
        url = address + PREFIX + face
        transport = sse_client(url) if "sse" in face else streamable_http_client(url, http_client=http)
        async with Client(transport, mode=mode) as client:
            assert not (await client.call_tool(TOOL, {})).is_error
