"""A manual clock, and the two databases of records."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from connector_mcp.state.database import Database
from tests.postgres_server import PostgresFixture
from tests.records import Clock
from tests.state.racer import opened

Open = Callable[[], Database]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["sqlite", "postgres"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty database: a path or a URL."""
    if request.param == "sqlite":
        return str(tmp_path / "state" / "records.db")
    postgres: PostgresFixture = request.getfixturevalue("postgres")
    return postgres.url


@pytest.fixture
def open_database(address: str) -> Iterator[Open]:
    """Each call opens the same records once more, as another process does."""
    databases: list[Database] = []

    def open_one() -> Database:
        databases.append(opened(address))
        return databases[-1]

    yield open_one
    for database in databases:
        database.close()


@pytest.fixture
def database(open_database: Open) -> Database:
    return open_database()
