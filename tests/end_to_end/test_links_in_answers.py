"""An answer that waits for a person has the link to the page in its text, for clients that open no pages."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from mcp.client import Client
from mcp_types import ElicitResult

from connector_mcp.composition.engine import open_engine
from connector_mcp.composition.http_access import announce_pages, make_access, make_console_pages, make_secret_pages
from connector_mcp.config.settings import Settings
from connector_mcp.engine import engine as engine_module
from connector_mcp.engine.engine import Engine
from connector_mcp.engine.secret_refs.secret_requests import SecretPrompt
from connector_mcp.sandbox import seed
from tests.end_to_end.faces import attached, serving
from tests.end_to_end.leaving import operators_file

pytestmark = pytest.mark.anyio

LINK = re.compile(r"http://127\.0\.0\.1:\d+/(?:console/approvals|secrets)/[\w-]+(?=[ \"])")
SOURCE = {"name": "docs", "type": "WEB_CRAWLER", "config": {"seed-urls": ["https://docs.example.com"]}}
MANIFEST = {"name": "links", "sources": {"docs": SOURCE}}

PARKED = {
    "a deletion": ("logto_delete_connector", {"id": seed.LOGTO_GITHUB}),
    "an update": ("logto_update_connector", {"id": seed.LOGTO_GITHUB, "sync_profile": True}),
    "a creation": ("vectorize_create_source_connector", {"connectors": [SOURCE]}),
    "a plan": ("apply_plan", {}),
}
SECRET = {"connector_id": "google-universal", "config": {"clientId": "i", "clientSecret": "secret://NOT_STORED"}}


async def cancel_at_once(*_: Any) -> ElicitResult:
    return ElicitResult(action="cancel")


@pytest.fixture(params=["none", "forms"])
def declared(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The options of a client that declares no elicitation, or only forms, which it answers by itself."""
    if request.param == "none":
        return {}
    monkeypatch.setattr("mcp_types.UrlElicitationCapability", lambda: None)
    return {"elicitation_callback": cancel_at_once}


@asynccontextmanager
async def server(folder: Path, **settings: Any) -> AsyncIterator[tuple[Engine, str]]:
    loaded = Settings.load({}, sandbox=True, state_dir=folder, operators_file=operators_file(folder), **settings)
    access = make_access(loaded)
    async with open_engine(loaded, {}, "http") as engine:
        pages = (*make_console_pages(engine, {}, access), *make_secret_pages(engine, access))
        async with serving(engine, pages=pages, open_paths=("/console", "/secrets")) as origin:
            announce_pages(engine, origin)
            yield engine, origin


async def call(client: Client, tool: str, arguments: dict[str, Any]) -> Any:
    if tool == "apply_plan":
        planned = await client.call_tool("plan_connectors", {"manifest": MANIFEST})
        assert not planned.is_error, planned.structured_content
        arguments = {"plan_id": planned.structured_content["data"]["plan_id"]}
    return await client.call_tool(tool, arguments)


@pytest.mark.parametrize("era", ["auto", "legacy"])
@pytest.mark.parametrize("decision", ["approve", "ask"])
@pytest.mark.parametrize("what", PARKED)
async def test_the_text_of_a_parked_call_has_the_link_of_a_page_that_only_an_operator_can_use(
    what: str, decision: str, era: str, declared: dict[str, Any], tmp_path: Path
) -> None:
    policy = ",".join(f"{effect}={decision}" for effect in ("create", "update", "destroy"))
    async with server(tmp_path, policy=policy) as (engine, origin), httpx.AsyncClient() as anyone:
        async with Client(f"{origin}/mcp", mode=era, **declared) as client:
            answer = await call(client, *PARKED[what])
        assert answer.structured_content["error"]["code"] == "approval_required", answer.structured_content
        approval = answer.structured_content["error"]["approval"]["id"]
        (link,) = set(LINK.findall(answer.content[0].text))
        assert link == f"{origin}/console/approvals/{approval}"
        assert link in re.split(r"[\s\"]", answer.structured_content["error"]["fix"])
        shown = await anyone.get(link, follow_redirects=True)
        assert 'type="password"' in shown.text
        assert (await engine.approvals.get(approval)).effect not in shown.text
        for path in (link, f"{link}/approve", f"{link}/deny"):
            await anyone.post(path, data={"typed": approval, "name": approval}, headers={"Origin": origin})
        assert (await engine.approvals.get(approval)).status == "pending"


@pytest.mark.parametrize("era", ["auto", "legacy"])
async def test_the_text_of_an_answer_that_asks_for_a_secret_has_the_link_without_its_code(
    era: str, declared: dict[str, Any], tmp_path: Path
) -> None:
    async with server(tmp_path) as (_, origin), Client(f"{origin}/mcp", mode=era, **declared) as client:
        answer = await client.call_tool("logto_create_connector", SECRET)
    fix = answer.structured_content["error"]["fix"]
    (link,) = LINK.findall(fix)
    ((code,),) = [re.findall(r"\(code: (\S+)\)", fix)]
    assert link.startswith(f"{origin}/secrets/")
    assert code not in link
    assert link in answer.content[0].text


async def test_a_secret_that_is_not_entered_in_time_is_asked_for_by_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The client has longer to answer.
    monkeypatch.setattr(engine_module, "SecretPrompt", lambda requests, hold, _: SecretPrompt(requests, hold, 0.01))

    async def open_only(*_: Any) -> ElicitResult:
        return ElicitResult(action="accept")

    async with (
        server(tmp_path) as (_, origin),
        Client(f"{origin}/mcp", mode="legacy", elicitation_callback=open_only) as client,
    ):
        answer = await client.call_tool("logto_create_connector", SECRET)
    assert len(LINK.findall(answer.structured_content["error"]["fix"])) == 1


@pytest.mark.parametrize(
    ("public_url", "page"),
    [("https://mcp.example.com/x", "https://mcp.example.com/x/console/approvals/"), (None, None)],
)
async def test_a_server_over_stdio_links_only_to_a_console_that_has_a_public_address(
    public_url: str | None, page: str | None, tmp_path: Path
) -> None:
    loaded = Settings.load({}, sandbox=True, state_dir=tmp_path, policy="destroy=approve", public_url=public_url,
                           operators_file=operators_file(tmp_path))  # fmt: skip
    async with attached(loaded) as client:
        answer = await client.call_tool(*PARKED["a deletion"])
    approval = answer.structured_content["error"]["approval"]
    assert approval.get("page") == (page and page + approval["id"])


async def test_a_held_call_tells_the_link_while_it_waits(tmp_path: Path) -> None:
    told: list[str] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        told.append(message or "")

    async with (
        server(tmp_path, policy="destroy=approve", approval_wait=0.3) as (_, origin),
        Client(f"{origin}/mcp") as client,
    ):
        answer = await client.call_tool(*PARKED["a deletion"], progress_callback=note)
    assert told
    assert answer.structured_content["error"]["approval"]["page"] in told[0].split(" ")
