"""What outlives a call or is shared by several processes, as one small interface.

A value is a JSON object under a key in a collection. Every method is atomic on its own, also between processes: that
is what makes an approval usable once and a question answerable once.
"""

from __future__ import annotations

import json
import secrets
from typing import Any, NoReturn, Protocol

from connector_mcp.errors import StoreUnavailable

JsonObject = dict[str, Any]

KEYS = "keys"
KEY_BYTES = 32


def as_text(value: JsonObject) -> str:
    """One text for equal objects, so that a database can compare them."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def as_object(text: str) -> JsonObject:
    """The object of such a text.

    Raises:
        ValueError: It is that of no object.
    """
    if not text.startswith("{"):
        raise ValueError("an entry that is no JSON object")
    value: JsonObject = json.loads(text)
    return value


class Store(Protocol):
    """State that survives the process.

    Times are epoch seconds. An entry whose `expires_at` has been reached is as if it were not there, and a missing
    `expires_at` means for ever. Every method raises `StoreUnavailable` where the state cannot be read or written; then
    nothing may be decided.
    """

    async def put_once(self, collection: str, key: str, value: JsonObject, *, expires_at: float | None = None) -> bool:
        """Put a value where none is; False, and no change, where a live one is."""
        ...

    async def get(self, collection: str, key: str) -> JsonObject | None:
        """The live value, or None."""
        ...

    async def replace(
        self, collection: str, key: str, value: JsonObject, *, expected: JsonObject, expires_at: float | None = None
    ) -> bool:
        """Put a value in place of a live one that equals `expected`; False, and no change, otherwise.

        `expires_at` is that of the new value: what is not given again is gone. One in the past removes the entry in
        the same atomic step. The entry keeps its place in the order of `entries`.
        """
        ...

    async def take_once(self, collection: str, key: str) -> JsonObject | None:
        """Remove a live value and return it: of any number of takers one gets it, the others None."""
        ...

    async def entries(self, collection: str) -> list[tuple[str, JsonObject]]:
        """All live entries of a collection, the one that was put first in front."""
        ...

    async def remove(self, collection: str, key: str) -> None:
        """Remove an entry, whether there is one or not."""
        ...

    async def aclose(self) -> None:
        """Let go of files and connections. A later call opens them again."""
        ...


async def secret_key(store: Store, name: str) -> bytes:
    """The 32 random bytes of that name, made on first use; the same for all processes that share the store.

    Raises:
        StoreUnavailable: The key cannot be read or kept, or what is kept is no key.
    """
    fresh = secrets.token_bytes(KEY_BYTES)
    if await store.put_once(KEYS, name, {"key": fresh.hex()}):
        return fresh
    return await known_key(store, name) or _damaged(name)


async def known_key(store: Store, name: str) -> bytes | None:
    """The key of that name, or None where none was made.

    Raises:
        StoreUnavailable: The key cannot be read, or what is kept is no key.
    """
    kept = await store.get(KEYS, name)
    if kept is None:
        return None
    try:
        key = bytes.fromhex(kept["key"])
    except (KeyError, TypeError, ValueError):
        key = b""
    return key if len(key) == KEY_BYTES else _damaged(name)


def _damaged(name: str) -> NoReturn:
    raise StoreUnavailable(
        f"The store's key `{name}` is damaged, so nothing can be sealed or checked with it.",
        fix="Stop all servers that share this state and start with a new state directory.",
        retryable=False,
    )
