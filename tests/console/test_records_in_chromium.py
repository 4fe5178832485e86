"""Calls and connectors in a real browser: what an operator finds on a screen and on a phone."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from playwright.async_api import Page, async_playwright, expect

from tests.console.test_in_chromium import (
    ARGUMENTS,
    ARTEFACTS,
    CHROMIUM,
    PHONE,
    Agent,
    fits,
    log_in,
    page_in,
    serving,
    tab_to,
)
from tests.documents import ROOT
from tests.end_to_end.leaving import operators_file

AXE = ROOT / "tests" / "clients" / "node_modules" / "axe-core" / "axe.min.js"
SCREEN = {"width": 1280, "height": 800}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.anyio,
    pytest.mark.skipif(CHROMIUM is None and os.environ.get("CI") != "true", reason="there is no chromium"),
]


async def inaccessible(page: Page) -> list[str]:
    """What axe-core finds on the page."""
    await page.evaluate(AXE.read_text(encoding="utf-8"))
    found = await page.evaluate("axe.run().then(r => r.violations.map(v => v.id + ': ' + v.nodes[0].html))")
    return list(found)


async def test_an_operator_looks_up_calls_and_connectors(tmp_path: Path) -> None:
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("CONNECTOR_MCP_")},
        "CONNECTOR_MCP_STATE_DIR": str(tmp_path / "state"),
        "CONNECTOR_MCP_OPERATORS_FILE": str(operators_file(tmp_path)),
        "CONNECTOR_MCP_POLICY": "update=allow",
    }
    ARTEFACTS.mkdir(exist_ok=True)
    trouble: list[str] = []
    async with serving(environment) as (address, _), async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS, headless=True)
        agent = Agent(address)
        await agent.call("logto_update_connector", id="github-signin", sync_profile=True)
        await agent.call("logto_get_connector", id="nothing")
        await agent.call("logto_delete_connector", id="github-signin")
        async with page_in(browser, trouble, viewport=SCREEN, color_scheme="light") as page:
            await log_in(page, address)
            await _finds_a_call(page, address)
            await _checks_a_connector_by_keyboard(page, address)
        for options in (
            {"viewport": SCREEN, "color_scheme": "light"},
            {"viewport": SCREEN, "color_scheme": "dark"},
            {"viewport": PHONE, "color_scheme": "light", "has_touch": True},
            {"viewport": PHONE, "color_scheme": "dark", "has_touch": True},
        ):
            async with page_in(browser, trouble, bypass_csp=True, **options) as page:
                await log_in(page, address)
                await _every_page_fits_and_is_accessible(page, address, options)
        async with page_in(browser, trouble, java_script_enabled=False) as page:
            await log_in(page, address)
            await _works_without_scripts(page)
        await browser.close()
    assert trouble == []


async def _finds_a_call(page: Page, address: str) -> None:
    await page.get_by_role("link", name="Calls", exact=True).click()
    await expect(page.get_by_role("row")).to_have_count(4)
    await page.get_by_label("Outcome").select_option("not_found")
    await page.get_by_role("button", name="Filter").click()
    await expect(page.get_by_role("row")).to_have_count(2)
    await page.get_by_role("link", name="Show all").click()
    await page.get_by_role("link", name="logto_delete_connector").click()
    await expect(page.get_by_text("Checked now")).to_be_visible()
    await expect(page.get_by_role("heading", name="What is deleted")).to_be_visible()
    await expect(page.get_by_role("link", name="logto_update_connector")).to_be_visible()
    await page.get_by_role("link", name=re.compile("^ap-")).click()
    await expect(page.get_by_role("heading", name=re.compile("Deletes connector"))).to_be_visible()
    await page.goto(f"{address}/console/calls")
    async with page.expect_download() as downloading:
        await page.get_by_role("link", name="Export").click()
    exported = await (await downloading.value).path()
    assert len(exported.read_text().splitlines()) == 3


async def _checks_a_connector_by_keyboard(page: Page, address: str) -> None:
    await page.goto(f"{address}/console/connectors?platform=logto")
    await tab_to(page, "GitHub")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="GitHub")).to_be_visible()
    await expect(page.get_by_role("link", name="logto_update_connector")).to_be_visible()
    await tab_to(page, "Does it work?")
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("It works.")).to_be_visible()
    # What the console read is shown only on request.
    await page.goto(f"{address}/console/calls?tool=check_connector")
    await expect(page.get_by_text("No matching calls")).to_be_visible()
    await page.get_by_label("Health checks too").check()
    await page.get_by_role("button", name="Filter").click()
    await expect(page.get_by_role("row", name=re.compile("check_connector"))).to_contain_text("health check")


async def _every_page_fits_and_is_accessible(page: Page, address: str, options: dict[str, object]) -> None:
    await page.goto(f"{address}/console/calls")
    call = await page.get_by_role("link", name="logto_delete_connector").get_attribute("href")
    await page.goto(f"{address}/console/connectors")
    connector = await page.get_by_role("link", name="GitHub", exact=True).get_attribute("href")
    width = "phone" if options["viewport"] == PHONE else "desk"
    pages = {
        "calls": "/console/calls?checks=shown", "call": call, "connectors": "/console/connectors",
        "connector": connector, "platforms": "/console/platforms", "history": "/console/history",
    }  # fmt: skip
    for name, path in pages.items():
        await page.goto(f"{address}{path}")
        assert await fits(page), (name, options)
        await page.screenshot(path=ARTEFACTS / f"console-{name}-{width}-{options['color_scheme']}.png", full_page=True)
        assert await inaccessible(page) == [], (name, options)


async def _works_without_scripts(page: Page) -> None:
    await page.get_by_role("link", name="Calls", exact=True).click()
    await page.get_by_label("Tool").fill("update")
    await page.get_by_role("button", name="Filter").click()
    await page.get_by_role("link", name="logto_update_connector").click()
    await expect(page.get_by_role("row", name=re.compile("sync_profile"))).to_be_visible()
    await page.get_by_role("link", name="Connectors").click()
    await page.get_by_role("link", name="GitHub", exact=True).click()
    await page.get_by_role("button", name="Does it work?").click()
    await expect(page.get_by_text("It works.")).to_be_visible()
