"""An audit log over each of the databases."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from connector_mcp.state.database import Database
from connector_mcp.state.postgres import PostgresDatabase
from connector_mcp.state.sqlite import SqliteDatabase


class Clock:
    """The time of the database in seconds since the epoch, moved by hand where that is possible."""

    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[Database]:
    """An empty database."""
    if request.param == "sqlite":
        made: Database = SqliteDatabase(tmp_path / "state" / "records.db", wall_clock=clock)
    else:
        made = PostgresDatabase(request.getfixturevalue("postgres").url)
    with closing(made):
        yield made
