"""Who is signed in. Sessions are in the store, so that any replica knows them, under digests of what browsers hold."""

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
"""How long a session lasts that is not used."""

LONGEST_SECONDS = 43_200.0
"""How long one lasts at most."""

_NOTICE_SECONDS = 60.0
"""How much later a session must be used for that to be written down."""

_LONGEST_KEY = 128


@dataclass(frozen=True)
class Visitor:
    """An operator who is signed in."""

    operator: str
    key: str = field(repr=False)
    """What the browser shows: the cookie's value."""

    @property
    def form_token(self) -> str:
        """What every form of this session carries; no other page can know it."""
        return hmac.new(self.key.encode(), b"console form", hashlib.sha256).hexdigest()


class _Session(BaseModel):
    model_config = ConfigDict(frozen=True)

    operator: str
    credential: str
    """SHA-256 of the token that was shown at the login, in hex: the session ends with it."""
    began_at: float
    seen_at: float


class Sessions:
    """The sessions. `is_operator` says whether the token with this SHA-256 is one that still counts.

    Every method raises `StoreUnavailable` where the store does.
    """

    def __init__(
        self, store: Store, is_operator: Callable[[bytes], bool], *, clock: Callable[[], float] = time.time
    ) -> None:
        self._store = store
        self._is_operator = is_operator
        self._clock = clock

    async def begin(self, operator: str, token: str) -> Visitor:
        """A new session; its key is made here and was never seen before."""
        key, now = secrets.token_urlsafe(32), self._clock()
        credential = hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()
        session = _Session(operator=operator, credential=credential, began_at=now, seen_at=now)
        await self._store.put_once(COLLECTION, _name(key), session.model_dump(), expires_at=_end(session))
        return Visitor(operator, key)

    async def find(self, key: str | None, *, in_use: bool = True) -> Visitor | None:
        """Whose key this is, if anyone's. `in_use` counts as activity, which a page that only waits is not."""
        if not key or len(key) > _LONGEST_KEY:
            return None
        kept = await self._store.get(COLLECTION, _name(key))
        if kept is None:
            return None
        try:
            session = _Session.model_validate(kept)
            credential = bytes.fromhex(session.credential)
        except (ValidationError, ValueError):
            return None
        if not self._is_operator(credential):
            return None
        now = self._clock()
        if in_use and now - session.seen_at >= _NOTICE_SECONDS:
            seen = session.model_copy(update={"seen_at": now})
            # Lost to another request of the same session, or to its end: either way it is not this one's to prolong.
            await self._store.replace(COLLECTION, _name(key), seen.model_dump(), expected=kept, expires_at=_end(seen))
        return Visitor(session.operator, key)

    async def end(self, key: str | None) -> None:
        """End a session, if there is one with this key."""
        if key and len(key) <= _LONGEST_KEY:
            await self._store.remove(COLLECTION, _name(key))


def _end(session: _Session) -> float:
    return min(session.seen_at + IDLE_SECONDS, session.began_at + LONGEST_SECONDS)


def _name(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
