"""The rate limit that replicas share, and what each does while their store is unreachable."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from functools import partial
from typing import Any

import anyio
import httpx
import pytest

from connector_mcp.errors import StoreUnavailable
from connector_mcp.operations.platform import Request
from connector_mcp.state.postgres import PostgresDatabase, SharedRates
from connector_mcp.upstream import rate as rate_module
from connector_mcp.upstream.client import ClientLimits
from connector_mcp.upstream.rate import RETRY_STORE_AFTER, RateLimiter, SharedRateLimit
from tests.postgres_server import PostgresFixture

pytestmark = pytest.mark.anyio
READ = Request(method="GET", path="/x", changes=False)
# Six at once, and the next one only hours later.
SLOW = ClientLimits(requests_per_second=0.0001, burst_seconds=60_000)


class Store:
    """A store that answers with these waits, one after the other. None: it is unreachable."""

    def __init__(self, *waits: float | None) -> None:
        self.waits = list(waits)
        self.asked = 0

    async def take(self, key: str, *, interval: float, burst: float, longest: float = 0.0) -> float:
        self.asked += 1
        wait = self.waits.pop(0)
        if wait is None:
            raise StoreUnavailable("The database nowhere cannot be used.", fix="Start it.")
        return wait


class Waits(Exception):
    """A request has to wait for its turn."""


async def waits(_: float) -> None:
    raise Waits


@pytest.fixture
async def database(postgres: PostgresFixture) -> AsyncIterator[PostgresDatabase]:
    made = PostgresDatabase(postgres.url)
    yield made
    await made.aclose()


async def test_two_clients_of_an_account_share_its_rate(rig: Callable[..., Any], database: PostgresDatabase) -> None:
    def client(key: str) -> Any:
        shared = SharedRateLimit(SharedRates(database), "requests")
        answers = [httpx.Response(200, json={})] * 7
        return rig("vectorize", *answers, limits=SLOW, shared_rate_limit=shared, account=key, sleep=waits)

    one, two, other = client("vectorize:production"), client("vectorize:production"), client("vectorize:staging")
    for replica in (one, two, one, two, one, two):
        await replica.client.send(READ)
    for replica in (one, two):
        await replica.fails(Waits, READ)
    await other.client.send(READ)
    assert [len(replica.sent) for replica in (one, two, other)] == [3, 3, 1]


@pytest.mark.parametrize(("rate", "naps", "asked"), [(4, [0.25, 1.0, 0.5], 4), (8, [0.125, 0.25], 2), (40, [], 1)])
async def test_turns_are_counted_together_and_each_is_waited_for(rate: int, naps: list[float], asked: int) -> None:
    """A turn that is far away is asked for again."""
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    turns = Store(0, 0.25, 90.0, 0.5)
    shared = SharedRateLimit(turns, "requests")
    limiter = RateLimiter(rate, rate, shared=shared, key="k", sleep=sleep, clock=lambda: 0.0)
    async with anyio.create_task_group() as group:
        for _ in range(4 if rate == 8 else 3):
            group.start_soon(limiter.acquire)
    assert (slept, turns.asked) == (naps, asked)


async def test_what_a_replica_has_counted_is_its_own_and_lost_to_the_others(
    database: PostgresDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Twenty at once in blocks of five, and the next one only after minutes.
    monkeypatch.setattr(rate_module, "BLOCK_SECONDS", 5_000.0)
    shared = SharedRateLimit(SharedRates(database), "requests")
    replicas = [RateLimiter(0.001, 20, shared=shared, key="k", sleep=waits, clock=lambda: 0.0) for _ in range(3)]

    async def send(number: int) -> int:
        sent = 0
        with suppress(Waits):
            while True:
                await replicas[number].acquire()
                sent += 1
        return sent

    await replicas[2].acquire()
    assert [await send(number) for number in (0, 1, 2)] == [15, 0, 4]


async def test_a_client_keeps_the_rate_by_itself_and_without_a_burst_while_the_store_is_unreachable(
    rig: Callable[..., Any],
) -> None:
    away = SharedRateLimit(SharedRates(PostgresDatabase("postgresql:///none?host=/nowhere")), "requests")
    first = anyio.Event()

    def answer(_: httpx.Request) -> httpx.Response:
        first.set()
        return httpx.Response(200, json={})

    r = rig("vectorize", *[answer] * 7, limits=SLOW, shared_rate_limit=away, account="k")
    async with anyio.create_task_group() as group:
        for _ in range(8):
            group.start_soon(r.client.send, READ)
        # Until then a thread asks the store, which does not keep the tasks from being blocked.
        await first.wait()
        await anyio.wait_all_tasks_blocked()
        assert len(r.sent) == 1, "what the replicas have already sent together is not known"
        group.cancel_scope.cancel()


async def test_an_outage_is_logged_once_and_the_store_retried_later(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = 0.0
    store = Store(None, None, 0, 0)
    take = partial(SharedRateLimit(store, "HTTP requests", clock=lambda: now).take, "k", interval=1, burst=1)
    with caplog.at_level(logging.WARNING):
        assert [await take() for _ in range(3)] == [None] * 3
        assert store.asked == 1, "the others do not wait for it"
        now += RETRY_STORE_AFTER
        assert [await take() for _ in range(2)] == [None] * 2
        assert store.asked == 2
        now += RETRY_STORE_AFTER
        assert [await take() for _ in range(2)] == [0, 0]
    assert [record.message for record in caplog.records] == [
        "HTTP requests are counted by this process alone: The database nowhere cannot be used.",
        "HTTP requests are counted by all replicas together again",
    ]
