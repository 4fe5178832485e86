"""Calls and connectors in a real browser: what an operator finds on a screen and on a phone."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator

import pytest
from playwright.async_api import expect

from tests.console.chromium import ALICE, NO_CHROMIUM, Site, site_in, tab_to

pytestmark = [
    pytest.mark.slow,
    pytest.mark.anyio,
    pytest.mark.skipif(NO_CHROMIUM, reason="there is no chromium"),
]


@pytest.fixture(scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Site]:
    """A console with three calls, of which two wait."""
    async with site_in(tmp_path_factory.mktemp("site"), ALICE) as site:
        await site.agent.call("logto_update_connector", id="github-signin", sync_profile=True)
        await site.agent.call("logto_get_connector", id="nothing")
        await site.agent.call("logto_delete_connector", id="github-signin")
        yield site


async def test_a_call_is_found_opened_and_exported(site: Site) -> None:
    async with site.page() as page:
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
        await site.open(page, "/calls")
        async with page.expect_download() as downloading:
            await page.get_by_role("link", name="Export").click()
        exported = await (await downloading.value).path()
        assert len(exported.read_text().splitlines()) == 3


async def test_a_connector_is_checked_with_the_keyboard_alone(site: Site) -> None:
    async with site.page() as page:
        await site.open(page, "/connectors?platform=logto")
        await tab_to(page, "GitHub")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", name="GitHub")).to_be_visible()
        await expect(page.get_by_role("link", name="logto_update_connector")).to_be_visible()
        await tab_to(page, "Does it work?")
        await page.keyboard.press("Enter")
        await expect(page.get_by_text("It works.")).to_be_visible()
        # What the console read is shown only on request.
        await site.open(page, "/calls?tool=check_connector")
        await expect(page.get_by_text("No matching calls")).to_be_visible()
        await page.get_by_label("Health checks too").check()
        await page.get_by_role("button", name="Filter").click()
        await expect(page.get_by_role("row", name=re.compile("check_connector"))).to_contain_text("health check")


async def test_calls_and_connectors_work_without_scripts(site: Site) -> None:
    async with site.page(java_script_enabled=False) as page:
        await page.get_by_role("link", name="Calls", exact=True).click()
        await page.get_by_label("Tool").fill("update")
        await page.get_by_role("button", name="Filter").click()
        await page.get_by_role("link", name="logto_update_connector").click()
        await expect(page.get_by_role("row", name=re.compile("sync_profile"))).to_be_visible()
        await page.get_by_role("link", name="Connectors").click()
        await page.get_by_role("link", name="GitHub", exact=True).click()
        await page.get_by_role("button", name="Does it work?").click()
        await expect(page.get_by_text("It works.")).to_be_visible()
