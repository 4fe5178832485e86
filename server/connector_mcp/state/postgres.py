"""The database of records on a PostgreSQL server, for replicas."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from functools import lru_cache, partial
from itertools import count
from typing import Any, Final, TypeVar

import anyio
import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import dict_row

from connector_mcp.errors import StoreUnavailable
from connector_mcp.state.database import (
    STEP_SECONDS,
    Abandoned,
    Database,
    Row,
    Rows,
    Step,
    Transaction,
    Values,
    one_allowance,
)
from connector_mcp.state.schema import VERSION

CHANNEL: Final = "connector_mcp"
"""The name under which processes tell one another that something has changed."""

_SESSION: Final = {
    "connect_timeout": 2,
    # A connection that was cut silently is found dead before a step needs it.
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "tcp_user_timeout": int(STEP_SECONDS * 1000),
    "application_name": "connector-mcp",
    # A database with the encoding SQL_ASCII would return bytes.
    "client_encoding": "utf-8",
}
_EPOCH: Final = """
CREATE OR REPLACE FUNCTION epoch() RETURNS DOUBLE PRECISION LANGUAGE sql STABLE
AS 'SELECT extract(epoch FROM statement_timestamp())::double precision'
"""
_SETTINGS: Final = """
SELECT current_setting('fsync') AS fsync, current_setting('full_page_writes') AS pages,
    current_setting('synchronous_commit') AS synchronous, epoch() AS now,
    (SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()) AS ssl
"""
_CLOCK_SECONDS: Final = 5.0
_MIGRATION_LOCK: Final = 0x636F6E6E

LISTEN_PAUSE: Final = 1.0
"""Seconds before a lost connection for notifications is made again."""
_CERTAIN: Final = frozenset({"22", "23", "25", "40", "42", "53", "55"})
"""Classes of errors by which the server says that a transaction did not take effect."""

# `due` is when the requests so far would have gone out at an even rate. A row in the past counts like none.
_TAKE: Final = """
INSERT INTO rates (name, due) VALUES (:key, epoch() + :interval)
ON CONFLICT (name) DO UPDATE SET due = greatest(rates.due, epoch()) + :interval
    WHERE greatest(rates.due, epoch()) + :interval - epoch() <= :ahead
RETURNING due - epoch() AS ahead
"""
_LOOK: Final = "SELECT due + :interval - epoch() AS ahead FROM rates WHERE name = :key"
_CLEAN_UP_EVERY: Final = 10_000

_NAME: Final = re.compile(r"(?<!:):([a-z][a-z0-9_]*)")

# What goes wrong is raised; the driver's own lines about broken connections say nothing more.
logging.getLogger("psycopg").setLevel(logging.CRITICAL)

_Connection = psycopg.Connection[dict[str, Any]]
_T = TypeVar("_T")


class _Link:
    """A connection, and a second handle of its socket by which another thread can end it safely."""

    def __init__(self, connection: _Connection) -> None:
        self.connection = connection
        self._socket = socket.socket(fileno=os.dup(connection.fileno()))

    def interrupt(self) -> None:
        """End what the connection does or waits for."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def was_ended(self) -> bool:
        """Check whether the server has ended the idle connection. Its socket can be read then, and blocks otherwise."""
        try:
            self._socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            pass
        return True

    def close(self) -> None:
        self._socket.close()
        self.connection.close()


class PostgresDatabase(Database):
    """Records in one schema of a PostgreSQL database. The schema is made by the first step if it does not exist."""

    def __init__(self, address: str, *, password: str | None = None, schema: str = "connector_mcp") -> None:
        """`address` is a `postgresql://` URL; `password` replaces the one in it.

        Raises:
            ValueError: The address is not valid. The error does not repeat it, because it may hold a password.
        """
        try:
            parameters = conninfo_to_dict(address)
        except psycopg.ProgrammingError:
            raise ValueError("not a valid postgresql:// address") from None
        host = parameters.get("host") or "localhost"
        super().__init__(f"{parameters.get('dbname') or 'postgres'} on {host}")
        # A process that hangs inside of a transaction must not hold the others up. Waiting for a lock ends before the
        # step does, so that its failure is certain. A statement may take longer than the step: when its time ends
        # while the commit waits for a standby, the server reports success.
        milliseconds = int(STEP_SECONDS * 1000)
        options = (
            f"-c search_path={schema} -c statement_timeout={2 * milliseconds} -c lock_timeout={milliseconds * 3 // 4} "
            f"-c idle_in_transaction_session_timeout={2 * milliseconds} {parameters.pop('options', '') or ''}"
        )
        settings: dict[str, Any] = {**_SESSION, **parameters, "options": options}
        if password is not None:
            settings["password"] = password
        hosts = str(host).split(",")
        self._is_local = all(each.startswith("/") or each in ("localhost", "127.0.0.1", "::1") for each in hosts)
        self._ssl_mode = parameters.get("sslmode")
        self._conninfo = make_conninfo("", **settings)
        self._schema = schema
        self._idle: list[_Link] = []
        self._lock = threading.Lock()
        self._migrated = False
        self._closing = threading.Event()
        self._listener: threading.Thread | None = None
        self._listening: _Link | None = None

    def run(self, step: Step[_T]) -> _T:
        try:
            return self._run(self._take_idle() or self._connect(), step)
        except psycopg.Error as failure:
            if step.abandoned:
                # The other connections are probably just as silent.
                self._discard_idle()
            raise self._described(failure, step) from failure

    def warnings(self) -> list[str]:
        settings = self.read_now(lambda tx: tx.execute(_SETTINGS).first()) or {}
        difference = abs(settings["now"] - time.time())
        found = {
            "fsync is off: a crash of the server loses records. Set it to on.": settings["fsync"] == "off",
            "full_page_writes is off: a power cut damages records. Set it to on.": settings["pages"] == "off",
            "synchronous_commit is off: a crash of the server loses the last records. Set it to on.": (
                settings["synchronous"] == "off"
            ),
            f"its clock and this machine's differ by {difference:.0f} s. Set both by NTP.": difference > _CLOCK_SECONDS,
            "the connection is not encrypted. Add sslmode=verify-full to its address.": (
                not settings["ssl"] and not self._is_local
            ),
            "the server's certificate is not verified. Add sslmode=verify-full to its address.": (
                settings["ssl"] and not self._is_local and self._ssl_mode not in ("verify-ca", "verify-full")
            ),
        }
        return [warning for warning, holds in found.items() if holds]

    def close(self) -> None:
        self._closing.set()
        self._discard_idle()
        listener, self._listener = self._listener, None
        if listener is not None:
            if self._listening is not None:
                self._listening.interrupt()
            listener.join(STEP_SECONDS)

    async def watch(self, event: anyio.Event) -> None:
        if self._listener is None:
            self._closing.clear()
            wake = partial(asyncio.get_running_loop().call_soon_threadsafe, self.wake)
            self._listener = threading.Thread(
                target=self._listen, args=(wake,), name="connector-mcp listener", daemon=True
            )
            self._listener.start()
        await event.wait()

    def _listen(self, wake: Callable[[], object]) -> None:
        """Call `wake` for each notification, and when the connection was lost: something may have been missed then."""
        was_connected = False
        while not self._closing.is_set():
            # The event loop may be closed already.
            with suppress(psycopg.Error, StoreUnavailable, RuntimeError), closing(self._connect()) as link:
                self._listening = link
                link.connection.execute(f"LISTEN {CHANNEL}")
                if was_connected:
                    self.on_reconnect()
                was_connected = True
                wake()
                for _ in link.connection.notifies():
                    wake()
            with suppress(RuntimeError):
                wake()
            self._closing.wait(LISTEN_PAUSE)

    def _run(self, link: _Link, step: Step[_T]) -> _T:
        connection = link.connection
        step.interrupt = link.interrupt
        ended = None
        try:
            if step.abandoned:
                raise Abandoned
            with connection.pipeline() as pipeline:
                if step.writes:
                    connection.execute("BEGIN")
                execute, insert = partial(_execute, connection, pipeline), partial(_insert, connection)
                result = step.work(Transaction(step, execute, insert))
                if step.writes:
                    if step.notifies:
                        connection.execute(f"NOTIFY {CHANNEL}")
                    step.begin_commit()
                    ended = connection.execute("COMMIT")
            if ended is not None and ended.statusmessage != "COMMIT":
                raise psycopg.errors.InFailedSqlTransaction("a statement of the transaction failed")
        except BaseException:
            # What the server may still be doing must not be in the way of the next step.
            link.close()
            raise
        finally:
            # From now on the connection may be that of another step.
            step.interrupt = None
        for function in step.after_commit:
            function()
        self._keep(link)
        return result

    def _take_idle(self) -> _Link | None:
        with self._lock:
            while self._idle:
                link = self._idle.pop()
                if not link.was_ended():
                    return link
                link.close()
        return None

    def _keep(self, link: _Link) -> None:
        with self._lock:
            if not self._closing.is_set():
                self._idle.append(link)
                return
        link.close()

    def _discard_idle(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for link in idle:
            link.close()

    def _connect(self) -> _Link:
        connection = _Connection.connect(self._conninfo, autocommit=True, row_factory=dict_row)
        try:
            if not self._migrated:
                self._migrate(connection)
                self._migrated = True
            return _Link(connection)
        except BaseException as failure:
            connection.close()
            if isinstance(failure, OSError):
                raise psycopg.OperationalError(str(failure)) from failure
            raise

    def _migrate(self, connection: _Connection) -> None:
        # Without the lock first: a role that only reads may not create anything.
        if not self.migrations(self._schema_version(connection)):
            return
        with connection.transaction():
            # To index a long log takes longer than any other statement may.
            connection.execute("SET LOCAL statement_timeout = 0")
            # Replicas that start together migrate one after the other. Each waits for as long as its step may.
            connection.execute("SET LOCAL lock_timeout = 0")
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (_MIGRATION_LOCK,))
            connection.execute("SET LOCAL lock_timeout TO DEFAULT")
            found = self._schema_version(connection)
            if found == VERSION:
                return
            if found == 0:
                schema = connection.execute("SELECT to_regnamespace(%s) AS found", (self._schema,)).fetchone()
                if schema == {"found": None}:
                    connection.execute(f"CREATE SCHEMA {self._schema}".encode())
                connection.execute("CREATE TABLE schema_version (version INTEGER NOT NULL)")
            connection.execute(_EPOCH)
            for statement in self.migrations(found):
                # Counts need not survive a crash of the server, and are written without waiting for its disk.
                connection.execute(statement.replace("CREATE TABLE rates", "CREATE UNLOGGED TABLE rates").encode())
            connection.execute("DELETE FROM schema_version")
            connection.execute("INSERT INTO schema_version VALUES (%s)", (VERSION,))

    def _schema_version(self, connection: _Connection) -> int:
        # A query of the catalog sees what was made while it waited for the lock; the server's name cache may not.
        found = "SELECT 1 AS found FROM pg_tables WHERE schemaname = %s AND tablename = 'schema_version'"
        if connection.execute(found, (self._schema,)).fetchone() is None:
            return 0
        row = connection.execute(f"SELECT version FROM {self._schema}.schema_version".encode()).fetchone()
        return row["version"] if row else 0

    def _described(self, failure: psycopg.Error, step: Step[Any]) -> StoreUnavailable:
        said = failure.diag.message_primary or next(iter(str(failure).strip().splitlines()), type(failure).__name__)
        aborted = failure.sqlstate == "57014" or isinstance(failure, psycopg.errors.PipelineAborted)
        certain = aborted or (failure.sqlstate or "")[:2] in _CERTAIN
        reason = "it did not answer in time" if step.abandoned else said.strip()
        return self.failure(reason, uncertain=step.committing and not certain)


def _execute(connection: _Connection, pipeline: psycopg.Pipeline, sql: str, values: Values) -> Rows:
    cursor = connection.execute(_translated(sql), values)

    def fetch() -> Sequence[Row]:
        if cursor.pgresult is None:
            # Sends what waits, and receives all results. The message that ends it makes the server count the time until
            # the next statement. Without it a process that hangs, or a machine that lost its power, would keep its
            # locks for hours.
            pipeline.sync()
        return cursor.fetchall() if cursor.description else ()

    return Rows(fetch)


def _insert(connection: _Connection, table: str, rows: Sequence[Values]) -> None:
    columns = ", ".join(rows[0])
    # One statement for all rows: each one that is sent costs more than the row.
    sql = f"INSERT INTO {table} ({columns}) SELECT {columns} FROM json_populate_recordset(NULL::{table}, :rows)"
    connection.execute(_translated(sql), {"rows": json.dumps(rows)})


class SharedRates:
    """Counts requests for all replicas in the table `rates`, by the database's clock."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._taken = count(1)

    async def take(self, key: str, *, interval: float, burst: float, longest: float = 0.0) -> float:
        """Count one request, as `RateLimitStore.take` describes it."""
        values = {"key": key, "interval": interval, "ahead": interval * burst + longest}

        def work(transaction: Transaction) -> float:
            if next(self._taken) % _CLEAN_UP_EVERY == 0:
                transaction.execute("DELETE FROM rates WHERE due < epoch()")
            if (row := transaction.execute(_TAKE, values).first()) is not None:
                return max(0.0, row["ahead"] - interval * burst)
            row = transaction.execute(_LOOK, values).first()
            # Time has passed since the request was not counted. It must not look like one that was.
            return max(row["ahead"] - interval * burst if row else 0.0, math.nextafter(longest, math.inf))

        # A request may wait for its turn several times, so it has a time limit of its own.
        with one_allowance():
            return await self._database.write(work)


@lru_cache(maxsize=256)
def _translated(sql: str) -> bytes:
    return _NAME.sub(r"%(\1)s", sql.replace("%", "%%")).encode()
