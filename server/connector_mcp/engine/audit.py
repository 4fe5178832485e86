"""The audit log: one JSON line a call, whatever happened to it.

A line is appended with a single write to a file opened for appending, so lines of several processes do not mix. It is
not synced to the disk: it survives the death of the process at once, a power cut only after the system has written it
out. A sync would hold every other call up for milliseconds, and the platforms keep logs of their own.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from connector_mcp.errors import StoreUnavailable

MAX_LINE = 65_536
"""Bytes of a line, beyond which the arguments are left out; their digest stays."""

MIN_FREE = 1_048_576
"""Bytes that must be free on the disk for a call that changes something."""


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

    call_id: str
    principal: str
    client: str | None
    transport: str
    platform: str | None
    profile: str | None
    tool: str
    effect: str
    """What this call does, after the detectors."""
    decision: str
    """What the gate decided."""
    decided_by: str | None = None
    """Who said yes or no, or which rule did."""
    arguments: dict[str, Any] = field(default_factory=dict[str, Any])
    digest: str | None = None
    fingerprint: str | None = None
    upstream_status: int | None = None
    upstream_request_id: str | None = None
    outcome: str
    """`ok`, an error's code, `asked`, or `cancelled`."""
    duration_ms: float
    sandbox: bool = False
    time: str = field(default_factory=utc_now)


class AuditLog:
    """An audit log in a file that only its owner can read. Opened with the first record; a moved file is begun anew.

    The calls block for microseconds and are meant to be made on the event loop.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None
        self._opened: os.stat_result | None = None
        self._torn = False

    def check(self) -> None:
        """To be called before anything is sent that is not a read: nothing is changed that cannot be recorded.

        Raises:
            StoreUnavailable: The file cannot be written, or the disk is full.
        """
        try:
            self._open()
            free = shutil.disk_usage(self._path.parent).free
        except OSError as failure:
            raise self._unavailable(failure.strerror or type(failure).__name__) from failure
        if free < MIN_FREE:
            raise self._unavailable("the disk is full")

    def write(self, record: AuditRecord) -> None:
        """Append a record.

        Raises:
            StoreUnavailable: It could not be written, or not in full.
        """
        line = _line(record)
        if self._torn:
            line = b"\n" + line
        try:
            written = os.write(self._open(), line)
        except OSError as failure:
            raise self._unavailable(failure.strerror or type(failure).__name__) from failure
        # The rest is not sent after it: another process may have written in between.
        self._torn = written < len(line)
        if self._torn:
            raise self._unavailable("the last line is cut short")

    def close(self) -> None:
        """Let go of the file. A later call opens it again."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def _open(self) -> int:
        if self._descriptor is not None and self._is_in_place():
            return self._descriptor
        self.close()
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._opened = os.fstat(self._descriptor)
        return self._descriptor

    def _is_in_place(self) -> bool:
        try:
            return self._opened is not None and os.path.samestat(self._path.stat(), self._opened)
        except FileNotFoundError:
            return False

    def _unavailable(self, reason: str) -> StoreUnavailable:
        return StoreUnavailable(
            f"The audit log {self._path} cannot be written: {reason}.",
            fix="Make the file writable for this user, with room on the disk, or name another directory with "
            "CONNECTOR_MCP_STATE_DIR.",
        )


_MEMBERS = ("time", *(member.name for member in fields(AuditRecord) if member.name != "time"))


def _line(record: AuditRecord) -> bytes:
    members = {name: getattr(record, name) for name in _MEMBERS}
    line = _as_json(members)
    if len(line) > MAX_LINE:
        line = _as_json({**members, "arguments": {"omitted_bytes": len(_as_json(record.arguments))}})
    return line + b"\n"


def _as_json(value: dict[str, Any]) -> bytes:
    return _ENCODER.encode(value).encode("ascii")
