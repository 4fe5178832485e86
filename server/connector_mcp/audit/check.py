"""Checks that every record of the audit log is there, unaltered and in order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from connector_mcp.audit.chain import ARCHIVED, HEAD_LOST, RESTORED, START, Entry, Head, unseal
from connector_mcp.audit.reader import AuditReader, Line, unsealed_fault
from connector_mcp.errors import StoreUnavailable
from connector_mcp.json_values import JsonObject


@dataclass
class CheckReport:
    """What a check found."""

    records: int = 0
    first: int | None = None
    last: int = 0
    last_hash: str = START
    problems: list[str] = field(default_factory=list[str])
    """Signs of tampering, or of data that was lost."""
    notes: list[str] = field(default_factory=list[str])
    """Unusual findings that have an innocent explanation."""

    @property
    def intact(self) -> bool:
        return not self.problems


def verify_log(reader: AuditReader, *, archives: Sequence[Path] = (), seen: str | None = None) -> CheckReport:
    """Check the log, after the archived files before it. Servers may go on writing to it.

    `seen` is the last hash of an earlier check, which must still be in the log.

    Raises:
        StoreUnavailable: The log or a file cannot be read.
    """
    head, _ = reader.end()
    check = _Check(head.first if head else 1, seen)
    for line in _archived_lines(archives, reader.key):
        check.take(line)
    check.begin_table()
    while True:
        for line in reader.lines(check.last):
            check.take(line)
        head, top = reader.end()
        # Records that were written meanwhile are checked too, so that the head is that of the last one.
        if top <= check.last:
            return check.finish(head)


def _archived_lines(paths: Sequence[Path], key: bytes) -> Iterator[Line]:
    for path in sorted(paths, key=lambda path: path.name):
        try:
            with path.open(encoding="ascii", errors="replace") as file:
                for number, text in enumerate(file, 1):
                    entry = unseal(text.rstrip("\n"), key)
                    place = f"{path.name} line {number}"
                    yield Line(place, entry.seq if entry else 0, text, entry, unsealed_fault(entry))
        except OSError as failure:
            raise StoreUnavailable(
                f"The archived audit log {path} cannot be read: {failure.strerror or failure}.",
                fix="Name files that `connector-mcp audit archive` wrote.",
                retryable=False,
            ) from failure


class _Check:
    def __init__(self, first: int, seen: str | None) -> None:
        self._first = first
        """Number of the first record that is not archived."""
        self._seen = seen
        self._report = CheckReport()
        self._next: int | None = None
        """Number of the next record; None before the first."""
        self._hash: str | None = None
        """Hash of the record before; None if it is not known."""
        self._before_first: tuple[int, str] | None = None
        """Number and hash of the record before the first one, which must have been archived."""
        self._archived: set[tuple[int, str]] = set()
        self._begun: dict[str, str] = {}

    @property
    def last(self) -> int:
        """Number of the last line that was checked, or the one before the first."""
        return self._first - 1 if self._next is None else self._next - 1

    def begin_table(self) -> None:
        """Expect the records of the database from now on."""
        if self._next is None:
            self._next, self._hash = self._first, START if self._first == 1 else None
        elif self._next < self._first:
            self._miss(self._first, "the database")

    def take(self, line: Line) -> None:
        report, entry = self._report, line.entry
        if self._next is None:
            self._next = line.seq or 1
            self._hash = START if self._next == 1 else None
        seq = line.seq or self._next
        if seq > self._next:
            self._miss(seq, line.place)
        if line.fault is not None:
            report.problems.append(f"{line.place}: {line.fault}.")
        if seq < self._next:
            report.problems.append(f"{line.place}: record {seq} is there twice, or is out of its place.")
            return
        self._next = seq + 1
        if entry is None or entry.seq != seq:
            self._hash = None
            return
        if self._hash not in (None, entry.prev):
            report.problems.append(f"{line.place}: record {seq} does not follow record {seq - 1} as it is.")
        if report.first is None:
            report.first = seq
            # Missing records have been reported already.
            self._before_first = None if seq == 1 or report.problems else (seq - 1, entry.prev)
        report.records += 1
        report.last, report.last_hash, self._hash = seq, entry.hash, entry.hash
        if entry.hash == self._seen:
            self._seen = None
        self._follow_call(entry)
        self._note_event(entry)

    def finish(self, head: Head | None) -> CheckReport:
        report, last = self._report, self.last
        if head is None:
            report.problems.append("the head is missing or altered, so records at the end may have been removed.")
        elif head.seq > last:
            report.problems.append(f"the log is cut off: {_are_missing(last + 1, head.seq)} at its end.")
        elif head.seq < report.last or (head.seq == report.last and head.seq and head.hash != report.last_hash):
            report.problems.append(f"the head is not that of record {report.last} at the end.")
        if self._before_first is not None and self._before_first not in self._archived:
            number = self._before_first[0]
            report.problems.append(f"it begins after record {number}, and no record says that it was archived.")
        if self._seen is not None:
            report.problems.append(f"no record has the hash {self._seen}: the log is not the one that had it, whole.")
        for begun in self._begun.values():
            report.notes.append(f"{begun} was begun and has no end: it is still running, or its process died.")
        return report

    def _miss(self, seq: int, place: str) -> None:
        assert self._next is not None  # noqa: S101 - called after the first line
        self._report.problems.append(f"{place}: before it {_are_missing(self._next, seq - 1)}.")
        self._next, self._hash = seq, None

    def _follow_call(self, entry: Entry) -> None:
        call, phase = str(entry.members.get("call_id")), entry.members.get("phase")
        if phase == "begun":
            self._begun[call] = f"record {entry.seq}: call {call} of {entry.members.get('tool')}"
        elif phase == "ended":
            self._begun.pop(call, None)

    def _note_event(self, entry: Entry) -> None:
        members: JsonObject = entry.members
        event, problems = members.get("event"), self._report.problems
        if event == ARCHIVED:
            self._archived.add((members["last"], members["last_hash"]))
        elif event == HEAD_LOST:
            problems.append(
                f"record {entry.seq}: the head was missing or altered when this was written; records at the end before "
                "it may have been removed."
            )
        elif event == RESTORED:
            problems.append(
                f"record {entry.seq}: the database had come back older when this was written; a server knew records up "
                f"to {members['known']}."
            )


def _are_missing(first: int, last: int) -> str:
    return f"record {first} is missing" if first == last else f"records {first} to {last} are missing"
