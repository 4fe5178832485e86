"""The server below a path prefix of nginx, set up as docs/http.md says."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import httpx2
import pytest
from mcp.client import Client
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client

from connector_mcp.transport.auth.principal import SCOPES
from connector_mcp.transport.auth.static_tokens import StaticToken, append_token
from tests.documents import BY_NAME
from tests.end_to_end.faces import SERVE
from tests.end_to_end.test_nothing_is_destroyed_undecided import DESTRUCTIVE
from tests.nginx import NGINX_RUNS, free_port, nginx, until_said

pytestmark = pytest.mark.slow

PREFIX = "/tools/connectors"
FACES = [("/mcp", "auto"), ("/mcp/", "legacy"), ("/sse", "legacy"), ("/sse/", "legacy")]


@pytest.fixture(scope="module", params=["taken off", "left on"])
def public(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server behind nginx, which takes the prefix off or leaves it on."""
    folder = tmp_path_factory.mktemp("nginx")
    listen, port = free_port(), free_port()
    (locations,) = [block.text for block in BY_NAME["docs/http.md"].blocks("nginx")]
    if request.param == "left on":
        locations = locations.replace("8765/;", "8765;")
    locations = locations.replace("8765", str(port))
    site = f"server {{\nlisten 127.0.0.1:{listen};\n{locations}\n}}"
    append_token(folder / "tokens.toml", StaticToken.from_secret("agent", name="agent", scopes=SCOPES))
    append_token(folder / "operators.toml", StaticToken.from_secret("operator", name="ana"))
    address = f"http://127.0.0.1:{listen}{PREFIX}"
    environ = {
        "CONNECTOR_MCP_PUBLIC_URL": address,
        "CONNECTOR_MCP_STATE_DIR": str(folder / "state"),
        "CONNECTOR_MCP_TOKENS_FILE": str(folder / "tokens.toml"),
        "CONNECTOR_MCP_OPERATORS_FILE": str(folder / "operators.toml"),
        "CONNECTOR_MCP_OAUTH_ISSUER": "https://login.example.com",
    }
    commands = (
        ([*SERVE, "--http", "--sandbox", "--port", str(port)], environ, "Serving http"),
        (nginx(folder, site), {}, NGINX_RUNS),
    )
    with ExitStack() as stack:
        for command, settings, sign in commands:
            process = stack.enter_context(subprocess.Popen(command, env=settings, stderr=subprocess.PIPE, text=True))
            stack.callback(process.terminate)
            until_said(process, sign)
        yield address


@pytest.mark.anyio
@pytest.mark.parametrize("number", range(len(FACES)), ids=[" ".join(face) for face in FACES])
async def test_a_call_is_parked_and_its_link_leads_to_the_page_that_decides_it(public: str, number: int) -> None:
    face, era = FACES[number]
    tool, arguments, *_ = DESTRUCTIVE[number]
    headers = {"Authorization": "Bearer agent"}
    async with httpx2.AsyncClient(headers=headers) as http:
        sse, streamable = sse_client(public + face, headers), streamable_http_client(public + face, http_client=http)
        async with Client(sse if "sse" in face else streamable, mode=era) as client:
            parked: Any = (await client.call_tool(tool, arguments)).structured_content
    page = f"{public}/console/approvals/{parked['error']['approval']['id']}"
    assert page in parked["error"]["fix"]
    deny(public, page)


def deny(public: str, page: str) -> None:
    """Sign in and deny a call, as a browser does, by what the pages link to."""
    origin = {"Origin": public.removesuffix(PREFIX), "Sec-Fetch-Site": "same-origin"}
    with httpx.Client(follow_redirects=True) as browser:
        login = browser.get(page)
        assert login.url.path == f"{PREFIX}/console/login"
        form = {**dict(re.findall(r'name="(\w+)" value="([^"]*)"', login.text)), "token": "operator"}
        (action,) = re.findall(r'<form method="post" action="([^"]*)"', login.text)
        shown = browser.post(login.url.join(action), data=form, headers=origin)
        assert (shown.status_code, str(shown.url)) == (200, page)
        assert {cookie.path for cookie in browser.cookies.jar} == {f"{PREFIX}/console"}
        links = re.findall(r'(?:href|action|src|data-events)="(/[^"]*)"', shown.text)
        assert [link for link in links if not link.startswith(f"{PREFIX}/console")] == []
        followed = {link for link in links if re.search(r"/static/|/(history|calls|connectors)$", link)}
        assert [browser.get(shown.url.join(link)).status_code for link in followed] == [200] * 5
        (action,) = (link for link in links if link.endswith("/deny"))
        form = {"form_token": re.findall(r'form_token" value="([^"]*)"', shown.text)[0]}
        denied = browser.post(shown.url.join(action), data=form, headers=origin)
        assert (denied.status_code, str(denied.url), "denied" in denied.text) == (200, page, True)


def test_a_client_finds_the_issuer_by_the_metadata_below_the_prefix(public: str) -> None:
    for face in ("/mcp", "/sse"):
        refused = httpx.get(public + face)
        where = refused.headers["www-authenticate"].partition('resource_metadata="')[2].partition('"')[0]
        origin = public.removesuffix(PREFIX)
        assert (refused.status_code, where) == (401, f"{origin}/.well-known/oauth-protected-resource{PREFIX}{face}")
        assert httpx.get(where).json()["resource"] == public + face


def test_pages_for_secrets_load_what_they_need_from_below_the_prefix(public: str) -> None:
    page = httpx.get(f"{public}/secrets/unknown")
    assets = re.findall(r'(?:href|src)="(/[^"]*)"', page.text)
    assert page.status_code == 404
    assert len(assets) == 2
    assert all(httpx.get(public.removesuffix(PREFIX) + asset).status_code == 200 for asset in assets)
    assert all(asset.startswith(f"{PREFIX}/secrets/static/") for asset in assets)
    assert [httpx.get(f"{public}/healthz{slash}").status_code for slash in ("", "/")] == [200, 200]
