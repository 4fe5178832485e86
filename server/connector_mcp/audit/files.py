"""Where the engine writes its audit records: the interface, and its implementation in files.

Lines are appended with one write under a lock that all processes share. They are not synced to the disk: they survive
the death of the process, but a power cut may lose what the system had not yet written. A sync would delay every other
call by milliseconds.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Protocol, TypeVar

import anyio.to_thread

from connector_mcp.audit.chain import (
    HAS_LOCKS,
    HEAD_BYTES,
    Entry,
    Head,
    LogPaths,
    lock,
    make_key,
    read_key,
    recover,
    seal,
    seal_head,
    unlock,
    unseal,
    unseal_head,
)
from connector_mcp.audit.record import CHAIN_BYTES, AuditRecord, encode_event, encode_record, utc_now
from connector_mcp.errors import StoreUnavailable
from connector_mcp.json_values import JsonObject

logger = logging.getLogger(__name__)

MAX_FILE = 16_777_216
"""Maximum size of a file in bytes."""

MIN_FREE = 1_048_576
"""Free bytes that the disk must have before a call may change something."""

_BLOCK = 262_144
"""Number of bytes read at once from the end of a file."""

_T = TypeVar("_T")


class AuditTrail(Protocol):
    """Takes the audit records of one process. Every method raises `StoreUnavailable` if it fails."""

    async def check(self) -> None:
        """Raise unless a record could be written now. Called before a change is sent."""
        ...

    async def write(self, record: AuditRecord) -> None:
        """Append a record. It is written even if the call is cancelled meanwhile."""
        ...

    async def recent(self, limit: int) -> list[JsonObject]:
        """Return the last records of calls that have ended, of all processes, newest first."""
        ...

    async def aclose(self) -> None:
        """Close files and connections. A later call opens them again."""
        ...


@dataclass(eq=False, slots=True)
class _PendingRecord:
    members: bytes
    settled: asyncio.Future[None]
    failure: Exception | None = None
    """Why it was not written; valid once `settled` is done."""


class FileTrail:
    """An `AuditTrail` in files, for one event loop.

    The first record in one iteration of the event loop is written at once. The others of that iteration are written
    together at its end, under one lock, and each call waits for its own record.
    """

    def __init__(self, path: Path, *, max_bytes: int = MAX_FILE) -> None:
        if not HAS_LOCKS:
            logger.warning(
                "This system has no POSIX file locks, so the audit log and the secret store in files do not work here: "
                "calls that change something are refused unless CONNECTOR_MCP_STATE names a Redis server."
            )
        self._paths = LogPaths(path)
        self._log = AuditLog(path, max_bytes=max_bytes)
        self._loop: asyncio.AbstractEventLoop | None = None
        """The loop, if a record was written in its present iteration."""
        self._pending: list[_PendingRecord] = []

    async def check(self) -> None:
        self._log.check()

    async def write(self, record: AuditRecord) -> None:
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop = loop
            loop.call_soon(self._end_iteration)
            self._log.write(record)
            return
        pending = _PendingRecord(encode_record(record), loop.create_future())
        self._pending.append(pending)
        try:
            await pending.settled
        except asyncio.CancelledError:
            # A failure must still reach this call, so its record is not left to the end of the iteration.
            self._write_pending()
            if pending.failure is None:
                raise
        if pending.failure is not None:
            raise pending.failure

    async def recent(self, limit: int) -> list[JsonObject]:
        return await anyio.to_thread.run_sync(self._recent, limit)

    async def aclose(self) -> None:
        self._write_pending()
        self._log.close()

    def _end_iteration(self) -> None:
        self._loop = None
        self._write_pending()

    def _write_pending(self) -> None:
        together, self._pending = self._pending, []
        if not together:
            return
        failure: Exception | None = None
        try:
            self._log.append([each.members for each in together])
        except Exception as error:  # noqa: BLE001 - every waiting call raises it
            failure = error
        for each in together:
            each.failure = failure
            if not each.settled.done():
                each.settled.set_result(None)

    def _recent(self, limit: int) -> list[JsonObject]:
        with self._log.failures_named("read"):
            key = read_key(self._paths) or b""
            paths = (self._paths.log, *reversed(self._paths.earlier()))
            lines = (line for path in paths for line in _from_the_end(path))
            return list(islice(ended(unseal(line, key) for line in lines), limit))


class AuditLog:
    """The files of an audit log, readable only by their owner. They are opened when the first record is written.

    The methods block for microseconds and are called on the event loop.
    """

    def __init__(self, path: Path, *, max_bytes: int = MAX_FILE) -> None:
        self._paths = LogPaths(path)
        self._max_bytes = max_bytes
        self._log = _OpenFile(self._paths.log, os.O_APPEND)
        self._head = _OpenFile(self._paths.head)
        self._key = b""

    def check(self) -> None:
        """Raise unless a record could be written now.

        Raises:
            StoreUnavailable: The files cannot be written, or the disk is full.
        """
        if self._locked(self._find_room) < MIN_FREE:
            raise self._unavailable("written", "the disk is full")

    def write(self, record: AuditRecord) -> None:
        """Append a record.

        Raises:
            StoreUnavailable: The record could not be written in full.
        """
        self.append([encode_record(record)])

    def append(self, records: Sequence[bytes]) -> None:
        """Append encoded records under one lock.

        Raises:
            StoreUnavailable: Not all records could be written in full.
        """
        self._locked(partial(self._append, records))

    def close(self) -> None:
        """Close the files. A later call opens them again."""
        self._log.close()
        self._head.close()

    @contextmanager
    def failures_named(self, action: str) -> Generator[None]:
        """Turn an OSError into a StoreUnavailable that says which log could not be `action`."""
        try:
            yield
        except OSError as failure:
            reason = failure.strerror or str(failure) or type(failure).__name__
            raise self._unavailable(action, reason) from failure

    def _locked(self, work: Callable[[int], _T]) -> _T:
        with self.failures_named("written"):
            head_file = self._head.lock()
            try:
                if not self._key:
                    self._load_key(head_file)
                return work(head_file)
            finally:
                unlock(head_file)

    def _find_room(self, _: int) -> int:
        self._log.open()
        return shutil.disk_usage(self._paths.log.parent).free

    def _append(self, records: Sequence[bytes], head_file: int) -> None:
        while records:
            records = self._write(records, head_file)

    def _write(self, records: Sequence[bytes], head_file: int) -> Sequence[bytes]:
        """Write at least one record and as many as fit into the file. Return the rest."""
        log = self._log.open()
        head = self._read_head(head_file)
        size, room = self._log.size, self._max_bytes - CHAIN_BYTES
        data = b""
        if head is None or head.size != size:
            recovered = recover(log, size, head, self._paths, self._key)
            head, data = recovered.head, recovered.closing
            records = [*(encode_event({"time": utc_now(), **event}) for event in recovered.events), *records]
        elif size and size + len(records[0]) > room:
            log = self._begin_file(head)
            head = head._replace(size=self._log.size, first=head.seq + 1)
        seq, last, size, first = head
        for each in records:
            if data and size + len(data) + len(each) > room:
                break
            seq += 1
            line, last = seal(each, seq, last, self._key)
            data += line
        # After a partial write nothing more is sent: the next writer finds out what was written.
        if os.write(log, data) < len(data):
            raise self._unavailable("written", "the last line is cut short")
        os.pwrite(head_file, seal_head(Head(seq, last, size + len(data), first), self._key), 0)
        return records[seq - head.seq :]

    def _begin_file(self, head: Head) -> int:
        full = self._paths.full(head.first)
        # No file is ever overwritten. If the name is taken, the present file grows.
        if not full.exists():
            self._paths.log.rename(full)
        return self._log.open()

    def _load_key(self, head_file: int) -> None:
        key = read_key(self._paths)
        if key is None and os.pread(head_file, HEAD_BYTES, 0).strip():
            raise StoreUnavailable(
                f"The audit log's key {self._paths.key} is missing, so the log cannot be continued.",
                fix=f"Put the key back from a copy, or move all of {self._paths.log.stem}* away to begin a new log.",
                retryable=False,
            )
        self._key = key or make_key(self._paths)

    def _read_head(self, head_file: int) -> Head | None:
        """Return the head, or None if it is lost. The head of a new log is empty."""
        content = os.pread(head_file, HEAD_BYTES, 0)
        head = unseal_head(content, self._key)
        if head is None:
            # If the files were moved away, the key may have been moved too.
            self._load_key(head_file)
            head = unseal_head(content, self._key)
        if not content and not self._log.size and not self._paths.earlier():
            head = Head()
            os.pwrite(head_file, seal_head(head, self._key), 0)
        return head

    def _unavailable(self, action: str, reason: str) -> StoreUnavailable:
        return StoreUnavailable(
            f"The audit log {self._paths.log} cannot be {action}: {reason}.",
            fix="Make the file writable for this user, with room on the disk, or name another directory with "
            "CONNECTOR_MCP_STATE_DIR.",
        )


class _OpenFile:
    """A file that stays open as long as its path still names it. Only its owner can read it."""

    def __init__(self, path: Path, flags: int = 0) -> None:
        self._path = path
        self._flags = os.O_RDWR | os.O_CREAT | flags
        self._descriptor: int | None = None
        self._identity: tuple[int, int] | None = None
        self.size = 0
        """Size of the file in bytes when the path was last checked."""

    def open(self) -> int:
        """Return the file at the path. Create it if it does not exist.

        Raises:
            OSError: It cannot be opened.
        """
        if self._descriptor is not None and self._is_in_place():
            return self._descriptor
        self.close()
        try:
            self._descriptor = os.open(self._path, self._flags, 0o600)
        except FileNotFoundError:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._descriptor = os.open(self._path, self._flags, 0o600)
        opened = os.fstat(self._descriptor)
        self._identity, self.size = (opened.st_dev, opened.st_ino), opened.st_size
        return self._descriptor

    def lock(self) -> int:
        """Return the file, locked. The caller must unlock it.

        Raises:
            OSError: It cannot be opened, or another process held its lock for too long.
        """
        while True:
            descriptor = self.open() if self._descriptor is None else self._descriptor
            lock(descriptor)
            if self._is_in_place():
                return descriptor
            # The file was moved or replaced, so other processes do not see this lock.
            self.close()

    def close(self) -> None:
        """Close the file and release its lock."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def _is_in_place(self) -> bool:
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return False
        self.size = found.st_size
        return (found.st_dev, found.st_ino) == self._identity


def ended(entries: Iterable[Entry | None]) -> Iterator[JsonObject]:
    """Select the records of calls that have ended."""
    return (entry.members for entry in entries if entry is not None and entry.members.get("phase") == "ended")


def _from_the_end(path: Path) -> Iterator[bytes]:
    """Yield the lines of a file, last first."""
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
