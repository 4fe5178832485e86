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
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from connector_mcp.engine.audit_chain import (
    HEAD_BYTES,
    Files,
    Head,
    lock,
    make_key,
    read_key,
    seal,
    seal_head,
    unlock,
    unseal_head,
)
from connector_mcp.engine.audit_recovery import recover
from connector_mcp.errors import StoreUnavailable

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


def utc_now() -> str:
    """The time in ISO 8601, UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditRecord:
    """What is kept of one call. Arguments are redacted before they get here."""

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
    time: str = field(default_factory=utc_now)


class AuditLog:
    """An audit log whose files only their owner can read. Opened with the first record; a moved file is begun anew.

    The calls block for microseconds and are meant to be made on the event loop.
    """

    def __init__(self, path: Path, *, max_bytes: int = MAX_FILE) -> None:
        self._files = Files(path)
        self._max_bytes = max_bytes
        self._log = _OpenFile(self._files.log, os.O_APPEND)
        self._lock = _OpenFile(self._files.head, 0)
        self._key = b""
        self._known: tuple[bytes, Head] = (b"", Head())

    def check(self) -> None:
        """To be called before anything is sent that is not a read: nothing is changed that cannot be recorded.

        Raises:
            StoreUnavailable: The files cannot be written, or the disk is full.
        """
        with self.reported("written"), self._locked():
            self._log.open()
            free = shutil.disk_usage(self._files.log.parent).free
        if free < MIN_FREE:
            raise self._unavailable("the disk is full")

    def write(self, record: AuditRecord) -> None:
        """Append a record.

        Raises:
            StoreUnavailable: It could not be written, or not in full.
        """
        members = encode_record(record)
        with self.reported("written"), self._locked() as head_file:
            self._append(members, head_file)

    def close(self) -> None:
        """Let go of the files. A later call opens them again."""
        self._log.close()
        self._lock.close()

    def _append(self, members: bytes, head_file: int) -> None:
        log = self._log.open()
        head = self._read_head(head_file)
        size = self._log.size
        data, earlier = b"", list[bytes]()
        if head is None or head.size != size:
            recovered = recover(log, size, head, self._files, self._key)
            head, data = recovered.head, recovered.closing
            earlier = [encode_event({"time": utc_now(), **event}) for event in recovered.events]
        elif size and size + len(members) + _CHAIN_BYTES > self._max_bytes:
            log = self._begin_file(head)
            head = replace(head, size=self._log.size, first=head.seq + 1)
        seq, last = head.seq, head.hash
        for each in (*earlier, members):
            seq += 1
            line, last = seal(each, seq, last, self._key)
            data += line
        # The rest is not sent after it where it does not fit: whoever writes next finds out what is there.
        if os.write(log, data) < len(data):
            raise self._unavailable("the last line is cut short")
        self._write_head(head_file, Head(seq, last, head.size + len(data), head.first))

    def _begin_file(self, head: Head) -> int:
        full = self._files.full(head.first)
        # Nothing is ever overwritten; with the name taken, the file just grows.
        if not full.exists():
            self._files.log.rename(full)
        return self._log.open()

    @contextmanager
    def _locked(self) -> Generator[int]:
        """The head's file, locked, and the key at hand."""
        while True:
            descriptor = self._lock.present()
            lock(descriptor)
            if self._lock.is_in_place():
                break
            # It was moved or replaced: the lock is on what others do not see.
            self._lock.close()
        try:
            if not self._key:
                self._know_key(descriptor)
            yield descriptor
        finally:
            unlock(descriptor)

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
            reason = failure.strerror or str(failure) or type(failure).__name__
            raise self._unavailable(reason, what) from failure

    def _unavailable(self, reason: str, what: str = "written") -> StoreUnavailable:
        return StoreUnavailable(
            f"The audit log {self._files.log} cannot be {what}: {reason}.",
            fix="Make the file writable for this user, with room on the disk, or name another directory with "
            "CONNECTOR_MCP_STATE_DIR.",
        )


class _OpenFile:
    """A file that is kept open for as long as it is the one at its path."""

    def __init__(self, path: Path, flags: int) -> None:
        self._path = path
        self._flags = os.O_RDWR | os.O_CREAT | flags
        self._descriptor: int | None = None
        self._identity: tuple[int, int] | None = None
        self.size = 0
        """Bytes of the file when it was last looked for."""

    def present(self) -> int:
        """The file as it was opened, wherever it is by now."""
        return self.open() if self._descriptor is None else self._descriptor

    def open(self) -> int:
        if self._descriptor is not None and self.is_in_place():
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

    def is_in_place(self) -> bool:
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return False
        self.size = found.st_size
        return (found.st_dev, found.st_ino) == self._identity

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


_MEMBERS = ("time", *(member.name for member in fields(AuditRecord) if member.name != "time"))


def encode_record(record: AuditRecord) -> bytes:
    """The members of a record as `audit_chain.seal` takes them: without the arguments where those make it too long."""
    members = {name: getattr(record, name) for name in _MEMBERS}
    encoded = encode_event(members)
    if len(encoded) > MAX_LINE - _CHAIN_BYTES:
        encoded = encode_event({**members, "arguments": {"omitted_bytes": len(encode_event(record.arguments))}})
    return encoded


def encode_event(members: dict[str, Any]) -> bytes:
    """The members of what is no record of a call, such as an event of the log itself."""
    return _ENCODER.encode(members).encode("ascii")
