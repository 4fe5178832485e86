"""How the console looks in a real browser: both color schemes, a desk and a phone, and what axe-core finds.

Leaves screenshots in `.artefacts/`. `CONSOLE_SCREENSHOTS=docs/images` writes those of the documentation, too.
"""

from __future__ import annotations

import os
import re
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Page, Route, expect

from connector_mcp.console.rendering import Renderer
from connector_mcp.sandbox import seed
from tests.console.chromium import (
    ALICE,
    ARTEFACTS,
    AXE,
    DESK,
    NO_AXE,
    NO_CHROMIUM,
    PHONE,
    Site,
    fits,
    site_in,
)
from tests.documents import ROOT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.anyio,
    pytest.mark.skipif(NO_CHROMIUM, reason="there is no chromium"),
]

axe = pytest.mark.skipif(NO_AXE, reason="`npm ci` in tests/clients brings axe-core")
MODES: list[tuple[str, Any]] = [(size, scheme) for size in ("desk", "phone") for scheme in ("light", "dark")]
SIZES: dict[str, Any] = {"desk": DESK, "phone": PHONE}
MAX_BYTES = 100_000


@pytest.fixture(scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Site]:
    """A console with calls of every kind: waiting, approved, denied and carried out."""
    async with site_in(tmp_path_factory.mktemp("site"), ALICE) as site:
        agent = site.agent
        ran = await agent.park("logto_delete_connector", id=seed.LOGTO_TWILIO)
        denied = await agent.park("logto_delete_connector", id=seed.LOGTO_OIDC)
        async with site.page() as page:
            await site.open(page, ran)
            await page.locator("#name").fill(ran)
            await page.get_by_role("button", name="Approve the deletion").click()
            await expect(page.get_by_text("The same call runs once")).to_be_visible()
            await agent.call("logto_delete_connector", id=seed.LOGTO_TWILIO)
            await site.open(page, denied)
            await page.locator("#deny-reason").fill("Customers still sign in with it.")
            await page.get_by_role("button", name="Deny").click()
            await expect(page.get_by_text("Nothing was changed; the agent")).to_be_visible()
            # What is known of a connector is remembered from the list, and a call is found in the log.
            await site.open(page, "/connectors")
            await site.open(page, "/calls")
            call = await page.get_by_role("link", name="logto_delete_connector").first.get_attribute("href")
        source = (await agent.call("vectorize_get_source_connectors", limit=1))["data"][0]["id"]
        site.calls = {
            "call": str(call).removeprefix("/console"),
            "ran": ran,
            "denied": denied,
            "deletion": await agent.park("logto_delete_connector", id=seed.LOGTO_GITHUB),
            "update": await agent.park(
                "versori_update_connector", connector_id=seed.VERSORI_CRM, name="Acme", image_url=""
            ),
            "source": await agent.park("vectorize_delete_source_connector", source_connector_id=source),
            "plan": await agent.park_plan(),
        }
        yield site


async def in_each_mode(page: Page) -> AsyncGenerator[tuple[str, str]]:
    """Show the page in each size and color scheme."""
    for size, scheme in MODES:
        await page.set_viewport_size(SIZES[size])
        await page.emulate_media(color_scheme=scheme)
        yield size, scheme


async def findings(page: Page) -> list[str]:
    """What axe-core finds wrong with a page."""
    violations = await page.evaluate("async () => (await axe.run(document)).violations")
    return [f"{each['id']}: {node['target']} {node['failureSummary']}" for each in violations for node in each["nodes"]]


PAGES = {
    "login": "/login",
    "queue": "",
    "queue-grouped": "?by=target&effect=destroy",
    "queue-empty": "?q=nothing-has-this",
    "deletion": "deletion",
    "update": "update",
    "plan": "plan",
    "ran": "ran",
    "denied": "denied",
    "problem": "/nothing",
    "platforms": "/platforms",
    "calls-all": "/calls?checks=shown",
    "call": "call",
    "connector": "/connector?platform=logto&profile=default&id=github-signin&kind=connector",
}


@axe
@pytest.mark.parametrize("name", PAGES)
async def test_axe_finds_nothing_and_nothing_is_wider_than_the_screen(site: Site, name: str) -> None:
    # Only to load axe-core; every other test has the pages' own policy.
    async with site.page(None if name == "login" else ALICE, bypass_csp=True, reduced_motion="reduce") as page:
        await site.open(page, site.calls.get(PAGES[name], PAGES[name]))
        assert await look_at(page, name) == []


async def look_at(page: Page, name: str) -> list[str]:
    """What is wrong with an open page in each size and color scheme, with all that is folded open."""
    await page.evaluate("document.querySelectorAll('details').forEach(folded => { folded.open = true; })")
    await page.add_script_tag(content=AXE.read_text())
    found: list[str] = []
    async for size, scheme in in_each_mode(page):
        found += [] if await fits(page) else [f"{size}: wider than the screen"]
        found += [f"{size}, {scheme}: {finding}" for finding in await findings(page)]
        await page.screenshot(path=ARTEFACTS / f"console-{name}-{size}-{scheme}.png", full_page=True)
    return found


@axe
async def test_axe_finds_nothing_on_any_page_that_the_header_leads_to(site: Site) -> None:
    async with site.page(bypass_csp=True, reduced_motion="reduce") as page:
        links = (
            await page.get_by_role("navigation").get_by_role("link").evaluate_all("all => all.map(each => each.href)")
        )
        assert len(links) > 3
        for link in links:
            await page.goto(link)
            assert await look_at(page, link.rpartition("/")[2]) == [], link


@axe
@pytest.mark.parametrize("name", ["closed", "secret", "secret_done", "secret_closed", "secret_problem"])
async def test_axe_finds_nothing_on_pages_without_a_session(site: Site, name: str) -> None:
    wanted = {"name": "GITHUB", "tool": "logto_create_connector", "platform": "logto", "profile": "default"}
    values = {"wanted": {**wanted, "fields": ["clientSecret"]}, "form_token": "t", "signs_in": True, "name": "GITHUB"}
    renderer = Renderer()
    text = bytes(renderer.page(name, **values, wrong="That is not the right code.", title="It failed").body).decode()

    async def answer(route: Route) -> None:
        asset = renderer.asset(urlsplit(route.request.url).path.rpartition("/")[2])
        if asset is None:
            await route.fulfill(body=text, content_type="text/html")
        else:
            await route.fulfill(body=bytes(asset.body), content_type=str(asset.media_type))

    async with site.page(None, bypass_csp=True, reduced_motion="reduce") as page:
        await page.route("**/*", answer)
        await page.goto("http://pages.example/")
        await expect(page.get_by_role("heading", level=1)).to_be_visible()
        assert await look_at(page, name) == []


@axe
async def test_axe_finds_nothing_in_banners_and_results(site: Site) -> None:
    async with site.page(bypass_csp=True, reduced_motion="reduce") as page:
        await page.evaluate("sessionEnded()")
        await page.add_script_tag(content=AXE.read_text())
        async for size, scheme in in_each_mode(page):
            assert await findings(page) == [], (size, scheme)
            await page.screenshot(path=ARTEFACTS / f"console-banner-{size}-{scheme}.png")
        # A call that is denied already, as if another operator had been faster.
        await site.open(page)
        # Before the page can replace its list.
        await page.evaluate(
            """id => {
                const form = document.querySelector(".selection");
                form.querySelector(".pick input").name = id;
                form.querySelector(".pick input").checked = true;
                form.submit();
            }""",
            site.calls["denied"],
        )
        await expect(page.get_by_role("heading", name="0 of 1 call denied")).to_be_visible()
        await page.add_script_tag(content=AXE.read_text())
        async for size, scheme in in_each_mode(page):
            assert await findings(page) == [], (size, scheme)


@pytest.mark.parametrize("size", SIZES)
async def test_the_decision_about_a_deletion_stays_in_sight(site: Site, size: str) -> None:
    async with site.page(viewport=SIZES[size]) as page:
        await site.open(page, site.calls["deletion"])
        decision = [
            page.get_by_role("heading", level=1),
            page.get_by_label("Type GitHub to approve"),
            page.get_by_role("button", name="Approve the deletion"),
            page.get_by_role("button", name="Deny"),
        ]
        for each in decision:
            await expect(each).to_be_in_viewport(ratio=1)
        await page.get_by_text("fields of what is deleted").click()
        logo = page.get_by_role("row", name="logo", exact=False).get_by_role("img").first
        await expect(logo).to_be_visible()
        assert await logo.evaluate("picture => picture.decode().then(() => picture.naturalWidth)") > 0
        await expect(page.get_by_role("columnheader", name="After")).to_have_count(0)
        await expect(page.get_by_text("data:image")).to_have_count(0)
        await page.evaluate("scrollTo(0, document.body.scrollHeight)")
        for each in decision:
            await expect(each).to_be_in_viewport(ratio=1)


async def test_times_have_a_zone(site: Site) -> None:
    async with site.page() as page:
        await site.open(page, site.calls["denied"])
        time = page.get_by_text("Denied by").locator("time")
        # In summer it is CEST.
        await expect(time).to_contain_text(re.compile("CES?T"))
        assert str(await time.get_attribute("title")).endswith(" UTC")
    async with site.page(java_script_enabled=False) as page:
        await site.open(page, site.calls["denied"])
        await expect(page.get_by_text("Denied by").locator("time")).to_contain_text("UTC")


async def test_a_phone_shows_each_record_as_a_block(site: Site) -> None:
    async with site.page(viewport=PHONE) as page:
        for path in ("/calls", "/history"):
            await site.open(page, path)
            widths = await page.locator("tbody tr > *").evaluate_all("cells => cells.map(cell => cell.clientWidth)")
            assert widths
            assert min(widths) > 250, path


async def test_the_documentation_has_screenshots(site: Site) -> None:
    folder = Path(os.environ.get("CONSOLE_SCREENSHOTS", ARTEFACTS / "docs"))
    folder = folder if folder.is_absolute() else ROOT / folder
    folder.mkdir(parents=True, exist_ok=True)
    desk = {"width": 920, "height": 480}
    shots = {"queue": ("", desk), "approval": ("deletion", desk), "plan": ("plan", desk), "phone": ("deletion", PHONE),
             "connectors": ("/connectors", desk), "calls": ("/calls", desk)}  # fmt: skip
    for name, (path, size) in shots.items():
        async with site.page(viewport=size) as page:
            await site.open(page, site.calls.get(path, path))
            await page.screenshot(path=folder / f"{name}.png")
            assert (folder / f"{name}.png").stat().st_size < MAX_BYTES
