"""Static bearer tokens by their digests, and how one is found again without telling which came close."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from connector_mcp.errors import Misconfigured

SETTING: Final = "CONNECTOR_MCP_HTTP_TOKEN"

TOKEN_PREFIX: Final = "cmcp_"  # noqa: S105 - by which scanners of logs and repositories know a token of ours
SCOPES: Final = ("connectors:read", "connectors:write", "connectors:destroy")
"""What a caller's token can grant. None includes another."""


class CannotTell(Exception):
    """Whether a token is good cannot be told now, so nobody passes; `retry_after` is in seconds."""

    def __init__(self, message: str, *, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


@dataclass(frozen=True)
class BearerToken:
    """A token by its digest, the name that its holder has here, and the scopes it grants (None: there are none)."""

    name: str
    digest: bytes = field(repr=False)
    scopes: frozenset[str] | None = None
    expires: datetime | None = None
    """Aware; None where it does not expire."""

    @staticmethod
    def of(secret: str, *, name: str = "token", scopes: Collection[str] | None = None) -> BearerToken:
        """The token with this secret value.

        Raises:
            Misconfigured: No header can carry the value, so nobody could ever present it.
        """
        if not secret or not secret.isascii() or not secret.isprintable() or " " in secret:
            raise Misconfigured(
                f"The bearer token {name!r} is empty or has characters that no Authorization header can carry.",
                fix=f"Set {SETTING} to a long random value, such as the output of `openssl rand -hex 32`.",
            )
        return BearerToken(name, digest_of(secret), None if scopes is None else frozenset(scopes))

    def has_expired(self, now: datetime | None = None) -> bool:
        """Whether it has by now."""
        return self.expires is not None and self.expires <= (now or datetime.now(UTC))


def digest_of(secret: str) -> bytes:
    """What is kept of a token."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()


def find_holder(tokens: Iterable[BearerToken], digest: bytes) -> BearerToken | None:
    """The token with this digest, unless it has expired."""
    found = None
    # Every token is compared, so that the time taken tells nothing of which one came close.
    for token in tokens:
        if hmac.compare_digest(token.digest, digest):
            found = token
    return None if found is None or found.has_expired() else found


def new_secret() -> str:
    """A fresh token value, of 256 random bits."""
    return TOKEN_PREFIX + secrets.token_urlsafe(32)
