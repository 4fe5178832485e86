"""The hash chain of the audit log: how lines are sealed, and where the chain ends.

A record ends with `prev`, the hash of the record before it, and `hash`, an HMAC-SHA256 over the whole line except the
hash itself. The head says where the chain ends and is sealed with the same key, so that a shortened log is detected.
"""

from __future__ import annotations

import hmac
import json
from typing import Final, NamedTuple

from connector_mcp.errors import StoreUnavailable
from connector_mcp.json_values import JsonObject

START: Final = "0" * 64
"""The hash before the first record."""

HEAD_LOST: Final = "head_lost"
"""Event of a record that was written without knowing where the chain ended."""

RESTORED: Final = "restored"
"""Event of a record that was written when the database had come back older."""

ARCHIVED: Final = "archived"
"""Event of a record that says which records were moved to a file."""

_SEAL_BYTES: Final = len(',"hash":""}') + 64


class CameBackOlder(StoreUnavailable):
    """A record that was written or read before is no longer in the database."""


class Head(NamedTuple):
    """Where the chain ends."""

    seq: int = 0
    hash: str = START
    first: int = 1
    """Number of the first record that is not archived."""
    restored: int = 0
    """Number of the last record with the event `restored`."""


UNKNOWN: Final = Head()
"""The end of a chain about which nothing is known."""


def seal(members: bytes, seq: int, time: str, prev: str, key: bytes) -> tuple[str, str]:
    """Return the line of a record and its hash. `members` is a JSON object in ASCII."""
    return _seal(b'{"seq":%d,"time":"%b",%b,"prev":"%b"' % (seq, time.encode(), members[1:-1], prev.encode()), key)


def unseal(line: str, key: bytes) -> JsonObject | None:
    """Return the record in a line, or None if the seal is not valid: only the key's holder can have written it."""
    return _unseal(line, key, "seq")


def seal_head(head: Head, key: bytes) -> str:
    """Return the text of a head."""
    members = b'{"head":%d,"last":"%b","first":%d,"restored":%d'
    return _seal(members % (head.seq, head.hash.encode(), head.first, head.restored), key)[0]


def unseal_head(text: str, key: bytes) -> Head | None:
    """Return the head in a text, or None if the seal is not valid."""
    members = _unseal(text, key, "head")
    return None if members is None else Head(members["head"], members["last"], members["first"], members["restored"])


def came_back_older(last: Head, head: Head | None, known: str | None) -> bool:
    """Check whether a chain that ended at `last` lost that end: its database was replaced by an older copy.

    `head` is where the chain ends now, and `known` the hash of the record with the last one's number. A record that was
    only removed is not a sign: the head still counts it.
    """
    if head is None or head.seq < last.seq:
        return known != last.hash and last.seq > 0
    if head.seq == last.seq:
        return head.hash != last.hash
    return last.seq >= head.first and known not in (None, last.hash)


def _seal(members: bytes, key: bytes) -> tuple[str, str]:
    """Complete an object that lacks its closing bracket. The hash covers the object with that bracket."""
    digest = hmac.digest(key, members + b"}", "sha256").hex()
    return f'{members.decode("ascii")},"hash":"{digest}"}}', digest


def _unseal(line: str, key: bytes, required: str) -> JsonObject | None:
    if len(line) <= _SEAL_BYTES or not line.isascii():
        return None
    expected, _ = _seal(line[:-_SEAL_BYTES].encode("ascii"), key)
    members: JsonObject = json.loads(line) if hmac.compare_digest(expected, line) else {}
    return members if required in members else None
