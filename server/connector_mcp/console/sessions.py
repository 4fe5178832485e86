"""Sessions of signed-in operators. They are in the store, so all replicas know them, under digests of their keys."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict, ValidationError

from connector_mcp.state.store import Store

COLLECTION = "console_sessions"

IDLE_SECONDS = 1_800.0
"""How long an unused session lasts."""

MAX_SECONDS = 43_200.0
"""How long any session lasts."""

_UPDATE_SECONDS = 60.0
"""How often the use of a session is written to the store."""

_MAX_KEY_LENGTH = 128


@dataclass(frozen=True)
class Visitor:
    """A signed-in operator."""

    operator: str
    key: str = field(repr=False)
    """The value of the session cookie."""

    @property
    def form_token(self) -> str:
        """The value that every form of this session carries; no other page can know it."""
        return hmac.new(self.key.encode(), b"console form", hashlib.sha256).hexdigest()


class _StoredSession(BaseModel):
    model_config = ConfigDict(frozen=True)

    operator: str
    credential: str
    """SHA-256 of the token used to sign in, in hex. The session ends when that token does."""
    began_at: float
    seen_at: float


class OperatorSessions:
    """The sessions. `is_operator` checks whether the token with this SHA-256 is still valid.

    Every method raises `StoreUnavailable` if the store cannot be reached.
    """

    def __init__(
        self, store: Store, is_operator: Callable[[bytes], bool], *, clock: Callable[[], float] = time.time
    ) -> None:
        self._store = store
        self._is_operator = is_operator
        self._clock = clock

    async def begin(self, operator: str, token: str) -> Visitor:
        """Begin a session with a new key."""
        key, now = secrets.token_urlsafe(32), self._clock()
        credential = hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()
        session = _StoredSession(operator=operator, credential=credential, began_at=now, seen_at=now)
        await self._store.put_once(COLLECTION, _name(key), session.model_dump(), expires_at=_end(session))
        return Visitor(operator, key)

    async def find(self, key: str | None, *, in_use: bool = True) -> Visitor | None:
        """Return who is signed in with this key. `in_use` is False for a page that only waits for events."""
        if not key or len(key) > _MAX_KEY_LENGTH:
            return None
        stored = await self._store.get(COLLECTION, _name(key))
        if stored is None:
            return None
        try:
            session = _StoredSession.model_validate(stored)
            credential = bytes.fromhex(session.credential)
        except (ValidationError, ValueError):
            return None
        if not self._is_operator(credential):
            return None
        now = self._clock()
        if in_use and now - session.seen_at >= _UPDATE_SECONDS:
            seen = session.model_copy(update={"seen_at": now})
            # Fails if another request has changed or ended the session, which is then not prolonged here.
            await self._store.replace(COLLECTION, _name(key), seen.model_dump(), expected=stored, expires_at=_end(seen))
        return Visitor(session.operator, key)

    async def end(self, key: str | None) -> None:
        """End the session with this key, if there is one."""
        if key and len(key) <= _MAX_KEY_LENGTH:
            await self._store.remove(COLLECTION, _name(key))


def _end(session: _StoredSession) -> float:
    return min(session.seen_at + IDLE_SECONDS, session.began_at + MAX_SECONDS)


def _name(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
