"""How the lines of the audit log are sealed and chained, and the two files beside it that this takes.

A record ends with `prev`, the hash of the record before it, and `hash`, an HMAC-SHA256 over all of the line but the
hash itself. The key is in `audit.key`. `audit.head` holds where the chain ends, sealed with the same key, so that a log
that was cut off shows; it is also what writers lock. The first record of a file goes on from the last one of the file
before it.
"""

from __future__ import annotations

import fcntl
import hmac
import json
import os
import secrets
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from connector_mcp.errors import StoreUnavailable

START = "0" * 64
"""What stands for the hash before the first record."""

HEAD_BYTES = 256
"""Size of the head's file: fixed, so that one write replaces it."""

KEY_BYTES = 32
LOCK_SECONDS = 2.0
"""How long a writer waits for others; each of them needs some ten microseconds."""

_LOCK_PAUSE = 0.0002
_SEAL = len(',"hash":""}') + 64


@dataclass(frozen=True, slots=True)
class Files:
    """Where the parts of an audit log are, by the path of the file that is written to."""

    log: Path

    @property
    def head(self) -> Path:
        return self.log.with_suffix(".head")

    @property
    def key(self) -> Path:
        return self.log.with_suffix(".key")

    def full(self, first: int) -> Path:
        """Where a file that has grown to its size goes; `first` is the number of its first record."""
        return self.log.with_name(f"{self.log.stem}-{first:012d}{self.log.suffix}")

    def earlier(self) -> list[Path]:
        """The files that were put away, oldest first."""
        return sorted(self.log.parent.glob(f"{self.log.stem}-*{self.log.suffix}"))


class Head(NamedTuple):
    """Where the chain ends."""

    seq: int = 0
    hash: str = START
    size: int = 0
    """Bytes of the log up to there."""
    first: int = 1
    """Number of the first record in the log's present file."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A line whose seal fits: it was written by who has the key, and is as it was written."""

    seq: int
    prev: str
    hash: str
    members: dict[str, Any]


def seal(members: bytes, seq: int, prev: str, key: bytes) -> tuple[bytes, str]:
    """The line of a record, with its end, and its hash. `members` is a JSON object in ASCII."""
    return _sealed(b'{"seq":%d,%b,"prev":"%b"' % (seq, members[1:-1], prev.encode()), key)


def unseal(line: bytes, key: bytes) -> Entry | None:
    """The record of a line without its end; None where the seal does not fit, down to the last byte."""
    members = _unsealed(line, key)
    if members is None or "seq" not in members:
        return None
    return Entry(members["seq"], members["prev"], members["hash"], members)


def seal_head(head: Head, key: bytes) -> bytes:
    """The content of the head's file."""
    seq, last, size, first = head
    line, _ = _sealed(b'{"head":%d,"last":"%b","size":%d,"first":%d' % (seq, last.encode(), size, first), key)
    return b"%-*b\n" % (HEAD_BYTES - 1, line[:-1])


def unseal_head(content: bytes, key: bytes) -> Head | None:
    """The head in a file's content; None where its seal does not fit."""
    members = _unsealed(content.rstrip(), key)
    if members is None or "head" not in members:
        return None
    return Head(members["head"], members["last"], members["size"], members["first"])


def read_key(files: Files) -> bytes | None:
    """The key, or None where there is none.

    Raises:
        StoreUnavailable: What is there is no key.
        OSError: It cannot be read.
    """
    try:
        text = files.key.read_text(encoding="ascii")
        key = bytes.fromhex(text)
    except FileNotFoundError:
        return None
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise StoreUnavailable(
            f"The audit log's key {files.key} is damaged.",
            fix=f"Put the key back from a copy, or move all of {files.log.stem}* away to begin a new log.",
            retryable=False,
        )
    return key


def make_key(files: Files) -> bytes:
    """A new key. To be called by who holds the lock.

    Raises:
        OSError: It cannot be written.
    """
    key = secrets.token_bytes(KEY_BYTES)
    # Renamed into its place when it is whole: half a key would stop every later start.
    draft = files.key.with_suffix(".key-draft")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(descriptor, key.hex().encode("ascii"))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    draft.rename(files.key)
    return key


def lock(descriptor: int, *, shared: bool = False) -> None:
    """Lock the head's file against the other processes, until it is unlocked or closed.

    Raises:
        TimeoutError: Others held it for `LOCK_SECONDS`.
    """
    wanted = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB
    until: float | None = None
    while True:
        try:
            fcntl.flock(descriptor, wanted)
        except BlockingIOError:
            now = time.monotonic()
            until = now + LOCK_SECONDS if until is None else until
            if now > until:
                raise TimeoutError(f"another process has held its lock for {LOCK_SECONDS:.0f} s") from None
            time.sleep(_LOCK_PAUSE)
        else:
            return


@contextmanager
def reading(descriptor: int) -> Generator[None]:
    """Keep writers out for as long as the context is open."""
    lock(descriptor, shared=True)
    try:
        yield
    finally:
        unlock(descriptor)


def unlock(descriptor: int) -> None:
    """Let the other processes on."""
    fcntl.flock(descriptor, fcntl.LOCK_UN)


def _sealed(members: bytes, key: bytes) -> tuple[bytes, str]:
    """The line of an object that lacks its closing bracket, and the hash over it with that bracket."""
    keyed = _keyed(key).copy()
    keyed.update(members + b"}")
    digest = keyed.hexdigest()
    return b'%b,"hash":"%b"}\n' % (members, digest.encode()), digest


# Setting a key up takes as long as sealing a record with it.
@lru_cache(maxsize=4)
def _keyed(key: bytes) -> hmac.HMAC:
    return hmac.new(key, digestmod="sha256")


def _unsealed(line: bytes, key: bytes) -> dict[str, Any] | None:
    if len(line) <= _SEAL:
        return None
    expected, _ = _sealed(line[:-_SEAL], key)
    if not hmac.compare_digest(expected, line + b"\n"):
        return None
    members: dict[str, Any] = json.loads(line)
    return members
