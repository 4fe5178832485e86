"""Records reach the log whole, in one chain, together with what they describe."""

from __future__ import annotations

import json
from typing import Any
from unittest.mock import AsyncMock

import anyio
import pytest
from anyio.lowlevel import checkpoint

from connector_mcp.audit.chain import START, CameBackOlder
from connector_mcp.audit.check import verify_log
from connector_mcp.audit.reader import AuditReader
from connector_mcp.audit.record import MAX_LINE
from connector_mcp.audit.trail import AuditTrail, encode
from connector_mcp.errors import StoreUnavailable, StoreUncertain
from connector_mcp.state.database import Database, Transaction
from connector_mcp.state.keys import secret_key
from connector_mcp.state.sqlite import SqliteDatabase
from tests.records import a_record, rows
from tests.state.conftest import Open

pytestmark = pytest.mark.anyio


@pytest.fixture
def trail(database: Database) -> AuditTrail:
    return AuditTrail(database)


def lines(database: Database) -> list[dict[str, Any]]:
    return [json.loads(row["line"]) for row in rows(database, "SELECT line FROM audit ORDER BY seq")]


def calls_in(database: Database) -> list[str]:
    verdict = verify_log(AuditReader(database))
    assert (verdict.problems, verdict.notes) == ([], [])
    return [line["call_id"] for line in lines(database)]


async def write_together(trail: AuditTrail, *calls: str) -> list[str | None]:
    """Write records at the same time, and return the error that each call got."""

    async def write(call: str) -> None:
        try:
            await trail.write(a_record(call))
        except StoreUnavailable as failure:
            told[call] = str(failure)

    told: dict[str, str | None] = dict.fromkeys(calls)
    async with anyio.create_task_group() as group:
        for call in calls:
            group.start_soon(write, call)
    return list(told.values())


async def test_a_record_is_one_line_with_all_its_members_and_the_time_of_the_database(
    database: Database, trail: AuditTrail
):
    record = a_record(
        client="a client 1.0", arguments={"id": "a\nb\u2028c"}, decided_by="the person at the client",
        channel="elicitation", tenant="t1", digest="d1", fingerprint_before="f1", fingerprint_after="f2",
        upstream_status=204, upstream_request_id="r1", sandbox=True,
    )  # fmt: skip
    await trail.check()
    await trail.write(record)
    await trail.write(a_record(outcome="cancelled"))
    first, second = lines(database)
    assert list(first) == ["seq", "time", *vars(record), "prev", "hash"]
    assert {name: first[name] for name in vars(record)} == vars(record)
    assert (first["seq"], first["prev"], len(first["hash"])) == (1, START, 64)
    assert (second["seq"], second["prev"], second["outcome"]) == (2, first["hash"], "cancelled")
    if isinstance(database, SqliteDatabase):
        assert first["time"] == "2027-01-15T08:00:00.000Z"


async def test_records_that_come_during_a_write_go_together_in_the_next_one(
    database: Database, trail: AuditTrail, monkeypatch: pytest.MonkeyPatch
):
    write, steps = database.write, list[bool]()
    calls = [str(number) for number in range(300)]

    async def counted(work: Any, *, durable: bool) -> Any:
        steps.append(durable)
        return await write(work, durable=durable)

    monkeypatch.setattr(database, "write", counted)
    assert await write_together(trail, *calls) == [None] * 300
    assert steps == [False] * 2, "at most 200 together"
    await trail.write(a_record("last"), also=lambda _: None)
    assert steps == [False, False, True]

    async def end_later(turns: int) -> None:
        for _ in range(turns):
            await checkpoint()
        await trail.write(a_record(f"later {turns}"))

    async with anyio.create_task_group() as group:
        for turns in range(3):
            group.start_soon(end_later, turns)
    assert steps[3:] == [False], "calls that end within a few turns of the event loop do not commit one by one"
    assert calls_in(database) == [*calls, "last", "later 0", "later 1", "later 2"]


async def test_what_belongs_to_a_record_is_done_with_it_or_not_at_all(database: Database, trail: AuditTrail):
    def note(tx: Transaction) -> None:
        tx.execute("INSERT INTO keys (name, value) VALUES ('noted', '1')")

    def fail(tx: Transaction) -> None:
        trail.lock(tx).append([encode(vars(a_record("lost")))])
        note(tx)
        raise KeyError("unexpected")

    with pytest.raises(KeyError):
        await database.write(fail)
    with pytest.raises(KeyError):
        await trail.write(a_record("lost"), fail)
    assert lines(database) == []
    await trail.write(a_record("kept"), note)
    with pytest.raises(StoreUnavailable) as failed:
        # The name is taken, so neither is done.
        await trail.write(a_record("lost too"), note)
    assert not isinstance(failed.value, StoreUncertain)
    assert calls_in(database) == ["kept"]


async def test_a_failed_write_reaches_every_call_of_its_batch_and_the_chain_goes_on(
    database: Database, trail: AuditTrail, monkeypatch: pytest.MonkeyPatch
):
    await trail.write(a_record("first"))
    with monkeypatch.context() as patched:
        patched.setattr(database, "write", AsyncMock(side_effect=StoreUnavailable("The disk is full.", fix="")))
        assert await write_together(trail, *"abc") == ["The disk is full."] * 3
        with anyio.CancelScope() as scope:
            scope.cancel()
            assert await write_together(trail, *"abc") == ["The disk is full."] * 3, "also if it is cancelled"
        with pytest.raises(StoreUnavailable):
            await trail.check()
    await trail.check()
    assert await write_together(trail, *"de") == [None, None]
    assert calls_in(database) == ["first", "d", "e"]


async def test_the_record_of_a_cancelled_call_is_written_before_the_call_ends(database: Database, trail: AuditTrail):
    ended: list[list[str]] = []

    async def write(call: str) -> None:
        try:
            await trail.write(a_record(call))
        finally:
            ended.append(calls_in(database))

    async with anyio.create_task_group() as group:
        for call in "abc":
            group.start_soon(write, call)
        group.cancel_scope.cancel()
    assert ended == [list("abc")] * 3


async def test_processes_that_alternate_make_one_chain(open_database: Open):
    database = open_database()
    trails = AuditTrail(database), AuditTrail(open_database())
    async with anyio.create_task_group() as group:
        for number in range(100):
            group.start_soon(trails[number % 2].write, a_record(f"{number:03d}"))
    assert sorted(calls_in(database)) == [f"{number:03d}" for number in range(100)]


async def test_a_long_record_is_stored_without_its_arguments(database: Database):
    await AuditTrail(database).write(a_record(arguments={"long": "x" * MAX_LINE}, digest="d1"))
    (line,) = lines(database)
    assert (line["arguments"], line["digest"]) == ({"omitted_bytes": MAX_LINE + len('{"long":""}')}, "d1")


class Named:
    def __repr__(self) -> str:
        return "hunter2"


@pytest.mark.parametrize(
    "text", ['quote " back \\ line\nend\ttab \0 \x1f \x7f', "Jürgen \u2028 \U0001f600", "half \ud83d", "\udc00", "\0"]
)
async def test_any_text_is_recorded_and_checked(database: Database, trail: AuditTrail, text: str):
    record = a_record(text, principal=text, tool=text, outcome=text, arguments={text: [text, Named(), 2**70]})
    await trail.write(record)
    (found,) = lines(database)
    assert (found["principal"], found["tool"], found["call_id"]) == (text, text, text)
    assert found["arguments"] == {text: [text, "<Named>", 2**70]}
    assert verify_log(AuditReader(database)).intact


async def test_a_database_that_came_back_older_is_noticed_and_what_was_open_in_it_is_void(
    database: Database, caplog: pytest.LogCaptureFixture
):
    one, other = AuditTrail(database), AuditTrail(database)
    await one.write(a_record("a"))
    (before,) = rows(database, "SELECT head FROM audit_chain")
    await one.write(a_record("b"))
    await other.write(a_record("c"))
    rows(database, "DELETE FROM audit WHERE seq > 1")
    rows(database, "UPDATE audit_chain SET head = :head", head=before["head"])
    rows(
        database,
        "INSERT INTO approvals (id, digest, status, is_open, principal, tool, call, created_at, expires_at) "
        "VALUES ('ap-1', 'd1', 'approved', 1, 'p', 't', '{}', 0, 1e11)",
    )
    rows(
        database,
        "INSERT INTO executions (digest, call_id, tool, begun_at, outcome, expires_at) "
        "VALUES ('d1', 'c1', 't', 0, 'running', 1e11)",
    )
    with pytest.raises(CameBackOlder, match="audit record 3 is gone"):
        await database.write(lambda tx: other.lock(tx).append([encode(vars(a_record("begun")))]))
    assert rows(database, "SELECT status FROM approvals")[0]["status"] == "approved", "the failed call has no effect"
    await other.write(a_record("d"))
    (approval,) = rows(database, "SELECT status, is_open, reason FROM approvals")
    assert (approval["status"], approval["is_open"]) == ("void", 0)
    assert rows(database, "SELECT outcome FROM executions")[0]["outcome"] == "unknown"
    assert "came back older: audit record 3 is gone" in caplog.text
    # The other server learns that it has been dealt with, and voids nothing again.
    rows(database, "UPDATE approvals SET status = 'approved', is_open = 1")
    await one.check()
    await one.write(a_record("e"))
    assert rows(database, "SELECT status FROM approvals")[0]["status"] == "approved"
    assert [line.get("event", line.get("call_id")) for line in lines(database)] == ["a", "restored", "d", "e"]
    (problem,) = verify_log(AuditReader(database)).problems
    assert "record 2: the database had come back older when this was written; a server knew records up to 3" in problem


async def test_after_a_database_came_back_older_all_processes_have_the_same_keys(open_database: Open):
    processes = open_database(), open_database()
    trails = [AuditTrail(process) for process in processes]
    for trail in trails:
        await trail.write(a_record())
    (before,) = rows(processes[0], "SELECT head FROM audit_chain")
    await trails[0].write(a_record())
    await trails[1].write(a_record())
    keys = [await secret_key(process, "key") for process in processes]
    rows(processes[0], "DELETE FROM keys WHERE name = 'key'")
    rows(processes[0], "DELETE FROM audit WHERE seq > 2")
    rows(processes[0], "UPDATE audit_chain SET head = :head", head=before["head"])
    for trail in trails:
        await trail.write(a_record())
    keys += [await secret_key(process, "key") for process in processes]
    assert keys[0] == keys[1] != keys[2] == keys[3]


async def test_an_empty_database_in_place_of_the_known_one_is_noticed(database: Database, trail: AuditTrail):
    await trail.write(a_record("a"))
    for table in ("audit", "audit_chain", "keys"):
        rows(database, f"DELETE FROM {table}")
    await trail.check()
    assert [line["event"] for line in lines(database)] == ["restored"]


async def test_a_removed_record_is_not_taken_for_an_older_database(database: Database):
    one, other = AuditTrail(database), AuditTrail(database)
    await one.write(a_record("a"))
    await other.write(a_record("b"))
    rows(database, "DELETE FROM audit")
    await one.write(a_record("c"))
    await other.write(a_record("d"))
    assert verify_log(AuditReader(database)).problems == ["record 3: before it records 1 to 2 are missing."]
