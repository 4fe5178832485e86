"""Moves old records of the audit log to a file. The chain goes on."""

from __future__ import annotations

import filecmp
import os
import tempfile
from datetime import datetime
from itertools import takewhile
from pathlib import Path
from typing import Final, NamedTuple

from connector_mcp.audit.chain import ARCHIVED, Head
from connector_mcp.audit.reader import AuditReader, Line
from connector_mcp.audit.trail import AuditTrail, LockedChain, encode
from connector_mcp.errors import StoreUnavailable
from connector_mcp.state.database import Database

_REMOVE: Final = """
DELETE FROM audit WHERE seq IN (SELECT seq FROM audit WHERE seq < :first ORDER BY seq LIMIT 1000) RETURNING seq
"""
"""Removes some rows in one step, so that no call has to wait for long."""


class Archived(NamedTuple):
    """The records that were moved, and where to."""

    first: int
    last: int
    last_hash: str
    path: Path


def archive_before(database: Database, moment: datetime, directory: Path) -> Archived | None:
    """Move the records before a moment to a new file. Return None if there are none.

    Raises:
        StoreUnavailable: The log cannot be read or is not authentic at that place, or the file cannot be written.
    """
    reader = AuditReader(database)
    head, _ = reader.end()
    if head is None:
        raise _refused("its head is missing or altered")
    try:
        archived = _write_file(reader, head, moment, directory)
    except OSError as failure:
        raise StoreUnavailable(
            f"The records cannot be archived in {directory}: {failure.strerror or failure}.",
            fix="Name a directory with --to that this user can write to, with room on the disk.",
            retryable=False,
        ) from failure
    if archived is not None:
        database.write_now(lambda tx: _record(AuditTrail(database).lock(tx), head, archived))
    # An attempt that was interrupted may have left rows.
    first = archived.last + 1 if archived else head.first
    while database.write_now(lambda transaction: transaction.execute(_REMOVE, {"first": first}).all()):
        pass
    return archived


def _write_file(reader: AuditReader, head: Head, moment: datetime, directory: Path) -> Archived | None:
    last: Line | None = None
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=directory, prefix="audit-", delete=False) as file:
        draft = Path(file.name)
        try:
            until = moment.timestamp()
            for line in takewhile(lambda line: _time(line) < until, reader.lines(head.first)):
                file.write(f"{line.text}\n")
                last = line
            if last is None:
                return None
            if last.record is None or last.fault is not None:
                raise _refused(f"{last.place}: {last.fault}")
            file.flush()
            os.fsync(file.fileno())
            path = directory / f"audit-{head.first:012d}-{last.seq:012d}.jsonl"
            # A file is never replaced, unless it is the same from an attempt that was interrupted.
            if path.exists() and not filecmp.cmp(draft, path, shallow=False):
                raise FileExistsError(17, f"{path.name} exists and differs")
            draft.rename(path)
            _sync_directory(directory)
            return Archived(head.first, last.seq, last.record["hash"], path)
        finally:
            draft.unlink(missing_ok=True)


def _time(line: Line) -> float:
    """Return when a line was written. An altered line is archived with those before it."""
    return 0.0 if line.record is None else datetime.fromisoformat(line.record["time"]).timestamp()


def _record(chain: LockedChain, head: Head, archived: Archived) -> None:
    present = chain.open().head
    if present is None or present.first != head.first:
        raise _refused("another process changed its head at the same time")
    event = {"event": ARCHIVED, "first": archived.first, "last": archived.last, "last_hash": archived.last_hash}
    chain.append([encode(event)], first=archived.last + 1)


def _sync_directory(directory: Path) -> None:
    # Windows cannot open directories.
    if os.name == "posix":
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _refused(reason: str) -> StoreUnavailable:
    return StoreUnavailable(
        f"The audit log was not archived: {reason}.", fix="Run `connector-mcp audit verify`.", retryable=False
    )
