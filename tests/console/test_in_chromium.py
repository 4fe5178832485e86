"""The console in a real browser, before a real server: what an operator sees, and what they do with it.

Leaves screenshots in `.artefacts/`.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.abc import Process
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from playwright.async_api import Browser, BrowserContext, Page, async_playwright, expect

from tests.documents import ROOT
from tests.end_to_end.faces import SERVE
from tests.end_to_end.faces import address as address_of
from tests.end_to_end.leaving import OPERATOR, operators_file

ARTEFACTS = ROOT / ".artefacts"
CHROMIUM = shutil.which("chromium")
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
PHONE = {"width": 390, "height": 844}
DESK = {"width": 1180, "height": 820}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.anyio,
    pytest.mark.skipif(CHROMIUM is None and os.environ.get("CI") != "true", reason="there is no chromium"),
]


@asynccontextmanager
async def serving(environment: Mapping[str, str]) -> AsyncGenerator[tuple[str, Process]]:
    """`connector-mcp serve --http --sandbox`: its address, and the process."""
    command = [*SERVE, "--http", "--sandbox", "--port", "0"]
    async with await anyio.open_process(command, env=environment) as process:
        try:
            yield await address_of(process), process
        finally:
            if process.returncode is None:
                process.kill()


class Agent:
    """An agent that makes calls, each in a connection of its own."""

    def __init__(self, address: str) -> None:
        self._address = address

    async def call(self, tool: str, /, **arguments: Any) -> dict[str, Any]:
        async with Client(streamable_http_client(f"{self._address}/mcp")) as client:
            content = (await client.call_tool(tool, arguments)).structured_content
        assert content is not None
        return content


@asynccontextmanager
async def page_in(browser: Browser, trouble: list[str], **options: Any) -> AsyncGenerator[Page]:
    """A page of a browser profile of its own; whatever its policy forbids or its script fails at is kept as trouble."""
    context: BrowserContext = await browser.new_context(**options)
    page = await context.new_page()
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on("console", lambda said: trouble.append(said.text) if "Content Security Policy" in said.text else None)
    try:
        yield page
    finally:
        await context.close()


async def log_in(page: Page, address: str, token: str = OPERATOR) -> None:
    await page.goto(f"{address}/console")
    await page.get_by_label("Operator token").fill(token)
    await page.get_by_role("button", name="Sign in").click()


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
    for _ in range(40):
        if await focused(page) == wanted:
            return
        await page.keyboard.press("Tab")
    raise AssertionError(f"Tab does not lead to {wanted!r}")


async def test_an_operator_decides_in_a_browser(tmp_path: Path) -> None:
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("CONNECTOR_MCP_")},
        "CONNECTOR_MCP_STATE_DIR": str(tmp_path / "state"),
        "CONNECTOR_MCP_OPERATORS_FILE": str(operators_file(tmp_path)),
    }
    ARTEFACTS.mkdir(exist_ok=True)
    trouble: list[str] = []
    async with serving(environment) as (address, process), async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS, headless=True)
        agent = Agent(address)
        async with page_in(browser, trouble, viewport=DESK, color_scheme="light") as page:
            await _a_wrong_token_is_refused(page, address)
            await _a_deletion_is_approved(page, browser, agent, address, trouble)
            await _another_is_denied_by_keyboard_alone(page, agent, address)
            await _a_forged_form_is_refused(page, agent, address)
            await _a_plan_is_one_decision(page, agent, address)
            await _the_other_pages_show_what_was_done(page, address)
        async with page_in(browser, trouble, viewport=PHONE, color_scheme="dark", has_touch=True) as page:
            await _it_is_readable_on_a_phone(page, agent, address)
        async with page_in(browser, trouble, java_script_enabled=False) as page:
            await _it_works_without_scripts(page, agent, address)
        async with page_in(browser, trouble) as page:
            await _an_open_page_does_not_hold_the_server_up(page, process, address)
        await browser.close()
    assert trouble == []


async def _a_plan_is_one_decision(page: Page, agent: Agent, address: str) -> None:
    crawler = {"type": "WEB_CRAWLER", "config": {"seed-urls": ["https://docs.example.com"]}}
    manifest = {
        "name": "ingestion",
        "sources": {
            "docs": {"name": "Handbook", **crawler},
            "old": {"name": "Docs site", "type": "WEB_CRAWLER", "state": "absent"},
        },
    }
    planned = await agent.call("plan_connectors", manifest=manifest)
    parked = await agent.call("apply_plan", plan_id=planned["data"]["plan_id"])
    await page.goto(f"{address}/console/approvals/{parked['error']['approval']['id']}")
    groups = page.get_by_role("heading", level=3, name=re.compile("^(Delete|Create) 1"))
    await expect(groups).to_have_text([re.compile("^Delete"), re.compile("^Create")])
    field = page.get_by_role("row", name=re.compile("^config"))
    await expect(field).to_be_hidden()
    await page.get_by_text(re.compile(r"^\d fields$")).click()
    await expect(field).to_be_visible()
    assert await fits(page)
    await page.screenshot(path=ARTEFACTS / "console-plan-light.png", full_page=True)
    await page.get_by_label(re.compile("^Type ingestion")).fill("ingestion")
    await page.get_by_role("button", name="Approve the whole plan").click()
    await expect(page.get_by_text("The same call runs once")).to_be_visible()
    applied = await agent.call("apply_plan", plan_id=planned["data"]["plan_id"])
    assert applied["data"]["status"] == "done"


async def _a_wrong_token_is_refused(page: Page, address: str) -> None:
    await log_in(page, address, "mistaken")
    await expect(page.get_by_role("alert")).to_contain_text("Token not recognized")
    await page.goto(f"{address}/console")
    await expect(page).to_have_url(re.compile("/console/login$"))


async def _a_deletion_is_approved(page: Page, browser: Browser, agent: Agent, address: str, trouble: list[str]) -> None:
    await log_in(page, address)
    await expect(page.get_by_text("Nothing is waiting")).to_be_visible()

    # It comes by itself.
    parked = await agent.call("logto_delete_connector", id="github-signin")
    await expect(page.get_by_role("link", name=re.compile("Deletes connector “GitHub”"))).to_be_visible()
    await expect(page.get_by_role("status")).to_have_text("1 call is waiting for a decision.")
    assert parked["error"]["approval"]["page"].endswith(f"/console/approvals/{parked['error']['approval']['id']}")
    await agent.call("versori_update_connector", connector_id="01J0SANDB0XC0NNECT0R0000A0", name="Acme", image_url="")
    await expect(page.get_by_role("status")).to_have_text("2 calls are waiting for a decision.")
    await page.screenshot(path=ARTEFACTS / "console-queue-light.png", full_page=True)

    # One tab decides, the other one sees it go.
    async with page_in(browser, trouble, viewport=DESK, color_scheme="dark") as other:
        await log_in(other, address)
        await other.get_by_role("link", name=re.compile("Deletes connector “GitHub”")).click()
        row = other.get_by_role("row", name=re.compile(r"^config\.clientSecret"))
        await expect(row).to_contain_text("[redacted]")
        await expect(other.get_by_role("row", name=re.compile(r"^config\.clientId"))).to_contain_text("Iv1.sandbox")
        await other.screenshot(path=ARTEFACTS / "console-approval-dark.png", full_page=True)
        await other.get_by_label(re.compile("^Type GitHub")).fill("github")
        await other.get_by_role("button", name="Approve the deletion").click()
        await expect(other.get_by_role("alert")).to_contain_text("Nothing was decided")
        await other.get_by_label(re.compile("^Type GitHub")).fill("GitHub")
        await other.get_by_role("button", name="Approve the deletion").click()
        await expect(other.get_by_text("The same call runs once")).to_be_visible()
    await expect(page.get_by_text("Approved, not yet repeated")).to_be_visible()
    await expect(page.get_by_role("listitem").filter(has_text="may run once")).to_have_count(1)

    done = await agent.call("logto_delete_connector", id="github-signin")
    assert done["data"]["deleted"] is True
    await expect(page.get_by_text("GitHub")).to_have_count(0)


async def _another_is_denied_by_keyboard_alone(page: Page, agent: Agent, address: str) -> None:
    listed = await agent.call("vectorize_get_source_connectors", limit=1)
    source = listed["data"][0]["id"]
    parked = await agent.call("vectorize_delete_source_connector", source_connector_id=source)
    approval = parked["error"]["approval"]["id"]
    await page.goto(f"{address}/console")
    await page.keyboard.press("Tab")
    assert await focused(page) == "Skip to content"
    await page.keyboard.press("Enter")
    await tab_to(page, approval)
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="Decide")).to_be_visible()
    await tab_to(page, "deny-reason")
    await page.keyboard.type("it is still in use")
    await page.keyboard.press("Tab")
    assert await focused(page) == "Deny"
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("Nothing was changed; the agent is told")).to_be_visible()

    refused = await agent.call("vectorize_delete_source_connector", source_connector_id=source)
    assert refused["error"]["code"] == "refused"
    assert "it is still in use" in refused["error"]["message"]


async def _a_forged_form_is_refused(page: Page, agent: Agent, address: str) -> None:
    parked = await agent.call("logto_delete_connector", id="google-signin")
    approval = parked["error"]["approval"]["id"]
    form = f"""<form method="post" action="{address}/console/approvals/{approval}/deny">
        <input name="form_token" value="{"0" * 64}"><button>Win a prize</button></form>"""

    # From a page of somebody else's, in the very browser in which the operator is signed in.
    async def prize(route: Any) -> None:
        await route.fulfill(body=form, content_type="text/html")

    await page.context.route("http://prizes.example/", prize)
    await page.goto("http://prizes.example/")
    async with page.expect_response(re.compile("/deny$")) as answered:
        await page.get_by_role("button", name="Win a prize").click()
    assert (await answered.value).status == 403

    # From a page of our own, with the session's cookie and another form's token.
    await page.goto(f"{address}/console/approvals/{approval}")
    await page.evaluate("document.querySelector('form[action$=deny] [name=form_token]').value = '0'.repeat(64)")
    await page.get_by_role("button", name="Deny").click()
    await expect(page.get_by_role("heading")).to_have_text("This form belongs to another session")
    await page.goto(f"{address}/console")
    await expect(page.get_by_role("link", name=re.compile("Google"))).to_be_visible()


async def _the_other_pages_show_what_was_done(page: Page, address: str) -> None:
    await page.goto(f"{address}/console/history")
    await expect(page.get_by_role("row", name=re.compile("GitHub"))).to_contain_text("operator alice")
    await page.screenshot(path=ARTEFACTS / "console-history-light.png", full_page=True)
    await page.get_by_role("link", name="Calls", exact=True).click()
    await page.get_by_label("Outcome").select_option("refused")
    await page.get_by_role("button", name="Filter").click()
    await expect(page.get_by_role("row")).to_have_count(2)
    await expect(page.get_by_role("row").nth(1)).to_contain_text("by operator alice, console")
    await page.goto(f"{address}/console/calls")
    await page.screenshot(path=ARTEFACTS / "console-calls-light.png", full_page=True)
    await page.get_by_role("link", name="Connectors").click()
    await page.get_by_role("link", name="Platforms").click()
    await page.get_by_role("button", name="Check now").click()
    await expect(page.get_by_text("the credentials are accepted")).to_have_count(4)
    await page.screenshot(path=ARTEFACTS / "console-platforms-light.png", full_page=True)


async def _it_is_readable_on_a_phone(page: Page, agent: Agent, address: str) -> None:
    await page.goto(f"{address}/console/login")
    assert await fits(page)
    await page.screenshot(path=ARTEFACTS / "console-login-phone.png")
    await log_in(page, address)
    for path in ("", "/history", "/calls", "/platforms"):
        await page.goto(f"{address}/console{path}")
        assert await fits(page), path
    await page.screenshot(path=ARTEFACTS / "console-platforms-phone.png", full_page=True)
    await page.goto(f"{address}/console")
    await page.screenshot(path=ARTEFACTS / "console-queue-phone.png", full_page=True)
    await page.get_by_role("link", name=re.compile("Acme")).first.click()
    await expect(page.get_by_role("heading", name="Decide")).to_be_visible()
    assert await fits(page)
    await page.screenshot(path=ARTEFACTS / "console-approval-phone.png", full_page=True)


async def _it_works_without_scripts(page: Page, agent: Agent, address: str) -> None:
    await log_in(page, address)
    await page.get_by_role("link", name=re.compile("Google")).click()
    await page.get_by_role("button", name="Deny").click()
    await expect(page.get_by_text("Nothing was changed; the agent is told")).to_be_visible()
    await page.get_by_role("button", name="Sign out").click()
    await expect(page.get_by_label("Operator token")).to_be_visible()


async def _an_open_page_does_not_hold_the_server_up(page: Page, process: Process, address: str) -> None:
    async with page.expect_response(re.compile("/console/events$")) as streaming:
        await log_in(page, address)
    assert (await streaming.value).status == 200
    process.terminate()
    assert await process.wait() == 0
