"""The same write is not on its way twice, and one whose answer may be lost is remembered."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from connector_mcp.audit.trail import AuditTrail
from connector_mcp.engine.ledger import UNKNOWN, Claim, Execution, Ledger
from connector_mcp.errors import ConfirmationInvalid, InProgress, StoreUnavailable
from connector_mcp.state.sqlite import SqliteDatabase
from tests.engine.conftest import Clock, a_record
from tests.records import rows

pytestmark = pytest.mark.anyio

LONGEST = 120.0


@pytest.fixture
def ledger(database: SqliteDatabase) -> Ledger:
    return Ledger(database, AuditTrail(database), longest=LONGEST)


async def begin(ledger: Ledger, digest: str = "d1", *, call: str = "c1", effect: str = "update") -> Execution:
    found = await ledger.begin(a_record(digest, call, effect), Claim(), creates=effect == "create")
    assert isinstance(found, Execution)
    return found


@pytest.fixture
def end(ledger: Ledger, database: SqliteDatabase):
    async def run(execution: Execution, outcome: str | None = "ok") -> None:
        await database.write(ledger.end(execution, outcome))

    return run


async def refuse(ledger: Ledger, digest: str = "d1") -> None:
    with pytest.raises(InProgress, match="The same tool call"):
        await begin(ledger, digest)
    with pytest.raises(InProgress):
        await ledger.look(digest, "tool")


async def test_the_same_write_is_refused_while_it_is_on_its_way_and_another_is_not(ledger: Ledger, end) -> None:
    await ledger.look("d1", "tool")
    first = await begin(ledger)
    await refuse(ledger)
    await refuse(ledger)
    assert (await begin(ledger, "d2")).warnings == ()
    await end(first)
    await ledger.look("d1", "tool")
    assert (await begin(ledger)).warnings == ()


@pytest.mark.parametrize(
    ("effect", "outcome", "warns"),
    [
        ("create", "ok", "The same call succeeded 30 s ago"),
        ("create", "rejected", ""),
        ("create", UNKNOWN, "The outcome of the same call 30 s ago is unknown"),
        ("update", "ok", ""),
        ("update", UNKNOWN, "The outcome of the same call 30 s ago is unknown"),
        ("destroy", "ok", ""),
        ("create", None, ""),
    ],
)
async def test_a_repeat_is_warned_of_what_may_have_happened_already(
    ledger: Ledger, clock: Clock, end, effect: str, outcome: str | None, warns: str
) -> None:
    await end(await begin(ledger, effect=effect), outcome)
    clock.now += 30
    again = await begin(ledger, effect=effect)
    assert [warns in warning for warning in again.warnings] == [True] * bool(warns)
    await refuse(ledger)
    await end(again, "rejected")
    assert (await begin(ledger, effect=effect)).warnings == ()


async def test_what_ended_is_forgotten_in_time(ledger: Ledger, database: SqliteDatabase, clock: Clock, end) -> None:
    await end(await begin(ledger), UNKNOWN)
    clock.now += 601
    assert (await begin(ledger)).warnings == ()
    await begin(ledger, "d2")
    clock.now += 601 + LONGEST
    await begin(ledger, "d3")
    assert [row["digest"] for row in rows(database, "SELECT digest FROM executions")] == ["d3"]


async def test_of_many_repeats_after_an_unknown_outcome_one_runs(ledger: Ledger, end) -> None:
    await end(await begin(ledger), UNKNOWN)
    ran: list[Execution] = []
    refused: list[InProgress] = []

    async def repeat(number: int) -> None:
        try:
            ran.append(await begin(ledger, call=f"c{number}"))
        except InProgress as error:
            refused.append(error)

    async with anyio.create_task_group() as tasks:
        for number in range(20):
            tasks.start_soon(repeat, number)
    assert (len(ran), len(refused)) == (1, 19)


async def test_the_execution_of_a_dead_process_blocks_the_write_for_a_time_and_is_then_unknown(
    ledger: Ledger, clock: Clock, end
) -> None:
    dead = await begin(ledger)
    clock.now += LONGEST - 1
    await refuse(ledger)
    clock.now += 2
    second = await begin(ledger, call="c2")
    assert "121 s ago is unknown" in second.warnings[0]
    # The first one lives after all: neither of its ends may change the second.
    await end(dead, "ok")
    await end(dead, None)
    await refuse(ledger)


async def test_what_was_not_sent_leaves_the_earlier_execution_as_it_was(ledger: Ledger, clock: Clock, end) -> None:
    await end(await begin(ledger), UNKNOWN)
    clock.now += 10
    again = await begin(ledger, call="c2")
    for _ in range(2):
        await end(again, None)
    clock.now += 10
    assert "20 s ago is unknown" in (await begin(ledger, call="c3")).warnings[0]


async def test_an_end_that_could_not_be_saved_is_saved_when_the_call_comes_again(ledger: Ledger) -> None:
    ledger.owe(await begin(ledger), UNKNOWN)
    await ledger.look("d1", "tool")
    assert "is unknown" in (await begin(ledger, call="c2")).warnings[0]
    await refuse(ledger)


async def test_a_question_is_taken_once_and_given_back_if_nothing_was_sent(
    ledger: Ledger, database: SqliteDatabase, end
) -> None:
    database.write_now(lambda tx: tx.execute("INSERT INTO questions VALUES ('t', '{}', 900, 2000)"))
    before = rows(database, "SELECT * FROM questions")
    begun = await ledger.begin(a_record(), Claim(ticket="t"))
    assert isinstance(begun, Execution)
    assert rows(database, "SELECT * FROM questions") == []
    with pytest.raises(ConfirmationInvalid):
        await ledger.begin(a_record("d2"), Claim(ticket="t"))
    await end(begun, None)
    assert rows(database, "SELECT * FROM questions") == before
    await end(begun, None)
    assert len(rows(database, "SELECT * FROM questions")) == 1


async def test_a_call_in_progress_takes_no_question(ledger: Ledger, database: SqliteDatabase) -> None:
    database.write_now(lambda tx: tx.execute("INSERT INTO questions VALUES ('t', '{}', 900, 2000)"))
    await begin(ledger)
    with pytest.raises(InProgress):
        await ledger.begin(a_record(call_id="c2"), Claim(ticket="t"))
    assert len(rows(database, "SELECT * FROM questions")) == 1


async def test_the_beginning_and_its_record_are_one(ledger: Ledger, database: SqliteDatabase) -> None:
    await begin(ledger)
    with pytest.raises(InProgress):
        await begin(ledger, call="c2")
    assert [row["call_id"] for row in rows(database, "SELECT call_id FROM audit")] == ["c1"]


async def test_without_a_database_nothing_begins(tmp_path: Path) -> None:
    (tmp_path / "records.db").mkdir()
    database = SqliteDatabase(tmp_path / "records.db")
    with pytest.raises(StoreUnavailable):
        await begin(Ledger(database, AuditTrail(database), longest=LONGEST))
