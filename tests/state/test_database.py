"""What a database of records guarantees, in SQLite and in PostgreSQL."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
import pytest

from connector_mcp.errors import StoreUnavailable, StoreUncertain
from connector_mcp.state.database import PAUSE_SECONDS, STEP_SECONDS, Database, Step, Transaction, one_allowance
from connector_mcp.state.schema import VERSION
from connector_mcp.state.sqlite import SqliteDatabase
from tests.passing_time import let_pass
from tests.records import Clock
from tests.state.conftest import Open

pytestmark = pytest.mark.anyio

INSERT_ONCE = "INSERT INTO keys (name, value) VALUES (:name, :value) ON CONFLICT (name) DO NOTHING RETURNING name"
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


async def test_work_that_fails_changes_nothing_and_is_never_seen_elsewhere(open_database: Open):
    one, other = open_database(), open_database()
    await one.write(insert("one"))

    def fail(tx: Transaction) -> None:
        insert("two")(tx)
        assert (names(tx), other.read_now(names)) == (["one", "two"], ["one"])
        raise LookupError

    def collide(tx: Transaction, *, ask: bool) -> None:
        insert("two")(tx)
        found = tx.execute(f"{INSERT} RETURNING name", {"name": "one", "value": ""})
        if ask:
            found.first()

    for work in (fail, partial(collide, ask=True), partial(collide, ask=False)):
        expected = LookupError if work is fail else StoreUnavailable
        with pytest.raises(expected) as caught:
            await one.write(work)
        assert type(caught.value) is expected, "nothing is uncertain"
    await one.write(insert("three"))
    assert await other.read(names) == ["one", "three"]


async def test_many_processes_make_one_database_and_each_record_is_taken_once(open_database: Open):
    """Every process is a connection of its own; the first step of each makes the tables if there are none."""
    processes = [open_database() for _ in range(4)]
    taken: list[Any] = []

    async def take(database: Database) -> None:
        await database.write(lambda tx: tx.execute(INSERT_ONCE, {"name": "prize", "value": "gold"}))
        taken.append(await database.write(lambda tx: tx.execute(INSERT_ONCE, {"name": "once", "value": ""}).first()))
        taken.append(await database.write(lambda tx: tx.execute(DELETE, {"name": "prize"}).first()))

    async with anyio.create_task_group() as group:
        for number in range(20):
            group.start_soon(take, processes[number % 4])
    assert taken.count({"name": "once"}) == 1
    assert {"value": "gold"} in taken


async def test_a_step_goes_on_although_its_call_is_cancelled(database: Database):
    await database.read(names)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await database.write(insert("one"))
    assert await database.read(names) == ["one"]


async def test_the_time_is_that_of_the_database(database: Database, clock: Clock):
    """Also where it is set back and forward."""
    for now in (5_000.0, 10.0, 9e9):
        clock.now, before = now, time.time()
        row = await database.read(lambda tx: tx.execute("SELECT epoch() AS now").first())
        assert row is not None
        is_sqlite = isinstance(database, SqliteDatabase)
        assert row["now"] == now if is_sqlite else before - 1 < row["now"] < time.time() + 1


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


async def test_a_waiter_is_woken_by_a_commit_of_any_process(open_database: Open):
    one, other = open_database(), open_database()

    async def wait(name: str) -> None:
        with anyio.fail_after(60):
            seen = one.changes
            while name not in await one.read(names):
                await one.changed(10, seen)
                seen = one.changes

    def notify(tx: Transaction, name: str) -> None:
        tx.notify()
        insert(name)(tx)

    for name, notifier in (("one", one), ("other", other)):
        async with anyio.create_task_group() as group:
            group.start_soon(wait, name)
            await anyio.wait_all_tasks_blocked()
            await notifier.write(partial(notify, name=name))
    with anyio.fail_after(60):
        await other.changed(0.05)


async def test_after_a_silence_steps_fail_at_once_and_then_one_tries_again(open_database: Open, clock: Clock):
    database, loop = open_database(), asyncio.get_running_loop()
    await database.read(names)
    vars(database)["_clock"] = clock
    failed: list[str] = []
    database.on_failure = failed.append
    go_on, ended = threading.Event(), threading.Event()

    def hang(tx: Transaction) -> None:
        try:
            insert("late")(tx)
            names(tx)
            loop.call_soon_threadsafe(let_pass, STEP_SECONDS)
            go_on.wait(60)
        finally:
            ended.set()

    with pytest.raises(StoreUnavailable, match="did not answer in time") as caught:
        await database.write(hang)
    assert not isinstance(caught.value, StoreUncertain)
    with pytest.raises(StoreUnavailable, match="a moment ago"):
        await database.read(names)
    # What was told as not done must not be done later.
    go_on.set()
    await anyio.to_thread.run_sync(ended.wait)
    clock.now += PAUSE_SECONDS
    assert await database.read(names) == []
    assert await database.read(names) == []
    assert failed == ["write", "read"]
    await database.aclose()
    assert await open_database().read(names) == []


async def test_all_steps_of_a_call_share_one_time_limit(database: Database, clock: Clock):
    await database.read(names)
    vars(database)["_clock"] = clock
    go_on = threading.Event()

    def take_nearly_all(tx: Transaction) -> None:
        clock.now += STEP_SECONDS - 0.01

    with one_allowance():
        await database.write(take_nearly_all)
        with pytest.raises(StoreUnavailable):
            await database.write(lambda tx: go_on.wait(10) or None)
    go_on.set()


async def test_a_time_limit_that_ends_too_late_disturbs_no_other_step(database: Database):
    """Another step may have the connection before the event loop learns that the first one is over."""
    late = Step(names, writes=False, until=time.monotonic() + 10)
    database.run(late)

    def work(tx: Transaction) -> list[str]:
        late.abandon()
        return names(tx)

    assert await database.read(work) == []
