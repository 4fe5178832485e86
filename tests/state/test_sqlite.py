import json
import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from connector_mcp.errors import StoreUnavailable
from connector_mcp.state.sqlite_store import FORMAT, SqliteStore
from tests.state.conftest import Clock

pytestmark = pytest.mark.anyio


NO_DATABASE = b"this is no database" * 100


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(content)


def let_others_read(path: Path) -> None:
    path.chmod(0o644)


def move_away(path: Path) -> None:
    path.rename(path.with_suffix(".broken"))


def read(path: Path) -> bytes:
    return path.read_bytes()


def execute(path: Path, statement: str, *values: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        return connection.execute(statement, values).fetchall()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "state.db"


@pytest.fixture
async def store(path: Path, clock: Clock) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(path, clock=clock)
    yield store
    await store.aclose()


async def test_expired_entries_leave_the_file_with_the_next_put(store: SqliteStore, clock: Clock, path: Path):
    await store.put_once("things", "old", {}, expires_at=1_010.0)
    clock.now = 1_020.0
    await store.put_once("others", "new", {})
    await store.aclose()
    assert execute(path, "SELECT key FROM entries") == [("new",)]


async def test_nothing_is_opened_before_the_first_call(path: Path):
    await SqliteStore(path).aclose()
    assert not path.parent.exists()


async def test_only_the_owner_can_read_the_database_and_its_directory(store: SqliteStore, path: Path):
    await store.put_once("things", "one", {})
    modes = {file.name: mode(file) for file in path.parent.iterdir()}
    assert mode(path.parent) == 0o700
    assert modes == {"state.db": 0o600, "state.db-wal": 0o600, "state.db-shm": 0o600}


async def test_a_file_that_others_could_read_is_closed_to_them(store: SqliteStore, path: Path):
    write(path, b"")
    let_others_read(path)
    await store.put_once("things", "one", {})
    assert mode(path) == 0o600


async def test_values_outlive_the_store_that_put_them(store: SqliteStore, path: Path, clock: Clock):
    await store.put_once("things", "one", {"a": 1})
    await store.aclose()
    other = SqliteStore(path, clock=clock)
    assert await other.get("things", "one") == {"a": 1}
    assert await store.get("things", "one") == {"a": 1}
    await other.aclose()


async def every_failure(store: SqliteStore) -> list[StoreUnavailable]:
    """Return what each method raises. Fails if a method raises nothing."""
    failures: list[StoreUnavailable] = []
    for call in (
        lambda: store.put_once("c", "k", {}),
        lambda: store.get("c", "k"),
        lambda: store.replace("c", "k", {}, expected={}),
        lambda: store.take_once("c", "k"),
        lambda: store.entries("c"),
        lambda: store.remove("c", "k"),
    ):
        with pytest.raises(StoreUnavailable) as caught:
            await call()
        failures.append(caught.value)
    return failures


async def test_a_corrupted_file_is_reported_by_every_method_and_left_as_it_is(store: SqliteStore, path: Path):
    write(path, NO_DATABASE)
    failures = await every_failure(store)
    assert all(str(path) in failure.message and "Move the file away" in failure.fix for failure in failures)
    assert read(path) == NO_DATABASE


async def test_the_store_works_again_once_a_corrupted_file_is_moved_away(store: SqliteStore, path: Path):
    write(path, NO_DATABASE)
    with pytest.raises(StoreUnavailable):
        await store.get("c", "k")
    move_away(path)
    assert await store.put_once("c", "k", {}) is True


async def test_a_directory_that_cannot_be_made_is_reported_by_every_method(tmp_path: Path):
    (tmp_path / "file").touch()
    failures = await every_failure(SqliteStore(tmp_path / "file" / "state.db"))
    assert all("CONNECTOR_MCP_STATE_DIR" in failure.fix and failure.retryable for failure in failures)


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only for root")
async def test_a_read_only_directory_is_reported_by_every_method(store: SqliteStore, path: Path):
    path.parent.mkdir(mode=0o500)
    assert all("CONNECTOR_MCP_STATE_DIR" in failure.fix for failure in (await every_failure(store)))


async def test_a_path_that_is_a_directory_is_reported(store: SqliteStore, path: Path):
    write(path / "inside", b"")
    assert len(await every_failure(store)) == 6


async def test_a_file_of_a_newer_format_is_not_touched(store: SqliteStore, path: Path):
    path.parent.mkdir()
    execute(path, f"PRAGMA user_version = {FORMAT + 1}")
    assert all("newer" in failure.message and not failure.retryable for failure in (await every_failure(store)))


@pytest.mark.parametrize("text", ["[1]", '{"a": ', "null"])
async def test_an_entry_that_is_no_json_object_is_reported(store: SqliteStore, path: Path, text: str):
    await store.put_once("c", "k", {})
    await store.aclose()
    execute(path, "UPDATE entries SET value = ?", text)
    for read_entry in (store.get, store.take_once):
        with pytest.raises(StoreUnavailable):
            await read_entry("c", "k")


async def test_a_locked_file_is_reported_as_retryable(store: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("connector_mcp.state.sqlite_store.BUSY_SECONDS", 0.0)
    await store.put_once("c", "k", {})
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable) as caught:
        await SqliteStore(path).put_once("c", "other", {})
    holder.execute("ROLLBACK")
    holder.close()
    assert caught.value.retryable
    assert caught.value.retry_after is not None
    assert await store.get("c", "other") is None


async def test_two_processes_that_race_fifty_times_have_one_winner_each_time(tmp_path: Path):
    def start() -> subprocess.Popen[str]:
        racer = [sys.executable, str(Path(__file__).with_name("racer.py"))]
        return subprocess.Popen(racer, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)

    with start() as left, start() as right:
        pipes = [(racer.stdin, racer.stdout) for racer in (left, right)]
        results: list[list[list[bool]]] = []
        for _, out in pipes:
            assert out is not None
            assert out.readline() == "ready\n"
        for round_ in range(50):
            # Five rounds a file: the race to make a file is run as well as those in it.
            path = tmp_path / str(round_ // 5) / "state.db"
            if round_ % 5:
                parent = SqliteStore(path)
                await parent.put_once("take", str(round_), {"round": round_})
                await parent.aclose()
            for into, _ in pipes:
                assert into is not None
                into.write(json.dumps([str(path), str(round_)]) + "\n")
            results.append([json.loads(out.readline()) for _, out in pipes if out is not None])
        for into, _ in pipes:
            assert into is not None
            into.close()
    assert [sum(put for put, _ in both) for both in results] == [1] * 50
    assert [sum(took for _, took in both) for both in results] == [int(bool(round_ % 5)) for round_ in range(50)]
