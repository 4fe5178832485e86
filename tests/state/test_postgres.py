"""What only PostgreSQL has: answers that are lost, a server that hangs or restarts, and a password."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from typing import Any
from unittest.mock import Mock

import anyio
import anyio.to_thread
import pytest

from connector_mcp.errors import StoreUnavailable, StoreUncertain
from connector_mcp.state import database as database_module
from connector_mcp.state.database import STEP_SECONDS, Database, Transaction
from connector_mcp.state.postgres import PostgresDatabase, SharedRates
from tests.passing_time import let_pass
from tests.postgres_proxy import PostgresProxy, cut, postgres_proxy, silence
from tests.postgres_server import PASSWORD, UNSAFE, PostgresFixture, postgres_server
from tests.state.test_database import INSERT_ONCE, insert, names

pytestmark = pytest.mark.anyio


def take_one_of_two(tx: Transaction) -> bool:
    """Ask once; what comes after it travels with the commit."""
    won = tx.execute(INSERT_ONCE, {"name": "one", "value": ""}).first() is not None
    insert("two")(tx)
    return won


@pytest.fixture
async def database(postgres: PostgresFixture) -> AsyncIterator[Database]:
    made = PostgresDatabase(postgres.url)
    await made.read(names)
    yield made
    await made.aclose()


@pytest.fixture
async def proxy(postgres: PostgresFixture) -> AsyncIterator[PostgresProxy]:
    async with postgres_proxy(postgres.server.folder) as proxy:
        yield proxy


@pytest.fixture
async def behind(proxy: PostgresProxy, postgres: PostgresFixture) -> AsyncIterator[Database]:
    """A database behind the proxy, with a connection that has been used."""
    database = PostgresDatabase(proxy.url(postgres.name))
    await database.read(names)
    proxy.reset()
    yield database
    await database.aclose()


async def test_a_transaction_takes_one_round_trip_or_two_if_it_asks(behind: Database, proxy: PostgresProxy):
    await behind.write(insert("zero"))
    assert len(proxy.requests) == 1
    proxy.reset()
    await behind.write(take_one_of_two)
    assert [[sql.split()[0] for sql in request.sql] for request in proxy.requests] == [
        ["BEGIN", "INSERT"],
        ["INSERT", "COMMIT"],
    ]


async def outlast(_: object = None) -> None:
    """Hold what comes until the time of a step is over, and longer."""
    let_pass(STEP_SECONDS)
    await silence()


@pytest.mark.parametrize("handler", [cut, outlast])
@pytest.mark.parametrize(("trip", "place"), [(1, "request"), (1, "answer"), (2, "request"), (2, "answer")])
async def test_only_a_lost_answer_to_the_commit_is_uncertain(
    behind: Database, proxy: PostgresProxy, postgres: PostgresFixture, handler: Any, trip: int, place: str
):
    proxy.fail(trip, **{place: handler})
    with pytest.raises(StoreUnavailable, match=postgres.name) as caught:
        await behind.write(take_one_of_two)
    # The commit travels with the second request.
    assert isinstance(caught.value, StoreUncertain) is (trip == 2)
    found = ["one", "two"] if (trip, place) == (2, "answer") else []
    assert [row["name"] for row in postgres.execute("SELECT name FROM connector_mcp.keys ORDER BY 1")] == found


async def test_a_transaction_that_is_left_open_keeps_its_locks_for_some_seconds_only(
    behind: Database, database: Database, proxy: PostgresProxy, postgres: PostgresFixture
):
    """As when the machine of a replica loses its power: the server never hears that the connection has ended."""
    proxy.fail(1, answer=outlast)
    with pytest.raises(StoreUnavailable):
        await behind.write(take_one_of_two)
    assert postgres.execute("SELECT pid FROM pg_stat_activity WHERE state = 'idle in transaction'")
    won = False
    with anyio.fail_after(60):
        while not won:
            with suppress(StoreUnavailable):
                won = await database.write(take_one_of_two)


async def test_connections_that_ended_while_idle_are_replaced_and_waiters_woken(
    database: Database, postgres: PostgresFixture
):
    for number in range(3):
        # A commit that is sent on a connection that had ended would be uncertain.
        await database.write(insert(f"{number}"))
        async with anyio.create_task_group() as group:
            # It may have missed a notification.
            group.start_soon(database.changed, 600)
            await anyio.wait_all_tasks_blocked()
            postgres.server.end_sessions(postgres.name)
    assert await database.read(names) == ["0", "1", "2"]


async def test_a_server_that_hangs_ends_steps_and_commands_in_time(monkeypatch: pytest.MonkeyPatch):
    with postgres_server() as server:
        async with aclosing(PostgresDatabase(server.url())) as database:
            await database.read(names)
            monkeypatch.setattr(database_module, "STEP_SECONDS", 0.3)
            monkeypatch.setattr(database_module, "COMMAND_SECONDS", 0.3)
            server.freeze()
            started = time.monotonic()
            with pytest.raises(StoreUnavailable):
                await anyio.to_thread.run_sync(database.read_now, names)
            with pytest.raises(StoreUnavailable):
                await database.write(insert("one"))
            assert time.monotonic() - started < 60
            server.thaw()
            monkeypatch.undo()
            vars(database)["_silent_until"] = None
            await database.write(insert("two"))
            assert "two" in await database.read(names)


async def test_a_full_or_read_only_server_or_a_lock_refuses_for_certain(
    postgres: PostgresFixture,
):
    async def refuse(name: str, match: str) -> None:
        with pytest.raises(StoreUnavailable, match=match) as caught:
            await database.write(insert(name))
        assert not isinstance(caught.value, StoreUncertain)
        assert caught.value.retryable

    async with aclosing(PostgresDatabase(f"{postgres.url}&options=-c%20lock_timeout%3D150")) as database:
        await database.write(insert("kept"))
        with postgres.server.connect(postgres.name) as holder:
            holder.execute("LOCK connector_mcp.keys")
            await refuse("locked", "lock timeout")
        postgres.execute(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
            "$$BEGIN RAISE 'could not extend file: No space left on device' USING ERRCODE = '53100'; END$$;"
            "CREATE CONSTRAINT TRIGGER full_disk AFTER INSERT ON connector_mcp.keys DEFERRABLE INITIALLY DEFERRED "
            "FOR EACH ROW EXECUTE FUNCTION refuse()"
        )
        # The trigger fires within the commit.
        await refuse("full", "No space left")
        postgres.execute(f"ALTER DATABASE {postgres.name} SET default_transaction_read_only = on")
        await database.aclose()
        await refuse("read-only", "read-only")
        assert await database.read(names) == ["kept"]


async def test_a_process_that_may_open_no_more_files_is_refused(
    postgres: PostgresFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(os, "dup", Mock(side_effect=OSError(24, "Too many open files")))
    with pytest.raises(StoreUnavailable, match="Too many open files"):
        await PostgresDatabase(postgres.url).read(names)


async def test_a_password_is_used_and_never_shown(free_port: int):
    with postgres_server("listen_addresses=127.0.0.1", *UNSAFE, port=free_port) as server:
        async with aclosing(PostgresDatabase(server.tcp_url(password=":wrong"), password=PASSWORD)) as database:
            await database.write(insert("one"))
        refused = PostgresDatabase(server.tcp_url(password=f":not{PASSWORD}"))
        with pytest.raises(StoreUnavailable, match="authentication failed") as caught:
            await refused.read(names)
        assert PASSWORD not in repr([refused, vars(caught.value), caught.value.as_dict()])


async def test_a_request_that_was_not_counted_never_looks_as_if_it_was(database: Database, postgres: PostgresFixture):
    rates = SharedRates(database)
    assert await rates.take("k", interval=60.0, burst=1) == 0
    # By the time of the second look the request would be due within `longest`, but it is not reserved.
    postgres.execute(
        "CREATE FUNCTION connector_mcp.refuse() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NULL; END$$;"
        "CREATE TRIGGER refuse BEFORE UPDATE ON connector_mcp.rates "
        "FOR EACH ROW EXECUTE FUNCTION connector_mcp.refuse()"
    )
    assert await rates.take("k", interval=60.0, burst=1, longest=90.0) > 90.0


async def test_a_database_without_an_encoding_returns_text(postgres: PostgresFixture):
    postgres.server.execute(f"CREATE DATABASE {postgres.name}_ascii TEMPLATE template0 ENCODING 'SQL_ASCII'")
    async with aclosing(PostgresDatabase(postgres.server.url(f"{postgres.name}_ascii"))) as database:
        await database.write(insert("déjà"))
        assert await database.read(names) == ["déjà"]
