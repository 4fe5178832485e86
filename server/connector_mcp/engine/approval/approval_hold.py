"""Holds a call for a while, so that it can be answered with what an operator decides or a person enters.

Nothing is let through here: the wait ends, and the gate looks again. While it lasts the call holds no connection to a
platform and no lock, only its place at the client.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Final

import anyio

from connector_mcp.engine.approval.queue import Approval, Approvals
from connector_mcp.engine.caller import Caller

TELL_SECONDS: Final = 5.0
"""How often the client is told what the call waits for."""

FIRST_PAUSE: Final = 0.25
LONGEST_PAUSE: Final = 2.0
"""Seconds between two looks into the store: double each time, up to the longest."""


class ApprovalWait:
    """How long calls may be held, and the calls that are. One for an engine.

    `seconds` of 0 holds no call. `clock` and `sleep` are those of the pauses alone.
    """

    def __init__(
        self,
        seconds: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
    ) -> None:
        self._seconds = seconds
        self._clock = clock
        self._sleep = sleep
        self._pauses: set[anyio.CancelScope] = set()
        self._ended = False

    async def until_decided(self, approval: Approval, approvals: Approvals, caller: Caller) -> bool:
        """Hold the call until its approval is no longer pending; False where the time is up or the client gone first.

        Raises:
            StoreUnavailable: Nobody can know any longer.
        """
        if not self._seconds:
            return False
        return await self.hold(
            lambda: self._is_pending(approval, approvals),
            f"Waiting for an operator to decide {approval.id}: {approval.effect} "
            f"In a terminal: `connector-mcp approvals show {approval.id}`.",
            caller,
            self._seconds,
        )

    async def hold(
        self, is_pending: Callable[[], Awaitable[bool]], message: str, caller: Caller, seconds: float
    ) -> bool:
        """Hold a call while something is pending; False where the time is up, the client gone or the server ending.

        The client is told the message as long as that lasts.
        """
        begun = self._clock()
        told = begun - TELL_SECONDS
        pause = FIRST_PAUSE
        while await is_pending():
            now = self._clock()
            left = begun + seconds - now
            if left <= 0 or self._ended:
                return False
            with anyio.CancelScope() as scope:
                self._pauses.add(scope)
                try:
                    if now - told >= TELL_SECONDS:
                        told = now
                        await _tell(message, caller)
                    await self._sleep(min(pause, left))
                finally:
                    self._pauses.discard(scope)
            pause = min(2 * pause, LONGEST_PAUSE)
            if caller.gone:
                return False
        return True

    def end(self) -> None:
        """Hold no call any longer, now and from now on: the server is ending. Their approvals stay."""
        self._ended = True
        for scope in self._pauses:
            scope.cancel()

    async def _is_pending(self, approval: Approval, approvals: Approvals) -> bool:
        live = await approvals.find(approval.digest)
        return live is not None and live.id == approval.id and live.status == "pending"


async def _tell(message: str, caller: Caller) -> None:
    # A client that does not read must not hold the call for longer than its time.
    with anyio.move_on_after(TELL_SECONDS):
        await caller.progress(message)
