"""Appends sealed records to the audit log in the database.

A record can be part of any transaction, so that it exists if and only if what it describes does. Records of calls that
end at the same time are written together.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Final, NamedTuple

import anyio
from anyio.lowlevel import checkpoint

from connector_mcp.audit import chain
from connector_mcp.audit.chain import UNKNOWN, CameBackOlder, Head, unseal
from connector_mcp.audit.record import AuditRecord, encode_record, utc_time
from connector_mcp.errors import StoreUnavailable, StoreUncertain
from connector_mcp.json_values import JsonObject
from connector_mcp.state.database import Database, Rows, Transaction, Values, Work, one_allowance
from connector_mcp.state.keys import decode_key, new_key

KEY: Final = "audit"
"""Name of the key that seals the records."""

COLUMNS: Final = ("call_id", "phase", "transport", "principal", "tool", "target", "outcome")
"""The columns that repeat members of the line."""

_TOGETHER: Final = 200
"""Maximum number of records written at once."""

_TURNS: Final = 3
"""Turns of the event loop for which a batch is open. A commit costs more than several records."""

END: Final = """
    (SELECT value FROM keys WHERE name = 'audit') AS secret, (SELECT max(seq) FROM audit) AS top,
    (SELECT substr(line, length(line) - 65, 64) FROM audit WHERE seq = :seq) AS known
"""
"""What is selected with the head: the key, the highest number of a row, and the hash of the record `:seq`."""

_NEW_KEY: Final = f"INSERT INTO keys (name, value) VALUES ('{KEY}', :value)"
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

    async def write(self, record: AuditRecord, also: Work[None] | None = None) -> None:
        """Append a record, and run `also` in the same transaction, which may hold the records of other calls.

        Both are done even if the call is cancelled meanwhile.

        Raises:
            StoreUnavailable: Neither was done.
            StoreUncertain: Both may have been done.
        """
        batch = self._batch
        # Encoding takes twice as long in the thread of the database, where nothing of the record is in the cache.
        batch.entries.append(encode(vars(record)))
        if also is not None:
            batch.works.append(also)
        size = len(batch.entries)
        if size == _TOGETHER:
            self._batch = _Batch()
        # The first call writes the records of all, so it is not interrupted. The database bounds the time.
        with anyio.CancelScope(shield=True):
            if size == 1:
                await self._write_batch(batch)
            else:
                await batch.written.wait()
        if batch.failure is not None:
            raise batch.failure

    async def check(self) -> None:
        """Check that a record could be written now.

        Raises:
            StoreUnavailable: It could not.
        """
        await self._write()

    async def aclose(self) -> None:
        """Wait for the records that are being written."""
        async with self._writing:
            pass

    async def _write_batch(self, batch: _Batch) -> None:
        async with self._writing:
            # Calls that end in the same moment get here within a few turns of the event loop.
            for _ in range(_TURNS):
                await checkpoint()
            # Records that come from now on go into the next batch.
            if self._batch is batch:
                self._batch = _Batch()
            try:
                with one_allowance():
                    await self._write(batch.entries, batch.works)
                batch.failure = None
            except Exception as failure:  # noqa: BLE001 - every call of the batch raises it
                batch.failure = failure
            finally:
                batch.written.set()

    async def _write(self, entries: Sequence[EncodedRecord] = (), works: Sequence[Work[None]] = ()) -> None:
        def work(transaction: Transaction, *, restored: bool = False) -> None:
            if restored:
                self._void_if_older(transaction)
            self.lock(transaction).append(entries)
            for also in works:
                also(transaction)

        try:
            # The end of a call that changed nothing need not survive a power cut.
            await self._database.write(work, durable=bool(works))
        except CameBackOlder:
            # What is void now must not be open again after a power cut.
            await self._database.write(partial(work, restored=True))

    def _check_now(self) -> None:
        with suppress(StoreUnavailable):
            self._database.write_now(self._void_if_older)

    def _void_if_older(self, transaction: Transaction) -> None:
        """Void everything that is open in the database if it came back older."""
        try:
            self.lock(transaction).open()
        except CameBackOlder as failure:
            event = {"event": chain.RESTORED, "known": self._last.seq}
            LockedChain(transaction, UNKNOWN, self._remember).append([encode(event)], restored=True)
            for statement in _VOID:
                transaction.execute(statement, {"reason": _REASON})
            transaction.notify()
            transaction.after_commit(partial(logger.error, "%s: %s", self._database.address, failure.message))

    def _remember(self, head: Head) -> None:
        if head.restored != self._last.restored:
            # A database that came back older may lack keys that were made since, whichever process noticed it.
            self._database.known_keys.clear()
        self._last = head


class EncodedRecord(NamedTuple):
    """A record that is ready to be sealed."""

    columns: Values
    members: bytes


def encode(members: JsonObject) -> EncodedRecord:
    """Encode the members of a record or an event."""
    return EncodedRecord({name: members.get(name) for name in COLUMNS}, encode_record(members))


class _Batch:
    """Records that are written in one transaction, each with what belongs to it."""

    def __init__(self) -> None:
        self.entries: list[EncodedRecord] = []
        self.works: list[Work[None]] = []
        self.written = anyio.Event()
        self.failure: Exception | None = StoreUncertain(
            "The server was stopped while it wrote an audit record.", fix="Look at the audit log.", retryable=False
        )
        """Why the records were not written. Valid once `written` is set."""


class _End(NamedTuple):
    """What is known at the end of the chain."""

    head: Head | None
    """None if it is missing or altered."""
    key: bytes | None
    """None before the first record, with which the key is made."""
    now: float
    top: int
    """The highest number of a row."""


class LockedChain:
    """The end of the chain, locked by a transaction."""

    def __init__(self, transaction: Transaction, last: Head, remember: Callable[[Head], object]) -> None:
        """`last` is where this process saw the chain end. `remember` is told where it ends after the commit."""
        self._transaction = transaction
        self._last = last
        self._remember = remember
        self._locked: Rows = transaction.execute(_LOCK, {"seq": last.seq})

    def append(self, entries: Sequence[EncodedRecord], *, first: int | None = None, restored: bool = False) -> None:
        """Append records. `first` is the number with which the log begins from now on.

        Raises:
            StoreUnavailable: The chain cannot be continued. Let it end the transaction.
        """
        head, key, now, top = self.open()
        if not entries:
            return
        if key is None:
            secret = new_key()
            self._transaction.execute(_NEW_KEY, {"value": secret})
            head, key = Head(), decode_key(secret, KEY)
        elif head is None:
            head, entries = self._last_known(key), [encode({"event": chain.HEAD_LOST}), *entries]
        at = round(now, 3)
        time = utc_time(at)
        # A row that the head does not know is made up. It stays for the check to find.
        seq, last, rows = max(head.seq, top), head.hash, list[Values]()
        for columns, members in entries:
            seq += 1
            line, last = chain.seal(members, seq, time, last, key)
            rows.append({**columns, "seq": seq, "at": at, "line": line})
        self._transaction.insert("audit", rows)
        new = Head(seq, last, first or head.first, seq if restored else head.restored)
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
        key = None if row["secret"] is None else decode_key(row["secret"], KEY)
        head = None if key is None else chain.unseal_head(row["head"], key)
        recovered = head is not None and head.restored > self._last.restored
        if chain.came_back_older(self._last, head, row["known"]) and not recovered:
            raise CameBackOlder(
                f"The database came back older: audit record {self._last.seq} is gone. What was open in it is void.",
                fix="Look at the present state before you repeat anything, then call again.",
            )
        if key is None and (row["head"] or row["top"]):
            raise StoreUnavailable(
                "The audit log's key is missing, so the log cannot be continued.",
                fix="Put the table `keys` back from a copy, or start with a new database.",
                retryable=False,
            )
        return _End(head, key, row["now"], row["top"] or 0)

    def _last_known(self, key: bytes) -> Head:
        rows = self._transaction.execute("SELECT line FROM audit ORDER BY seq DESC LIMIT 500").all()
        last = next((record for row in rows if (record := unseal(row["line"], key)) is not None), None)
        first = self._transaction.execute("SELECT min(seq) AS first FROM audit").all()[0]["first"]
        return Head(last["seq"], last["hash"], first) if last else Head()
