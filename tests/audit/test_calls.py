"""Searches of the audit log by call, over each of the databases."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from connector_mcp.audit.calls import CallLog
from connector_mcp.audit.reader import Wanted
from connector_mcp.state.database import Database
from tests.records import a_record, append, rows

pytestmark = pytest.mark.anyio

TARGET = "logto/default/a"


@pytest.fixture
def log(database: Database) -> CallLog:
    changes: list[dict[str, Any]] = [
        {"call_id": "0a", "transport": "probe", "target": TARGET},
        {"call_id": "0b", "phase": "begun", "outcome": "begun", "target": TARGET},
        {"call_id": "0c", "tool": "logto_get_x", "target": TARGET},
        {"call_id": "0b", "tool": "logto_change", "target": TARGET},
        {"call_id": "0d", "phase": "begun", "outcome": "begun"},
        {"call_id": "0e", "outcome": "refused", "principal": "other"},
    ]
    append(database, *[a_record(**{"tool": "logto_get", **each}) for each in changes])
    return CallLog(database)


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (Wanted(once=True), "edcba"),
        (Wanted(once=True, probes=False), "edcb"),
        (Wanted(once=True, target=TARGET, probes=False), "cb"),
        (Wanted(once=True, tool="logto_get*", outcome="ok"), "ca"),
        (Wanted(once=True, outcome="begun"), "d"),
        (Wanted(once=True, principal="other"), "e"),
        (Wanted(once=True, until=datetime(2001, 1, 1, tzinfo=UTC)), ""),
        (Wanted(once=True, since=datetime(2001, 1, 1, tzinfo=UTC)), "edcba"),
    ],
)
async def test_calls_are_found_in_pages_both_ways_and_exported_oldest_first(
    log: CallLog, wanted: Wanted, found: str
) -> None:
    forth, page = "", await log.page(wanted, count=2)
    while True:
        forth += "".join(call.call_id[1] for call in page.calls)
        if page.older is None:
            break
        page = await log.page(wanted, before=page.older, count=2)
    assert forth == found
    back = "".join(call.call_id[1] for call in page.calls)
    while page.newer is not None:
        page = await log.page(wanted, after=page.newer, count=2)
        back = "".join(call.call_id[1] for call in page.calls) + back
    assert back == found
    exported = [record["call_id"][1] async for part in log.export(wanted) for record in part]
    assert exported == list(found[::-1])


async def test_the_last_change_of_a_target_is_not_a_read(log: CallLog) -> None:
    changes = await log.last_changes([TARGET, "logto/default/other"])
    assert {target: call.authentic and call.authentic["tool"] for target, call in changes.items()} == {
        TARGET: "logto_change"
    }


async def test_the_records_of_a_call_are_linked_to_those_beside_them(log: CallLog) -> None:
    checked = await log.records("0b")
    assert [(each.line.seq, each.problem) for each in checked] == [(2, None), (4, None)]
    assert [each.problem for each in await log.records("0e")] == [None]
    assert await log.records("ff") == []


async def test_records_and_a_head_that_do_not_belong_together_are_a_problem(log: CallLog, database: Database) -> None:
    def put(head: str) -> str:
        (before,) = rows(database, "SELECT head FROM audit_chain")
        rows(database, "UPDATE audit_chain SET head = :head", head=head)
        return before["head"]

    async def problems(call_id: str) -> list[str | None]:
        return [each.problem for each in await log.records(call_id)]

    (sixth,) = rows(database, "SELECT head FROM audit_chain")
    append(database, a_record("0f"))
    seventh = put(sixth["head"])
    assert await problems("0f") == ["the end of the log does not know this record"]
    append(database, a_record("10"))
    assert await problems("10") == ["the link between it and record 7 is broken"]
    rows(database, "DELETE FROM audit WHERE seq > 6")
    put(sixth["head"])
    append(database, a_record("0f", outcome="other"))
    put(seventh)
    assert await problems("0f") == ["the end of the log is that of another record"]
