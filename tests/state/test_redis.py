"""What only Redis has: its clock, its failures, and a password that is never shown."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import AsyncIterator

import anyio
import pytest

from connector_mcp.errors import Misconfigured, StoreUnavailable
from connector_mcp.state import redis as redis_module
from connector_mcp.state.redis import RedisConnection, RedisJournal, RedisStore
from tests.redis_server import RedisServer, redis_server
from tests.state.conftest import Clock
from tests.state.test_sqlite import every_failure

pytestmark = pytest.mark.anyio

PASSWORD = "pass-word-that-is-never-shown"


@pytest.fixture
async def store(redis: RedisServer) -> AsyncIterator[RedisStore]:
    store = RedisStore(RedisConnection(redis.url))
    yield store
    await store.aclose()


async def test_expiry_is_judged_by_the_servers_clock(store: RedisStore):
    await store.put_once("things", "past", {}, expires_at=time.time() - 1)
    await store.put_once("things", "future", {}, expires_at=time.time() + 3_600)
    assert [key for key, _ in await store.entries("things")] == ["future"]


async def test_expired_entries_leave_the_server_with_the_next_put(redis: RedisServer, clock: Clock):
    store = RedisStore(RedisConnection(redis.url), clock=clock)
    await store.put_once("things", "old", {}, expires_at=1_010.0)
    clock.now = 1_020.0
    await store.put_once("things", "new", {})
    await store.aclose()
    with redis.client() as client:
        left = {key: len(client.zrange(key, 0, -1)) for key in client.keys("*") if client.type(key) == "zset"}
        assert left == {"{connector-mcp}:order:things": 1}
        assert client.hkeys("{connector-mcp}:values:things") == ["new"]


async def test_all_keys_have_the_same_hash_tag(store: RedisStore, redis: RedisServer):
    await store.put_once("things", "one", {}, expires_at=time.time() + 60)
    await RedisJournal(store.connection, "audit").append(["line"], head="1", expected="")
    with redis.client() as client:
        assert {key.partition(":")[0] for key in client.keys("*")} == {"{connector-mcp}"}


async def test_the_store_works_again_when_the_server_is_back():
    with redis_server() as server:
        store = RedisStore(RedisConnection(server.url))
        await store.put_once("things", "one", {"a": 1})
        async with anyio.create_task_group() as group:
            for _ in range(10):
                group.start_soon(store.get, "things", "one")
        server.kill()
        failures = await every_failure(store)
        assert all("CONNECTOR_MCP_STATE" in failure.fix and failure.retryable for failure in failures)
        server.start()
        assert await store.take_once("things", "one") == {"a": 1}
        await store.aclose()


async def test_a_server_that_never_answers_times_out(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(redis_module, "TIMEOUT", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        store = RedisStore(RedisConnection(f"redis://127.0.0.1:{silent.getsockname()[1]}"))
        with pytest.raises(StoreUnavailable, match="did not answer") as caught:
            await store.get("c", "k")
        await store.aclose()
    assert caught.value.retry_after is not None


async def test_a_refused_password_is_reported_but_not_shown():
    with redis_server("--requirepass", "another") as server:
        connection = RedisConnection(f"unix://:{PASSWORD}@{server.folder}/socket")
        store = RedisStore(connection)
        failures = await every_failure(store)
        assert all("credentials" in failure.message and not failure.retryable for failure in failures)
        assert PASSWORD not in repr([store, connection, *(failure.as_dict() for failure in failures)])
        await store.aclose()
        right = RedisStore(RedisConnection(server.url, password="another"))
        assert await right.put_once("c", "k", {}) is True
        await right.aclose()


@pytest.mark.parametrize("url", [f"redis://:{PASSWORD}@host:port", f"http://:{PASSWORD}@host", PASSWORD])
async def test_an_invalid_address_is_refused_but_not_shown(url: str):
    with pytest.raises(Misconfigured) as caught:
        RedisConnection(url)
    assert PASSWORD not in f"{caught.value.as_dict()}"


async def test_a_full_server_refuses_what_is_new_and_keeps_what_it_has():
    with redis_server() as server, server.client() as client:
        store = RedisStore(RedisConnection(server.url))
        await store.put_once("c", "kept", {"a": 1})
        client.config_set("maxmemory", "1")
        with pytest.raises(StoreUnavailable, match="full"):
            await store.put_once("c", "new", {})
        with pytest.raises(StoreUnavailable, match="full"):
            await RedisJournal(store.connection, "audit").append(["line"], head="1", expected="")
        with pytest.raises(StoreUnavailable, match="full"):
            await RedisJournal(store.connection, "audit").probe()
        assert await store.entries("c") == [("kept", {"a": 1})]
        assert await RedisJournal(store.connection, "audit").end() == ("", "")
        await store.aclose()


async def test_a_read_only_replica_is_named_as_such(redis: RedisServer):
    with redis_server("--replicaof", "127.0.0.1 1") as replica:
        store = RedisStore(RedisConnection(replica.url))
        with pytest.raises(StoreUnavailable, match="read-only") as caught:
            await store.put_once("c", "k", {})
        await store.aclose()
    assert "primary" in caught.value.fix


@pytest.mark.parametrize("text", ["[1]", '{"a": ', "null", ""])
async def test_an_entry_that_is_no_json_object_is_reported(store: RedisStore, redis: RedisServer, text: str):
    await store.put_once("c", "k", {})
    with redis.client() as client:
        client.hset("{connector-mcp}:values:c", "k", text)
    with pytest.raises(StoreUnavailable, match="another program wrote"):
        await store.get("c", "k")
    with pytest.raises(StoreUnavailable, match="another program wrote"):
        await store.take_once("c", "k")


async def test_a_key_with_another_type_is_reported(store: RedisStore, redis: RedisServer):
    with redis.client() as client:
        client.set("{connector-mcp}:values:c", "a string")
    with pytest.raises(StoreUnavailable, match="ResponseError"):
        await store.put_once("c", "k", {})


async def test_more_calls_than_connections_are_all_answered(store: RedisStore):
    won: list[bool] = []

    async def put() -> None:
        won.append(await store.put_once("c", "k", {}))

    async with anyio.create_task_group() as group:
        for _ in range(4 * redis_module.CONNECTIONS):
            group.start_soon(put)
    assert won.count(True) == 1
    assert len(won) == 4 * redis_module.CONNECTIONS


async def test_calls_that_are_cancelled_leave_no_connection_behind(store: RedisStore):
    for _ in range(3 * redis_module.CONNECTIONS):
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(store.get, "c", "k")
            await anyio.lowlevel.checkpoint()
            group.cancel_scope.cancel()
    assert await store.put_once("c", "k", {}) is True


async def test_lines_are_appended_only_where_the_head_is_as_expected(store: RedisStore):
    journal = RedisJournal(store.connection, "audit")
    assert await journal.append(["a", "b"], head="2", expected="") is None
    assert await journal.append(["c"], head="3", expected="1") == "2"
    assert await journal.append(["c"], head="3", expected="2") is None
    head, last = await journal.end()
    lines = await journal.page(10)
    assert (head, last) == ("3", lines[-1][0])
    assert [line for _, line in lines] == ["a", "b", "c"]
    assert await journal.page(1, after=lines[0][0], until=last) == [lines[1]]
    assert await journal.latest(2) == [lines[2], lines[1]]
    assert await journal.latest(2, before=lines[1][0]) == [lines[0]]


async def test_without_the_setting_redis_is_not_imported():
    script = "import sys; from connector_mcp.cli.commands import serve; sys.exit('redis' in sys.modules)"
    assert (await anyio.run_process([sys.executable, "-c", script], check=False)).returncode == 0
