"""The store in one SQLite file, for any number of processes on one machine.

The file must be on a local disk: SQLite's write-ahead log does not work over a network file system.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

import anyio
import anyio.to_thread

from connector_mcp.errors import StoreUnavailable
from connector_mcp.json_values import JsonObject
from connector_mcp.state.store import from_text, to_text

FORMAT = 1
"""Version of the tables, stored as `user_version` in the file."""

BUSY_SECONDS = 10.0
"""How long a call waits while another process writes."""

_BUSY_PAUSE = 0.005

_TABLES = """
CREATE TABLE IF NOT EXISTS entries (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    collection TEXT NOT NULL,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    expires_at REAL,
    UNIQUE (collection, key)
);
CREATE INDEX IF NOT EXISTS entries_by_expiry ON entries (expires_at) WHERE expires_at IS NOT NULL;
"""

_LIVE = "(expires_at IS NULL OR expires_at > :now)"
_THIS = f"collection = :collection AND key = :key AND {_LIVE}"

_Result = TypeVar("_Result")


class SqliteStore:
    """A `Store` in a file that only its owner can read.

    The file is opened by the first call, so that a server that only reads never touches the disk. Calls run in a worker
    thread, one at a time. A call that is cancelled while it runs still takes effect.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._clock = clock
        self._connection: sqlite3.Connection | None = None
        self._one_at_a_time = anyio.CapacityLimiter(1)

    async def put_once(self, collection: str, key: str, value: JsonObject, *, expires_at: float | None = None) -> bool:
        text = to_text(value)

        def put(connection: sqlite3.Connection) -> bool:
            with _transaction(connection):
                connection.execute("DELETE FROM entries WHERE expires_at <= ?", (self._clock(),))
                done = connection.execute(
                    "INSERT OR IGNORE INTO entries (collection, key, value, expires_at) VALUES (?, ?, ?, ?)",
                    (collection, key, text, expires_at),
                )
                return done.rowcount == 1

        return await self._run(put)

    async def get(self, collection: str, key: str) -> JsonObject | None:
        return await self._run(partial(self._get, collection, key))

    async def replace(
        self, collection: str, key: str, value: JsonObject, *, expected: JsonObject, expires_at: float | None = None
    ) -> bool:
        values = {"collection": collection, "key": key, "expires_at": expires_at}
        values |= {"value": to_text(value), "expected": to_text(expected)}

        def update(connection: sqlite3.Connection) -> bool:
            done = connection.execute(
                f"UPDATE entries SET value = :value, expires_at = :expires_at WHERE {_THIS} AND value = :expected",
                {**values, "now": self._clock()},
            )
            return done.rowcount == 1

        return await self._run(update)

    async def take_once(self, collection: str, key: str) -> JsonObject | None:
        def take(connection: sqlite3.Connection) -> JsonObject | None:
            with _transaction(connection):
                value = self._get(collection, key, connection)
                _delete(collection, key, connection)
                return value

        return await self._run(take)

    async def entries(self, collection: str) -> list[tuple[str, JsonObject]]:
        def select(connection: sqlite3.Connection) -> list[tuple[str, JsonObject]]:
            rows = connection.execute(
                f"SELECT key, value FROM entries WHERE collection = :collection AND {_LIVE} ORDER BY position",
                {"collection": collection, "now": self._clock()},
            ).fetchall()
            return [(key, from_text(value)) for key, value in rows]

        return await self._run(select)

    async def remove(self, collection: str, key: str) -> None:
        await self._run(partial(_delete, collection, key))

    async def aclose(self) -> None:
        # The file is closed even while the server is being cancelled.
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self._close, limiter=self._one_at_a_time)

    async def _run(self, work: Callable[[sqlite3.Connection], _Result]) -> _Result:
        return await anyio.to_thread.run_sync(self._guarded, work, limiter=self._one_at_a_time)

    def _guarded(self, work: Callable[[sqlite3.Connection], _Result]) -> _Result:
        try:
            if self._connection is None:
                self._connection = _open(self._path)
            return work(self._connection)
        except (sqlite3.Error, OSError, ValueError) as failure:
            # The next call opens the file again; it may have been replaced by then.
            self._close()
            raise _unavailable(self._path, failure) from failure

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _get(self, collection: str, key: str, connection: sqlite3.Connection) -> JsonObject | None:
        row = connection.execute(
            f"SELECT value FROM entries WHERE {_THIS}",
            {"collection": collection, "key": key, "now": self._clock()},
        ).fetchone()
        return None if row is None else from_text(row[0])


def _delete(collection: str, key: str, connection: sqlite3.Connection) -> None:
    connection.execute("DELETE FROM entries WHERE collection = ? AND key = ?", (collection, key))


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Generator[None]:
    # IMMEDIATE takes the write lock at the start. A read that becomes a write could find its snapshot outdated.
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _open(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # SQLite gives its log files the mode of the database file, so the mode must be right before SQLite opens it.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    if path.stat().st_mode & 0o077:
        path.chmod(0o600)
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        _prepare(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection) -> None:
    found = connection.execute("PRAGMA user_version").fetchone()[0]
    if found > FORMAT:
        raise ValueError(f"format {found}, made by a newer connector-mcp")
    # FULL: a used approval must stay used even after a power cut. Writes are rare.
    connection.execute("PRAGMA synchronous = FULL")
    if found == FORMAT:
        return
    _enable_write_ahead_log(connection)
    with _transaction(connection):
        for statement in _TABLES.split(";"):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {FORMAT}")


def _enable_write_ahead_log(connection: sqlite3.Connection) -> None:
    """Turn the write-ahead log on, and retry while locked: SQLite itself does not wait for this statement."""
    until = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as failure:
            if "locked" not in str(failure) or time.monotonic() > until:
                raise
            time.sleep(_BUSY_PAUSE)
        else:
            return


def _unavailable(path: Path, failure: Exception) -> StoreUnavailable:
    if isinstance(failure, sqlite3.OperationalError) and "locked" in str(failure):
        return StoreUnavailable(
            f"The store {path} is locked by another process.",
            fix="Call again. If the error persists, look for a connector-mcp process that hangs.",
            retry_after=1.0,
        )
    if isinstance(failure, (OSError, sqlite3.OperationalError)):
        reason = failure.strerror if isinstance(failure, OSError) and failure.strerror else str(failure)
        return StoreUnavailable(
            f"The store {path} cannot be used: {reason}.",
            fix="Make its directory writable for this user, with room on the disk, or name another with "
            "CONNECTOR_MCP_STATE_DIR.",
        )
    return StoreUnavailable(
        f"The store {path} cannot be read: {failure}.",
        fix="Move the file away (waiting approvals are lost and must be requested again), or name another directory "
        "with CONNECTOR_MCP_STATE_DIR.",
        retryable=False,
    )
