"""The secret keys of this installation. They are made on first use and kept in the database of records."""

from __future__ import annotations

import secrets
from typing import Final

from connector_mcp.errors import StoreUnavailable
from connector_mcp.state.database import Database, Row, Transaction

KEY_BYTES: Final = 32


async def secret_key(database: Database, name: str) -> bytes:
    """Return the 32 random bytes with this name. They are equal in all processes that share the database.

    Raises:
        StoreUnavailable: The key cannot be read or stored, or is damaged.
    """

    def find(transaction: Transaction) -> Row | None:
        return transaction.execute("SELECT value FROM keys WHERE name = :name", {"name": name}).first()

    def make(transaction: Transaction) -> Row | None:
        # If another process makes the key at the same time, both use the one that was stored first.
        sql = "INSERT INTO keys (name, value) VALUES (:name, :value) ON CONFLICT (name) DO NOTHING"
        transaction.execute(sql, {"name": name, "value": new_key()})
        return find(transaction)

    if (key := database.known_keys.get(name)) is None:
        row = await database.read(find) or await database.write(make)
        key = database.known_keys[name] = decode_key(row["value"] if row else "", name)
    return key


def decode_key(text: str, name: str) -> bytes:
    """Return the key in the text of its row.

    Raises:
        StoreUnavailable: The text is not a key.
    """
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise StoreUnavailable(
            f"The key `{name}` in the database is damaged, so nothing can be sealed or checked with it.",
            fix="Put the table `keys` back from a copy, or start with a new database.",
            retryable=False,
        )
    return key


def new_key() -> str:
    """Return the text of a new key."""
    return secrets.token_bytes(KEY_BYTES).hex()
