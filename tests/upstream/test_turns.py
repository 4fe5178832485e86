"""The rate that replicas keep together, and what each does while their store is away."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from functools import partial
from typing import Any

import anyio
import httpx
import pytest

from connector_mcp.errors import StoreUnavailable
from connector_mcp.operations.platform import Request
from connector_mcp.state.redis import RedisConnection, RedisRateLimit
from connector_mcp.upstream.limits import Limits
from connector_mcp.upstream.shared_rate_limit import PAUSE, SharedPace, SharedTurns
from tests.redis_server import RedisServer

pytestmark = pytest.mark.anyio
READ = Request(method="GET", path="/x", changes=False)
# Six at once, and the next one only hours later.
SLOW = Limits(requests_per_second=0.0001, burst_seconds=60_000)


class Told:
    """Turns that are as far away as they are told; none is no store."""

    def __init__(self, *waits: float | None) -> None:
        self.waits = list(waits)
        self.asked = 0

    async def take(self, key: str, *, interval: float, burst: float, longest: float = 0.0) -> float:
        self.asked += 1
        wait = self.waits.pop(0)
        if wait is None:
            raise StoreUnavailable("The Redis store at nowhere cannot be reached.", fix="Start it.")
        return wait


class Waits(Exception):
    """A request has to wait for its turn."""


async def waits(_: float) -> None:
    raise Waits


@pytest.fixture
async def connection(redis: RedisServer) -> AsyncIterator[RedisConnection]:
    made = RedisConnection(redis.url)
    yield made
    await made.aclose()


async def test_two_clients_of_one_account_send_no_more_than_one_might(
    rig: Callable[..., Any], connection: RedisConnection
) -> None:
    def client(key: str) -> Any:
        pace = partial(SharedPace, SharedTurns(RedisRateLimit(connection), "requests"), key, sleep=waits)
        return rig("vectorize", *[httpx.Response(200, json={})] * 7, limits=replace(SLOW, make_pace=pace))

    one, two, other = client("vectorize:production"), client("vectorize:production"), client("vectorize:staging")
    for replica in (one, two, one, two, one, two):
        await replica.client.send(READ)
    for replica in (one, two):
        with pytest.raises(Waits):
            await replica.client.send(READ)
    await other.client.send(READ)

    assert [len(replica.sent) for replica in (one, two, other)] == [3, 3, 1]


async def test_a_reserved_turn_is_waited_for_and_a_distant_one_asked_for_again() -> None:
    naps: list[float] = []

    async def sleep(seconds: float) -> None:
        naps.append(seconds)

    turns = Told(0, 0.25, 90.0, 0.5)
    pace = SharedPace(SharedTurns(turns, "requests"), "k", 10, 1, sleep=sleep)
    for _ in range(3):
        await pace.acquire()

    assert (naps, turns.asked) == ([0.25, 1.0, 0.5], 4)


async def test_while_the_store_is_away_a_client_keeps_the_rate_by_itself(
    rig: Callable[..., Any],
) -> None:
    away = SharedTurns(RedisRateLimit(RedisConnection("unix:///nowhere/socket")), "requests")
    limits = replace(SLOW, make_pace=partial(SharedPace, away, "k"))
    r = rig("vectorize", *[httpx.Response(200, json={})] * 7, limits=limits)
    async with anyio.create_task_group() as group:
        for _ in range(8):
            group.start_soon(r.client.send, READ)
        await anyio.wait_all_tasks_blocked()
        assert len(r.sent) == 6
        group.cancel_scope.cancel()


async def test_an_outage_is_logged_once_and_the_store_asked_again_after_a_pause(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = 0.0
    store = Told(None, None, 0, 0)
    turns = SharedTurns(store, "HTTP requests", clock=lambda: now)
    take = partial(turns.take, "k", interval=1, burst=1)

    with caplog.at_level(logging.WARNING):
        assert [await take() for _ in range(3)] == [None] * 3
        assert store.asked == 1, "the others do not wait for it"
        now += PAUSE
        assert [await take() for _ in range(2)] == [None] * 2
        assert store.asked == 2
        now += PAUSE
        assert [await take() for _ in range(2)] == [0, 0]
    assert [record.message for record in caplog.records] == [
        "HTTP requests are counted by this process alone: The Redis store at nowhere cannot be reached.",
        "HTTP requests are counted by all replicas together again",
    ]
