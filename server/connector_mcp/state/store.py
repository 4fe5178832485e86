"""What outlives a call or is shared by several processes: the interfaces of the store and of the journal.

The store keeps JSON objects under keys in collections. Every method is atomic, also between processes; that is why an
approval can be used only once and a question answered only once. The journal is an append-only list of lines.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from typing import NoReturn, Protocol

from connector_mcp.errors import StoreUnavailable
from connector_mcp.json_values import JsonObject

KEYS = "keys"
"""The collection that holds secret keys."""
KEY_BYTES = 32

Place = str
"""The position of a line in a journal. Later lines have later places; "" is before the first and after the last."""


class Store(Protocol):
    """State that survives the process.

    Times are epoch seconds. An entry ceases to exist at its `expires_at`; without one it never expires. Every method
    raises `StoreUnavailable` if the state cannot be read or written; the caller must then refuse.
    """

    async def put_once(self, collection: str, key: str, value: JsonObject, *, expires_at: float | None = None) -> bool:
        """Store a value under a free key. Return False and change nothing if the key has a live value."""
        ...

    async def get(self, collection: str, key: str) -> JsonObject | None:
        """Return the live value, or None."""
        ...

    async def replace(
        self, collection: str, key: str, value: JsonObject, *, expected: JsonObject, expires_at: float | None = None
    ) -> bool:
        """Replace a live value that equals `expected`. Return False and change nothing otherwise.

        `expires_at` belongs to the new value: the old one's is not kept. A time in the past removes the entry in the
        same atomic step. The entry keeps its place in the order of `entries`.
        """
        ...

    async def take_once(self, collection: str, key: str) -> JsonObject | None:
        """Remove a live value and return it. Of several concurrent callers one gets it, the others get None."""
        ...

    async def entries(self, collection: str) -> list[tuple[str, JsonObject]]:
        """Return all live entries of a collection in the order in which they were put."""
        ...

    async def remove(self, collection: str, key: str) -> None:
        """Remove an entry if it exists."""
        ...

    async def aclose(self) -> None:
        """Close files and connections. A later call opens them again."""
        ...


class Journal(Protocol):
    """An append-only list of lines with a head, which every append replaces.

    Every method is atomic and raises `StoreUnavailable` if the list cannot be read or written. No line is ever removed.
    """

    async def append(self, lines: Sequence[str], *, head: str, expected: str) -> str | None:
        """Append lines and set the head, if the head is still `expected` ("" for none). Return None then.

        Otherwise change nothing and return the present head.
        """
        ...

    async def end(self) -> tuple[str, Place]:
        """Return the head, and the place of the last line."""
        ...

    async def page(self, count: int, *, after: Place = "", until: Place = "") -> list[tuple[Place, str]]:
        """Return up to `count` lines between two places, oldest first."""
        ...

    async def latest(self, count: int, *, before: Place = "") -> list[tuple[Place, str]]:
        """Return up to `count` lines before a place, newest first."""
        ...

    async def probe(self) -> None:
        """Make a harmless write, to find out whether a line could be appended now."""
        ...

    async def aclose(self) -> None:
        """Close connections. A later call opens new ones."""
        ...


def to_text(value: JsonObject) -> str:
    """Encode an object. Equal objects have equal texts, so that a database can compare them."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def from_text(text: str) -> JsonObject:
    """Decode the text of an object.

    Raises:
        ValueError: The text is not a JSON object.
    """
    if not text.startswith("{"):
        raise ValueError("an entry is not a JSON object")
    value: JsonObject = json.loads(text)
    return value


async def secret_key(store: Store, name: str) -> bytes:
    """Return the 32 random bytes with this name, made on first use; equal in all processes that share the store.

    Raises:
        StoreUnavailable: The key cannot be read or stored, or is damaged.
    """
    fresh = secrets.token_bytes(KEY_BYTES)
    if await store.put_once(KEYS, name, {"key": fresh.hex()}):
        return fresh
    return await known_key(store, name) or _raise_damaged(name)


async def known_key(store: Store, name: str) -> bytes | None:
    """Return the key with this name, or None if it was never made.

    Raises:
        StoreUnavailable: The key cannot be read, or is damaged.
    """
    kept = await store.get(KEYS, name)
    if kept is None:
        return None
    try:
        key = bytes.fromhex(kept["key"])
    except (KeyError, TypeError, ValueError):
        key = b""
    return key if len(key) == KEY_BYTES else _raise_damaged(name)


def _raise_damaged(name: str) -> NoReturn:
    raise StoreUnavailable(
        f"The store's key `{name}` is damaged, so nothing can be sealed or checked with it.",
        fix="Stop all servers that share this state and start with a new state directory.",
        retryable=False,
    )
