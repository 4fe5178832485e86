"""Calls and decisions that operators look up: lists, one call, and the export."""

from __future__ import annotations

import json
import re
from html import unescape
from typing import Any

import pytest

from connector_mcp.audit import calls
from connector_mcp.audit.calls import CALLS, CallLog
from connector_mcp.audit.check import verify_log
from connector_mcp.audit.reader import AuditReader, Wanted
from connector_mcp.audit.record import as_ocsf_event
from connector_mcp.errors import StoreUnavailable
from connector_mcp.state.sqlite import SqliteDatabase
from tests.console.conftest import Browser, House
from tests.console.test_pages import walk
from tests.records import rows

pytestmark = pytest.mark.anyio

TARGET = "logto/default/github-signin"


def tools(text: str) -> list[str]:
    return re.findall(r'<th scope="row"><a href="[^"]+"><code>(\w+)</code>', text)


def ids(text: str) -> list[str]:
    return re.findall(r'href="/console/calls/(\w+)"><code>', text)


@pytest.mark.parametrize("query", ["", "?tool=even"])
async def test_calls_are_paged_newest_first_both_ways(operator: Browser, house: House, query: str) -> None:
    await house.record(*({"tool": f"{'odd' if n % 2 else 'even'}_{n}"} for n in range(5 * CALLS - 3)))
    wanted = [f"{'odd' if n % 2 else 'even'}_{n}" for n in reversed(range(5 * CALLS - 3)) if not query or not n % 2]
    forth = await walk(operator, f"/console/calls{query}", "next", tools)
    assert [name for page in forth for name in page] == wanted
    assert max(map(len, forth)) == CALLS
    older = unescape(re.findall(r'rel="next" href="([^"]+)"', (await operator.get(f"/console/calls{query}")).text)[0])
    while onward := re.findall(r'rel="next" href="([^"]+)"', (await operator.get(older)).text):
        older = unescape(onward[0])
    back = await walk(operator, older, "prev", tools)
    assert [name for page in back[::-1] for name in page] == wanted


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({}, "5432"),
        ({"checks": "shown"}, "54321"),
        ({"tool": "delete"}, "43"),
        ({"tool": "logto_*"}, "432"),
        ({"tool": "LOGTO_DELETE"}, "43"),
        ({"tool": "["}, ""),
        ({"outcome": "blocked"}, "4"),
        ({"outcome": "begun"}, "5"),
        ({"caller": "agent-8"}, "4"),
        ({"caller": "agent"}, ""),
        ({"since": "2027-01-15T08:03"}, "543"),
        ({"until": "2027-01-15T08:03"}, "2"),
        ({"since": "2027-01-15T08:02", "until": "2027-01-15T08:04+00:00"}, "32"),
        ({"target": TARGET}, "4"),
        ({"tool": "delete", "outcome": "ok", "caller": "agent-7", "since": "2027-01-15"}, "3"),
    ],
)
async def test_calls_are_filtered(operator: Browser, house: House, wanted: dict[str, str], found: str) -> None:
    for members in (
        {"call_id": "1", "transport": "probe"},
        {"call_id": "2", "arguments": {"config": {"transport": "probe"}}},
        {"call_id": "3", "tool": "logto_delete_connector", "effect": "destroy"},
        {"call_id": "4", "tool": "logto_delete_connector", "outcome": "blocked", "principal": "agent-8",
         "target": TARGET},
        {"call_id": "5", "tool": "versori_update_system", "phase": "begun", "outcome": "begun"},
    ):  # fmt: skip
        house.clock.now += 60
        # A call that ended counts once, with its end.
        await house.record(*[members | {"phase": "begun", "outcome": "begun"}] * (members["call_id"] == "3"), members)
    answer = await operator.get("/console/calls", params=wanted)
    assert (answer.status_code, "".join(ids(answer.text))) == (200, found)
    exported = (await operator.get("/console/calls/export", params=wanted)).text.splitlines()
    assert [json.loads(line)["api"]["request"]["uid"] for line in exported] == list(found[::-1])


@pytest.mark.parametrize("name", ["since", "until"])
async def test_a_time_that_is_none_is_refused(operator: Browser, name: str) -> None:
    for page in ("/console/calls", "/console/calls/export"):
        answer = await operator.get(page, params={name: "yesterday"})
        assert answer.status_code == 400
        assert "2026-01-31T09:30" in answer.text


async def test_filters_stay_in_the_links_to_other_pages_and_to_the_export(operator: Browser, house: House) -> None:
    await house.record(*[{"principal": "a & b"}] * (CALLS + 1))
    text = (await operator.get("/console/calls", params={"caller": "a & b", "checks": "shown"})).text
    for link in (*re.findall(r'rel="next" href="([^"]+)"', text), *re.findall(r'href="([^"]+/export[^"]+)"', text)):
        assert "caller=a+%26+b&checks=shown" in unescape(link)


async def test_a_call_shows_its_arguments_decision_diff_chain_and_earlier_calls(
    operator: Browser, house: House
) -> None:
    await house.record({"target": TARGET, "tool": "logto_get_connector"}, {"target": "logto/default/other"})
    approval = await house.park(digest="d1")
    await house.approvals.decide(approval.id, True, "operator alice", "not used any more")
    house.clock.now += 60
    arguments = {"id": "github-signin", "config": {"clientSecret": "[redacted]"}}
    decided = {"decision": "approve", "decided_by": "operator alice", "channel": "console", "digest": "d1"}
    call = {"call_id": "f1", "tool": "logto_delete_connector", "effect": "destroy", "target": TARGET, **decided}
    call |= {"arguments": arguments, "fingerprint_before": "a", "fingerprint_after": "gone", "upstream_status": 204}
    await house.record({**call, "phase": "begun", "outcome": "begun"}, call)
    text = (await operator.get("/console/calls/f1")).text
    for shown in (f'href="/console/approvals/{approval.id}"', "not used any more", "operator alice", ">gone<", "204"):
        assert shown in text
    assert "github-signin" in text
    assert "[redacted]" in text
    assert "What is deleted" in text
    assert text.count('<span class="tag tag-used">intact</span>') == 2
    assert tools(text) == ["logto_get_connector"]


async def test_a_plan_that_only_deletes_shows_what_is_lost_and_that_it_waited(operator: Browser, house: House) -> None:
    for digest, losses in ("lost", ("Deletes old",)), ("made", ()):
        plan = await house.park(digest=digest, tool="apply_plan", deletes=True, losses=losses, diff=(), snapshot=None)
        await house.approvals.decide(plan.id, True, "operator alice")
        await house.record({"call_id": digest, "digest": digest, "decision": "approve", "effect": "destroy"})
        text = (await operator.get(f"/console/calls/{digest}")).text
        assert plan.id in text
        assert ("What is lost" in text, "Deletes old" in text) == (bool(losses), bool(losses))
        assert "Only a call that waited" not in text


async def test_a_later_approval_of_the_same_call_is_not_that_of_an_earlier_one(operator: Browser, house: House) -> None:
    await house.record({"call_id": "e1", "digest": "d1", "decision": "approve", "outcome": "approval_required"})
    house.clock.now += 60
    await house.park(digest="d1")
    await house.record({"call_id": "e2", "digest": "d1", "decision": "ask"})
    for each in ("e1", "e2"):
        assert "/console/approvals/" not in (await operator.get(f"/console/calls/{each}")).text


async def test_a_call_that_is_not_in_the_log_is_not_found(operator: Browser) -> None:
    answer = await operator.get("/console/calls/019a")
    assert answer.status_code == 404
    assert "audit archive" in answer.text


LINE = "UPDATE audit SET line = replace(line, 'agent-7', 'agent-8') WHERE "
OF_F1 = "WHERE call_id = 'f1'"
ALTERATIONS = {
    "the line": (f"{LINE} call_id = 'f1'", "hash does not fit"),
    "a column": (f"UPDATE audit SET tool = 'versori_get_system' {OF_F1}", "column tool does not agree"),
    "the target": (f"UPDATE audit SET target = NULL {OF_F1}", "column target does not agree"),
    "hidden as a check": (f"UPDATE audit SET transport = 'probe' {OF_F1}", "column transport does not agree"),
    "the one before": ("DELETE FROM audit WHERE seq = 1", "record 1 beside it is missing"),
    "the one after": (f"{LINE} seq = 3", "record 3 beside it was altered"),
    "put in its place": (f"UPDATE audit SET line = (SELECT line FROM audit WHERE seq = 1) {OF_F1}", "is in its place"),
    "the head": ("UPDATE audit_chain SET head = ''", "the end of the log is missing"),
    "the key": ("DELETE FROM keys WHERE name = 'audit'", "hash does not fit"),
}


@pytest.mark.parametrize("altered", ALTERATIONS)
async def test_a_call_says_if_its_records_are_not_intact(operator: Browser, house: House, altered: str) -> None:
    statement, reason = ALTERATIONS[altered]
    await house.record({"call_id": "e1"}, {"call_id": "f1", "target": TARGET}, {"call_id": "f2"})
    assert "intact</span>" in (await operator.get("/console/calls/f1")).text
    rows(house.database, statement)
    text = (await operator.get("/console/calls/f1")).text
    assert reason in unescape(text)
    assert '<span class="tag tag-used">intact</span>' not in text
    if "column" in reason or "hash" in reason:
        # What the record claims is not shown, and the export leaves it out.
        assert "agent-8" not in text
        assert '"uid":"f1"' not in (await operator.get("/console/calls/export", params={"checks": "shown"})).text


async def test_a_record_of_an_earlier_version_is_intact_and_shown(operator: Browser, house: House) -> None:
    await house.record({"call_id": "f1", "transport": "stdio"})
    rows(house.database, "UPDATE audit SET transport = NULL")
    assert ids((await operator.get("/console/calls")).text) == ["f1"]
    assert verify_log(AuditReader(house.database)).intact
    assert '"tag tag-used">intact' in (await operator.get("/console/calls/f1")).text


async def test_the_export_is_what_the_command_prints(
    operator: Browser, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "_EXPORTED", 7)
    await house.record(*({"tool": f"tool_{n}"} for n in range(50)))
    lines = list(AuditReader(house.database).lines(1, 50, Wanted(once=True)))
    answer = await operator.get("/console/calls/export")
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    assert "attachment" in answer.headers["content-disposition"]
    expected = [as_ocsf_event(line.record) for line in lines if line.record]
    assert [json.loads(line) for line in answer.text.splitlines()] == expected
    assert len(expected) == 50


async def test_a_store_that_is_away_shows_before_the_export_begins(
    operator: Browser, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: Any, **__: Any) -> None:
        raise StoreUnavailable("The store is away.", fix="Start it.")

    monkeypatch.setattr(CallLog, "_find", away)
    assert (await operator.get("/console/calls/export")).status_code == 503


@pytest.mark.parametrize(
    "wanted",
    [
        Wanted(probes=False, once=True),
        Wanted(probes=False, once=True, principal="agent-7"),
        Wanted(probes=False, once=True, outcome="refused", tool="logto_*"),
        Wanted(target=TARGET, probes=False, once=True),
    ],
)
async def test_a_page_reads_only_the_records_that_it_shows(
    house: House, monkeypatch: pytest.MonkeyPatch, wanted: Wanted
) -> None:
    """The database searches an index in the order of the page, and fetches one row more than a page has."""
    await house.record(*[{"target": TARGET, "outcome": "refused"}] * (3 * CALLS))
    read: list[int] = []
    run = SqliteDatabase.read

    async def explained(database: SqliteDatabase, work: Any) -> Any:
        def counted(tx: Any) -> Any:
            execute = tx.execute

            def watch(sql: str, values: Any = {}) -> Any:  # noqa: B006 - never changed
                found = execute(sql, values)
                if "FROM audit " in sql:
                    read.append(len(found.all()))
                    plan = " ".join(row["detail"] for row in execute(f"EXPLAIN QUERY PLAN {sql}", values).all())
                    assert "INDEX audit_of_target" in plan if wanted.target else "INDEX audit_calls" in plan
                    assert "TEMP B-TREE" not in plan
                return found

            tx.execute = watch
            return work(tx)

        return await run(database, counted)

    monkeypatch.setattr(SqliteDatabase, "read", explained)
    page = await CallLog(house.database).page(wanted)
    assert (len(page.calls), read) == (CALLS, [CALLS + 1])


async def test_the_history_is_filtered_by_decision_and_operator(operator: Browser, house: House) -> None:
    approved, denied, other = [await house.park(digest=each) for each in "abc"]
    await house.approvals.decide(approved.id, True, "operator alice")
    await house.approvals.decide(denied.id, False, "operator alice")
    await house.approvals.decide(other.id, True, "operator bob")
    await house.database.write(lambda tx: tx.execute(f"UPDATE approvals SET status = 'used' WHERE id = '{other.id}'"))

    async def shown(**filters: str) -> set[str]:
        text = (await operator.get("/console/history", params=filters)).text
        return set(re.findall(r'href="/console/approvals/([\w-]+)"', text))

    assert await shown() == {approved.id, denied.id, other.id}
    assert await shown(decision="approved") == {approved.id, other.id}
    assert await shown(decision="denied", by="alice") == {denied.id}
    assert await shown(by="operator bob") == {other.id}
    assert await shown(by="ali") == set()
