"""Access tokens that the emulated token endpoints give out: opaque, expiring, known to this process only."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from connector_mcp.sandbox.clock import Clock


@dataclass(frozen=True)
class Grant:
    """What a token stands for: what it may be used for, and until when."""

    scope: str
    audience: str
    expires_at: datetime


class TokenDesk:
    """Issues tokens and recognises them until they expire."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._grants: dict[str, Grant] = {}

    def issue(self, *, seconds: int, scope: str = "", audience: str = "") -> str:
        """A new token. Its text begins with `sandbox-secret-`, so that a leak is easy to find."""
        now = self._clock()
        self._grants = {token: grant for token, grant in self._grants.items() if grant.expires_at > now}
        token = f"sandbox-secret-{secrets.token_urlsafe(24)}"
        self._grants[token] = Grant(scope, audience, now + timedelta(seconds=seconds))
        return token

    def grant(self, token: str) -> Grant | None:
        """What the token stands for, or None when it was never issued, has expired or was revoked."""
        found = self._grants.get(token)
        return found if found is not None and found.expires_at > self._clock() else None

    def revoke_all(self) -> None:
        """Make every token unknown, as a restart of the platform would."""
        self._grants.clear()
