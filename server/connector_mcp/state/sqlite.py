"""The database of records in one SQLite file, for any number of processes on one machine.

The file must be on a local disk: SQLite's write-ahead log does not work over a network file system.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import anyio

from connector_mcp.errors import StoreUnavailable
from connector_mcp.state.database import Database, Row, Rows, Step, Transaction, Values, one_allowance
from connector_mcp.state.schema import VERSION

WATCH_SECONDS: Final = 0.25
"""How often a waiting call checks whether another process has committed a change."""

_BUSY_PAUSE: Final = 0.005
_REMOTE: Final = ("nfs", "cifs", "smb", "9p", "afs", "ceph", "fuse.sshfs", "glusterfs", "lustre")
"""Beginnings of the names of file systems on other machines."""

_T = TypeVar("_T")


class SqliteDatabase(Database):
    """Records in a file that only its owner can read. Steps run one at a time."""

    def __init__(self, path: Path, *, wall_clock: Callable[[], float] = time.time) -> None:
        """`wall_clock` is the database's time: that of this machine."""
        super().__init__(str(path))
        self.path = path
        self._wall_clock = wall_clock
        self._connection: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None
        self._pragmas: dict[str, str] = {}
        self._lock = threading.Lock()
        self._version: int | None = None
        """The number by which SQLite shows that another connection has committed."""
        self._look_at = 0.0

    def run(self, step: Step[_T]) -> _T:
        if not self._lock.acquire(timeout=max(0.0, step.until - time.monotonic())):
            raise self.failure("another step has not ended")
        try:
            return self._run(step)
        except BaseException as failure:
            # The next step opens the file again; it may have been replaced by then.
            self._close()
            # Python itself refuses a number that SQLite cannot hold.
            if isinstance(failure, (sqlite3.Error, OSError, OverflowError)):
                raise self._described(failure, step) from failure
            raise
        finally:
            step.interrupt = None
            self._lock.release()

    def warnings(self) -> list[str]:
        kind = _file_system(self.path)
        if kind is None or not kind.startswith(_REMOTE):
            return []
        return [f"it is on a network file system ({kind}), where SQLite loses records. Use a local disk."]

    def close(self) -> None:
        with self._lock:
            self._close()

    async def watch(self, event: anyio.Event) -> None:
        while not event.is_set():
            now = anyio.current_time()
            if now >= self._look_at:
                # One look serves all waiting calls of this process.
                self._look_at = now + WATCH_SECONDS
                await self._look()
                continue
            with anyio.move_on_after(self._look_at - now):
                await event.wait()

    async def _look(self) -> None:
        before, self._version = self._version, None
        # Those who wait find out when they read.
        with suppress(StoreUnavailable), one_allowance():
            self._version = await self.read(lambda tx: tx.execute("PRAGMA data_version").all()[0]["data_version"])
        if self._version != before:
            self.wake()

    def _run(self, step: Step[_T]) -> _T:
        connection = self._open(step)
        step.interrupt = connection.interrupt
        transaction = Transaction(step, partial(_execute, connection), partial(_insert, connection))
        # Waiting for another process ends before the step does, so that its failure is certain and says why.
        self._set("busy_timeout", str(max(1, int((step.until - time.monotonic()) * 7.5) * 100)))
        if not step.writes:
            return step.work(transaction)
        self._set("synchronous", "FULL" if step.durable else "NORMAL")
        # IMMEDIATE takes the write lock at the start. A read that becomes a write could find its snapshot outdated.
        connection.execute("BEGIN IMMEDIATE")
        result = step.work(transaction)
        step.begin_commit()
        connection.execute("COMMIT")
        for function in step.after_commit:
            function()
        return result

    def _open(self, step: Step[Any]) -> sqlite3.Connection:
        if self._connection is not None and self._is_in_place():
            return self._connection
        self._close()
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # SQLite gives its log files the mode of the database file, so the mode must be right before it opens it.
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
        found = self.path.stat()
        if found.st_mode & 0o077:
            self.path.chmod(0o600)
        connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        try:
            connection.row_factory = sqlite3.Row
            connection.create_function("epoch", 0, self._wall_clock)
            self._migrate(connection, step.until)
        except BaseException:
            connection.close()
            raise
        self._connection, self._identity = connection, (found.st_dev, found.st_ino)
        self._pragmas, self._version = {}, None
        return connection

    def _set(self, pragma: str, value: str) -> None:
        if self._connection is not None and self._pragmas.get(pragma) != value:
            self._connection.execute(f"PRAGMA {pragma} = {value}")
            self._pragmas[pragma] = value

    def _is_in_place(self) -> bool:
        """Check that the path still names the open file."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return False
        return (found.st_dev, found.st_ino) == self._identity

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _migrate(self, connection: sqlite3.Connection, until: float) -> None:
        if not self._missing(connection):
            return
        _enable_write_ahead_log(connection, until)
        connection.execute("BEGIN IMMEDIATE")
        # Another process may have migrated the file meanwhile.
        for statement in self._missing(connection):
            # A column of this type is the place of the row in the file and needs no index.
            connection.execute(statement.replace("BIGINT PRIMARY KEY", "INTEGER PRIMARY KEY"))
        connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("COMMIT")

    def _missing(self, connection: sqlite3.Connection) -> list[str]:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        return self.migrations(version, "Update connector-mcp, or name another directory with CONNECTOR_MCP_STATE_DIR.")

    def _described(self, failure: Exception, step: Step[Any]) -> StoreUnavailable:
        # After another failure of a commit, its frames in the log are not complete and never count.
        is_hardware = getattr(failure, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_IOERR
        may_pass = isinstance(failure, (OSError, sqlite3.OperationalError))
        reason = failure.strerror if isinstance(failure, OSError) and failure.strerror else str(failure)
        fix = (
            "Move the file away (waiting approvals and the audit log in it are lost), put it back from a copy, or name "
            "another directory with CONNECTOR_MCP_STATE_DIR."
        )
        if may_pass and "locked" in reason:
            reason = "another process has locked it"
            fix = "Call again. If the error persists, look for a connector-mcp process that hangs."
        elif may_pass:
            reason = "it did not answer in time" if step.abandoned else reason
            fix = (
                "Make its directory writable for this user, with room on the disk, or name another with "
                "CONNECTOR_MCP_STATE_DIR."
            )
        return self.failure(reason, uncertain=step.committing and is_hardware, retryable=may_pass, fix=fix)


def _execute(connection: sqlite3.Connection, sql: str, values: Values) -> Rows:
    # A statement with RETURNING takes effect only as its rows are read.
    rows: list[Row] = [dict(row) for row in connection.execute(sql, values).fetchall()]
    return Rows(lambda: rows)


def _insert(connection: sqlite3.Connection, table: str, rows: Sequence[Values]) -> None:
    columns = list(rows[0])
    sql = f"INSERT INTO {table} ({', '.join(columns)}) VALUES (:{', :'.join(columns)})"
    connection.executemany(sql, rows)


def _file_system(path: Path) -> str | None:
    """Return the type of the file system that a file is on, or None if this machine does not tell."""
    best, kind = "", None
    with suppress(OSError):
        for line in Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace").splitlines():
            _, point, found, *_ = line.split(" ")
            point = point.replace("\\040", " ")
            if len(point) >= len(best) and path.resolve().is_relative_to(point):
                best, kind = point, found
    return kind


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
