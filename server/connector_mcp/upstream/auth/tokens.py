"""Access tokens that are minted for us: kept until shortly before they end, fetched once however many callers wait."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

import anyio

from connector_mcp.errors import ConnectorError

EARLY: Final = 60.0
"""Seconds before its end at which a token is renewed, so that none runs out on the way."""


@dataclass(frozen=True)
class Token:
    """An access token. `lifetime` is in seconds from when it was asked for."""

    value: str = field(repr=False)
    lifetime: float
    lacks_scope: bool = False
    """The platform granted less than was asked for."""


class TokenCache:
    """The current token of one account. `fetch` mints one or raises a ConnectorError; `clock` is monotonic."""

    def __init__(self, fetch: Callable[[], Awaitable[Token]], clock: Callable[[], float]) -> None:
        self._fetch = fetch
        self._clock = clock
        self._lock = anyio.Lock(fast_acquire=True)
        self._token: Token | None = None
        self._renew_at = 0.0
        self._rounds: int = 0
        self._failure: ConnectorError | None = None

    @property
    def known(self) -> Token | None:
        """The token last minted, whether it is still valid or not."""
        return self._token

    async def get(self) -> Token:
        """A valid token. Raises what `fetch` raised to this caller or to the one it waited for."""
        token = self._token
        if token is not None and self._clock() < self._renew_at:
            return token
        return await self._mint(None)

    async def replace(self, refused: Token) -> Token:
        """A token other than `refused`, which the platform turned down before its time."""
        token = self._token
        if token is not None and token is not refused and self._clock() < self._renew_at:
            return token
        return await self._mint(refused)

    async def _mint(self, refused: Token | None) -> Token:
        rounds = self._rounds
        async with self._lock:
            if self._rounds != rounds:
                # Another caller has fetched while this one waited: what it got, good or bad, is news enough.
                if self._failure is not None:
                    raise self._failure.with_traceback(None)
                if self._token is not None and self._token is not refused:
                    return self._token
            asked_at = self._clock()
            try:
                token = await self._fetch()
            except ConnectorError as failure:
                self._failure = failure
                self._rounds += 1
                raise
            self._token, self._failure = token, None
            self._renew_at = asked_at + token.lifetime - min(EARLY, token.lifetime / 2)
            self._rounds += 1
            return token
