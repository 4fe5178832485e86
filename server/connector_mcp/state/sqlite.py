"""The database of records in one SQLite file, for any number of processes on one machine.

The file must be on a local disk: SQLite's write-ahead log does not work over a network file system.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import anyio

from connector_mcp.errors import StoreUnavailable
from connector_mcp.state.database import Database, Row, Step, Value
from connector_mcp.state.schema import VERSION, statements

WATCH_SECONDS: Final = 0.25
"""How often a waiting call looks whether another process has committed something."""

_BUSY_PAUSE: Final = 0.005

_T = TypeVar("_T")


class SqliteDatabase(Database):
    """Records in a file that only its owner can read. Steps run one at a time."""

    def __init__(
        self,
        path: Path,
        *,
        wall_clock: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`wall_clock` is the database's time: that of this machine."""
        super().__init__(str(path), clock=clock)
        self._path = path
        self._wall_clock = wall_clock
        self._connection: sqlite3.Connection | None = None
        self._lock = threading.Lock()

    def run(self, step: Step[_T]) -> _T:
        if not self._lock.acquire(timeout=step.seconds):
            raise self.failure("another step has not ended")
        try:
            return self._run(step)
        except (sqlite3.Error, OSError, ValueError) as failure:
            # The next step opens the file again; it may have been replaced by then.
            self._close()
            raise self._described(failure, step) from failure
        except BaseException:
            if self._connection is not None and self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise
        finally:
            self._lock.release()

    def close(self) -> None:
        with self._lock:
            self._close()

    async def watch(self, event: anyio.Event) -> None:
        seen: int | None = None
        while not event.is_set():
            version = await self.read(_data_version)
            if seen not in (None, version):
                return
            seen = version
            with anyio.move_on_after(WATCH_SECONDS):
                await event.wait()

    def _run(self, step: Step[_T]) -> _T:
        connection = self._open(step)
        transaction = _SqliteTransaction(connection, step)
        if not step.writes:
            return step.work(transaction)
        connection.execute(f"PRAGMA synchronous = {'FULL' if step.durable else 'NORMAL'}")
        # IMMEDIATE takes the write lock at the start. A read that becomes a write could find its snapshot outdated.
        connection.execute("BEGIN IMMEDIATE")
        result = step.work(transaction)
        step.committing = True
        connection.execute("COMMIT")
        for function in step.after_commit:
            function()
        return result

    def _open(self, step: Step[Any]) -> sqlite3.Connection:
        if self._connection is None:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # SQLite gives its log files the mode of the database file, so the mode must be right before it opens it.
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
            if self._path.stat().st_mode & 0o077:
                self._path.chmod(0o600)
            connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
            try:
                connection.row_factory = sqlite3.Row
                connection.create_function("epoch", 0, self._wall_clock)
                _migrate(connection, time.monotonic() + step.seconds)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        self._connection.execute(f"PRAGMA busy_timeout = {max(1, int(step.seconds * 1000))}")
        return self._connection

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _described(self, failure: Exception, step: Step[Any]) -> StoreUnavailable:
        if isinstance(failure, sqlite3.OperationalError) and "locked" in str(failure):
            return self.failure(
                "another process has locked it",
                fix="Call again. If the error persists, look for a connector-mcp process that hangs.",
            )
        if isinstance(failure, (OSError, sqlite3.OperationalError)):
            reason = failure.strerror if isinstance(failure, OSError) and failure.strerror else str(failure)
            return self.failure(
                reason,
                uncertain=step.committing,
                fix="Make its directory writable for this user, with room on the disk, or name another with "
                "CONNECTOR_MCP_STATE_DIR.",
            )
        return self.failure(
            str(failure),
            uncertain=step.committing,
            retryable=False,
            fix="Move the file away (waiting approvals and the audit log in it are lost), put it back from a copy, or "
            "name another directory with CONNECTOR_MCP_STATE_DIR.",
        )


class _SqliteTransaction:
    def __init__(self, connection: sqlite3.Connection, step: Step[Any]) -> None:
        self._connection = connection
        self._step = step

    def execute(self, sql: str, values: Mapping[str, Value] = {}) -> _SqliteRows:
        return _SqliteRows(self._connection.execute(sql, values))

    def notify(self) -> None:
        self._step.notifies = True

    def after_commit(self, function: Callable[[], object]) -> None:
        self._step.after_commit.append(function)


class _SqliteRows:
    def __init__(self, cursor: sqlite3.Cursor) -> None:
        # A statement with RETURNING takes effect only as its rows are read.
        self._rows: list[Row] = [dict(row) for row in cursor.fetchall()]

    def all(self) -> Sequence[Row]:
        return self._rows

    def first(self) -> Row | None:
        return self._rows[0] if self._rows else None


def _data_version(transaction: Any) -> int:
    row = transaction.execute("PRAGMA data_version").first()
    return row["data_version"]


def _migrate(connection: sqlite3.Connection, until: float) -> None:
    if _version(connection) == VERSION:
        return
    _enable_write_ahead_log(connection, until)
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Another process may have migrated the file meanwhile.
        for statement in statements(_version(connection)):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _version(connection: sqlite3.Connection) -> int:
    found: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if found > VERSION:
        raise ValueError(f"its version {found} was made by a newer connector-mcp")
    return found


def _enable_write_ahead_log(connection: sqlite3.Connection, until: float) -> None:
    """Turn the write-ahead log on, and retry while locked: SQLite itself does not wait for this statement."""
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as failure:
            if "locked" not in str(failure) or time.monotonic() > until:
                raise
            time.sleep(_BUSY_PAUSE)
        else:
            return
