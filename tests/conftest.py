"""Fixtures that every test may rely on."""

import gc
import inspect
import os
import ssl
import sys
from collections.abc import Generator, Iterator
from pathlib import Path

import httpx
import httpx2
import pytest
from hypothesis import HealthCheck, settings

# With its own limits, which the server keeps.
import connector_mcp.state.postgres  # noqa: F401
from connector_mcp.state import database
from tests import nginx
from tests.postgres_server import PostgresFixture, PostgresServer, postgres_server

# Messages name a command as it can be run: by its name alone where it is on the PATH.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
# A busy machine may take seconds for what takes milliseconds. These limits only tell that something hangs; a test of a
# limit sets its own.
database.STEP_SECONDS = database.COMMAND_SECONDS = 60.0
tls = ssl.create_default_context()
for module in (httpx, httpx2):
    limit = inspect.signature(module.Client).parameters["timeout"].default
    limit.connect = limit.read = limit.write = limit.pool = 60.0
    # Clients share one TLS context: making one reads every certificate, which takes longer than most tests.
    module.AsyncClient.__init__.__kwdefaults__["verify"] = tls
settings.register_profile("patient", settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")
# Tables are as wide as their values, wherever the tests run.
os.environ.pop("COLUMNS", None)


def pytest_xdist_auto_num_workers() -> int:
    """Two workers more than cores: many tests wait for a process or a socket, and a core is free meanwhile."""
    return len(os.sched_getaffinity(0)) + 2 if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1) + 2


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keep the garbage collector from searching modules, classes and tests, which last to the end."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


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
