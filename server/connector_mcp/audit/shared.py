"""The audit log that replicas share: one chain of sealed records in a journal.

Records are sealed and chained as in files (`chain.py`), with a key that the replicas share. A replica appends to the
end that it knows, and the journal accepts the lines only if that is still the end. Otherwise the replica reads the new
end and tries again. Records that arrive while others are being written are written together.
"""

from __future__ import annotations

import random
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import anyio
from anyio.from_thread import BlockingPortal, start_blocking_portal

from connector_mcp.audit.chain import HEAD_LOST, Head, seal, seal_head, unseal, unseal_head
from connector_mcp.audit.check import Line, LogSnapshot
from connector_mcp.audit.files import ended
from connector_mcp.audit.record import AuditRecord, encode_event, encode_record
from connector_mcp.errors import ConnectorError, StoreUnavailable
from connector_mcp.json_values import JsonObject
from connector_mcp.state.store import Journal, Store, known_key, secret_key

KEY = "audit"
"""Name of the key in the store."""

HEAD_NAME = "the head of the shared audit log"

_TOGETHER = 200
"""Maximum number of records written at once."""

_ATTEMPTS = 60
_PAUSE = 0.001
"""Seconds. The random pause after a failed attempt is at most this times the number of attempts."""

_PAGE = 500


@dataclass(eq=False)
class _QueuedRecord:
    members: bytes
    failure: ConnectorError | None
    """Why it is not written; None once it is."""


class SharedTrail:
    """An `AuditTrail` in a journal, with the key from the shared store. Closes the journal."""

    def __init__(self, journal: Journal, store: Store) -> None:
        self._journal = journal
        self._store = store
        self._key = b""
        self._waiting: list[_QueuedRecord] = []
        self._lock = anyio.Lock()
        self._known: str | None = None
        """The head as it was last read; None before the first time."""
        self._head = Head()
        self._events: list[JsonObject] = []
        """Events to write before the next record."""

    async def check(self) -> None:
        await self._journal.probe()

    async def write(self, record: AuditRecord) -> None:
        queued = _QueuedRecord(encode_record(record), _not_written("the server failed while it was written"))
        self._waiting.append(queued)
        # This call may write the records of others, and lines that were sent may have been accepted, so it is not
        # interrupted. Timeouts bound the time.
        with anyio.CancelScope(shield=True):
            async with self._lock:
                if queued in self._waiting:
                    await self._write_waiting()
        if queued.failure is not None:
            raise queued.failure

    async def recent(self, limit: int) -> list[JsonObject]:
        key = await secret_key(self._store, KEY)
        found: list[JsonObject] = []
        before = ""
        while len(found) < limit:
            page = await self._journal.latest(_PAGE, before=before)
            found += ended(unseal(line.encode(), key) for _, line in page)
            if len(page) < _PAGE:
                break
            before = page[-1][0]
        return found[:limit]

    async def aclose(self) -> None:
        await self._journal.aclose()

    async def _write_waiting(self) -> None:
        together, self._waiting = self._waiting[:_TOGETHER], self._waiting[_TOGETHER:]
        failure: ConnectorError | None = None
        try:
            await self._append([each.members for each in together])
        except ConnectorError as error:
            failure = error
        for each in together:
            each.failure = failure

    async def _append(self, records: Sequence[bytes]) -> None:
        if self._known is None:
            await self._read_end("")
        for attempt in range(_ATTEMPTS):
            lines, head = self._chained([*map(encode_event, self._events), *records])
            sealed = seal_head(head, self._key).decode("ascii").strip()
            found = await self._journal.append(lines, head=sealed, expected=self._known or "")
            if found is None:
                self._known, self._head, self._events = sealed, head, []
                return
            await self._read_end(found)
            await anyio.sleep(random.random() * _PAUSE * attempt)  # noqa: S311 - spreads writers, guards nothing
        raise _not_written("other replicas were faster every time")

    def _chained(self, records: Sequence[bytes]) -> tuple[list[str], Head]:
        seq, last = self._head.seq, self._head.hash
        lines: list[str] = []
        for members in records:
            seq += 1
            line, last = seal(members, seq, last, self._key)
            lines.append(line.decode("ascii").rstrip("\n"))
        return lines, Head(seq, last)

    async def _read_end(self, found: str) -> None:
        """Read the end of the chain from the head that was found, or from the last record if the head is not valid."""
        head, lost = unseal_head(found.encode(), self._key), False
        if head is None:
            # If the store lost its data, it lost the key too.
            self._key = await secret_key(self._store, KEY)
            found, last_line = await self._journal.end()
            head = unseal_head(found.encode(), self._key)
            if head is None:
                lost = bool(last_line)
                head = await self._last_known()
        if lost or head.seq < self._head.seq:
            self._events = [{"event": HEAD_LOST}]
        self._known, self._head = found, head

    async def _last_known(self) -> Head:
        entries = [unseal(line.encode(), self._key) for _, line in await self._journal.latest(_PAGE)]
        last = next((entry for entry in entries if entry is not None), None)
        return Head(last.seq, last.hash) if last else Head()


@contextmanager
def shared_snapshot(journal: Journal, store: Store) -> Generator[LogSnapshot]:
    """Open the log in the journal, and close journal and store at the end. Must not be called on an event loop.

    Raises:
        StoreUnavailable: There is no log, its key is missing or damaged, or it cannot be read.
    """
    with start_blocking_portal() as portal:
        try:
            key = portal.call(known_key, store, KEY)
            found, last = portal.call(journal.end)
            if key is None:
                reason = "its key is missing" if last or found else "there is none"
                raise StoreUnavailable(
                    f"The shared audit log cannot be checked: {reason}.",
                    fix="Put Redis's data back from a copy, or make a call first.",
                    retryable=False,
                )
            head = unseal_head(found.encode(), key)
            # A key without records means that the log was emptied: the key is made with the first record.
            yield LogSnapshot(head, HEAD_NAME, True, partial(_lines, journal, key, last, portal))
        finally:
            portal.call(journal.aclose)
            portal.call(store.aclose)


def _lines(journal: Journal, key: bytes, last: str, portal: BlockingPortal) -> Iterator[Line]:
    after = ""
    while after != last:
        page = portal.call(partial(journal.page, _PAGE, after=after, until=last))
        if not page:
            return
        for place, text in page:
            raw = text.encode("utf-8", "surrogateescape")
            yield Line(f"entry {place}", raw, True, unseal(raw, key))
        after = page[-1][0]


def _not_written(reason: str) -> StoreUnavailable:
    return StoreUnavailable(
        f"The shared audit log cannot be written: {reason}.",
        fix="Call again. If the error persists, check the Redis server named by CONNECTOR_MCP_STATE.",
    )
