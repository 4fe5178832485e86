"""Where the engine puts its audit records: one interface, and its form in files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Protocol

import anyio.to_thread

from connector_mcp.engine.audit import MAX_FILE, AuditLog, AuditRecord
from connector_mcp.engine.audit_chain import Entry, Files, read_key, unseal
from connector_mcp.operations.platform import JsonObject

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


class FileTrail:
    """An `AuditTrail` in the files of one machine."""

    def __init__(self, path: Path, *, max_bytes: int = MAX_FILE) -> None:
        self._files = Files(path)
        self._log = AuditLog(path, max_bytes=max_bytes)

    async def check(self) -> None:
        self._log.check()

    async def write(self, record: AuditRecord) -> None:
        self._log.write(record)

    async def recent(self, limit: int) -> list[JsonObject]:
        return await anyio.to_thread.run_sync(self._recent, limit)

    async def aclose(self) -> None:
        self._log.close()

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
