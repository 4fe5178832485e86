"""The ledger of writes: no write is sent twice at the same time, on any replica.

An entry is removed when the outcome of its write is known. An entry that stays means that the outcome is unknown: the
next identical call runs, and its result contains a warning.
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
"""Seconds for which a write with an unknown outcome is remembered."""


@dataclass
class LedgerEntry:
    """A write in progress."""

    digest: str
    warnings: list[str] = field(default_factory=list[str])
    outcome_unknown: bool = False
    """Set if the outcome of a part of the write is unknown."""


class Ledger:
    """The writes that are in progress or have an unknown outcome."""

    def __init__(self, store: Store, *, longest: float, clock: Callable[[], float] = time.time) -> None:
        """`longest` is how many seconds one write can take at most."""
        self._store = store
        self._longest = longest
        self._clock = clock

    @asynccontextmanager
    async def entry(self, digest: str, tool: str) -> AsyncGenerator[LedgerEntry]:
        """Keep the entry of a write while it is sent.

        A problem with the entry after the write was sent does not change the outcome of the write.

        Raises:
            InProgress: Another call is sending the same write.
            StoreUnavailable: The entry could not be made, so nothing may be sent.
        """
        entry = LedgerEntry(digest)
        note = await self._begin(entry, tool)
        try:
            yield entry
        except ConnectorError as error:
            await self._end(entry, note, unknown=isinstance(error, OutcomeUnknown))
            raise
        except BaseException:
            # Cancelled, or an unexpected failure: the request may have been sent.
            await self._end(entry, note, unknown=True)
            raise
        await self._end(entry, note, unknown=entry.outcome_unknown)

    async def _begin(self, entry: LedgerEntry, tool: str) -> JsonObject:
        now = self._clock()
        # The mark distinguishes this entry from a later one of the same call.
        note: JsonObject = {"at": now, "tool": tool, "unknown": False, "mark": secrets.token_hex(8)}
        expires_at = now + self._longest + _REMEMBERED
        if await self._store.put_once(_COLLECTION, entry.digest, note, expires_at=expires_at):
            return note
        earlier = await self._store.get(_COLLECTION, entry.digest)
        if earlier is None:
            taken = await self._store.put_once(_COLLECTION, entry.digest, note, expires_at=expires_at)
        else:
            ago = now - float(earlier["at"])
            # An entry this old belongs to a process that died.
            lost = bool(earlier["unknown"]) or ago > self._longest
            taken = lost and await self._store.replace(
                _COLLECTION, entry.digest, note, expected=earlier, expires_at=expires_at
            )
            if taken:
                warning = f"The outcome of the same call {round(ago)} s ago is unknown"
                entry.warnings.append(f"{warning}; check that it did not take effect twice.")
        if not taken:
            raise InProgress(
                f"The same {tool} call is already in progress. Nothing was sent.",
                fix="Wait for the first call's result instead of repeating it.",
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
