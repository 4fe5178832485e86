"""What every store guarantees, in SQLite and in Redis."""

from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from connector_mcp.errors import StoreUnavailable
from connector_mcp.state.redis import RedisConnection, RedisStore
from connector_mcp.state.sqlite_store import SqliteStore
from connector_mcp.state.store import KEY_BYTES, KEYS, Store, secret_key
from tests.redis_server import RedisServer
from tests.state.conftest import Clock

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["sqlite", "redis"])
async def stores(request: pytest.FixtureRequest, clock: Clock, tmp_path: Path) -> AsyncIterator[tuple[Store, Store]]:
    """Two stores on the same state, like those of two processes."""
    if request.param == "sqlite":
        both = [SqliteStore(tmp_path / "state.db", clock=clock) for _ in range(2)]
    else:
        server: RedisServer = request.getfixturevalue("redis")
        both = [RedisStore(RedisConnection(server.url), clock=clock) for _ in range(2)]
    yield both[0], both[1]
    for store in both:
        await store.aclose()


@pytest.fixture
def store(stores: tuple[Store, Store]) -> Store:
    return stores[0]


async def test_a_value_is_put_once_and_read_back_as_it_was(store: Store):
    value = {"text": "déjà \ud800 \u2028", "list": [1, 2.5, None, True], "nested": {"b": 1, "a": 2}}
    assert await store.put_once("things", "one", value) is True
    assert await store.put_once("things", "one", {"other": 1}) is False
    assert await store.get("things", "one") == value


async def test_collections_do_not_see_each_other(store: Store):
    await store.put_once("left", "key", {"side": "left"})
    assert await store.get("right", "key") is None
    assert await store.put_once("right", "key", {"side": "right"}) is True
    assert await store.take_once("left", "key") == {"side": "left"}
    assert await store.get("right", "key") == {"side": "right"}


async def test_a_value_is_replaced_only_where_it_is_what_was_expected(store: Store):
    await store.put_once("things", "one", {"a": 1, "b": 2})
    assert await store.replace("things", "one", {"a": 9}, expected={"a": 2}) is False
    assert await store.get("things", "one") == {"a": 1, "b": 2}
    assert await store.replace("things", "one", {"a": 9}, expected={"b": 2, "a": 1}) is True
    assert await store.get("things", "one") == {"a": 9}
    assert await store.replace("things", "two", {"a": 9}, expected={}) is False


async def test_a_value_is_taken_once(store: Store):
    await store.put_once("things", "one", {"a": 1})
    assert await store.take_once("things", "one") == {"a": 1}
    assert await store.take_once("things", "one") is None
    assert await store.get("things", "one") is None


async def test_of_fifty_takers_in_one_process_one_gets_the_value(store: Store):
    await store.put_once("things", "one", {"a": 1})
    taken: list[object] = []

    async def take() -> None:
        taken.append(await store.take_once("things", "one"))

    async with anyio.create_task_group() as group:
        for _ in range(50):
            group.start_soon(take)
    assert sorted(taken, key=str) == [None] * 49 + [{"a": 1}]


async def test_entries_come_in_the_order_they_were_put(store: Store):
    for key in ("c", "a", "b"):
        await store.put_once("things", key, {"is": key})
    await store.replace("things", "c", {"is": "changed"}, expected={"is": "c"})
    await store.remove("things", "a")
    await store.remove("things", "never there")
    assert await store.entries("things") == [("c", {"is": "changed"}), ("b", {"is": "b"})]


async def test_an_expired_entry_does_not_exist(store: Store, clock: Clock):
    for key in ("get", "replace", "take", "put"):
        await store.put_once("things", key, {"a": 1}, expires_at=1_010.0)
    clock.now = 1_009.9
    assert len(await store.entries("things")) == 4
    clock.now = 1_010.0
    assert await store.entries("things") == []
    assert await store.get("things", "get") is None
    assert await store.replace("things", "replace", {"a": 2}, expected={"a": 1}) is False
    assert await store.take_once("things", "take") is None
    assert await store.put_once("things", "put", {"a": 3}) is True


async def test_an_entry_put_again_after_its_expiry_is_the_youngest(store: Store, clock: Clock):
    await store.put_once("things", "first", {}, expires_at=1_010.0)
    await store.put_once("things", "second", {})
    clock.now = 1_020.0
    await store.put_once("things", "first", {})
    assert [key for key, _ in await store.entries("things")] == ["second", "first"]


async def test_replacing_with_an_expiry_in_the_past_removes_the_entry(store: Store):
    await store.put_once("things", "one", {"a": 1})
    assert await store.replace("things", "one", {"a": 2}, expected={"a": 1}, expires_at=0.0) is True
    assert await store.get("things", "one") is None
    assert await store.put_once("things", "one", {"a": 3}) is True


async def test_concurrent_makers_of_a_secret_key_get_the_same(store: Store):
    keys: list[bytes] = []

    async def make() -> None:
        keys.append(await secret_key(store, "seal"))

    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(make)
    assert len(keys) == 20
    assert len(set(keys)) == 1


@pytest.mark.parametrize("kept", [{}, {"key": None}, {"key": "no hex"}, {"key": "00"}])
async def test_a_damaged_secret_key_is_never_used(store: Store, kept: dict[str, object]):
    await store.put_once(KEYS, "seal", kept)
    with pytest.raises(StoreUnavailable):
        await secret_key(store, "seal")


async def test_stores_on_the_same_state_share_values(stores: tuple[Store, Store]):
    one, other = stores
    assert await one.put_once("things", "one", {"a": 1}) is True
    assert await other.put_once("things", "one", {"a": 2}) is False
    assert await other.take_once("things", "one") == {"a": 1}
    assert await one.get("things", "one") is None


async def test_a_store_that_was_closed_opens_again(store: Store):
    await store.put_once("things", "one", {"a": 1})
    await store.aclose()
    assert await store.get("things", "one") == {"a": 1}


async def test_a_change_that_was_cancelled_leaves_a_store_that_works(store: Store):
    with anyio.CancelScope() as scope:
        scope.cancel()
        await store.put_once("things", "one", {"a": 1})
    assert await store.put_once("things", "two", {"a": 2}) is True


async def test_an_entry_without_its_expiry_never_expires(store: Store, clock: Clock):
    await store.put_once("things", "one", {"a": 1}, expires_at=1_010.0)
    await store.replace("things", "one", {"a": 2}, expected={"a": 1})
    clock.now = 1e9
    assert await store.get("things", "one") == {"a": 2}


async def test_stores_on_the_same_state_share_one_secret_key(stores: tuple[Store, Store]):
    one, other = stores
    seal = await secret_key(one, "seal")
    assert len(seal) == KEY_BYTES
    assert await secret_key(one, "seal") == seal
    assert await secret_key(other, "seal") == seal
    assert await secret_key(other, "hmac") != seal
