"""The audit log of all replicas: one chain of sealed records in the store's journal.

Records are sealed and chained as in files (`audit_chain.py`), with a key that the replicas share. A replica seals what
it has to write onto the end that it knows, and the journal takes it only where that is still the end; otherwise the
replica learns the new end and tries again. Records that come while others are on their way are written together.
"""

from __future__ import annotations

import random
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import anyio
from anyio.from_thread import BlockingPortal, start_blocking_portal

from connector_mcp.audit.chain import Entry, Head, seal, seal_head, unseal, unseal_head
from connector_mcp.audit.check import Line
from connector_mcp.audit.record import AuditRecord, encode_event, encode_record
from connector_mcp.audit.recovery import HEAD_LOST
from connector_mcp.audit.trail import ended
from connector_mcp.errors import ConnectorError, StoreUnavailable
from connector_mcp.json_values import JsonObject
from connector_mcp.state.store import Journal, Store, known_key, secret_key

KEY = "audit"
"""Name of the key in the store."""

HEAD_NAME = "the head of the shared audit log"

_TOGETHER = 200
"""Records that are written at once, at most."""

_ATTEMPTS = 60
_PAUSE = 0.001
"""Seconds; upper bound of the random pause after the first attempt that came too late, and what it grows by."""

_PAGE = 500


@dataclass(eq=False)
class _Waiting:
    members: bytes
    failure: ConnectorError | None
    """Why it is not written; there is a reason until it is."""


class SharedTrail:
    """An `AuditTrail` in a journal, with the key from the store that the replicas share. Closes the journal."""

    def __init__(self, journal: Journal, store: Store) -> None:
        self._journal = journal
        self._store = store
        self._key = b""
        self._waiting: list[_Waiting] = []
        self._turn = anyio.Lock()
        self._known: str | None = None
        """The head as it was last seen; None before that."""
        self._head = Head()
        self._events: list[JsonObject] = []
        """What is to be written before the next record."""

    async def check(self) -> None:
        await self._journal.probe()

    async def write(self, record: AuditRecord) -> None:
        mine = _Waiting(encode_record(record), _not_written("the server failed while it was written"))
        self._waiting.append(mine)
        # Others' records go along, and what was sent may have been taken: it is seen through. Time-outs bound it.
        with anyio.CancelScope(shield=True):
            async with self._turn:
                if mine in self._waiting:
                    await self._write_waiting()
        if mine.failure is not None:
            raise mine.failure

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
        try:
            await self._append([each.members for each in together])
        except ConnectorError as failure:
            for each in together:
                each.failure = failure
        else:
            for each in together:
                each.failure = None

    async def _append(self, records: Sequence[bytes]) -> None:
        if self._known is None:
            await self._learn("")
        for attempt in range(_ATTEMPTS):
            lines, head = self._chained([*map(encode_event, self._events), *records])
            sealed = seal_head(head, self._key).decode("ascii").strip()
            found = await self._journal.append(lines, head=sealed, expected=self._known or "")
            if found is None:
                self._known, self._head, self._events = sealed, head, []
                return
            await self._learn(found)
            await anyio.sleep(random.random() * _PAUSE * attempt)  # noqa: S311 - spreads writers, guards nothing
        raise _not_written("other replicas were always faster")

    def _chained(self, records: Sequence[bytes]) -> tuple[list[str], Head]:
        seq, last = self._head.seq, self._head.hash
        lines: list[str] = []
        for members in records:
            seq += 1
            line, last = seal(members, seq, last, self._key)
            lines.append(line.decode("ascii").rstrip("\n"))
        return lines, Head(seq, last)

    async def _learn(self, found: str) -> None:
        """Know the end of the chain by the head that was found; where it says nothing, by the last record."""
        head, lost = unseal_head(found.encode(), self._key), False
        if head is None:
            # Where the store's data were lost, so was the key.
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


@dataclass(frozen=True)
class SharedLog:
    """The shared log as it was at one moment, for `verify_log`."""

    head: Head | None
    head_name: str
    key: bytes
    key_is_private: bool
    last: str
    journal: Journal
    portal: BlockingPortal

    def lines(self) -> Iterator[Line]:
        after = ""
        while page := self.portal.call(self._page, after):
            for place, text in page:
                raw = text.encode("utf-8", "surrogateescape")
                yield Line(f"entry {place}", raw, True, unseal(raw, self.key))
            after = page[-1][0]

    def entries(self) -> Iterator[Entry]:
        return (line.entry for line in self.lines() if line.entry is not None)

    async def _page(self, after: str) -> list[tuple[str, str]]:
        return await self.journal.page(_PAGE, after=after, until=self.last) if after != self.last else []


@contextmanager
def shared_snapshot(journal: Journal, store: Store) -> Generator[SharedLog]:
    """The log in the journal. Closes journal and store. Not to be called on an event loop.

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
            # A log of which nothing is there was emptied: its key is made with the first record.
            yield SharedLog(head, HEAD_NAME, key, True, last, journal, portal)
        finally:
            portal.call(journal.aclose)
            portal.call(store.aclose)


def _not_written(reason: str) -> StoreUnavailable:
    return StoreUnavailable(
        f"The shared audit log cannot be written: {reason}.",
        fix="Call again; if it stays so, look at the Redis server that CONNECTOR_MCP_STATE names.",
    )
