"""The two databases of records."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from connector_mcp.state.database import Database
from connector_mcp.state.postgres import PostgresDatabase
from connector_mcp.state.sqlite import SqliteDatabase
from tests.records import Clock

Open = Callable[[], Database]


@pytest.fixture
def clock() -> Clock:
    return Clock(1_800_000_000.0)


@pytest.fixture(params=["sqlite", "postgres"])
def open_database(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[Open]:
    """Each call opens the same records once more, as another process does. Only SQLite has the clock's time."""
    databases: list[Database] = []
    postgres = request.getfixturevalue("postgres") if request.param == "postgres" else None

    def open_one() -> Database:
        path = tmp_path / "state" / "records.db"
        databases.append(PostgresDatabase(postgres.url) if postgres else SqliteDatabase(path, wall_clock=clock))
        return databases[-1]

    yield open_one
    for database in databases:
        database.close()


@pytest.fixture
def database(open_database: Open) -> Database:
    return open_database()
