"""The database of records on a PostgreSQL server, for replicas."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any, Final, TypeVar

import anyio
import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import dict_row

from connector_mcp.errors import StoreUnavailable
from connector_mcp.state.database import STEP_SECONDS, WORKERS, Database, Row, Step, Value
from connector_mcp.state.schema import VERSION, statements

CHANNEL: Final = "connector_mcp"
"""The name under which processes tell one another that something has changed."""

_SESSION: Final = {
    "connect_timeout": 2,
    "keepalives_idle": 10,
    "tcp_user_timeout": int(STEP_SECONDS * 1000),
    "application_name": "connector-mcp",
}
_EPOCH: Final = """
CREATE OR REPLACE FUNCTION epoch() RETURNS DOUBLE PRECISION LANGUAGE sql STABLE
AS 'SELECT extract(epoch FROM statement_timestamp())::double precision'
"""
_MIGRATION_LOCK: Final = 0x636F6E6E

LISTEN_PAUSE: Final = 1.0
"""Seconds before a lost connection for notifications is made again."""
_CERTAIN: Final = frozenset({"22", "23", "25", "40", "42", "53", "55"})
"""Classes of errors by which the server says that a transaction did not take effect."""

_NAME: Final = re.compile(r"(?<!:):([a-z_]+)")

_Connection = psycopg.Connection[dict[str, Any]]
_T = TypeVar("_T")


class PostgresDatabase(Database):
    """Records in one schema of a PostgreSQL database. The schema is made by the first step if it does not exist."""

    def __init__(self, address: str, *, password: str | None = None, schema: str = "connector_mcp") -> None:
        """`address` is a `postgresql://` URL; `password` stands in for the one in it.

        Raises:
            ValueError: The address is not valid.
        """
        try:
            parameters = conninfo_to_dict(address)
        except psycopg.ProgrammingError as failure:
            raise ValueError(str(failure)) from None
        host = parameters.get("host") or "localhost"
        super().__init__(f"{parameters.get('dbname') or 'postgres'} on {host}")
        # A process that hangs inside of a transaction must not hold the others up.
        milliseconds = int(STEP_SECONDS * 1000)
        options = (
            f"-c search_path={schema} -c statement_timeout={milliseconds} -c lock_timeout={milliseconds} "
            f"-c idle_in_transaction_session_timeout={2 * milliseconds} {parameters.pop('options', '') or ''}"
        )
        settings: dict[str, Any] = {**_SESSION, **parameters, "options": options}
        if password is not None:
            settings["password"] = password
        self._conninfo = make_conninfo("", **settings)
        self._schema = schema
        self._idle: list[_Connection] = []
        self._lock = threading.Lock()
        self._migrated = False
        self._listener: _Listener | None = None

    def run(self, step: Step[_T]) -> _T:
        with self._lock:
            connection = self._idle.pop() if self._idle else None
        if connection is not None:
            try:
                return self._run(connection, step)
            except psycopg.OperationalError as failure:
                # An idle connection may have been lost. What was not committed can be done again on a new one.
                if step.committing or not connection.closed:
                    raise self._described(failure, step) from failure
        try:
            return self._run(self._connect(), step)
        except psycopg.Error as failure:
            raise self._described(failure, step) from failure

    def close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
            listener, self._listener = self._listener, None
        for connection in idle:
            connection.close()
        if listener is not None:
            listener.close()

    async def watch(self, event: anyio.Event) -> None:
        if self._listener is None:
            loop = asyncio.get_running_loop()
            self._listener = _Listener(self._connect, lambda: loop.call_soon_threadsafe(self.wake))
            self._listener.start()
        await event.wait()

    def _run(self, connection: _Connection, step: Step[_T]) -> _T:
        step.interrupt = lambda: _shut_down(connection)
        try:
            with connection.pipeline(), connection.cursor() as cursor:
                transaction = _PostgresTransaction(connection, step)
                if step.writes:
                    cursor.execute("BEGIN")
                step.after_commit.clear()
                result = step.work(transaction)
                if step.writes:
                    if step.notifies:
                        cursor.execute(f"NOTIFY {CHANNEL}")
                    step.committing = True
                    cursor.execute("COMMIT")
        except BaseException:
            connection.close()
            raise
        for function in step.after_commit:
            function()
        with self._lock:
            if len(self._idle) < WORKERS:
                self._idle.append(connection)
                return result
        connection.close()
        return result

    def _connect(self) -> _Connection:
        connection = _Connection.connect(self._conninfo, autocommit=True, row_factory=dict_row)
        try:
            if not self._migrated:
                self._migrate(connection)
                self._migrated = True
        except BaseException:
            connection.close()
            raise
        return connection

    def _migrate(self, connection: _Connection) -> None:
        with connection.transaction():
            # Replicas that start together migrate one after the other.
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (_MIGRATION_LOCK,))
            if connection.execute("SELECT to_regnamespace(%s) AS found", (self._schema,)).fetchone() == {"found": None}:
                connection.execute(f"CREATE SCHEMA {self._schema}".encode())
            connection.execute("CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL)")
            row = connection.execute("SELECT version FROM schema_version").fetchone()
            found = row["version"] if row else 0
            if found > VERSION:
                raise self.failure(f"its version {found} was made by a newer connector-mcp", retryable=False)
            if found == VERSION:
                return
            connection.execute(_EPOCH)
            for statement in statements(found):
                connection.execute(statement.encode())
            connection.execute("DELETE FROM schema_version")
            connection.execute("INSERT INTO schema_version VALUES (%s)", (VERSION,))

    def _described(self, failure: psycopg.Error, step: Step[Any]) -> StoreUnavailable:
        said = failure.diag.message_primary or next(iter(str(failure).strip().splitlines()), type(failure).__name__)
        certain = (failure.sqlstate or "")[:2] in _CERTAIN or failure.sqlstate == "57014"
        return self.failure(said.strip(), uncertain=step.committing and not certain)


class _PostgresTransaction:
    def __init__(self, connection: _Connection, step: Step[Any]) -> None:
        self._connection = connection
        self._step = step

    def execute(self, sql: str, values: Mapping[str, Value] = {}) -> _PostgresRows:
        return _PostgresRows(self._connection.execute(_translated(sql), values))

    def notify(self) -> None:
        self._step.notifies = True

    def after_commit(self, function: Callable[[], object]) -> None:
        self._step.after_commit.append(function)


class _PostgresRows:
    def __init__(self, cursor: psycopg.Cursor[dict[str, Any]]) -> None:
        self._cursor = cursor

    def all(self) -> Sequence[Row]:
        return self._cursor.fetchall()

    def first(self) -> Row | None:
        return self._cursor.fetchone()


class _Listener(threading.Thread):
    """Calls `wake` for each notification, and when the connection was lost: something may have been missed then."""

    def __init__(self, connect: Callable[[], _Connection], wake: Callable[[], object]) -> None:
        super().__init__(name="connector-mcp listener", daemon=True)
        self._connect = connect
        self._wake = wake
        self._closed = threading.Event()
        self._connection: _Connection | None = None

    def run(self) -> None:
        while not self._closed.is_set():
            with suppress(psycopg.Error, StoreUnavailable), self._connect() as connection:
                self._connection = connection
                connection.execute(f"LISTEN {CHANNEL}")
                self._tell()
                for _ in connection.notifies():
                    self._tell()
            self._tell()
            self._closed.wait(LISTEN_PAUSE)

    def close(self) -> None:
        self._closed.set()
        if self._connection is not None:
            _shut_down(self._connection)
        self.join(STEP_SECONDS)

    def _tell(self) -> None:
        # The event loop may be closed already.
        with suppress(RuntimeError):
            self._wake()


@lru_cache(maxsize=256)
def _translated(sql: str) -> bytes:
    return _NAME.sub(r"%(\1)s", sql.replace("%", "%%")).encode()


def _shut_down(connection: _Connection) -> None:
    """End a connection that another thread is waiting for."""
    with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(connection.fileno())) as copy:
        copy.shutdown(socket.SHUT_RDWR)
