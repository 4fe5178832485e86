"""Reads an audit log back and checks that every record is there, unaltered and in order."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import BinaryIO

from connector_mcp.audit.chain import (
    HEAD_BYTES,
    HEAD_LOST,
    START,
    TORN,
    Entry,
    Head,
    LogPaths,
    lock,
    read_key,
    unseal,
    unseal_head,
)
from connector_mcp.errors import StoreUnavailable
from connector_mcp.json_values import JsonObject, is_object


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a log."""

    place: str
    """File and line number, or the equivalent."""
    raw: bytes
    """The line without its line end."""
    ended: bool
    """Whether it has a line end."""
    entry: Entry | None
    """None if the seal is not valid."""


@dataclass(frozen=True, slots=True)
class LogSnapshot:
    """A log as it was at one moment. Other processes may go on writing to it."""

    head: Head | None
    """None if the head is missing or its seal is not valid."""
    head_name: str
    key_is_private: bool
    lines: Callable[[], Iterator[Line]]
    """Yields all lines, oldest first."""

    def entries(self) -> Iterator[Entry]:
        """Yield the records with a valid seal, oldest first."""
        return (line.entry for line in self.lines() if line.entry is not None)


@contextmanager
def snapshot(path: Path) -> Generator[LogSnapshot]:
    """Open the log at a path with the full files before it. Writers wait only while the files are opened.

    Raises:
        StoreUnavailable: There is no log, its key is missing or damaged, or a file cannot be read.
    """
    paths = LogPaths(path)
    with ExitStack() as stack:
        try:
            key = read_key(paths)
            head, opened = _open(paths, key or b"", stack)
            private = key is None or paths.key.stat().st_mode & 0o077 == 0
        except OSError as failure:
            reason = failure.strerror or str(failure)
            raise _unreadable(path, reason, "Read it as the user that runs the server.") from failure
        if not opened and key is None:
            raise _unreadable(
                path, "there is none", "Make a call first, or name the server's directory with CONNECTOR_MCP_STATE_DIR."
            )
        if key is None:
            raise _unreadable(path, f"its key {paths.key.name} is missing", "Put the key back from a copy.")
        yield LogSnapshot(head, paths.head.name, private, partial(_lines, opened, key))


def _open(paths: LogPaths, key: bytes, stack: ExitStack) -> tuple[Head | None, list[tuple[str, BinaryIO, int]]]:
    """Return the head, and the open files with their names and sizes."""
    head = None
    with ExitStack() as held:
        if paths.head.exists():
            head_file = held.enter_context(paths.head.open("rb"))
            lock(head_file.fileno(), shared=True)
            head = unseal_head(os.pread(head_file.fileno(), HEAD_BYTES, 0), key)
        opened: list[tuple[str, BinaryIO, int]] = []
        for path in (*paths.earlier(), paths.log):
            if path.exists():
                file = stack.enter_context(path.open("rb"))
                opened.append((path.name, file, os.fstat(file.fileno()).st_size))
    return head, opened


def _lines(opened: list[tuple[str, BinaryIO, int]], key: bytes) -> Iterator[Line]:
    for name, file, size in opened:
        left = size
        file.seek(0)
        for number in count(1):
            if left <= 0 or not (raw := file.readline(left)):
                break
            left -= len(raw)
            line = raw.removesuffix(b"\n")
            yield Line(f"{name} line {number}", line, line != raw, unseal(line, key))


def _unreadable(path: Path, reason: str, fix: str) -> StoreUnavailable:
    return StoreUnavailable(f"The audit log {path} cannot be checked: {reason}.", fix=fix, retryable=False)


@dataclass
class CheckReport:
    """What a check found."""

    records: int = 0
    first: int | None = None
    last: int = 0
    last_hash: str = START
    problems: list[str] = field(default_factory=list[str])
    """Signs of tampering, or of data that the system lost before it was written to the disk."""
    notes: list[str] = field(default_factory=list[str])
    """Unusual findings that have an innocent explanation."""

    @property
    def intact(self) -> bool:
        return not self.problems


def verify_log(log: LogSnapshot, *, begins_with: int = 1, seen: str | None = None) -> CheckReport:
    """Check that every record is there, unaltered and in its place.

    `begins_with` is the number of the oldest record that must be there. `seen` is the last hash of an earlier check,
    which must still be in the log.
    """
    check = _Check(log, begins_with, seen)
    for line in log.lines():
        check.take(line)
    return check.finish()


class _Check:
    def __init__(self, log: LogSnapshot, begins_with: int, seen: str | None) -> None:
        self._log = log
        self._seen = seen
        self._report = CheckReport(last=begins_with - 1)
        # The record before the first one is unknown unless the log begins with record 1.
        self._hash: str | None = START if begins_with == 1 else None
        self._missing: dict[int, str] = {}
        """Missing numbers, each with the place where it was missed."""
        self._doubtful: list[Line] = []
        """Lines without a valid seal since the last record."""
        self._begun: dict[str, str] = {}

    def take(self, line: Line) -> None:
        entry = line.entry
        if entry is None:
            self._doubtful.append(line)
            return
        self._explain(entry)
        self._place(line, entry)
        report = self._report
        report.records += 1
        report.first = entry.seq if report.first is None else report.first
        if entry.hash == self._seen:
            self._seen = None
        self._follow_call(entry)

    def _explain(self, entry: Entry) -> None:
        """Report the lines without a valid seal before this record."""
        members = entry.members
        if self._doubtful and members.get("event") == TORN and _describes(members, self._doubtful[-1]):
            torn = self._doubtful.pop()
            self._report.notes.append(
                f"{torn.place}: a record was cut off while it was written ({members['bytes']} bytes); the next writer "
                "closed the line."
            )
        if members.get("event") == HEAD_LOST:
            self._report.problems.append(
                f"record {entry.seq}: {self._log.head_name} was missing or altered when this was written; "
                "records at the end before it may have been removed."
            )
        for line in self._doubtful:
            self._report.problems.append(_invalid_seal(line))

    def _place(self, line: Line, entry: Entry) -> None:
        report = self._report
        if report.first is None and entry.seq <= report.last:
            # The log begins before the record asked for, which is fine.
            report.last = entry.seq - 1
        expected = report.last + 1
        unsealed, self._doubtful = len(self._doubtful), []
        if entry.seq < expected:
            if self._missing.pop(entry.seq, None) is None:
                report.problems.append(f"{line.place}: record {entry.seq} is there twice, or is out of its place.")
            else:
                report.problems.append(
                    f"{line.place}: record {entry.seq} comes after record {report.last}: the order was changed."
                )
            return
        # The record of an altered line is not missing, and was reported already.
        gap = range(expected + min(unsealed, entry.seq - expected), entry.seq)
        self._missing.update(dict.fromkeys(gap, line.place))
        if entry.seq == expected and self._hash not in (None, entry.prev):
            report.problems.append(f"{line.place}: record {entry.seq} does not follow record {entry.seq - 1} as it is.")
        report.last, report.last_hash, self._hash = entry.seq, entry.hash, entry.hash

    def _follow_call(self, entry: Entry) -> None:
        call, phase = str(entry.members.get("call_id")), entry.members.get("phase")
        if phase == "begun":
            self._begun[call] = f"record {entry.seq}: call {call} of {entry.members.get('tool')}"
        elif phase == "ended":
            self._begun.pop(call, None)

    def finish(self) -> CheckReport:
        report = self._report
        self._judge_end()
        report.problems.extend(_gaps(self._missing))
        if self._seen is not None:
            report.problems.append(f"no record has the hash {self._seen}: the log is not the one that had it, whole.")
        if not self._log.key_is_private:
            report.problems.append("the key can be read by others than its owner, who could have made records.")
        for begun in self._begun.values():
            report.notes.append(f"{begun} was begun and has no end: it is still running, or its process died.")
        return report

    def _judge_end(self) -> None:
        report, head = self._report, self._log.head
        tail, self._doubtful = self._doubtful, []
        if tail and not tail[-1].ended and not _is_object(tail[-1].raw):
            torn = tail.pop()
            report.notes.append(
                f"{torn.place}: a record was cut off while it was written ({len(torn.raw)} bytes); the next writer "
                "will close the line."
            )
        report.problems.extend(_invalid_seal(line) for line in tail)
        if head is None:
            report.problems.append("the head is missing or altered, so records at the end may have been removed.")
        elif head.seq > report.last + len(tail):
            report.problems.append(
                f"the log is cut off: {_are_missing(report.last + len(tail) + 1, head.seq)} at its end."
            )
        elif head.seq == report.last and head.seq and head.hash != report.last_hash:
            report.problems.append(f"record {head.seq} at the end is not the one that was written last.")


def _describes(members: JsonObject, line: Line) -> bool:
    exact = members["bytes"] == len(line.raw) and members["sha256"] == hashlib.sha256(line.raw).hexdigest()
    # A partial record is never a complete object; a complete one was written by somebody else.
    return exact and not _is_object(line.raw)


def _is_object(raw: bytes) -> bool:
    try:
        return is_object(json.loads(raw))
    except ValueError:
        return False


def _invalid_seal(line: Line) -> str:
    return f"{line.place}: its hash does not fit: the line was altered, or was not written by this server."


def _gaps(missing: dict[int, str]) -> Iterator[str]:
    """Yield one sentence for each run of missing numbers."""
    first: int | None = None
    for number in sorted(missing):
        first = number if first is None else first
        if number + 1 not in missing:
            yield f"{missing[number]}: before it {_are_missing(first, number)}."
            first = None


def _are_missing(first: int, last: int) -> str:
    return f"record {first} is missing" if first == last else f"records {first} to {last} are missing"
