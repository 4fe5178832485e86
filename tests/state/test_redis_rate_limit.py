"""The rate limit that replicas share in Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from connector_mcp.errors import StoreUnavailable
from connector_mcp.state.redis import RedisConnection, RedisRateLimit
from tests.redis_server import RedisServer

pytestmark = pytest.mark.anyio
HOUR = 3_600.0


@pytest.fixture
async def replicas(redis: RedisServer) -> AsyncIterator[list[RedisRateLimit]]:
    connections = [RedisConnection(redis.url) for _ in range(2)]
    yield [RedisRateLimit(connection) for connection in connections]
    for connection in connections:
        await connection.aclose()


async def test_replicas_share_one_burst_and_one_rate(replicas: list[RedisRateLimit]) -> None:
    waits = [await replicas[n % 2].take("k", interval=HOUR, burst=4) for n in range(6)]
    other = await replicas[0].take("other", interval=HOUR, burst=4)
    assert [round(wait / HOUR, 1) for wait in waits] == [0, 0, 0, 0, 1, 1], "a turn that is refused is not taken"
    assert other == 0


async def test_near_turns_are_reserved_in_order(replicas: list[RedisRateLimit]) -> None:
    waits = [await replicas[n % 2].take("k", interval=HOUR, burst=1, longest=2.5 * HOUR) for n in range(5)]
    assert [round(wait / HOUR, 1) for wait in waits] == [0, 1, 2, 3, 3]


async def test_the_state_of_a_limit_is_prefixed_and_expires(replicas: list[RedisRateLimit], redis: RedisServer) -> None:
    await replicas[0].take("k", interval=HOUR, burst=4)
    with redis.client() as client:
        (key,) = client.keys()
        assert key.startswith("{connector-mcp}:")
        assert HOUR - 60 < client.ttl(key) <= HOUR + 1


async def test_a_clock_that_was_set_back_limits_the_wait(replicas: list[RedisRateLimit], redis: RedisServer) -> None:
    await replicas[0].take("k", interval=HOUR, burst=4)
    with redis.client() as client:
        (key,) = client.keys()
        client.set(key, "9999999999")
    assert HOUR - 60 < await replicas[0].take("k", interval=HOUR, burst=4) <= HOUR


async def test_an_unreachable_server_and_damaged_state_fail(replicas: list[RedisRateLimit], redis: RedisServer) -> None:
    away = RedisRateLimit(RedisConnection("unix:///nowhere/socket"))
    with redis.client() as client:
        client.set("{connector-mcp}:turns:k", "no number")
    for turns in (away, replicas[0]):
        with pytest.raises(StoreUnavailable):
            await turns.take("k", interval=HOUR, burst=4)
