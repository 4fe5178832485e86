"""Fixtures that every test may rely on."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import nginx
from tests.postgres_server import PostgresFixture, PostgresServer, postgres_server

# Messages name a command as it can be run: by its name alone where it is on the PATH.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
# Tables are as wide as their values, wherever the tests run.
os.environ.pop("COLUMNS", None)


def pytest_xdist_auto_num_workers() -> int:
    """Two workers more than cores: many tests wait for a process or a socket, and a core is free meanwhile."""
    return len(os.sched_getaffinity(0)) + 2 if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1) + 2


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """The server runs on asyncio, and so do its tests."""
    return "asyncio"


@pytest.fixture
def free_port() -> int:
    return nginx.free_port()


@pytest.fixture(scope="session")
def shared_postgres() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server


@pytest.fixture
def postgres(shared_postgres: PostgresServer) -> PostgresFixture:
    """An empty database of a running PostgreSQL server, which the test leaves running."""
    return PostgresFixture(shared_postgres, shared_postgres.new_database())
