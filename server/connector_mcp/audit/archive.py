"""Moves old records of the audit log to a file. The chain goes on."""

from __future__ import annotations

import filecmp
import os
import tempfile
from dataclasses import dataclass
from datetime import datetime
from itertools import takewhile
from pathlib import Path
from typing import Final

from connector_mcp.audit.chain import ARCHIVED, Head
from connector_mcp.audit.reader import AuditReader, Line
from connector_mcp.audit.trail import LockedChain
from connector_mcp.errors import StoreUnavailable
from connector_mcp.state.database import Database, Transaction

_TOGETHER: Final = 1_000
"""Number of rows removed in one step, so that no call has to wait for long."""


@dataclass(frozen=True)
class Archived:
    """The records that were moved, and where to."""

    first: int
    last: int
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
        found = _write_file(reader, head, moment, directory)
    except OSError as failure:
        raise StoreUnavailable(
            f"The records cannot be archived in {directory}: {failure.strerror or failure}.",
            fix="Name a directory with --to that this user can write to, with room on the disk.",
            retryable=False,
        ) from failure
    if found is None:
        # An attempt that was interrupted may have left rows.
        _remove_archived(database, head.first)
        return None
    archived, last_hash = found
    database.write_now(lambda transaction: _record(transaction, head, archived, last_hash))
    _remove_archived(database, archived.last + 1)
    return archived


def _write_file(reader: AuditReader, head: Head, moment: datetime, directory: Path) -> tuple[Archived, str] | None:
    last: Line | None = None
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=directory, prefix="audit-", delete=False) as file:
        draft = Path(file.name)
        try:
            until = moment.timestamp()
            for line in takewhile(lambda line: _time(line) < until, reader.lines(head.first - 1)):
                file.write(f"{line.text}\n")
                last = line
            if last is None:
                return None
            if last.entry is None or last.fault is not None:
                raise _refused(f"{last.place}: {last.fault}")
            file.flush()
            os.fsync(file.fileno())
            path = directory / f"audit-{head.first:012d}-{last.seq:012d}.jsonl"
            # A file is never replaced, unless it is the same from an attempt that was interrupted.
            if path.exists() and not filecmp.cmp(draft, path, shallow=False):
                raise FileExistsError(17, f"{path.name} exists and differs")
            draft.rename(path)
            _sync_directory(directory)
            return Archived(head.first, last.seq, path), last.entry.hash
        finally:
            draft.unlink(missing_ok=True)


def _time(line: Line) -> float:
    """Return when a line was written. An altered line is archived with those before it."""
    return 0.0 if line.entry is None else datetime.fromisoformat(line.entry.members["time"]).timestamp()


def _record(transaction: Transaction, head: Head, archived: Archived, last_hash: str) -> None:
    chain = LockedChain(transaction)
    if chain.open().head.first != head.first:
        raise _refused("another process archived records at the same time")
    event = {"event": ARCHIVED, "first": archived.first, "last": archived.last, "last_hash": last_hash}
    chain.append((), [event], first=archived.last + 1)


def _remove_archived(database: Database, first: int) -> None:
    sql = f"""DELETE FROM audit WHERE seq IN (SELECT seq FROM audit WHERE seq < :first ORDER BY seq LIMIT {_TOGETHER})
        RETURNING seq"""
    while database.write_now(lambda transaction: transaction.execute(sql, {"first": first}).all()):
        pass


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
