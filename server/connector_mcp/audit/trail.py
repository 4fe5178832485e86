"""Where the engine puts its audit records: one interface, and its form in files."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol

import anyio.to_thread

from connector_mcp.audit.chain import Entry, Files, read_key, unseal
from connector_mcp.audit.record import MAX_FILE, AuditLog, AuditRecord, encode_record
from connector_mcp.json_values import JsonObject

_BLOCK = 262_144
"""Bytes that are read at once from the end of a file."""


class AuditTrail(Protocol):
    """Takes the audit records of one process. Every method raises `StoreUnavailable` where it cannot do its work."""

    async def check(self) -> None:
        """To be called before anything is sent that is not a read: nothing is changed that cannot be recorded."""
        ...

    async def write(self, record: AuditRecord) -> None:
        """Append a record. One whose call is cancelled is written all the same."""
        ...

    async def recent(self, limit: int) -> list[JsonObject]:
        """The last records of calls that have ended, of all processes, newest first; redacted as they are kept."""
        ...

    async def aclose(self) -> None:
        """Let go of files and connections. A later call opens them again."""
        ...


@dataclass(eq=False, slots=True)
class _Waiting:
    members: bytes
    settled: asyncio.Future[None]
    failure: Exception | None = None
    """Why it was not written; to be looked at when it is settled."""


class FileTrail:
    """An `AuditTrail` in the files of one machine, for one event loop.

    The first record in a turn of the loop is written at once. Those of calls that end in the same turn are written
    together at its end, under one lock, and each call waits for its own. With 64 calls in flight over stdio some forty
    end in a turn, and a record takes a quarter of the time that one alone does.
    """

    def __init__(self, path: Path, *, max_bytes: int = MAX_FILE) -> None:
        self._files = Files(path)
        self._log = AuditLog(path, max_bytes=max_bytes)
        self._turn: asyncio.AbstractEventLoop | None = None
        """The loop in whose present turn a record was written."""
        self._waiting: list[_Waiting] = []

    async def check(self) -> None:
        self._log.check()

    async def write(self, record: AuditRecord) -> None:
        loop = asyncio.get_running_loop()
        if self._turn is not loop:
            self._turn = loop
            loop.call_soon(self._end_turn)
            self._log.write(record)
            return
        mine = _Waiting(encode_record(record), loop.create_future())
        self._waiting.append(mine)
        try:
            await mine.settled
        except asyncio.CancelledError:
            # Nobody waits for the turn's end any more, and a failure is still to be told.
            self._write_waiting()
            if mine.failure is None:
                raise
        if mine.failure is not None:
            raise mine.failure

    async def recent(self, limit: int) -> list[JsonObject]:
        return await anyio.to_thread.run_sync(self._recent, limit)

    async def aclose(self) -> None:
        self._write_waiting()
        self._log.close()

    def _end_turn(self) -> None:
        self._turn = None
        self._write_waiting()

    def _write_waiting(self) -> None:
        together, self._waiting = self._waiting, []
        if not together:
            return
        failure: Exception | None = None
        try:
            self._log.append([each.members for each in together])
        except Exception as error:  # noqa: BLE001 - whoever waits is told, as the one would be who writes
            failure = error
        for each in together:
            each.failure = failure
            if not each.settled.done():
                each.settled.set_result(None)

    def _recent(self, limit: int) -> list[JsonObject]:
        with self._log.reported("read"):
            key = read_key(self._files) or b""
            paths = (self._files.log, *reversed(self._files.earlier()))
            lines = (line for path in paths for line in _from_the_end(path))
            return list(islice(ended(unseal(line, key) for line in lines), limit))


def ended(entries: Iterable[Entry | None]) -> Iterator[JsonObject]:
    """The records of calls that have ended among the entries of a log."""
    return (entry.members for entry in entries if entry is not None and entry.members.get("phase") == "ended")


def _from_the_end(path: Path) -> Iterator[bytes]:
    """The lines of a file, last first."""
    if not path.exists():
        return
    with path.open("rb") as file:
        left, rest = path.stat().st_size, b""
        while left:
            start = max(0, left - _BLOCK)
            file.seek(start)
            first, *lines = (file.read(left - start) + rest).split(b"\n")
            yield from reversed(lines)
            left, rest = start, first
        yield rest
