"""What only SQLite has: a file, who may read it, and a disk that is full."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from connector_mcp.errors import StoreUnavailable
from connector_mcp.state import database as database_module
from connector_mcp.state.sqlite import SqliteDatabase
from tests.state.test_database import insert, names

pytestmark = pytest.mark.anyio

NO_DATABASE = b"this is no database" * 100


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "records.db"


@pytest.fixture
def database(path: Path) -> Iterator[SqliteDatabase]:
    database = SqliteDatabase(path)
    yield database
    database.close()


async def test_only_the_owner_can_read_the_database_and_its_directory(database: SqliteDatabase, path: Path):
    await database.aclose()
    assert not path.parent.exists(), "nothing is opened before the first step"
    await database.write(insert("one"))
    assert mode(path.parent) == 0o700
    files = dict.fromkeys(("records.db", "records.db-wal", "records.db-shm"), 0o600)
    assert {file.name: mode(file) for file in path.parent.iterdir()} == files
    path.chmod(0o644)
    await database.aclose()
    await database.write(insert("two"))
    assert mode(path) == 0o600, "a file that others could read is closed to them"


def obstruct(path: Path, obstacle: str) -> Path:
    """Put something in the way of a database, and return the path that cannot be used."""
    if obstacle == "a file for a directory":
        path.parent.touch()
    elif obstacle == "a directory for a file":
        path.mkdir(parents=True)
    elif obstacle == "damaged":
        path.parent.mkdir()
        path.write_bytes(NO_DATABASE)
    elif os.geteuid():
        path.parent.mkdir(mode=0o500)
    else:
        # Root may write everywhere but here.
        return Path("/proc/state/records.db")
    return path


@pytest.mark.parametrize("obstacle", ["a file for a directory", "a directory for a file", "read-only", "damaged"])
async def test_what_cannot_be_opened_is_reported_and_left_as_it_is(path: Path, obstacle: str):
    path = obstruct(path, obstacle)
    with closing(SqliteDatabase(path)) as database:
        for step in (database.read, database.write):
            with pytest.raises(StoreUnavailable, match=str(path)) as caught:
                await step(insert("one"))
            assert type(caught.value) is StoreUnavailable
            assert "CONNECTOR_MCP_STATE_DIR" in caught.value.fix
        if obstacle == "damaged":
            assert "Move the file away" in caught.value.fix
            assert path.read_bytes() == NO_DATABASE
            path.rename(path.with_suffix(".broken"))
            await database.write(insert("one"))


async def test_a_file_that_another_process_has_locked_is_refused_in_time(
    database: SqliteDatabase, path: Path, monkeypatch: pytest.MonkeyPatch
):
    await database.write(insert("one"))
    monkeypatch.setattr(database_module, "STEP_SECONDS", 4.0)
    # On a slow machine the refusal may take so long that it looks like silence.
    monkeypatch.setattr(database_module, "PAUSE_SECONDS", 0.0)
    with closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match="locked") as caught:
            await database.write(insert("two"))
        assert type(caught.value) is StoreUnavailable
        assert caught.value.retryable
        assert await database.read(names) == ["one"]
        holder.execute("ROLLBACK")
    await database.write(insert("two"))
    assert await database.read(names) == ["one", "two"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A directory on a small disk if the tests may mount one, otherwise any directory."""
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(tmp_path)], capture_output=True)
    yield tmp_path
    if mounted.returncode == 0:
        subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)


async def test_a_full_disk_refuses_for_certain_and_keeps_what_it_has(small_disk: Path, monkeypatch: pytest.MonkeyPatch):
    connect = sqlite3.connect

    def small(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection = connect(*arguments, **options)
        connection.execute("PRAGMA max_page_count = 60")
        return connection

    if not small_disk.is_mount():
        monkeypatch.setattr(sqlite3, "connect", small)
    database = SqliteDatabase(small_disk / "records.db")
    kept: list[str] = []

    async def fill() -> None:
        for number in range(100, 200):
            await database.write(insert(str(number), "x" * 2000))
            kept.append(str(number))

    with pytest.raises(StoreUnavailable, match="full") as caught:
        await fill()
    # The failure comes with the commit, at the latest; nothing of it can appear later.
    assert type(caught.value) is StoreUnavailable
    assert "room on the disk" in caught.value.fix
    assert await database.read(names) == kept
    await database.aclose()
    assert await database.read(names) == kept
    await database.aclose()
