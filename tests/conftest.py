"""Fixtures that every test may rely on."""

from collections.abc import Iterator

import pytest

from tests.redis_server import RedisServer, redis_server


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """The server runs on asyncio, and so do its tests."""
    return "asyncio"


@pytest.fixture(scope="session")
def shared_redis() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture
def redis(shared_redis: RedisServer) -> RedisServer:
    """A running Redis server without any data, which the test leaves running."""
    with shared_redis.client() as client:
        client.flushall()
    return shared_redis
