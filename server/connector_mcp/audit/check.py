"""Reads an audit log back: its records, and whether they are all there, as they were written and in their order."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from connector_mcp.audit.chain import (
    HEAD_BYTES,
    START,
    Entry,
    Files,
    Head,
    read_key,
    reading,
    unseal,
    unseal_head,
)
from connector_mcp.audit.recovery import HEAD_LOST, TORN
from connector_mcp.errors import StoreUnavailable


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a log; `entry` is None where its seal does not fit."""

    place: str
    """Where it is, as a person finds it."""
    raw: bytes
    """Without its end."""
    ended: bool
    """Whether it has one."""
    entry: Entry | None


class Log(Protocol):
    """A log as it was at one moment, while it may go on being written to."""

    @property
    def head(self) -> Head | None:
        """None where the head is missing or its seal does not fit."""
        ...

    @property
    def head_name(self) -> str:
        """What the head is called."""
        ...

    @property
    def key_is_private(self) -> bool: ...

    def lines(self) -> Iterator[Line]:
        """All lines, oldest first."""
        ...

    def entries(self) -> Iterator[Entry]:
        """The records whose seal fits, oldest first."""
        ...


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A `Log` in files."""

    files: tuple[Path, ...]
    """Oldest first."""
    head: Head | None
    """None where the head is missing or its seal does not fit."""
    key: bytes
    key_is_private: bool
    opened: tuple[tuple[BinaryIO, int], ...]
    """The files, with how many bytes of each count."""

    @property
    def head_name(self) -> str:
        return f"{self.files[-1].stem}.head"

    def lines(self) -> Iterator[Line]:
        for path, (file, size) in zip(self.files, self.opened, strict=True):
            file.seek(0)
            number = 0
            while size > 0 and (raw := file.readline(size)):
                size -= len(raw)
                number += 1
                line = raw.removesuffix(b"\n")
                yield Line(f"{path.name} line {number}", line, line != raw, unseal(line, self.key))

    def entries(self) -> Iterator[Entry]:
        return (line.entry for line in self.lines() if line.entry is not None)


@contextmanager
def snapshot(path: Path) -> Generator[Snapshot]:
    """The log at the path with the files that were put away before it. Writers wait only while the files are opened.

    Raises:
        StoreUnavailable: There is no log, its key is missing or damaged, or a file cannot be read.
    """
    files = Files(path)
    with ExitStack() as stack:
        try:
            key = read_key(files)
            head, opened = _open(files, key, stack)
            private = key is None or files.key.stat().st_mode & 0o077 == 0
        except OSError as failure:
            reason = failure.strerror or str(failure)
            raise _unreadable(path, reason, "Read it as the user whose server writes it.") from failure
        if not opened and key is None:
            raise _unreadable(
                path, "there is none", "Make a call first, or name the server's directory with CONNECTOR_MCP_STATE_DIR."
            )
        if key is None:
            raise _unreadable(path, f"its key {files.key.name} is missing", "Put the key back from a copy.")
        yield Snapshot(tuple(p for p, _ in opened), head, key, private, tuple(o for _, o in opened))


def _open(
    files: Files, key: bytes | None, stack: ExitStack
) -> tuple[Head | None, list[tuple[Path, tuple[BinaryIO, int]]]]:
    head = None
    with ExitStack() as held:
        if files.head.exists():
            head_file = held.enter_context(files.head.open("rb"))
            held.enter_context(reading(head_file.fileno()))
            head = unseal_head(os.pread(head_file.fileno(), HEAD_BYTES, 0), key or b"")
        opened: list[tuple[Path, tuple[BinaryIO, int]]] = []
        for path in (*files.earlier(), files.log):
            if path.exists():
                file = stack.enter_context(path.open("rb"))
                opened.append((path, (file, os.fstat(file.fileno()).st_size)))
    return head, opened


def _unreadable(path: Path, reason: str, fix: str) -> StoreUnavailable:
    return StoreUnavailable(f"The audit log {path} cannot be checked: {reason}.", fix=fix, retryable=False)


@dataclass
class Verdict:
    """What a check found."""

    records: int = 0
    first: int | None = None
    last: int = 0
    last_hash: str = START
    problems: list[str] = field(default_factory=list[str])
    """What cannot have come about without somebody's doing, or the loss of what the system had not written out."""
    notes: list[str] = field(default_factory=list[str])
    """What is out of the ordinary and explained."""

    @property
    def intact(self) -> bool:
        return not self.problems


def verify_log(log: Log, *, begins_with: int = 1, seen: str | None = None) -> Verdict:
    """Whether every record is there, unaltered and in its place.

    `begins_with` is the number of the oldest record that is to be there; `seen` a hash that an earlier check ended
    with, and that must still be in the log.
    """
    check = _Check(log, begins_with, seen)
    for line in log.lines():
        check.take(line)
    return check.finish()


class _Check:
    def __init__(self, log: Log, begins_with: int, seen: str | None) -> None:
        self._log = log
        self._seen = seen
        self._verdict = Verdict(last=begins_with - 1)
        # Without what came before, any hash may stand in the first record.
        self._hash: str | None = START if begins_with == 1 else None
        self._missing: dict[int, str] = {}
        """Numbers that were passed over, with where."""
        self._doubtful: list[Line] = []
        """Lines since the last record whose seal does not fit."""
        self._begun: dict[str, str] = {}

    def take(self, line: Line) -> None:
        entry = line.entry
        if entry is None:
            self._doubtful.append(line)
            return
        self._explain(entry)
        self._place(line, entry)
        verdict = self._verdict
        verdict.records += 1
        verdict.first = entry.seq if verdict.first is None else verdict.first
        if entry.hash == self._seen:
            self._seen = None
        self._follow_call(entry)

    def _explain(self, entry: Entry) -> None:
        """What the lines without a seal before this record are."""
        members = entry.members
        if self._doubtful and members.get("event") == TORN and _vouches(members, self._doubtful[-1]):
            torn = self._doubtful.pop()
            self._verdict.notes.append(
                f"{torn.place}: a record was cut off while it was written ({members['bytes']} bytes); the next writer "
                "closed the line."
            )
        if members.get("event") == HEAD_LOST:
            self._verdict.problems.append(
                f"record {entry.seq}: {self._log.head_name} was missing or altered when this was written; "
                "records at the end before it may have been removed."
            )
        for line in self._doubtful:
            self._verdict.problems.append(_accusation(line))

    def _place(self, line: Line, entry: Entry) -> None:
        verdict = self._verdict
        if verdict.first is None and entry.seq <= verdict.last:
            # It begins before what is asked for; that is no fault.
            verdict.last = entry.seq - 1
        expected = verdict.last + 1
        unsealed, self._doubtful = len(self._doubtful), []
        if entry.seq < expected:
            if self._missing.pop(entry.seq, None) is None:
                verdict.problems.append(f"{line.place}: record {entry.seq} is there twice, or is out of its place.")
            else:
                verdict.problems.append(
                    f"{line.place}: record {entry.seq} comes after record {verdict.last}: the order was changed."
                )
            return
        # An altered line is one whose record is not missing, but told of already.
        gap = range(expected + min(unsealed, entry.seq - expected), entry.seq)
        self._missing.update(dict.fromkeys(gap, line.place))
        if entry.seq == expected and self._hash not in (None, entry.prev):
            verdict.problems.append(
                f"{line.place}: record {entry.seq} does not follow record {entry.seq - 1} as it is."
            )
        verdict.last, verdict.last_hash, self._hash = entry.seq, entry.hash, entry.hash

    def _follow_call(self, entry: Entry) -> None:
        call, phase = str(entry.members.get("call_id")), entry.members.get("phase")
        if phase == "begun":
            self._begun[call] = f"record {entry.seq}: call {call} of {entry.members.get('tool')}"
        elif phase == "ended":
            self._begun.pop(call, None)

    def finish(self) -> Verdict:
        verdict = self._verdict
        self._judge_end()
        verdict.problems.extend(_gaps(self._missing))
        if self._seen is not None:
            verdict.problems.append(f"no record has the hash {self._seen}: the log is not the one that had it, whole.")
        if not self._log.key_is_private:
            verdict.problems.append("the key can be read by others than its owner, who could have made records.")
        for begun in self._begun.values():
            verdict.notes.append(f"{begun} was begun and has no end: it is still running, or its process died.")
        return verdict

    def _judge_end(self) -> None:
        verdict, head = self._verdict, self._log.head
        tail, self._doubtful = self._doubtful, []
        if tail and not tail[-1].ended and not _is_object(tail[-1].raw):
            torn = tail.pop()
            verdict.notes.append(
                f"{torn.place}: a record was cut off while it was written ({len(torn.raw)} bytes); the next writer "
                "will close the line."
            )
        verdict.problems.extend(_accusation(line) for line in tail)
        if head is None:
            verdict.problems.append("the head is missing or altered, so records at the end may have been removed.")
        elif head.seq > verdict.last + len(tail):
            missing = _numbers(verdict.last + len(tail) + 1, head.seq)
            verdict.problems.append(f"the log is cut off: {missing} at its end {_is_or_are(missing)} missing.")
        elif head.seq == verdict.last and head.seq and head.hash != verdict.last_hash:
            verdict.problems.append(f"record {head.seq} at the end is not the one that was written last.")


def _vouches(members: dict[str, Any], line: Line) -> bool:
    exact = members["bytes"] == len(line.raw) and members["sha256"] == hashlib.sha256(line.raw).hexdigest()
    # A part of a record is never a whole object: that would be somebody's attempt at one.
    return exact and not _is_object(line.raw)


def _is_object(raw: bytes) -> bool:
    try:
        return isinstance(json.loads(raw), dict)
    except ValueError:
        return False


def _accusation(line: Line) -> str:
    return f"{line.place}: its hash does not fit: the line was altered, or was not written by this server."


def _gaps(missing: dict[int, str]) -> Iterator[str]:
    """One sentence for each run of numbers that are missing."""
    numbers = sorted(missing)
    start = 0
    for index, number in enumerate(numbers):
        if index + 1 < len(numbers) and numbers[index + 1] == number + 1:
            continue
        told = _numbers(numbers[start], number)
        yield f"{missing[number]}: before it {told} {_is_or_are(told)} missing."
        start = index + 1


def _numbers(first: int, last: int) -> str:
    return f"record {first}" if first == last else f"records {first} to {last}"


def _is_or_are(numbers: str) -> str:
    return "are" if numbers.startswith("records") else "is"
