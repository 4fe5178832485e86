"""The documentation site: it is built strictly, its links lead somewhere, and it asks for nothing from outside."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from playwright.async_api import Request, async_playwright, expect
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from tests.documents import BY_NAME, ROOT
from tests.end_to_end.faces import served

CHROMIUM = shutil.which("chromium")

pytestmark = pytest.mark.slow


@dataclass
class HtmlPage(HTMLParser):
    """What a page links to, what it loads, and what a link may name in it."""

    links: list[str] = field(default_factory=list[str])
    loads: list[str] = field(default_factory=list[str])
    anchors: set[str] = field(default_factory=set[str])

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        elif tag == "link" and values.get("rel") not in ("next", "prev"):
            self.loads.append(values["href"])
        self.loads += [values["src"]] if "src" in values else []


def build(folder: Path, source: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """What `make site` runs."""
    recipe = re.search(r"^site:.*\n\t(.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert recipe is not None
    command = recipe[1].replace("$(BIN)", str(Path(sys.executable).parent))
    return subprocess.run(
        ["sh", "-c", f'{command} --site-dir "{folder}"'], cwd=source, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site") / "built"
    ran = build(folder)
    assert ran.returncode == 0, ran.stderr
    assert {line.split()[0] for line in (ran.stdout + ran.stderr).splitlines()} == {"INFO"}
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, HtmlPage]:
    found: dict[Path, HtmlPage] = {}
    for path in site.rglob("*.html"):
        found[path] = page = HtmlPage()
        page.feed(path.read_text("utf-8"))
    return found


def test_every_document_is_a_page_of_the_navigation(site: Path, pages: dict[Path, HtmlPage]) -> None:
    documents = {Path(name).relative_to("docs").with_suffix(".html") for name in BY_NAME if name.startswith("docs/")}
    assert documents <= {path.relative_to(site) for path in pages}
    assert documents <= {Path(urlsplit(link).path) for link in pages[site / "index.html"].links} | {Path("index.html")}


def test_every_link_and_anchor_leads_somewhere(site: Path, pages: dict[Path, HtmlPage]) -> None:
    dead: list[str] = []
    for path, page in pages.items():
        for link in (*page.links, *page.loads):
            parts = urlsplit(link)
            if parts.scheme:
                # Only the form of an address elsewhere is checked.
                dead += [] if parts.scheme == "https" and "." in parts.netloc else [f"{path}: {link}"]
                continue
            target = path if not parts.path else (path.parent / unquote(parts.path)).resolve()
            if parts.path.startswith("/"):
                target = site / unquote(parts.path).lstrip("/")
            if target.is_dir():
                target /= "index.html"
            known = pages[target].anchors if target in pages else set[str]()
            if not target.is_file() or (parts.fragment and unquote(parts.fragment) not in known):
                dead.append(f"{path}: {link}")
    assert not dead


def test_what_a_reader_could_not_reach_fails_the_build(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    links = {"no-such-page.md", "safety.md#no-such-heading", "#no-such-anchor", "images/no-such.png", "../README.md"}
    with (tmp_path / "docs" / "index.md").open("a") as page:
        page.writelines(f"\n![to]({link})\n" if link.endswith("png") else f"\n[to]({link})\n" for link in links)
    (tmp_path / "docs" / "not-in-the-navigation.md").write_text("# A page\n")
    ran = build(tmp_path / "built", tmp_path)
    assert ran.returncode != 0
    assert not {told for told in (*links, "not-in-the-navigation.md") if told not in ran.stderr}


def test_a_page_names_nothing_that_is_loaded_from_elsewhere(site: Path, pages: dict[Path, HtmlPage]) -> None:
    assert not [load for page in pages.values() for load in page.loads if urlsplit(load).netloc]
    for sheet in site.rglob("*.css"):
        assert not re.findall(r"(?:url\(|@import )[\"']?(?:https?:)?//", sheet.read_text("utf-8"))


@pytest.mark.anyio
@pytest.mark.skipif(CHROMIUM is None and os.environ.get("CI") != "true", reason="there is no chromium")
async def test_a_browser_that_reads_and_searches_asks_only_the_site(site: Path) -> None:
    requests: list[Request] = []
    app = Starlette(routes=[Mount("/", StaticFiles(directory=site, html=True))])
    async with served(app) as origin, async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = await browser.new_page()
        page.on("request", lambda request: requests.append(request))
        for name in ("architecture.html", "clients/cursor.html", "index.html"):
            await page.goto(f"{origin}/{name}", wait_until="networkidle")
        search = page.get_by_role("textbox", name="Search")
        await search.click()
        await search.press_sequentially("outcome_unknown")
        await expect(page.locator(".md-search-result__link").first).to_be_visible()
        await page.wait_for_load_state("networkidle")
        await browser.close()
    asked = {request.url for request in requests}
    assert f"{origin}/search/search_index.json" in asked
    assert not [url for url in asked if not url.startswith((f"{origin}/", "blob:", "data:"))]
