"""Checks that every record of the audit log is there, unaltered and in order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from connector_mcp.audit import chain
from connector_mcp.audit.chain import START, Head, unseal
from connector_mcp.audit.reader import UNSEALED, AuditReader, Line
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
    check = _Check(seen)
    for line in _archived_lines(archives, reader.key):
        check.take(line)
    check.expect(head.first if head else 1, "the database")
    while True:
        for line in reader.lines(check.next):
            check.take(line)
        head, top = reader.end()
        # Records that were written meanwhile are checked too, so that the head is that of the last one.
        if top < check.next:
            return check.finish(head)


def _archived_lines(paths: Sequence[Path], key: bytes) -> Iterator[Line]:
    for path in sorted(paths, key=lambda path: path.name):
        try:
            with path.open(encoding="ascii", errors="replace") as file:
                for number, text in enumerate(file, 1):
                    record = unseal(text.rstrip("\n"), key)
                    place = f"{path.name} line {number}"
                    yield Line(place, record["seq"] if record else 0, text, record, None if record else UNSEALED)
        except OSError as failure:
            raise StoreUnavailable(
                f"The archived audit log {path} cannot be read: {failure.strerror or failure}.",
                fix="Name files that `connector-mcp audit archive` wrote.",
                retryable=False,
            ) from failure


class _Check:
    def __init__(self, seen: str | None) -> None:
        self.next = 0
        """Number of the next record; 0 before the first."""
        self._report = CheckReport()
        self._seen = seen
        """The hash that was not found yet."""
        self._hash: str | None = None
        """Hash of the record before; None if it is not known."""
        self._before_first: tuple[int, str] | None = None
        """Number and hash of the record before the first one, which must have been archived."""
        self._archived: set[tuple[int, str]] = set()
        self._begun: dict[str, str] = {}

    def expect(self, seq: int, place: str) -> None:
        """Begin with this number, or report that those before it are missing."""
        if self.next and seq > self.next:
            self._report.problems.append(f"{place}: before it {_are_missing(self.next, seq - 1)}.")
        if seq > self.next:
            self._hash = START if seq == 1 else None
            self.next = seq

    def take(self, line: Line) -> None:
        report, record = self._report, line.record
        seq = line.seq or self.next or 1
        self.expect(seq, line.place)
        if line.fault is not None:
            report.problems.append(f"{line.place}: {line.fault}.")
        if seq < self.next:
            report.problems.append(f"{line.place}: record {seq} is there twice, or is out of its place.")
            return
        before, self._hash, self.next = self._hash, None, seq + 1
        if record is None or record["seq"] != seq:
            return
        if before not in (None, record["prev"]):
            report.problems.append(f"{line.place}: record {seq} does not follow record {seq - 1} as it is.")
        if report.first is None:
            report.first = seq
            # Missing records have been reported already.
            self._before_first = None if seq == 1 or report.problems else (seq - 1, record["prev"])
        report.records += 1
        report.last, report.last_hash, self._hash = seq, record["hash"], record["hash"]
        if self._hash == self._seen:
            self._seen = None
        self._note(record)

    def finish(self, head: Head | None) -> CheckReport:
        report, last, problems = self._report, self.next - 1, self._report.problems
        if head is None:
            problems.append("the head is missing or altered, so records at the end may have been removed.")
        elif head.seq > last:
            problems.append(f"the log is cut off: {_are_missing(last + 1, head.seq)} at its end.")
        elif head.seq < report.last or (head.seq == report.last and head.seq and head.hash != report.last_hash):
            problems.append(f"the head is not that of record {report.last} at the end.")
        if self._before_first is not None and self._before_first not in self._archived:
            number = self._before_first[0]
            problems.append(f"it begins after record {number}, and no record says that it was archived.")
        if self._seen is not None:
            problems.append(f"no record has the hash {self._seen}: the log is not the one that had it, whole.")
        for begun in self._begun.values():
            report.notes.append(f"{begun} was begun and has no end: it is still running, or its process died.")
        return report

    def _note(self, record: JsonObject) -> None:
        """Follow a call from its beginning to its end, and events of the log itself."""
        problems, at = self._report.problems, f"record {record['seq']}"
        match record:
            case {"phase": "begun", "call_id": call, "tool": tool}:
                self._begun[str(call)] = f"{at}: call {call} of {tool}"
            case {"phase": "ended", "call_id": call}:
                self._begun.pop(str(call), None)
            case {"event": chain.ARCHIVED, "last": last, "last_hash": last_hash}:
                self._archived.add((last, last_hash))
            case {"event": chain.HEAD_LOST}:
                problems.append(
                    f"{at}: the head was missing or altered when this was written; records at the end before it may "
                    "have been removed."
                )
            case {"event": chain.RESTORED, "known": known}:
                problems.append(
                    f"{at}: the database had come back older when this was written; a server knew records up to "
                    f"{known}."
                )
            case _:
                pass


def _are_missing(first: int, last: int) -> str:
    return f"record {first} is missing" if first == last else f"records {first} to {last} are missing"
