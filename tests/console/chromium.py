"""A real browser before a real server: what the tests in Chromium share."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
from anyio.abc import Process
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from playwright.async_api import Browser, BrowserContext, Page, async_playwright, expect

from tests.clients.node import MODULES
from tests.documents import ROOT
from tests.end_to_end.faces import SERVE
from tests.end_to_end.faces import address as address_of
from tests.nginx import free_port

ARTEFACTS = ROOT / ".artefacts"
CHROMIUM = shutil.which("chromium")
NO_CHROMIUM = CHROMIUM is None and os.environ.get("CI") != "true"
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
AXE = MODULES / "axe-core" / "axe.min.js"
NO_AXE = NO_CHROMIUM or (not AXE.exists() and os.environ.get("CI") != "true")
PHONE = {"width": 390, "height": 844}
DESK = {"width": 1280, "height": 800}
# Machines that run all tests at once are slow.
expect.set_options(timeout=60_000)

ALICE, BOB = "operator-token-of-alice", "operator-token-of-bob"


@asynccontextmanager
async def serving(environment: Mapping[str, str], port: int | None = None) -> AsyncGenerator[tuple[str, Process]]:
    """`connector-mcp serve --http --sandbox`: its address, and the process. On a port that it can come back to."""
    command = [*SERVE, "--http", "--sandbox", "--port", str(port or free_port())]
    async with await anyio.open_process(command, env=environment) as process:
        try:
            yield await address_of(process), process
        finally:
            if process.returncode is None:
                process.kill()


def environment_in(folder: Path, *tokens: str) -> dict[str, str]:
    """The environment of a server with these operators, named by the last word of their tokens."""
    lines = [
        f'[[token]]\nname = "{token.rsplit("-")[-1]}"\ndigest = "sha256:{hashlib.sha256(token.encode()).hexdigest()}"\n'
        for token in tokens
    ]
    operators = folder / "operators.toml"
    operators.write_text("".join(lines))
    operators.chmod(0o600)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("CONNECTOR_MCP_")}
    state = str(folder / "state")
    return inherited | {"CONNECTOR_MCP_STATE_DIR": state, "CONNECTOR_MCP_OPERATORS_FILE": str(operators)}


class Agent:
    """An agent that makes calls, each in a connection of its own."""

    def __init__(self, address: str) -> None:
        self._address = address

    async def call(self, tool: str, /, **arguments: Any) -> dict[str, Any]:
        async with Client(streamable_http_client(f"{self._address}/mcp")) as client:
            content = (await client.call_tool(tool, arguments)).structured_content
        assert content is not None
        return content

    async def park(self, tool: str, /, **arguments: Any) -> str:
        """Make a call that waits, and return the id of its approval."""
        error = (await self.call(tool, **arguments))["error"]
        if error["code"] == "refused":
            # The denial of an earlier test was reported, so that the call can be parked again.
            error = (await self.call(tool, **arguments))["error"]
        return error["approval"]["id"]

    async def park_plan(self) -> str:
        """Have a plan wait that creates a connector and deletes another."""
        crawler = {"type": "WEB_CRAWLER", "config": {"seed-urls": ["https://docs.example.com"]}}
        old = {"name": "Docs site", "type": "WEB_CRAWLER", "state": "absent"}
        manifest = {"name": "ingestion", "sources": {"docs": {"name": "Handbook", **crawler}, "old": old}}
        self.plan_id = (await self.call("plan_connectors", manifest=manifest))["data"]["plan_id"]
        return await self.park("apply_plan", plan_id=self.plan_id)


@asynccontextmanager
async def page_in(browser: Browser, trouble: list[str], **options: Any) -> AsyncGenerator[Page]:
    """A page of a browser profile of its own; whatever its policy forbids or its script fails at is kept as trouble."""
    context: BrowserContext = await browser.new_context(**options)
    context.set_default_timeout(60_000)
    page = await context.new_page()
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on("console", lambda said: trouble.append(said.text) if "Content Security Policy" in said.text else None)
    try:
        yield page
    finally:
        await context.close()


async def log_in(page: Page, address: str, token: str = ALICE) -> None:
    await page.goto(f"{address}/console")
    await page.get_by_label("Operator token").fill(token)
    await page.get_by_role("button", name="Sign in").click()


@dataclass
class Site:
    """A server, an agent that calls it, and the browser in which its console is looked at."""

    address: str
    process: Process
    browser: Browser
    folder: Path
    trouble: list[str] = field(default_factory=list[str])
    """What the policy of the pages forbade, and what their script failed at."""
    calls: dict[str, str] = field(default_factory=dict[str, str])
    """The ids of calls that were parked, by a name."""

    def __post_init__(self) -> None:
        self.agent = Agent(self.address)

    @asynccontextmanager
    async def page(self, token: str | None = ALICE, **options: Any) -> AsyncGenerator[Page]:
        """A page of a browser profile of its own, in which the operator with this token is signed in."""
        options = {"viewport": DESK, "timezone_id": "Europe/Berlin", "locale": "en-GB"} | options
        async with page_in(self.browser, self.trouble, **options) as page:
            if token:
                await log_in(page, self.address, token)
                await expect(page.get_by_role("button", name="Sign out")).to_be_visible()
            yield page

    async def open(self, page: Page, path: str = "") -> None:
        """Go to a page of the console, or to that of the call with this id."""
        await page.goto(f"{self.address}/console{f'/approvals/{path}' if path.startswith('ap-') else path}")


@asynccontextmanager
async def site_in(folder: Path, *tokens: str) -> AsyncGenerator[Site]:
    """A sandbox server of its own with these operators, and a browser."""
    ARTEFACTS.mkdir(exist_ok=True)
    async with serving(environment_in(folder, *tokens)) as (address, process), async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS, headless=True)
        site = Site(address, process, browser, folder)
        yield site
        await browser.close()
    assert site.trouble == []


async def fits(page: Page) -> bool:
    """Whether nothing is wider than the screen."""
    # The header must not wrap either: names of pages stand in one line.
    assert await page.evaluate("(nav => !nav || nav.clientHeight < 60)(document.querySelector('nav'))")
    return await page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


async def focused(page: Page) -> str:
    """What has the focus, by its id, name or text."""
    return await page.evaluate("(e => e.id || e.name || e.textContent.trim())(document.activeElement)")


async def tab_to(page: Page, wanted: str) -> None:
    """Press Tab until it is there; a page that keeps the focus somewhere else never gets there."""
    for _ in range(60):
        if await focused(page) == wanted:
            return
        await page.keyboard.press("Tab")
    raise AssertionError(f"Tab does not lead to {wanted!r}")
