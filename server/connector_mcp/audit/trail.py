"""Appends sealed records to the audit log in the database.

A record can be part of any transaction, so that it exists if and only if what it describes does. Records of calls that
end at the same time are written together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, TypeVar

import anyio

from connector_mcp.audit.chain import Head, seal, seal_head, unseal, unseal_head
from connector_mcp.audit.record import AuditRecord, encode_event, encode_record
from connector_mcp.errors import StoreUnavailable, StoreUncertain
from connector_mcp.json_values import JsonObject
from connector_mcp.state.database import Database, Rows, Transaction, Work, one_allowance
from connector_mcp.state.keys import decode_key, new_key

KEY: Final = "audit"
"""Name of the key that seals the records."""

HEAD_LOST: Final = "head_lost"
"""Event of a record that was written without knowing where the chain ended."""

_TOGETHER: Final = 200
"""Maximum number of records written at once."""

# Locks the end of the chain, so that only one process at a time adds to it.
_LOCK: Final = """
UPDATE audit_chain SET head = head WHERE id = 1 RETURNING
    head,
    epoch() AS now,
    (SELECT value FROM keys WHERE name = 'audit') AS secret,
    (SELECT max(seq) FROM audit) AS top,
    (SELECT substr(line, length(line) - 65, 64) FROM audit WHERE seq = :seq) AS known
"""
_INSERT: Final = """
INSERT INTO audit (seq, at, call_id, phase, principal, tool, outcome, line)
VALUES (:seq, :at, :call_id, :phase, :principal, :tool, :outcome, :line)
"""
COLUMNS: Final = ("call_id", "phase", "principal", "tool", "outcome")
"""The columns that repeat members of the line."""

_T = TypeVar("_T")


class AuditTrail:
    """The audit log, for one process and one event loop. Safe for concurrent calls."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._batch = _Batch()
        self._writing = anyio.Lock()
        self._last = Head()
        """Where the chain ended when this process last added to it."""

    def lock(self, transaction: Transaction) -> LockedChain:
        """Lock the end of the chain and return it. The lock lasts as long as the transaction.

        A transaction that asks for other results too takes the lock first, so that one round trip brings all of them,
        and so that two transactions never wait for one another.
        """
        return LockedChain(transaction, self._last, self._remember)

    def append(self, transaction: Transaction, records: Sequence[AuditRecord]) -> None:
        """Append records as part of a transaction.

        Raises:
            StoreUnavailable: The records cannot be sealed. Let it end the transaction.
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
        place = batch.add(record, also)
        if len(batch.records) == _TOGETHER:
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
        await self._database.write(lambda transaction: self.lock(transaction).check(), durable=False)

    async def recent(self, limit: int) -> list[JsonObject]:
        """Return the records of the calls that ended last, newest first.

        Raises:
            StoreUnavailable: The log cannot be read.
        """

        def read(transaction: Transaction) -> list[JsonObject]:
            secret = transaction.execute("SELECT value FROM keys WHERE name = 'audit'")
            lines = transaction.execute(
                "SELECT line FROM audit WHERE phase = 'ended' ORDER BY seq DESC LIMIT :limit", {"limit": limit}
            )
            row = secret.first()
            if row is None:
                return []
            key = decode_key(row["value"], KEY)
            entries = (unseal(each["line"].encode(), key) for each in lines.all())
            return [entry.members for entry in entries if entry is not None]

        return await self._database.read(read)

    async def aclose(self) -> None:
        """Wait for the records that are being written."""
        async with self._writing:
            pass

    async def _write_batch(self, batch: _Batch) -> None:
        async with self._writing:
            # Records that come from now on go into the next batch.
            if self._batch is batch:
                self._batch = _Batch()
            try:
                with one_allowance():
                    work = partial(self._append_batch, batch)
                    batch.results = await self._database.write(work, durable=batch.durable)
                batch.failure = None
            except BaseException as failure:
                if isinstance(failure, Exception):
                    batch.failure = failure
                raise
            finally:
                batch.written.set()

    def _append_batch(self, batch: _Batch, transaction: Transaction) -> list[Any]:
        self.append(transaction, batch.records)
        return [None if also is None else also(transaction) for also in batch.also]

    def _remember(self, head: Head) -> None:
        self._last = head


class _Batch:
    """Records that are written in one transaction, each with what belongs to it."""

    def __init__(self) -> None:
        self.records: list[AuditRecord] = []
        self.also: list[Work[Any] | None] = []
        self.results: list[Any] = []
        self.written = anyio.Event()
        self.failure: Exception | None = StoreUncertain(
            "The server was stopped while it wrote an audit record.", fix="Look at the audit log.", retryable=False
        )
        """Why the records were not written. Valid once `written` is set."""

    @property
    def durable(self) -> bool:
        """Whether it must survive a power cut: not the end of a call that changed nothing."""
        return any(also is not None for also in self.also)

    def add(self, record: AuditRecord, also: Work[Any] | None) -> int:
        """Add a record and return its place."""
        self.records.append(record)
        self.also.append(also)
        return len(self.records) - 1


class LockedChain:
    """The end of the chain, locked by a transaction."""

    def __init__(self, transaction: Transaction, last: Head, remember: Callable[[Head], None]) -> None:
        self._transaction = transaction
        self._last = last
        self._remember = remember
        self._locked: Rows = transaction.execute(_LOCK, {"seq": last.seq})

    def check(self) -> None:
        """Check that the chain can be continued.

        Raises:
            StoreUnavailable: Its key is missing or damaged.
        """
        self._open()

    def append(self, records: Sequence[AuditRecord]) -> None:
        """Append records.

        Raises:
            StoreUnavailable: The key of the chain is missing or damaged.
        """
        head, key, now, top, events = self._open()
        at = round(now, 3)
        time = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        encoded = [encode_event({"time": time, **event}) for event in events]
        encoded += [encode_record(record, time) for record in records]
        columns: list[JsonObject] = [*({} for _ in events), *map(vars, records)]
        # A row that the head does not know is made up. It stays for the check to find.
        seq, last = max(head.seq, top), head.hash
        for members, column in zip(encoded, columns, strict=True):
            seq += 1
            line, last = seal(members, seq, last, key)
            values = {name: column.get(name) for name in COLUMNS}
            self._transaction.execute(_INSERT, {"seq": seq, "at": at, **values, "line": line[:-1].decode("ascii")})
        new = Head(seq, last, 0, head.first)
        self._transaction.execute(
            "UPDATE audit_chain SET head = :head WHERE id = 1", {"head": seal_head(new, key).decode("ascii").strip()}
        )
        self._transaction.after_commit(partial(self._remember, new))

    def _open(self) -> tuple[Head, bytes, float, int, list[JsonObject]]:
        row = self._locked.first()
        if row is None:
            self._transaction.execute("INSERT INTO audit_chain (id, head) VALUES (1, '') ON CONFLICT (id) DO NOTHING")
            row = self._transaction.execute(_LOCK, {"seq": self._last.seq}).first()
            assert row is not None  # noqa: S101 - it was inserted
        top = row["top"] or 0
        if row["secret"] is not None:
            key = decode_key(row["secret"], KEY)
        elif row["head"] or top:
            raise StoreUnavailable(
                "The audit log's key is missing, so the log cannot be continued.",
                fix="Put the table `keys` back from a copy, or start with a new database.",
                retryable=False,
            )
        else:
            secret = new_key()
            key = decode_key(secret, KEY)
            values = {"name": KEY, "value": secret}
            self._transaction.execute("INSERT INTO keys (name, value) VALUES (:name, :value)", values)
            return Head(), key, row["now"], 0, []
        head = unseal_head(row["head"].encode(), key)
        if head is not None:
            return head, key, row["now"], top, []
        # The key is made with the first record, so there were records.
        return self._last_known(key), key, row["now"], top, [{"event": HEAD_LOST}]

    def _last_known(self, key: bytes) -> Head:
        rows = self._transaction.execute("SELECT line FROM audit ORDER BY seq DESC LIMIT 500").all()
        entries = (unseal(each["line"].encode(), key) for each in rows)
        last = next((entry for entry in entries if entry is not None), None)
        return Head(last.seq, last.hash) if last else Head()
