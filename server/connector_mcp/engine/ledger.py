"""Notes every write before it is sent, so that the same one is not sent twice at once, on any replica.

An entry is gone when the write's outcome is known. One that stays says that the outcome was never learnt: the next
identical call runs, and its result warns of it.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio

from connector_mcp.errors import ConnectorError, InProgress, OutcomeUnknown, StoreUnavailable
from connector_mcp.json_values import JsonObject
from connector_mcp.state.store import Store

_COLLECTION = "writes"
_REMEMBERED = 600.0
"""Seconds for which a write of unknown outcome is remembered."""


@dataclass
class LedgerEntry:
    """A write on its way."""

    digest: str
    warnings: list[str] = field(default_factory=list[str])
    outcome_unknown: bool = False
    """Set by the sender where the outcome of a part of the write was not learnt."""


class Ledger:
    """The writes that are on their way or whose outcome is unknown."""

    def __init__(self, store: Store, *, longest: float, clock: Callable[[], float] = time.time) -> None:
        """`longest` is the most seconds that one write can take."""
        self._store = store
        self._longest = longest
        self._clock = clock

    @asynccontextmanager
    async def entry(self, digest: str, tool: str) -> AsyncGenerator[LedgerEntry]:
        """Holds the entry of a write while it is sent.

        Nothing that goes wrong with the entry once the write was sent changes the write's own outcome.

        Raises:
            InProgress: The same write is on its way from another call.
            StoreUnavailable: The entry could not be made; nothing may be sent.
        """
        entry = LedgerEntry(digest)
        note = await self._begin(entry, tool)
        try:
            yield entry
        except ConnectorError as error:
            await self._end(entry, note, unknown=isinstance(error, OutcomeUnknown))
            raise
        except BaseException:
            # Cancelled, or failed in a way nobody foresaw: whether the request got through is not known.
            await self._end(entry, note, unknown=True)
            raise
        await self._end(entry, note, unknown=entry.outcome_unknown)

    async def _begin(self, entry: LedgerEntry, tool: str) -> JsonObject:
        now = self._clock()
        # The mark tells this entry from the next one of the same call.
        note: JsonObject = {"at": now, "tool": tool, "unknown": False, "mark": secrets.token_hex(8)}
        expires_at = now + self._longest + _REMEMBERED
        if await self._store.put_once(_COLLECTION, entry.digest, note, expires_at=expires_at):
            return note
        earlier = await self._store.get(_COLLECTION, entry.digest)
        if earlier is None:
            taken = await self._store.put_once(_COLLECTION, entry.digest, note, expires_at=expires_at)
        else:
            ago = now - float(earlier["at"])
            # A process that died left an entry that nobody ends.
            lost = bool(earlier["unknown"]) or ago > self._longest
            taken = lost and await self._store.replace(
                _COLLECTION, entry.digest, note, expected=earlier, expires_at=expires_at
            )
            if taken:
                warning = f"The outcome of the same call {round(ago)} s ago is unknown"
                entry.warnings.append(f"{warning}; check that it did not take effect twice.")
        if not taken:
            raise InProgress(
                f"The same {tool} call is on its way. Nothing was sent.",
                fix="Wait for the first call's answer instead of repeating it.",
            )
        return note

    async def _end(self, entry: LedgerEntry, note: JsonObject, *, unknown: bool) -> None:
        now = self._clock()
        after = {**note, "at": now, "unknown": unknown}
        expires_at = now + _REMEMBERED if unknown else 0.0
        with anyio.CancelScope(shield=True):
            try:
                await self._store.replace(_COLLECTION, entry.digest, after, expected=note, expires_at=expires_at)
            except StoreUnavailable:
                entry.warnings.append(
                    f"The store failed after the write was sent: the same call is refused for {round(self._longest)} s."
                )
