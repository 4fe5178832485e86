"""What a database of records guarantees, in SQLite and in PostgreSQL."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import anyio
import anyio.to_thread
import pytest

from connector_mcp.errors import StoreUnavailable, StoreUncertain
from connector_mcp.state import database as database_module
from connector_mcp.state.database import PAUSE_SECONDS, Database, Transaction, one_allowance
from connector_mcp.state.schema import VERSION
from tests.documents import ROOT
from tests.records import Clock
from tests.state.conftest import Open
from tests.state.racer import INSERT_ONCE, RECORDS

pytestmark = pytest.mark.anyio

INSERT = "INSERT INTO keys (name, value) VALUES (:name, :value)"
DELETE = "DELETE FROM keys WHERE name = :name RETURNING value"


def insert(name: str, value: str = "") -> Callable[[Transaction], None]:
    def work(tx: Transaction) -> None:
        tx.execute(INSERT, {"name": name, "value": value})

    return work


def names(tx: Transaction) -> list[str]:
    return [row["name"] for row in tx.execute("SELECT name FROM keys ORDER BY name").all()]


async def test_values_come_back_as_they_were(database: Database):
    text = "déjà \u2028 100 % :name 'quoted'"

    def work(tx: Transaction) -> Any:
        tx.execute(INSERT, {"name": text, "value": json.dumps({"a": None})})
        tx.execute("INSERT INTO rates (name, due) VALUES (:name, :due)", {"name": text, "due": 0.1 + 2e9})
        return tx.execute("SELECT keys.value, due, seq FROM rates JOIN keys USING (name) LEFT JOIN audit ON 1=0").all()

    assert await database.write(work) == [{"value": '{"a": null}', "due": 0.1 + 2e9, "seq": None}]


async def test_work_that_fails_changes_nothing_and_the_database_goes_on(database: Database):
    def fail(tx: Transaction) -> None:
        tx.execute(INSERT, {"name": "one", "value": ""})
        assert names(tx) == ["one"]
        raise LookupError

    with pytest.raises(LookupError):
        await database.write(fail)
    await database.write(insert("two"))
    assert await database.read(names) == ["two"]


async def test_a_value_that_must_be_unique_is_refused_whether_asked_or_not(database: Database):
    def ask(tx: Transaction) -> None:
        insert("two")(tx)
        tx.execute(f"{INSERT} RETURNING name", {"name": "one", "value": ""}).first()

    await database.write(insert("one", "first"))
    for work in (insert("one", "second"), ask):
        with pytest.raises(StoreUnavailable) as caught:
            await database.write(work)
        assert not isinstance(caught.value, StoreUncertain)
    assert await database.read(names) == ["one"]


async def test_what_a_step_changes_is_seen_only_once_it_is_committed(open_database: Open):
    one, other = open_database(), open_database()
    await one.write(insert("before"))
    halfway, go_on = anyio.Event(), threading.Event()

    def work(tx: Transaction) -> list[str]:
        insert("during")(tx)
        seen = names(tx)
        anyio.from_thread.run_sync(halfway.set)
        go_on.wait(10)
        return seen

    async with anyio.create_task_group() as group:

        async def write() -> None:
            assert await one.write(work) == ["before", "during"]

        group.start_soon(write)
        await halfway.wait()
        assert await other.read(names) == ["before"]
        go_on.set()
    assert await other.read(names) == ["before", "during"]


async def test_of_many_takers_in_two_databases_one_gets_the_record(open_database: Open):
    one, other = open_database(), open_database()
    await one.write(insert("prize", "gold"))
    taken: list[Any] = []

    async def take(database: Database) -> None:
        taken.append(await database.write(lambda tx: tx.execute(DELETE, {"name": "prize"}).first()))

    async with anyio.create_task_group() as group:
        for number in range(20):
            group.start_soon(take, (one, other)[number % 2])
    assert taken.count(None) == 19
    assert {"value": "gold"} in taken


def test_processes_that_race_to_make_a_database_and_a_record_have_one_winner(address: str):
    racer = [sys.executable, "-m", "tests.state.racer", address]
    racers = [
        subprocess.Popen(racer, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    for each in racers:
        assert each.stdout is not None
        assert each.stdout.readline() == "ready\n"
    results: list[list[str]] = []
    for each in racers:
        assert each.stdin is not None
        each.stdin.write("go\n")
        each.stdin.flush()
    for each in racers:
        results.append(json.loads(each.communicate()[0]))
        assert each.returncode == 0
    won = [name for result in results for name in result]
    assert sorted(won) == sorted(RECORDS)


async def test_a_database_that_was_closed_opens_again(database: Database):
    await database.write(insert("one"))
    await database.aclose()
    assert await database.read(names) == ["one"]


async def test_a_step_goes_on_although_its_call_is_cancelled(database: Database):
    await database.read(names)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await database.write(insert("one"))
    assert await database.read(names) == ["one"]


async def test_the_time_is_that_of_the_database(database: Database):
    before = time.time()
    row = await database.read(lambda tx: tx.execute("SELECT epoch() AS now").first())
    assert row is not None
    assert before - 1 < row["now"] < time.time() + 1


async def test_a_database_of_a_newer_version_is_left_as_it_is(open_database: Open):
    def newer(tx: Transaction) -> None:
        statement = f"PRAGMA user_version = {VERSION + 1}" if is_sqlite else "UPDATE schema_version SET version = 99"
        tx.execute(statement)

    databases = [open_database() for _ in range(3)]
    is_sqlite = "records.db" in databases[0].address
    await databases[0].write(newer)
    for step in (databases[1].read(names), databases[2].write(insert("one"))):
        with pytest.raises(StoreUnavailable, match="newer connector-mcp") as caught:
            await step
        assert not caught.value.retryable


async def test_a_waiter_is_woken_by_a_commit_of_any_process_and_not_by_a_rollback(open_database: Open):
    one, other = open_database(), open_database()

    def notify(tx: Transaction) -> None:
        tx.notify()
        tx.execute(INSERT_ONCE, {"name": "one", "value": ""})

    for notifier in (one, other):
        async with anyio.create_task_group() as group:
            woken = anyio.Event()

            async def wait(woken: anyio.Event = woken) -> None:
                with anyio.fail_after(20):
                    seen = one.changes
                    while await one.read(names) != ["one"]:
                        await one.changed(10, seen)
                        seen = one.changes
                woken.set()

            group.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            await notifier.write(notify)
            await woken.wait()
        await one.write(lambda tx: tx.execute(DELETE, {"name": "one"}).first())
    started = time.monotonic()
    await other.changed(0.05)
    assert time.monotonic() - started < 5


async def test_after_a_silence_steps_fail_at_once_and_then_one_tries_again(
    open_database: Open, clock: Clock, monkeypatch: pytest.MonkeyPatch
):
    database = open_database()
    await database.read(names)
    vars(database)["_clock"] = clock
    failed: list[str] = []
    database.on_failure = failed.append
    go_on = threading.Event()

    def hang(tx: Transaction) -> None:
        insert("late")(tx)
        names(tx)
        go_on.wait(10)

    monkeypatch.setattr(database_module, "STEP_SECONDS", 0.05)
    with pytest.raises(StoreUnavailable, match="did not answer in time") as caught:
        await database.write(hang)
    monkeypatch.undo()
    assert not isinstance(caught.value, StoreUncertain)
    with pytest.raises(StoreUnavailable, match="a moment ago"):
        await database.read(names)
    # What was told as not done must not be done later.
    go_on.set()
    clock.now += PAUSE_SECONDS
    assert await database.read(names) == []
    assert await database.read(names) == []
    assert failed == ["write", "read"]


async def test_all_steps_of_a_call_share_one_time_limit(database: Database, monkeypatch: pytest.MonkeyPatch):
    await database.read(names)
    go_on = threading.Event()
    monkeypatch.setattr(database_module, "STEP_SECONDS", 0.4)
    with one_allowance():
        await database.write(lambda tx: go_on.wait(0.3) or None)
        started = time.monotonic()
        with pytest.raises(StoreUnavailable):
            await database.write(lambda tx: go_on.wait(10) or None)
        assert time.monotonic() - started < 1
    go_on.set()


async def test_a_step_that_was_given_up_before_its_commit_never_commits(
    open_database: Open, monkeypatch: pytest.MonkeyPatch
):
    database, other = open_database(), open_database()
    await database.read(names)
    halfway, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    def work(tx: Transaction) -> None:
        try:
            insert("late")(tx)
            halfway.set()
            go_on.wait(10)
        finally:
            ended.set()

    monkeypatch.setattr(database_module, "STEP_SECONDS", 0.2)
    with pytest.raises(StoreUnavailable) as caught:
        await database.write(work)
    assert not isinstance(caught.value, StoreUncertain)
    go_on.set()
    await anyio.to_thread.run_sync(ended.wait)
    await database.aclose()
    assert await other.read(names) == []
