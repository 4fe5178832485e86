"""Hold a call for a while, until an operator decides or a person enters a secret.

Nothing is let through here: when the hold ends, the gate checks again. A held call has no connection to a platform and
no lock, only its open request at the client.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Final

import anyio

from connector_mcp.engine.approval.parked_call import Approval
from connector_mcp.engine.approval.queue import Approvals
from connector_mcp.engine.caller import Caller
from connector_mcp.program import runnable
from connector_mcp.state.database import Database

PROGRESS_SECONDS: Final = 5.0
"""Seconds between two progress messages to the client."""

LONGEST_PAUSE: Final = 2.0
"""Seconds between two looks into the database while nothing is reported to have changed."""


class ApprovalHold:
    """Holds calls for up to `seconds`; 0 holds none. An engine has one."""

    def __init__(self, seconds: float, *, records: Database, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._records = records
        self._clock = clock
        self._pauses: set[anyio.CancelScope] = set()
        self._ended = False

    async def until_decided(
        self, approval: Approval, approvals: Approvals, caller: Caller, page: str | None = None
    ) -> bool:
        """Hold the call until its approval is decided, on the `page` with this address or elsewhere.

        False if the time ends, or the client is gone, before that.

        Raises:
            StoreUnavailable: The approval cannot be read.
        """

        async def is_pending() -> bool:
            live = await approvals.find(approval.digest)
            return live is not None and live.id == approval.id and live.status == "pending"

        message = f"Waiting for an operator to decide {approval.id}: {approval.effect} "
        message += f"On the page {page} " if page else ""
        message += runnable(f"In a terminal: `connector-mcp approvals show {approval.id}`.")
        return bool(self._seconds) and await self.hold(is_pending, message, caller, self._seconds)

    async def hold(
        self, is_pending: Callable[[], Awaitable[bool]], message: str, caller: Caller, seconds: float
    ) -> bool:
        """Hold a call while something is pending, and report the message as progress.

        False if the time is up, the client is gone or the server shuts down.
        """
        begun = self._clock()
        reported = begun - PROGRESS_SECONDS
        changes = self._records.changes
        while await is_pending():
            now = self._clock()
            left = begun + seconds - now
            if left <= 0 or self._ended:
                return False
            with anyio.CancelScope() as scope:
                self._pauses.add(scope)
                try:
                    if now - reported >= PROGRESS_SECONDS:
                        reported = now
                        # A client that does not read must not prolong the hold.
                        with anyio.move_on_after(PROGRESS_SECONDS):
                            await caller.progress(message)
                    await self._records.changed(min(LONGEST_PAUSE, left), changes)
                finally:
                    self._pauses.discard(scope)
            if caller.gone:
                return False
            changes = self._records.changes
        return True

    def end(self) -> None:
        """End all holds and start none: the server shuts down. The approvals stay."""
        self._ended = True
        for scope in self._pauses:
            scope.cancel()
