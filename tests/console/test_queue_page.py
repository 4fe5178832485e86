"""The queue: what it shows of each call, search and filters, groups, and denying several calls at once."""

from __future__ import annotations

import re
from typing import Any

import pytest

from connector_mcp.console.pages import QUEUE_ROWS
from connector_mcp.engine.approval.parked_call import Approval
from connector_mcp.engine.approval.queue import COUNTED
from connector_mcp.errors import ConnectorError, StoreUnavailable, StoreUncertain
from tests.console.conftest import Browser, House
from tests.console.test_pages import queued

pytestmark = pytest.mark.anyio


async def park_several(house: House) -> dict[str, Approval]:
    """Calls that differ in what can be filtered for."""
    calls: dict[str, dict[str, Any]] = {
        "deletion": {"effects": ("destroy",), "sandbox": True},
        "update": {
            "tool": "versori_update_connector",
            "platform": "versori",
            "principal": "agent-9",
            "target": 'Acme "50%" _CRM_',
            "effect": "Changes it.",
            "effects": ("update", "disclose"),
            "deletes": False,
            "arguments": {"id": "x", "effects": ["destroy"], "platform": "logto"},
        },
        "plan": {
            "tool": "apply_plan",
            "platform": "Vectorize, Logto",
            "principal": "agent-9",
            "client": "ÄÖÜ 1.0",
            "target": "ingestion",
            "effect": "Applies it.",
            "effects": ("create",),
            "arguments": {},
            "snapshot": {"logo": "GitHub hidden-word"},
        },
    }
    parked: dict[str, Approval] = {}
    for name, call in calls.items():
        parked[name] = await house.park(digest=name, **call)
        house.clock.now += 1
    return parked


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({}, ["deletion", "update", "plan"]),
        ({"platform": "logto"}, ["deletion", "plan"]),
        ({"platform": "versori"}, ["update"]),
        ({"effect": "destroy"}, ["deletion"]),
        ({"effect": "disclose"}, ["update"]),
        ({"caller": "agent-9"}, ["update", "plan"]),
        ({"caller": "agent-"}, []),
        ({"caller": "agent-9", "platform": "vectorize", "effect": "create"}, ["plan"]),
        ({"q": "github"}, ["deletion"]),
        ({"q": "hidden-word"}, []),
        ({"q": 'acme "50%" _crm_'}, ["update"]),
        ({"q": "50_"}, []),
        ({"q": "AGENT-9"}, ["update", "plan"]),
        ({"q": "ÄÖÜ"}, ["plan"]),
        ({"q": "!"}, []),
        ({"q": "versori_update"}, ["update"]),
        ({"q": "\u202e  ingestion \x00"}, ["plan"]),
        ({"q": "\\"}, []),
    ],
)
async def test_the_queue_is_searched_and_filtered(
    operator: Browser, house: House, wanted: dict[str, str], found: list[str]
) -> None:
    parked = await park_several(house)
    text = (await operator.get("/console", params=wanted)).text
    assert queued(text) == [parked[name].id for name in found]
    assert ("No waiting call matches" in text) is (not found)
    # The count is that of all calls.
    assert '<span class="count" id="waiting">3</span>' in text
    assert "<title>(3) Waiting" in text


async def test_a_call_is_found_by_its_id(operator: Browser, house: House) -> None:
    parked = await park_several(house)
    assert queued((await operator.get("/console", params={"q": parked["plan"].id})).text) == [parked["plan"].id]


async def test_a_filter_stays_on_the_next_page(operator: Browser, house: House) -> None:
    for number in range(QUEUE_ROWS + 1):
        await house.park(digest=f"d{number}", principal="a & b")
        await house.park(digest=f"e{number}")
    text = (await operator.get("/console", params={"caller": "a & b", "by": "target"})).text
    onward = re.findall(r'<a rel="prev" href="([^"]+)"', text)[0].replace("&amp;", "&")
    assert len(queued(text)) == QUEUE_ROWS
    assert len(queued((await operator.get(onward)).text)) == 1


@pytest.mark.parametrize(
    ("by", "groups"), [("caller", ["agent-7", "agent-9"]), ("target", ["GitHub", "Acme", "ingestion"]), ("x", [])]
)
async def test_calls_are_grouped(operator: Browser, house: House, by: str, groups: list[str]) -> None:
    await park_several(house)
    text = (await operator.get("/console", params={"by": by})).text
    assert re.findall(r"<h2><a[^>]*><bdi>([\w-]+)", text) == groups
    assert len(queued(text)) == 3


async def test_each_row_shows_what_is_decided_by(operator: Browser, house: House) -> None:
    parked = await park_several(house)
    rows = re.findall(r'<li class="row.*?</li>', (await operator.get("/console")).text, re.DOTALL)
    for shown in ("destroy", "sandbox", "Deletes connector", "GitHub", "logto", "default", "agent-7", "just now",
                  "expires", "in 59 min", parked["deletion"].id):  # fmt: skip
        assert shown in rows[0]
    assert "sandbox" not in rows[1]
    # The gravest of its effects.
    assert re.findall(r'class="tag effect-(\w+)"', rows[1]) == ["disclose"]


async def deny_selected(operator: Browser, *ids: str, **fields: str) -> Any:
    form = {"form_token": await operator.form_token(), **dict.fromkeys(ids, "on"), **fields}
    return await operator.submit("/console/deny", **form)


async def test_selected_calls_are_denied_with_one_form(operator: Browser, house: House) -> None:
    parked = await park_several(house)
    answer = await deny_selected(operator, parked["deletion"].id, parked["plan"].id, reason="not\u202e now")
    assert answer.status_code == 200
    assert "2 of 2 calls denied" in answer.text
    assert '<span class="count" id="waiting">1</span>' in answer.text
    assert {name: await house.status(each) for name, each in parked.items()} == {
        "deletion": "denied", "update": "pending", "plan": "denied",
    }  # fmt: skip
    denied = await house.approvals.get(parked["plan"].id)
    assert (denied.decided_by, denied.reason, denied.channel) == ("operator alice", "not now", "console")


async def test_what_became_of_each_selected_call_is_reported(operator: Browser, house: House) -> None:
    expired = await house.park(digest="expires first")
    house.clock.now += 1_000
    parked = await park_several(house)
    await house.approvals.decide(parked["update"].id, True, "operator bob")
    await operator.get("/console")
    house.clock.now += 1_700
    await operator.get("/console")
    house.clock.now += 1_000
    answer = await deny_selected(operator, parked["deletion"].id, parked["update"].id, expired.id, "ap-222222")
    assert answer.status_code == 409
    assert "1 of 4 calls denied" in answer.text
    told = re.findall(r'<span class="notice notice-wrong">(.*?)</span>', answer.text)
    assert len(told) == 3
    for why, wanted in zip(told, ("is approved by operator bob", "expired before it was decided", ""), strict=True):
        assert wanted in why
    assert await house.status(parked["update"]) == "approved"


@pytest.mark.parametrize("error", [StoreUnavailable, StoreUncertain])
async def test_a_lost_store_is_not_reported_as_a_denial(
    operator: Browser, house: House, monkeypatch: pytest.MonkeyPatch, error: type[ConnectorError]
) -> None:
    parked = await park_several(house)
    tried: list[str] = []

    async def lost(approval_id: str, *_: Any, **__: Any) -> Approval:
        tried.append(approval_id)
        raise error(f"The store is lost for {approval_id}.", fix="Look.")

    monkeypatch.setattr(house.approvals, "decide", lost)
    answer = await deny_selected(operator, *(each.id for each in parked.values()))
    assert answer.status_code == 409
    assert "0 of 3 calls denied" in answer.text
    assert len(tried) == (3 if error is StoreUncertain else 1)
    assert answer.text.count("It was not tried") == 3 - len(tried)


async def test_several_calls_are_only_denied_by_a_form_of_the_session(operator: Browser, house: House) -> None:
    approval = await house.park()
    for token in ("", "0" * 64):
        answer = await operator.submit("/console/deny", form_token=token, **{approval.id: "on"})
        assert answer.status_code == 403
    assert (await operator.get("/console/deny", params={approval.id: "on"})).status_code in (404, 405)
    empty = await deny_selected(operator, reason="none")
    assert empty.status_code == 400
    assert "Nothing was denied" in empty.text
    assert await house.status(approval) == "pending"


async def test_a_long_queue_is_neither_counted_nor_shown_in_whole(operator: Browser, house: House) -> None:
    row = "INSERT INTO approvals (id, digest, status, is_open, principal, tool, call, created_at, expires_at) "
    copied = (
        "SELECT id || n, digest || n, status, is_open, principal, tool, call, created_at + n, expires_at FROM approvals"
    )
    numbers = f"WITH RECURSIVE s (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < {COUNTED + 5}) "
    await house.park()
    await house.database.write(lambda tx: tx.execute(f"{numbers}{row}{copied}, s"))
    text = (await operator.get("/console")).text
    assert '<span class="count" id="waiting">99+</span>' in text
    assert len(queued(text)) == QUEUE_ROWS


async def test_an_error_page_keeps_the_header_of_an_operator(browser: Browser, house: House) -> None:
    approval = await house.park()
    await browser.log_in()
    for path in ("/console/nothing", "/console/approvals/ap-222222"):
        text = (await browser.get(path)).text
        assert '<nav aria-label="Console">' in text
        assert '<span class="count" id="waiting">1</span>' in text
    assert '<nav aria-label="Console">' in (await browser.decide(approval, "deny", form_token="0")).text
    browser.cookies.clear()
    assert '<nav aria-label="Console">' not in (await browser.submit("/console/deny", headers={})).text
