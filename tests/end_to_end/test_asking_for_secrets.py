"""A secret that is missing is asked for on a page, over whole servers and in a real browser."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import httpx2
import pytest
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import ElicitRequestURLParams, ElicitResult
from playwright.async_api import async_playwright, expect

from connector_mcp.composition.engine import open_engine
from connector_mcp.composition.http_access import announce_pages, make_access, make_secret_pages
from connector_mcp.config.settings import Settings
from connector_mcp.secrets.encrypted import EncryptedFile, KeyFile
from connector_mcp.secrets.reference import SecretLimits
from connector_mcp.transport.auth.static_tokens import digest_of
from tests.console.chromium import ARGUMENTS, CHROMIUM
from tests.end_to_end.faces import serving, stdio
from tests.end_to_end.recording import RecordingServer, environment, recording_server
from tests.records import audit_lines

pytestmark = pytest.mark.anyio
eras = pytest.mark.parametrize("era", ["auto", "legacy"])

VALUE = "marked-github-secret"
TOOL = "logto_create_connector"
CALL = {"connector_id": "github-universal", "config": {"clientId": "i", "clientSecret": "secret://GITHUB"}}
TOKENS = {"agent-a": "a" * 40, "agent-b": "b" * 40}


def stored(state: Path) -> EncryptedFile:
    return EncryptedFile(state / "secrets.enc", KeyFile(state / "secrets.key"))


def code_in(message: str) -> str:
    return re.findall(r"code: (\S+)$", message)[0]


class Person:
    """A person at a client: opens the pages they are sent to, and says yes to everything else."""

    def __init__(self, opens: Callable[[ElicitRequestURLParams], Any], action: str = "accept") -> None:
        self._opens = opens
        self._action = action
        self.sent_to: list[ElicitRequestURLParams] = []
        self.asked: list[Any] = []

    async def __call__(self, context: Any, params: Any) -> Any:
        if isinstance(params, ElicitRequestURLParams):
            self.sent_to.append(params)
            await self._opens(params)
            return ElicitResult(action=self._action)
        self.asked.append(params)
        return ElicitResult(action="accept", content={"confirm": True})


def recorded(platform: RecordingServer) -> list[Any]:
    return [each.body for each in platform.requests if each.path == "/api/connectors" and each.method == "POST"]


async def form_of(page: httpx.AsyncClient, url: str) -> dict[str, str]:
    shown = await page.get(url)
    assert shown.status_code == 200, shown.text
    return {"form_token": re.findall(r'name="form_token" value="(\w+)"', shown.text)[0]}


async def submit(page: httpx.AsyncClient, url: str, **fields: str) -> httpx.Response:
    origin = re.findall(r"https?://[^/]+", url)[0]
    fields = await form_of(page, url) | fields
    return await page.post(url, data=fields, headers={"Origin": origin})


@asynccontextmanager
async def logto(state: Path) -> AsyncGenerator[tuple[RecordingServer, dict[str, str]]]:
    async with recording_server() as platform:
        factory = {"id": "github-universal", "type": "Social", "target": "github"}
        platform.answers = {
            ("POST", "/oidc/token"): (200, {"access_token": "t", "expires_in": 3600, "token_type": "Bearer"}),
            ("GET", "/api/connectors"): (200, []),
            ("GET", "/api/connector-factories/github-universal"): (200, factory),
            ("POST", "/api/connectors"): (200, {"id": "c1", "connectorId": "github-universal"}),
        }
        environ = environment(platform.origin) | {"CONNECTOR_MCP_STATE_DIR": str(state)}
        # These clients answer at once.
        environ["CONNECTOR_MCP_ASK_READING_TIME"] = "0"
        yield platform, environ | {"CONNECTOR_MCP_VERIFY_WRITES": "false"}


@asynccontextmanager
async def logto_and_server(state: Path, **settings: str) -> AsyncGenerator[tuple[RecordingServer, str]]:
    """The platform, and the address of `serve --http` in this process."""
    async with logto(state) as (platform, environ):
        loaded = Settings.load(environ | {f"CONNECTOR_MCP_{name.upper()}": value for name, value in settings.items()})
        access = make_access(loaded)
        async with open_engine(loaded, environ, "http") as engine:
            options = {"pages": make_secret_pages(engine, access), "open_paths": ("/secrets",), "grace": 0.2}
            async with serving(engine, callers=access.callers, **options) as address:
                announce_pages(engine, address)
                yield platform, address


@eras
async def test_a_missing_secret_is_entered_and_the_call_completes(tmp_path: Path, era: Any) -> None:
    async with httpx.AsyncClient() as browser, logto_and_server(tmp_path) as (platform, address):

        async def enter(sent: ElicitRequestURLParams) -> None:
            code = code_in(sent.message)
            assert code not in sent.url
            done = await submit(browser, sent.url, code=code, value=VALUE)
            assert (done.status_code, VALUE in done.text) == (200, False)

        person = Person(enter)
        async with Client(f"{address}/mcp", mode=era, elicitation_callback=person) as client:
            result = await client.call_tool(TOOL, CALL)
            assert not result.is_error, result.structured_content
            assert VALUE not in result.model_dump_json()
        sent = {"connectorId": "github-universal", "config": {"clientId": "i", "clientSecret": VALUE}}
        assert recorded(platform) == [sent]
        assert len(person.sent_to) == 1
        assert stored(tmp_path).limits("GITHUB") == SecretLimits(("logto",), ("default",), ("config.clientSecret",))
        # Used twice.
        again = await browser.get(person.sent_to[0].url)
        assert again.status_code == 410
        assert VALUE not in "".join(audit_lines(tmp_path))


@eras
async def test_a_call_that_needs_a_secret_and_a_confirmation_gets_both(tmp_path: Path, era: Any) -> None:
    async with httpx.AsyncClient() as browser, logto_and_server(tmp_path, policy="create=ask") as (platform, address):

        async def enter(sent: ElicitRequestURLParams) -> None:
            await submit(browser, sent.url, code=code_in(sent.message), lines=f"{VALUE}\r\nline\r\n")

        person = Person(enter)
        async with Client(f"{address}/mcp", mode=era, elicitation_callback=person) as client:
            result = await client.call_tool(TOOL, CALL)
        assert not result.is_error, result.structured_content
        assert (len(person.sent_to), len(person.asked)) == (1, 1)
        assert recorded(platform)[0]["config"]["clientSecret"] == f"{VALUE}\nline"


@eras
async def test_a_client_that_opens_no_pages_gets_the_link_in_the_answer(tmp_path: Path, era: Any) -> None:
    async with httpx.AsyncClient() as browser, logto_and_server(tmp_path) as (platform, address):
        async with Client(f"{address}/mcp", mode=era) as client:
            answer = (await client.call_tool(TOOL, CALL)).content[0].text
            assert "connector-mcp secrets set GITHUB" in answer
            assert recorded(platform) == []
            ((url, code),) = re.findall(r"(http://\S+/secrets/\S+) \(code: (\S+)\)", answer)
            assert (await submit(browser, url, code=code, value=VALUE)).status_code == 200
            assert not (await client.call_tool(TOOL, CALL)).is_error
        assert recorded(platform)[0]["config"]["clientSecret"] == VALUE


async def test_only_the_caller_can_answer(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens.toml"
    tokens.write_text(
        "".join(
            f'[[token]]\nname = "{name}"\ndigest = "sha256:{digest_of(token).hex()}"\n'
            f'scopes = ["connectors:read", "connectors:write"]\n'
            for name, token in TOKENS.items()
        )
    )
    tokens.chmod(0o600)
    settings = {"tokens_file": str(tokens)}
    async with httpx.AsyncClient() as browser, logto_and_server(tmp_path, **settings) as (platform, address):

        async def enter(sent: ElicitRequestURLParams) -> None:
            code = code_in(sent.message)
            for token in (TOKENS["agent-b"], "another", ""):
                refused = await submit(browser, sent.url, code=code, value="stolen", token=token)
                assert refused.status_code == 403
            assert stored(tmp_path).names() == []
            done = await submit(browser, sent.url, code=code, value=VALUE, token=TOKENS["agent-a"])
            assert done.status_code == 200

        headers = {"Authorization": f"Bearer {TOKENS['agent-a']}"}
        async with httpx2.AsyncClient(headers=headers) as http:
            transport = streamable_http_client(f"{address}/mcp", http_client=http)
            async with Client(transport, elicitation_callback=Person(enter)) as client:
                result = await client.call_tool(TOOL, CALL)
        assert not result.is_error, result.structured_content
        assert recorded(platform)[0]["config"]["clientSecret"] == VALUE


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None and os.environ.get("CI") != "true", reason="there is no chromium")
async def test_over_stdio_the_secret_is_typed_in_a_real_browser(tmp_path: Path) -> None:
    async with logto(tmp_path) as (platform, environ), async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS, headless=True)

        async def enter(sent: ElicitRequestURLParams) -> None:
            assert sent.url.startswith("http://127.0.0.1:")
            page = await browser.new_page(viewport={"width": 390, "height": 844})
            trouble: list[str] = []
            page.on("console", lambda message: trouble.append(message.text) if "Policy" in message.text else None)
            await page.goto(sent.url)
            assert await page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
            # By keyboard alone: the code has the focus, then comes the secret.
            await page.keyboard.type("wrong")
            await page.keyboard.press("Tab")
            await page.keyboard.type("mistaken")
            await page.keyboard.press("Enter")
            await expect(page.get_by_role("alert")).to_contain_text("not the right code")
            await page.get_by_label("Code").fill(code_in(sent.message))
            await page.get_by_label("Secret", exact=True).fill(VALUE)
            await page.get_by_role("button", name="Store the secret").click()
            await expect(page.get_by_role("status").first).to_contain_text("You can close this page")
            assert trouble == []

        async with Client(stdio(environ), elicitation_callback=Person(enter)) as client:
            result = await client.call_tool(TOOL, CALL)
            assert not result.is_error, result.structured_content
            assert VALUE not in result.model_dump_json()
        await browser.close()
    assert recorded(platform)[0]["config"]["clientSecret"] == VALUE
