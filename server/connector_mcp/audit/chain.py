"""The hash chain of the audit log: how lines are sealed, and where the chain ends.

A record ends with `prev`, the hash of the record before it, and `hash`, an HMAC-SHA256 over the whole line except the
hash itself. The head says where the chain ends and is sealed with the same key, so that a shortened log is detected.
In files, the key is in `audit.key` and the head in `audit.head`; the first record of a file continues the chain of the
file before it.

A process that is killed between two writes leaves a line that the head does not know, or a part of one. `recover` takes
over a line with a valid seal. It closes a partial line and adds a record that describes it, so that it is not reported
as altered. It leaves everything else as it is, for `audit verify` to find.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from connector_mcp.errors import StoreUnavailable
from connector_mcp.json_values import JsonObject

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

HAS_LOCKS = fcntl is not None

LOCK_SECONDS = 2.0
"""How long a writer waits for the lock. Each process holds it for microseconds."""

START = "0" * 64
"""The hash before the first record."""

HEAD_BYTES = 256
"""Size of the head's file: fixed, so that one write replaces it."""

KEY_BYTES = 32

TORN = "torn"
"""Event of a record that describes the partial line before it."""

HEAD_LOST = "head_lost"
"""Event of a record that was written without knowing where the chain ended."""

_LOCK_PAUSE = 0.0002
_SEAL_BYTES = len(',"hash":""}') + 64
_WINDOW = 1_048_576
"""Number of bytes at the end of a file that are searched for lines."""


@dataclass(frozen=True, slots=True)
class LogPaths:
    """The files of an audit log."""

    log: Path
    """The file that is written to."""

    @property
    def head(self) -> Path:
        return self.log.with_suffix(".head")

    @property
    def key(self) -> Path:
        return self.log.with_suffix(".key")

    def full(self, first: int) -> Path:
        """Return the new path of a file that has reached its size. `first` is the number of its first record."""
        return self.log.with_name(f"{self.log.stem}-{first:012d}{self.log.suffix}")

    def earlier(self) -> list[Path]:
        """Return the full files, oldest first."""
        return sorted(self.log.parent.glob(f"{self.log.stem}-*{self.log.suffix}"))


class Head(NamedTuple):
    """Where the chain ends."""

    seq: int = 0
    hash: str = START
    size: int = 0
    """Size of the log in bytes up to this point."""
    first: int = 1
    """Number of the first record in the present file."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A line with a valid seal: the key's holder wrote it, and it is unchanged."""

    seq: int
    prev: str
    hash: str
    members: JsonObject


def seal(members: bytes, seq: int, prev: str, key: bytes) -> tuple[bytes, str]:
    """Return the line of a record, with its line end, and its hash. `members` is a JSON object in ASCII."""
    return _seal(b'{"seq":%d,%b,"prev":"%b"' % (seq, members[1:-1], prev.encode()), key)


def unseal(line: bytes, key: bytes) -> Entry | None:
    """Return the record in a line without line end, or None if the seal is not valid."""
    members = _unseal(line, key)
    if members is None or "seq" not in members:
        return None
    return Entry(members["seq"], members["prev"], members["hash"], members)


def seal_head(head: Head, key: bytes) -> bytes:
    """Return the content of the head's file."""
    line, _ = _seal(
        b'{"head":%d,"last":"%b","size":%d,"first":%d' % (head.seq, head.hash.encode(), head.size, head.first), key
    )
    return b"%-*b\n" % (HEAD_BYTES - 1, line[:-1])


def unseal_head(content: bytes, key: bytes) -> Head | None:
    """Return the head in a file's content, or None if the seal is not valid."""
    members = _unseal(content.rstrip(), key)
    if members is None or "head" not in members:
        return None
    return Head(members["head"], members["last"], members["size"], members["first"])


def read_key(paths: LogPaths) -> bytes | None:
    """Return the key, or None if there is none.

    Raises:
        StoreUnavailable: The key is damaged.
        OSError: The key cannot be read.
    """
    try:
        key = bytes.fromhex(paths.key.read_text(encoding="ascii"))
    except FileNotFoundError:
        return None
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise StoreUnavailable(
            f"The audit log's key {paths.key} is damaged.",
            fix=f"Put the key back from a copy, or move all of {paths.log.stem}* away to begin a new log.",
            retryable=False,
        )
    return key


def make_key(paths: LogPaths) -> bytes:
    """Make and store a new key. The caller must hold the lock.

    Raises:
        OSError: The key cannot be written.
    """
    key = secrets.token_bytes(KEY_BYTES)
    # The complete file is renamed into place: half a key would prevent every later start.
    draft = paths.key.with_suffix(".key-draft")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(descriptor, key.hex().encode("ascii"))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    draft.rename(paths.key)
    return key


def lock(descriptor: int, *, shared: bool = False) -> None:
    """Lock the head's file until it is unlocked or closed: against all other processes, or, if shared, against writers.

    Raises:
        TimeoutError: Another process held the lock for `LOCK_SECONDS`.
        OSError: This system has no POSIX file locks.
    """
    if fcntl is None:
        raise OSError("this system has no POSIX file locks")
    wanted = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB
    until = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, wanted)
        except BlockingIOError:
            if time.monotonic() > until:
                raise TimeoutError(f"another process has held its lock for {LOCK_SECONDS:.0f} s") from None
            time.sleep(_LOCK_PAUSE)
        else:
            return


def unlock(descriptor: int) -> None:
    """Release the lock."""
    if fcntl is not None:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


@dataclass(frozen=True, slots=True)
class Recovered:
    """Where the chain continues, and what must be written before the next record."""

    head: Head
    closing: bytes = b""
    events: list[JsonObject] = field(default_factory=list[JsonObject])


def recover(log: int, size: int, head: Head | None, paths: LogPaths, key: bytes) -> Recovered:
    """Find the end of the chain in a log that differs in size from its head. `head` is None if it is lost.

    Raises:
        OSError: The log cannot be read.
    """
    events: list[JsonObject] = []
    if head is None:
        head = _last_known(log, size, paths, key)
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


def _last_known(log: int, size: int, paths: LogPaths, key: bytes) -> Head:
    found = _last_entry(os.pread(log, _WINDOW, max(0, size - _WINDOW)), key)
    for path in reversed(paths.earlier()):
        found = found or _last_entry(_end_of(path), key)
    # A log that holds lines but no valid record is not a new log.
    return Head(found.seq, found.hash, size, found.seq + 1) if found else Head(size=size)


def _last_entry(tail: bytes, key: bytes) -> Entry | None:
    entries = (unseal(line, key) for line in reversed(tail.split(b"\n")))
    return next((entry for entry in entries if entry is not None), None)


def _end_of(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _WINDOW))
        return file.read()


def _seal(members: bytes, key: bytes) -> tuple[bytes, str]:
    """Complete an object that lacks its closing bracket. The hash covers the object with that bracket."""
    digest = hmac.digest(key, members + b"}", "sha256").hex()
    return b'%b,"hash":"%b"}\n' % (members, digest.encode()), digest


def _unseal(line: bytes, key: bytes) -> JsonObject | None:
    if len(line) <= _SEAL_BYTES:
        return None
    expected, _ = _seal(line[:-_SEAL_BYTES], key)
    if not hmac.compare_digest(expected, line + b"\n"):
        return None
    members: JsonObject = json.loads(line)
    return members
