"""Fixtures that every test may rely on."""

import os
from collections.abc import Iterator

import pytest

from tests.redis_server import RedisServer, redis_server


def pytest_xdist_auto_num_workers() -> int:
    """Two workers more than cores: many tests wait for a process or a socket, and a core is free meanwhile."""
    return len(os.sched_getaffinity(0)) + 2 if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1) + 2


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
