"""An audit log over each of the databases."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from connector_mcp.state.database import Database
from connector_mcp.state.postgres import PostgresDatabase
from connector_mcp.state.sqlite import SqliteDatabase
from tests.records import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock(1_800_000_000.0)


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[Database]:
    """An empty database."""
    if request.param == "sqlite":
        made: Database = SqliteDatabase(tmp_path / "state" / "records.db", wall_clock=clock)
    else:
        made = PostgresDatabase(request.getfixturevalue("postgres").url)
    with closing(made):
        yield made
