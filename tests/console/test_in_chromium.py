"""The console in a real browser, before a real server: what an operator does, and what they are told."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import expect

from connector_mcp.sandbox import seed
from tests.console.chromium import (
    ALICE,
    BOB,
    DESK,
    NO_CHROMIUM,
    PHONE,
    Site,
    environment_in,
    fits,
    focused,
    log_in,
    serving,
    site_in,
    tab_to,
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.anyio,
    pytest.mark.skipif(NO_CHROMIUM, reason="there is no chromium"),
]
sizes = pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])

DENIED = "Nothing was changed; the agent is told"


@pytest.fixture(scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Site]:
    """One server and one browser for all tests; each decides the calls that it parks."""
    async with site_in(tmp_path_factory.mktemp("site"), ALICE, BOB) as site:
        yield site


async def test_a_wrong_token_is_refused(site: Site) -> None:
    async with site.page(None) as page:
        await log_in(page, site.address, "mistaken")
        await expect(page.get_by_role("alert")).to_contain_text("Token not recognized")
        await site.open(page)
        await expect(page).to_have_url(re.compile("/console/login$"))


@sizes
async def test_a_deletion_is_approved_in_one_tab_and_seen_in_another(site: Site, size: Any) -> None:
    connector = {"desk": "github-signin", "phone": "google-signin"}["phone" if size is PHONE else "desk"]
    name = {"github-signin": "GitHub", "google-signin": "Google"}[connector]
    async with site.page(viewport=size) as queue, site.page(viewport=size, color_scheme="dark") as page:
        await expect(queue.get_by_text("Nothing is waiting")).to_be_visible()
        # It comes by itself, and is counted in the title and on the tab.
        approval = await site.agent.park("logto_delete_connector", id=connector)
        await expect(queue.get_by_role("link", name=re.compile(f"Deletes connector “{name}”"))).to_be_visible()
        await expect(queue.get_by_role("status")).to_have_text("1 call is waiting for a decision.")
        await expect(queue).to_have_title(re.compile(r"^\(1\) Waiting"))
        await expect(queue.get_by_role("link", name="Waiting")).to_have_text("Waiting 1")

        await site.open(page, approval)
        await page.get_by_label(f"Type {name}").fill(name.lower())
        await page.get_by_role("button", name="Approve the deletion").click()
        await expect(page.get_by_role("alert").first).to_contain_text("Nothing was decided")
        await page.get_by_label(f"Type {name}").fill(name)
        await page.get_by_role("button", name="Approve the deletion").click()
        result = page.get_by_text("The same call runs once")
        await expect(result).to_contain_text("Approved by operator alice")
        await expect(result).to_be_in_viewport()
        await expect(page).to_have_title(re.compile("^GitHub|^Google"))

        await expect(queue.get_by_text("Approved, not yet repeated")).to_be_visible()
        await expect(queue.get_by_role("listitem").filter(has_text="may run once")).to_have_count(1)
        assert (await site.agent.call("logto_delete_connector", id=connector))["data"]["deleted"] is True
        await expect(queue.get_by_text(name)).to_have_count(0)
        await page.reload()
        await expect(page.get_by_text("The agent repeated the call")).to_contain_text("ok")


async def test_a_call_is_denied_with_the_keyboard_alone(site: Site) -> None:
    source = (await site.agent.call("vectorize_get_source_connectors", limit=1))["data"][0]["id"]
    approval = await site.agent.park("vectorize_delete_source_connector", source_connector_id=source)
    async with site.page() as page:
        await page.keyboard.press("Tab")
        assert await focused(page) == "Skip to content"
        await page.keyboard.press("Enter")
        await tab_to(page, f"pick-{approval}")
        await page.keyboard.press("Tab")
        assert await focused(page) == approval
        await page.keyboard.press("Enter")
        await expect(page.locator("#deny-reason")).to_be_visible()
        await tab_to(page, "deny-reason")
        await page.keyboard.type("it is still in use")
        await page.keyboard.press("Tab")
        assert await focused(page) == "Deny"
        await page.keyboard.press("Enter")
        await expect(page.get_by_text(DENIED)).to_be_in_viewport()
    refused = await site.agent.call("vectorize_delete_source_connector", source_connector_id=source)
    assert refused["error"]["code"] == "refused"
    assert "it is still in use" in refused["error"]["message"]


@sizes
async def test_selected_calls_are_denied_with_one_form(site: Site, size: Any) -> None:
    parked = [await site.agent.park("logto_delete_connector", id=each) for each in (seed.LOGTO_SMTP, seed.LOGTO_OIDC)]
    async with site.page(viewport=size) as page:
        if size is PHONE:
            await page.get_by_text("Search and filter").click()
        await page.get_by_label("Platform").select_option("logto")
        await page.get_by_label("Group by").select_option("caller")
        await page.get_by_role("button", name="Filter").click()
        selectable = page.get_by_role("checkbox", name=re.compile("^Select .*ap-"))
        await expect(selectable).to_have_count(2)
        await page.get_by_label("Select these 2").check()
        await page.get_by_label("Deny the selected calls").fill("not today")
        await expect(page.get_by_role("button", name="Deny selected (2)")).to_be_in_viewport()

        # The list changes, but neither the selection nor what was typed.
        parked.append(await site.agent.park("logto_delete_connector", id=seed.LOGTO_TWILIO))
        await expect(selectable).to_have_count(3)
        await expect(page.get_by_label("Deny the selected calls")).to_have_value("not today")
        assert await fits(page)
        await page.get_by_role("button", name="Deny selected (2)").click()
        await expect(page.get_by_role("heading", name="2 of 2 calls denied")).to_be_visible()
        assert await fits(page)

        await site.open(page, f"?q={parked[2]}")
        await expect(selectable).to_have_count(1)
        await selectable.check()
        await page.get_by_role("button", name="Deny selected (1)").click()
        await expect(page.get_by_role("heading", name="1 of 1 call denied")).to_be_visible()
    refused = await site.agent.call("logto_delete_connector", id=seed.LOGTO_SMTP)
    assert "not today" in refused["error"]["message"]


@sizes
async def test_a_call_that_somebody_else_decides_says_by_whom_and_has_no_form_any_more(site: Site, size: Any) -> None:
    approval = await site.agent.park("logto_delete_connector", id=seed.LOGTO_SMTP)
    async with site.page(viewport=size) as page, site.page(BOB) as bob:
        await site.open(page, approval)
        await page.get_by_label(re.compile("^Type")).fill("half a na")
        await site.open(bob, approval)
        await bob.get_by_role("button", name="Deny").click()
        await expect(page.locator("#decision").get_by_text("by operator bob").last).to_be_in_viewport()
        await expect(page.get_by_role("textbox")).to_have_count(0)
        await expect(page.get_by_role("status")).to_contain_text("Denied by operator bob")
        assert await focused(page) == "decision"


async def test_everything_works_without_scripts(site: Site) -> None:
    connectors = (seed.LOGTO_SMTP, seed.LOGTO_OIDC, seed.LOGTO_TWILIO)
    parked = [await site.agent.park("logto_delete_connector", id=each) for each in connectors]
    async with site.page(java_script_enabled=False) as page, site.page(BOB) as bob:
        await page.get_by_label("Search").fill(parked[0])
        await page.get_by_role("button", name="Filter").click()
        await expect(page.get_by_role("listitem")).to_have_count(1)
        await page.get_by_role("link", name="Show all").click()
        for each in parked[:2]:
            await page.locator(f"#pick-{each}").check()
        await site.open(bob, parked[1])
        await bob.get_by_role("button", name="Deny").click()
        await expect(bob.get_by_text(DENIED)).to_be_visible()
        await page.get_by_role("button", name="Deny selected").click()
        await expect(page.get_by_role("heading", name="1 of 2 calls denied")).to_be_visible()
        await expect(page.get_by_text("is denied by operator bob")).to_be_visible()

        await site.open(page, parked[2])
        await site.open(bob, parked[2])
        await bob.get_by_role("button", name="Deny").click()
        await expect(bob.get_by_text(DENIED)).to_be_visible()
        await page.get_by_label(re.compile("^Type")).fill(parked[2])
        await page.get_by_role("button", name="Approve the deletion").click()
        await expect(page.get_by_role("alert")).to_contain_text("Your decision was not saved")
        await expect(page.locator("#decision").get_by_text("by operator bob").last).to_be_in_viewport()
        await page.get_by_role("button", name="Sign out").click()
        await expect(page.get_by_label("Operator token")).to_be_visible()


async def test_a_forged_form_is_refused(site: Site) -> None:
    approval = await site.agent.park("logto_delete_connector", id=seed.LOGTO_SMTP)
    form = f"""<form method="post" action="{site.address}/console/approvals/{approval}/deny">
        <input name="form_token" value="{"0" * 64}"><button>Win a prize</button></form>"""

    async def prize(route: Any) -> None:
        await route.fulfill(body=form, content_type="text/html")

    async with site.page() as page:
        # From a page of another site, in the very browser in which the operator is signed in.
        await page.context.route("http://prizes.example/", prize)
        await page.goto("http://prizes.example/")
        async with page.expect_response(re.compile("/deny$")) as answered:
            await page.get_by_role("button", name="Win a prize").click()
        assert (await answered.value).status == 403
        # From our own page, with the session's cookie and another form's token.
        await site.open(page, approval)
        token = "document.querySelector('form[action$=deny] [name=form_token]')"
        await page.evaluate(f"{token}.value = '0'.repeat(64)")
        await page.get_by_role("button", name="Deny").click()
        await expect(page.get_by_role("heading")).to_have_text("This form belongs to another session")
        await expect(page.get_by_role("navigation")).to_be_visible()
        await site.open(page, approval)
        await page.get_by_role("button", name="Deny").click()
        await expect(page.get_by_text(DENIED)).to_be_visible()


async def test_a_plan_is_one_decision(site: Site) -> None:
    approval = await site.agent.park_plan()
    async with site.page() as page:
        await site.open(page, approval)
        groups = page.get_by_role("heading", level=3, name=re.compile("^(Delete|Create) 1"))
        await expect(groups).to_have_text([re.compile("^Delete"), re.compile("^Create")])
        field = page.get_by_role("row", name=re.compile("^config"))
        await expect(field).to_be_hidden()
        await page.get_by_text(re.compile(r"^\d fields$")).click()
        await expect(field).to_be_visible()
        await page.get_by_label(re.compile("^Type ingestion")).fill("ingestion")
        await page.get_by_role("button", name="Approve the whole plan").click()
        await expect(page.get_by_text("The same call runs once")).to_be_visible()
    assert (await site.agent.call("apply_plan", plan_id=site.agent.plan_id))["data"]["status"] == "done"


async def test_a_page_says_that_the_server_is_gone_and_that_the_session_has_ended(tmp_path: Path) -> None:
    async with site_in(tmp_path, ALICE, BOB) as site:
        approval = await site.agent.park("logto_delete_connector", id=seed.LOGTO_SMTP)
        port = int(site.address.rpartition(":")[2])
        async with site.page() as page:
            banner, deny = page.locator("#banner"), page.get_by_role("button", name="Deny")
            async with page.expect_response(re.compile("/console/events$")) as streaming:
                await site.open(page, approval)
            assert (await streaming.value).status == 200
            await expect(banner).to_be_hidden()
            # An open page does not hold the server up.
            site.process.terminate()
            assert await site.process.wait() == 0
            await expect(banner).to_contain_text("The server does not answer")
            await expect(deny).to_be_disabled()
            for size in (PHONE, DESK):
                await page.set_viewport_size(size)
                await expect(banner).to_be_in_viewport()
                assert await fits(page)
            environment = environment_in(tmp_path, ALICE, BOB)
            async with serving(environment, port):
                await expect(banner).to_be_hidden()
                await expect(deny).to_be_enabled()
                environment_in(tmp_path, BOB)
                await site.agent.park("logto_delete_connector", id=seed.LOGTO_OIDC)
                await expect(banner).to_contain_text("Your session has ended")
                await expect(deny).to_be_disabled()
                await banner.get_by_role("link", name="Sign in again").click()
                await expect(page.get_by_label("Operator token")).to_be_visible()
