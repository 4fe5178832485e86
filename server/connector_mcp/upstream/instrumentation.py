"""Tells an observer of each request to a platform, the attempts that failed included."""

from __future__ import annotations

from collections.abc import Awaitable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from connector_mcp.operations.platform import Request
from connector_mcp.telemetry.events import Attempt, RequestKind
from connector_mcp.telemetry.observer import Observer
from connector_mcp.upstream.exchange import Outcome, Reply
from connector_mcp.upstream.urls import Address


@dataclass(frozen=True, slots=True)
class Watch:
    """One account's requests, seen by an observer."""

    observer: Observer
    platform: str
    address: Address

    def __call__(
        self, attempt: Awaitable[Outcome], request: Request, attempts: int, *, reads: bool
    ) -> Awaitable[Outcome]:
        """The attempt, seen; the very same where nobody listens. `attempts` counts those of the call, with this one."""
        if not self.observer.listens:
            return attempt
        return self._seen(attempt, "read" if reads else "write", request.method, request.path, attempts)

    def token(self, attempt: Awaitable[Outcome], path: str, attempts: int) -> Awaitable[Outcome]:
        """The same for a request to the token endpoint."""
        return self._seen(attempt, "token", "POST", path, attempts) if self.observer.listens else attempt

    def minting(self) -> AbstractContextManager[None]:
        """Open for as long as a token is obtained."""
        return self.observer.minting(self.platform)

    async def _seen(
        self, attempt: Awaitable[Outcome], kind: RequestKind, method: str, template: str, attempts: int
    ) -> Outcome:
        where = self.address
        what = Attempt(self.platform, kind, method, template, where.host, where.reached_at, attempts - 1)
        with self.observer.attempt(what) as ending:
            outcome = await attempt
            ending.status = outcome.status if isinstance(outcome, Reply) else type(outcome).__name__
        return outcome
