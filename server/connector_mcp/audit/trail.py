"""Appends sealed records to the audit log in the database.

A record can be part of any transaction, so that it exists if and only if what it describes does. Records of calls that
end at the same time are written together.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import lru_cache, partial
from operator import attrgetter
from typing import Any, Final, NamedTuple, TypeVar

import anyio
from anyio.lowlevel import checkpoint

from connector_mcp.audit import chain
from connector_mcp.audit.chain import UNKNOWN, CameBackOlder, Head, unseal
from connector_mcp.audit.record import AuditRecord, encode_event, encode_record, utc_time
from connector_mcp.errors import StoreUnavailable, StoreUncertain
from connector_mcp.json_values import JsonObject
from connector_mcp.state.database import Database, Rows, Transaction, Value, Work, one_allowance
from connector_mcp.state.keys import decode_key, new_key

KEY: Final = "audit"
"""Name of the key that seals the records."""

COLUMNS: Final = ("call_id", "phase", "transport", "principal", "tool", "target", "outcome")
"""The columns that repeat members of the line."""
_columns_of: Final = attrgetter(*COLUMNS)
_NO_COLUMNS: Final = (None,) * len(COLUMNS)

_TOGETHER: Final = 200
"""Maximum number of records written at once."""

_TURNS: Final = 3
"""Turns of the event loop for which a batch is open. A commit costs more than several records."""

END: Final = """
    (SELECT value FROM keys WHERE name = 'audit') AS secret, (SELECT max(seq) FROM audit) AS top,
    (SELECT substr(line, length(line) - 65, 64) FROM audit WHERE seq = :seq) AS known
"""
"""What is selected with the head: the key, the highest number of a row, and the hash of the record `:seq`."""

# Locks the end of the chain, so that only one process at a time adds to it.
_LOCK: Final = f"UPDATE audit_chain SET head = head WHERE id = 1 RETURNING head, epoch() AS now, {END}"
_REASON: Final = "The database came back older, so it is not known what was decided or used since."
# Nothing that was open in a database that came back older counts any more, and no running call is sure of its outcome.
_VOID: Final = (
    "UPDATE approvals SET status = 'void', is_open = 0, reason = :reason, decided_at = coalesce(decided_at, epoch()) "
    "WHERE status IN ('pending', 'approved')",
    "DELETE FROM questions",
    "DELETE FROM secret_requests",
    "DELETE FROM console_sessions",
    "UPDATE executions SET outcome = 'unknown' WHERE outcome = 'running'",
    "UPDATE plans SET status = 'void' WHERE status IN ('planned', 'begun')",
)
_T = TypeVar("_T")

logger = logging.getLogger(__name__)


class AuditTrail:
    """The audit log, for one process and one event loop. Safe for concurrent calls."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._batch = _Batch()
        self._writing = anyio.Lock(fast_acquire=True)
        self._last = UNKNOWN
        """Where the chain ended when this process last added to it."""
        database.on_reconnect = self._check_now

    def lock(self, transaction: Transaction) -> LockedChain:
        """Lock the end of the chain and return it. The lock lasts as long as the transaction.

        A transaction that asks for other results too takes the lock first, so that one round trip brings all of them,
        and so that two transactions never wait for one another.
        """
        return LockedChain(transaction, self._last, self._remember)

    def append(self, transaction: Transaction, records: Sequence[AuditRecord]) -> None:
        """Append records as part of a transaction.

        Raises:
            StoreUnavailable: The chain cannot be continued. Let it end the transaction.
        """
        self.lock(transaction).append(records)

    async def write(self, record: AuditRecord, also: Work[_T] | None = None) -> _T | None:
        """Append a record, and run `also` in the same transaction. Return its result.

        Both are done even if the call is cancelled meanwhile. The transaction may hold the records of other calls.

        Raises:
            StoreUnavailable: Neither was done.
            StoreUncertain: Both may have been done.
        """
        batch = self._batch
        place = len(batch.parts)
        batch.parts.append((record, also))
        if place + 1 == _TOGETHER:
            self._batch = _Batch()
        # This call may write the records of others, so it is not interrupted. The database bounds the time.
        with anyio.CancelScope(shield=True):
            if place == 0:
                await self._write_batch(batch)
            else:
                await batch.written.wait()
        if batch.failure is not None:
            raise batch.failure
        return batch.results[place]

    async def check(self) -> None:
        """Check that a record could be written now.

        Raises:
            StoreUnavailable: It could not.
        """
        await self._write((), lambda _: None, durable=False)

    async def recent(self, limit: int, *, before: int | None = None, after: int | None = None) -> list[JsonObject]:
        """Return the records of the calls that ended last, newest first.

        With `before` those before that number, with `after` the oldest ones after it.

        Raises:
            StoreUnavailable: The log cannot be read.
        """
        condition, order = ("seq > :bound", "ASC") if after is not None else ("seq < :bound", "DESC")
        values = {"bound": after if after is not None else before or 2**62, "limit": limit}

        def read(transaction: Transaction) -> list[JsonObject]:
            secret = transaction.execute("SELECT value FROM keys WHERE name = 'audit'")
            lines = transaction.execute(
                f"SELECT line FROM audit WHERE phase = 'ended' AND {condition} ORDER BY seq {order} LIMIT :limit",
                values,
            )
            row = secret.first()
            key = decode_key(row["value"], KEY) if row else b""
            return [record for each in lines.all() if (record := unseal(each["line"], key)) is not None]

        found = await self._database.read(read)
        return found if after is None else found[::-1]

    async def aclose(self) -> None:
        """Wait for the records that are being written."""
        async with self._writing:
            pass

    async def _write_batch(self, batch: _Batch) -> None:
        def work(transaction: Transaction) -> list[Any]:
            return [also and also(transaction) for _, also in batch.parts]

        async with self._writing:
            # Calls that end in the same moment get here within a few turns of the event loop.
            for _ in range(_TURNS):
                await checkpoint()
            # Records that come from now on go into the next batch.
            if self._batch is batch:
                self._batch = _Batch()
            try:
                with one_allowance():
                    # The end of a call that changed nothing need not survive a power cut.
                    durable = any(also for _, also in batch.parts)
                    batch.results = await self._write([record for record, _ in batch.parts], work, durable=durable)
                batch.failure = None
            except Exception as failure:  # noqa: BLE001 - every call of the batch raises it
                batch.failure = failure
            finally:
                batch.written.set()

    async def _write(self, records: Sequence[AuditRecord], also: Work[_T], *, durable: bool) -> _T:
        def work(transaction: Transaction, append: Callable[..., None] = self.append) -> _T:
            append(transaction, records)
            return also(transaction)

        try:
            return await self._database.write(work, durable=durable)
        except CameBackOlder:
            # What is void now must not be open again after a power cut.
            return await self._database.write(partial(work, append=self._continue))

    def _check_now(self) -> None:
        with suppress(StoreUnavailable):
            self._database.write_now(self._continue)

    def _continue(self, transaction: Transaction, records: Sequence[AuditRecord] = ()) -> None:
        """Append records. If the database came back older, void everything that is open in it first."""
        try:
            self.append(transaction, records)
        except CameBackOlder as failure:
            event = {"event": chain.RESTORED, "known": self._last.seq}
            LockedChain(transaction, remember=self._remember).append((), [event])
            for statement in _VOID:
                transaction.execute(statement, {"reason": _REASON} if ":reason" in statement else {})
            transaction.notify()
            transaction.after_commit(self._database.known_keys.clear)
            transaction.after_commit(partial(logger.error, "%s: %s", self._database.address, failure.message))
            self.append(transaction, records)

    def _remember(self, head: Head) -> None:
        self._last = head


class _Batch:
    """Records that are written in one transaction, each with what belongs to it."""

    def __init__(self) -> None:
        self.parts: list[tuple[AuditRecord, Work[Any] | None]] = []
        self.results: list[Any] = []
        self.written = anyio.Event()
        self.failure: Exception | None = StoreUncertain(
            "The server was stopped while it wrote an audit record.", fix="Look at the audit log.", retryable=False
        )
        """Why the records were not written. Valid once `written` is set."""


class _End(NamedTuple):
    """What is known at the end of the chain."""

    head: Head
    key: bytes
    now: float
    top: int
    """The highest number of a row."""
    events: Sequence[JsonObject] = ()
    """What must be recorded before the next record."""
    new_secret: str | None = None
    """The key, if it must be stored with the first record."""


class LockedChain:
    """The end of the chain, locked by a transaction."""

    def __init__(
        self, transaction: Transaction, last: Head = UNKNOWN, remember: Callable[[Head], object] = lambda _: None
    ) -> None:
        """`last` is where this process saw the chain end. `remember` is told where it ends after the commit."""
        self._transaction = transaction
        self._last = last
        self._remember = remember
        self._locked: Rows = transaction.execute(_LOCK, {"seq": last.seq})

    def append(
        self, records: Sequence[AuditRecord], events: Sequence[JsonObject] = (), *, first: int | None = None
    ) -> None:
        """Append events, then records. `first` is the number with which the log begins from now on.

        Raises:
            StoreUnavailable: The chain cannot be continued. Let it end the transaction.
        """
        head, key, now, top, own_events, new_secret = self.open()
        if not (records or events):
            return
        if new_secret is not None:
            values = {"name": KEY, "value": new_secret}
            self._transaction.execute("INSERT INTO keys (name, value) VALUES (:name, :value)", values)
        at = round(now, 3)
        time = utc_time(at)
        encoded: list[tuple[bytes, AuditRecord | None]] = [
            *((encode_event({"time": time, **event}), None) for event in (*own_events, *events)),
            *((encode_record(record, time), record) for record in records),
        ]
        # A row that the head does not know is made up. It stays for the check to find.
        seq, last, values = max(head.seq, top), head.hash, list[Value]()
        for members, record in encoded:
            seq += 1
            line, last = chain.seal(members, seq, last, key)
            values += (seq, at, *(_columns_of(record) if record else _NO_COLUMNS), line)
        sql, names = _insert(len(encoded))
        self._transaction.execute(sql, dict(zip(names, values, strict=True)))
        restored = seq if any(event["event"] == chain.RESTORED for event in events) else head.restored
        new = Head(seq, last, first or head.first, restored)
        self._transaction.execute(
            "UPDATE audit_chain SET head = :head WHERE id = 1", {"head": chain.seal_head(new, key)}
        )
        self._transaction.after_commit(partial(self._remember, new))

    def open(self) -> _End:
        """Return the end of the chain.

        Raises:
            CameBackOlder: The database is an older copy of the one that this process has written to.
            StoreUnavailable: The key of the chain is missing or damaged.
        """
        row = self._locked.first()
        if row is None or row["secret"] is None:
            # PostgreSQL may have looked for the key before it waited for the lock, while another process made it.
            self._transaction.execute("INSERT INTO audit_chain (id, head) VALUES (1, '') ON CONFLICT (id) DO NOTHING")
            row = self._transaction.execute(_LOCK, {"seq": self._last.seq}).all()[0]
        text, now, secret, top = row["head"], row["now"], row["secret"], row["top"] or 0
        key = None if secret is None else decode_key(secret, KEY)
        head = None if key is None else chain.unseal_head(text, key)
        recovered = head is not None and head.restored > self._last.restored
        if chain.came_back_older(self._last, head, row["known"]) and not recovered:
            raise CameBackOlder(
                f"The database came back older: audit record {self._last.seq} is gone. What was open in it is void.",
                fix="Look at the present state before you repeat anything, then call again.",
            )
        if key is None:
            if text or top:
                raise StoreUnavailable(
                    "The audit log's key is missing, so the log cannot be continued.",
                    fix="Put the table `keys` back from a copy, or start with a new database.",
                    retryable=False,
                )
            secret = new_key()
            return _End(Head(), decode_key(secret, KEY), now, 0, new_secret=secret)
        if head is not None:
            return _End(head, key, now, top)
        # The key is made with the first record, so there were records.
        return _End(self._last_known(key), key, now, top, [{"event": chain.HEAD_LOST}])

    def _last_known(self, key: bytes) -> Head:
        rows = self._transaction.execute("SELECT line FROM audit ORDER BY seq DESC LIMIT 500").all()
        last = next((record for row in rows if (record := unseal(row["line"], key)) is not None), None)
        first = self._transaction.execute("SELECT min(seq) AS first FROM audit").all()[0]["first"]
        return Head(last["seq"], last["hash"], first) if last else Head()


@lru_cache(maxsize=_TOGETHER + 1)
def _insert(count: int) -> tuple[str, Sequence[str]]:
    """Return the statement that inserts some rows at once, and the names of its values, row by row."""
    columns = ("seq", "at", *COLUMNS, "line")
    rows = [[f"{name}{number}" for name in columns] for number in range(count)]
    places = (f"(:{', :'.join(names)})" for names in rows)
    sql = f"INSERT INTO audit ({', '.join(columns)}) VALUES {', '.join(places)}"
    return sql, [name for names in rows for name in names]
