"""Finds where the audit log's chain ends, where the head alone does not say.

A process that is killed between two writes leaves a line that the head does not know, or a part of one. A line whose
seal fits is taken over; a part of one is closed, and a record vouches for it, so that it cannot be taken for an altered
line. Whatever else is wrong is left as it is for `audit verify` to find: the chain goes on from the head, so that what
was cut off or put in stays visible.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from connector_mcp.audit.chain import Entry, Files, Head, unseal

TORN = "torn"
"""Event of a record that vouches for the part of a line before it."""

HEAD_LOST = "head_lost"
"""Event of a record that was written without knowing where the chain ended."""

_WINDOW = 1_048_576
"""Bytes at the end of a file in which lines are looked for."""


@dataclass(frozen=True, slots=True)
class Recovered:
    """Where to go on, and what is to be written before the next record."""

    head: Head
    closing: bytes = b""
    events: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])


def recover(log: int, size: int, head: Head | None, files: Files, key: bytes) -> Recovered:
    """Where the chain ends in a log of this size that is not what the head says; `head` is None where it is lost.

    Raises:
        OSError: The log cannot be read.
    """
    events: list[dict[str, Any]] = []
    if head is None:
        head = _last_known(log, size, files, key)
        if head != Head():
            events.append({"event": HEAD_LOST})
    if size == 0:
        return Recovered(head._replace(size=0, first=head.seq + 1), events=events)
    for line in os.pread(log, _WINDOW, head.size).split(b"\n")[:-1]:
        head = _follow(head, unseal(line, key))
    start = max(0, size - _WINDOW)
    *whole, part = os.pread(log, size - start, start).split(b"\n")
    if not part:
        return Recovered(head._replace(size=size), events=events)
    followed = _follow(head, unseal(part, key))
    if followed == head and (whole or start == 0):
        events.insert(0, {"event": TORN, "bytes": len(part), "sha256": hashlib.sha256(part).hexdigest()})
    return Recovered(followed._replace(size=size), b"\n", events)


def _follow(head: Head, entry: Entry | None) -> Head:
    if entry is None or entry.seq != head.seq + 1 or entry.prev != head.hash:
        return head
    return head._replace(seq=entry.seq, hash=entry.hash)


def _last_known(log: int, size: int, files: Files, key: bytes) -> Head:
    """The last record that can be found, in the log or in the file before it."""
    found = _last_entry(os.pread(log, _WINDOW, max(0, size - _WINDOW)), key)
    for path in reversed(files.earlier()):
        found = found or _last_entry(_end_of(path), key)
    # A log with lines of which none is ours is not a new one.
    return Head(found.seq, found.hash, size, found.seq + 1) if found else Head(size=size)


def _last_entry(tail: bytes, key: bytes) -> Entry | None:
    entries = (unseal(line, key) for line in reversed(tail.split(b"\n")))
    return next((entry for entry in entries if entry is not None), None)


def _end_of(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _WINDOW))
        return file.read()
