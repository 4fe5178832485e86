"""The audit log: what is kept of every call, in JSON lines that are chained and sealed.

A call ends with one record, whatever happened to it; before a change is sent there is another one, so that a process
that dies on the way leaves its trace. How records are chained stands in `audit_chain.py`. Records are appended with
one write under a lock that all processes share. They are not synced to the disk: they survive the death of the process
at once, a power cut only after the system has written them out. A sync would hold every other call up for milliseconds,
and the platforms keep logs of their own.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import orjson

from connector_mcp.audit.chain import (
    HEAD_BYTES,
    Files,
    Head,
    make_key,
    read_key,
    seal,
    seal_head,
    unlock,
    unseal_head,
)
from connector_mcp.audit.files import OpenFile
from connector_mcp.audit.recovery import recover
from connector_mcp.errors import StoreUnavailable

_T = TypeVar("_T")

Phase = Literal["begun", "ended"]

BEGUN = "begun"
"""Outcome of a record that was written before the change was sent."""

MAX_LINE = 65_536
"""Bytes of a record, beyond which the arguments are left out; their digest stays."""

MAX_FILE = 16_777_216
"""Bytes of a file, before which the next one is begun."""

MIN_FREE = 1_048_576
"""Bytes that must be free on the disk for a call that changes something."""

_CHAIN_BYTES = 256
"""More than what number and hashes add to a record."""


def _name_type(value: object) -> str:
    """A value that JSON cannot hold is named by its type: its text might be what must not be written down."""
    return f"<{type(value).__name__}>"


# Made once: `json.dumps` would build an encoder a record.
_ENCODER = json.JSONEncoder(separators=(",", ":"), default=_name_type)
_PLAIN = frozenset((str, int, float, bool, type(None)))


def utc_now() -> str:
    """The time in ISO 8601, UTC, to the millisecond."""
    seconds, milliseconds = divmod(time.time_ns() // 1_000_000, 1000)
    return f"{_utc_second(seconds)}.{milliseconds:03d}Z"


# A third of what it takes to format the whole of it each time: calls that end in the same second share it.
@lru_cache(maxsize=1)
def _utc_second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


# Neither frozen nor with slots: so one is made in 0.4 of the time, and its members are at hand as they are encoded.
@dataclass(kw_only=True)
class AuditRecord:
    """What is kept of one call, in the order in which it is written. Arguments are redacted before they get here."""

    time: str = field(default_factory=utc_now)
    phase: Phase = "ended"
    """`begun`: the change is about to be sent; `ended`: the call is over. The two have one `call_id`."""
    call_id: str
    principal: str
    client: str | None
    transport: str
    platform: str | None
    profile: str | None
    tenant: str | None = None
    tool: str
    effect: str
    """What this call does, after the detectors."""
    decision: str
    """What the gate decided."""
    decided_by: str | None = None
    """Who said yes or no, or which rule did."""
    channel: str | None = None
    """How that was learnt: `policy`, `elicitation`, `terminal`, `approvals` or `console`; None before a decision."""
    arguments: dict[str, Any] = field(default_factory=dict[str, Any])
    digest: str | None = None
    fingerprint_before: str | None = None
    """Keyed digest of the target when the call was decided on."""
    fingerprint_after: str | None = None
    """The same of the target as it was read back, or `gone`; None where it was not."""
    upstream_status: int | None = None
    upstream_request_id: str | None = None
    outcome: str
    """`ok`, an error's code, `asked`, `cancelled`, or `begun`."""
    duration_ms: float
    sandbox: bool = False


class AuditLog:
    """An audit log whose files only their owner can read. Opened with the first record; a moved file is begun anew.

    The calls block for microseconds and are meant to be made on the event loop.
    """

    def __init__(self, path: Path, *, max_bytes: int = MAX_FILE) -> None:
        self._files = Files(path)
        self._max_bytes = max_bytes
        self._log = OpenFile(self._files.log, os.O_APPEND)
        self._head = OpenFile(self._files.head)
        self._key = b""
        self._known: tuple[bytes, Head] = (b"", Head())

    def check(self) -> None:
        """To be called before anything is sent that is not a read: nothing is changed that cannot be recorded.

        Raises:
            StoreUnavailable: The files cannot be written, or the disk is full.
        """
        if self._locked(self._find_room) < MIN_FREE:
            raise self._unavailable("written", "the disk is full")

    def write(self, record: AuditRecord) -> None:
        """Append a record.

        Raises:
            StoreUnavailable: It could not be written, or not in full.
        """
        self.append([encode_record(record)])

    def append(self, records: Sequence[bytes]) -> None:
        """Append records as `encode_record` makes them, under one lock and, unless a file is full, with one write.

        Raises:
            StoreUnavailable: They could not be written, or not all of them in full.
        """
        self._locked(partial(self._append, records))

    def close(self) -> None:
        """Let go of the files. A later call opens them again."""
        self._log.close()
        self._head.close()

    def _locked(self, work: Callable[[int], _T]) -> _T:
        """Do something with the head's file, which is locked, and the key at hand."""
        try:
            head_file = self._head.lock()
            try:
                if not self._key:
                    self._know_key(head_file)
                return work(head_file)
            finally:
                unlock(head_file)
        except OSError as failure:
            raise self._failed("written", failure) from failure

    def _find_room(self, _: int) -> int:
        self._log.open()
        return shutil.disk_usage(self._files.log.parent).free

    def _append(self, records: Sequence[bytes], head_file: int) -> None:
        while records:
            records = self._write(records, head_file)

    def _write(self, records: Sequence[bytes], head_file: int) -> Sequence[bytes]:
        """Write as many as the file has room for, and at least one; what is left is for the next file."""
        log = self._log.open()
        head = self._read_head(head_file)
        size, room = self._log.size, self._max_bytes - _CHAIN_BYTES
        data = b""
        if head is None or head.size != size:
            recovered = recover(log, size, head, self._files, self._key)
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
        # The rest is not sent after it where it does not fit: whoever writes next finds out what is there.
        if os.write(log, data) < len(data):
            raise self._unavailable("written", "the last line is cut short")
        self._write_head(head_file, Head(seq, last, size + len(data), first))
        return records[seq - head.seq :]

    def _begin_file(self, head: Head) -> int:
        full = self._files.full(head.first)
        # Nothing is ever overwritten; with the name taken, the file just grows.
        if not full.exists():
            self._files.log.rename(full)
        return self._log.open()

    def _know_key(self, head_file: int) -> None:
        key = read_key(self._files)
        if key is None and os.pread(head_file, HEAD_BYTES, 0).strip():
            raise StoreUnavailable(
                f"The audit log's key {self._files.key} is gone, so the log cannot be continued.",
                fix=f"Put the key back from a copy, or move all of {self._files.log.stem}* away to begin a new log.",
                retryable=False,
            )
        self._key = key or make_key(self._files)

    def _read_head(self, head_file: int) -> Head | None:
        """The head; None where it is lost. A blank one is that of a log that nobody has written to yet."""
        content = os.pread(head_file, HEAD_BYTES, 0)
        # Nobody has written since this process did, who would have changed it.
        if content == self._known[0] and content:
            return self._known[1]
        head = unseal_head(content, self._key)
        if head is None:
            # Whoever moved the files away may have taken the key along.
            self._know_key(head_file)
            head = unseal_head(content, self._key)
        if not content and not self._log.size and not self._files.earlier():
            head = Head()
            self._write_head(head_file, head)
        return head

    def _write_head(self, head_file: int, head: Head) -> None:
        content = seal_head(head, self._key)
        self._known = (content, head)
        os.pwrite(head_file, content, 0)

    @contextmanager
    def reported(self, what: str) -> Generator[None]:
        """Name the log in the failures of the system; `what` is what could not be done with it."""
        try:
            yield
        except OSError as failure:
            raise self._failed(what, failure) from failure

    def _failed(self, what: str, failure: OSError) -> StoreUnavailable:
        return self._unavailable(what, failure.strerror or str(failure) or type(failure).__name__)

    def _unavailable(self, what: str, reason: str) -> StoreUnavailable:
        return StoreUnavailable(
            f"The audit log {self._files.log} cannot be {what}: {reason}.",
            fix="Make the file writable for this user, with room on the disk, or name another directory with "
            "CONNECTOR_MCP_STATE_DIR.",
        )


def encode_record(record: AuditRecord) -> bytes:
    """The members of a record as `audit_chain.seal` takes them: without the arguments where those make it too long."""
    members = vars(record)
    encoded = _encode_plain(members) if _is_plain(record.arguments) else None
    if encoded is None:
        encoded = encode_event(members)
    if len(encoded) > MAX_LINE - _CHAIN_BYTES:
        encoded = encode_event({**members, "arguments": {"omitted_bytes": len(encode_event(record.arguments))}})
    return encoded


def encode_event(members: dict[str, Any]) -> bytes:
    """The members of what is no record of a call, such as an event of the log itself."""
    return _ENCODER.encode(members).encode("ascii")


def _encode_plain(members: Mapping[str, Any]) -> bytes | None:
    """What `encode_event` makes of plain members, in a fifth of the time; None where that is not printable ASCII."""
    try:
        encoded = orjson.dumps(members)
    except TypeError:
        # Half of a surrogate pair, a number of more than 64 bits.
        return None
    return encoded if encoded.isascii() and b"\x7f" not in encoded else None


def _is_plain(value: Any) -> bool:
    """Whether JSON holds it as it is: of other objects orjson would write down more than their type."""
    if isinstance(value, dict):
        return all(map(_is_plain, cast("dict[str, Any]", value).values()))
    if isinstance(value, list):
        return all(map(_is_plain, cast("list[Any]", value)))
    return type(value) in _PLAIN
