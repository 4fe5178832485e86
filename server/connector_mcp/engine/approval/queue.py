"""Calls that wait for an operator.

A call is parked under the digest of what it would do. The digest must cover everything that the operator's yes is
for: principal, tool, profile and arguments. The agent holds nothing that could release it; it makes the same call
again, which runs once if an operator approved it, is told so once if one denied it, and otherwise is still waiting.

Each change of state is one compare-and-set in the store, so that of any number of processes one makes it.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from connector_mcp.errors import ConfirmationInvalid, InvalidArguments, Issue, StoreUnavailable
from connector_mcp.json_values import JsonObject
from connector_mcp.state.store import Store
from connector_mcp.telemetry.observer import NULL_OBSERVER, Observer
from connector_mcp.text import clean

WAITING = "approvals"
HISTORY = "approvals_history"
IDS = "approval_ids"

HISTORY_SECONDS = 90 * 86_400.0
"""How long a decision can be looked up after the call it was about."""

Status = Literal["pending", "approved", "denied", "used", "void"]

Channel = Literal["approvals", "console", "webhook"]
"""By which channel an operator decided: the command line, or a signed call-back."""

_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"
_ATTEMPTS = 20


class Change(BaseModel):
    """One field a call would change, as the operator sees it: redacted."""

    model_config = ConfigDict(frozen=True, defer_build=True)

    field: str
    before: Any = None
    after: Any = None


class Parked(BaseModel):
    """What the operator needs to know of a call. Everything in it is redacted before it gets here."""

    model_config = ConfigDict(frozen=True, defer_build=True)

    digest: str
    tool: str
    platform: str
    profile: str
    principal: str
    client: str | None = None
    effect: str
    """What the call would do, as a sentence."""
    target: str = ""
    """What the target is known by; the operator types it to approve."""
    deletes: bool = False
    """Whether the target is gone afterwards."""
    losses: tuple[str, ...] = ()
    """What would be gone afterwards, a sentence each."""
    diff: tuple[Change, ...] = ()
    arguments: JsonObject
    fingerprint: str | None = None
    """Of the target as it was previewed; None where there is no target to read."""
    snapshot: Any = None
    """The target as it was previewed."""


class Approval(Parked):
    """A parked call and what became of it. Times are epoch seconds."""

    id: str
    status: Status = "pending"
    created_at: float
    expires_at: float
    decided_by: str | None = None
    decided_at: float | None = None
    channel: Channel | None = None
    """Where it was decided, as the audit log names it."""
    reason: str | None = None
    """Of the decision; why it was voided, where it was."""
    used_at: float | None = None


class Approvals:
    """The queue of parked calls. Every method raises `StoreUnavailable` where the store does."""

    def __init__(
        self, store: Store, *, ttl: float, clock: Callable[[], float] = time.time, observer: Observer = NULL_OBSERVER
    ) -> None:
        self._store = store
        self._ttl = ttl
        self._clock = clock
        self._observer = observer

    async def park(self, parked: Parked) -> Approval:
        """Let a call wait. There is one live approval a digest: where one is, it is returned as it stands."""
        for _ in range(_ATTEMPTS):
            live = await self.find(parked.digest)
            if live is not None:
                return live
            now = self._clock()
            expires_at = now + self._ttl
            approval = Approval(
                **dict(parked), id=await self._new_id(parked.digest), created_at=now, expires_at=expires_at
            )
            if await self._store.put_once(WAITING, parked.digest, _as_json(approval), expires_at=expires_at):
                self._observer.approval_changed(approval.status)
                return approval
            await self._store.remove(IDS, approval.id)
        raise _contended(parked.tool)

    async def find(self, digest: str) -> Approval | None:
        """The live approval of a call: pending, approved and not yet used, or denied and not yet told."""
        kept = await self._store.get(WAITING, digest)
        return None if kept is None else _as_approval(kept)

    async def get(self, approval_id: str) -> Approval:
        """An approval by its id, live or decided.

        Raises:
            InvalidArguments: There is none with that id.
            ConfirmationInvalid: It expired before it was decided.
        """
        kept = await self._store.get(IDS, approval_id)
        if kept is None:
            raise await self._unknown(approval_id)
        live = await self.find(str(kept["digest"]))
        if live is not None and live.id == approval_id:
            return live
        decided = await self._store.get(HISTORY, approval_id)
        if decided is None:
            raise ConfirmationInvalid(
                f"Approval {approval_id} expired before it was decided; nothing was done.",
                fix="Have the agent make the call again: it is then parked anew.",
                retryable=False,
            )
        return _as_approval(decided)

    async def list(self, status: Status | None = None) -> tuple[Approval, ...]:
        """The live approvals, oldest first."""
        kept = [_as_approval(value) for _, value in await self._store.entries(WAITING)]
        return tuple(approval for approval in kept if status is None or approval.status == status)

    async def history(self) -> tuple[Approval, ...]:
        """Every approval that was decided in the last 90 days, used or not, in the order of the decisions."""
        return tuple(_as_approval(value) for _, value in await self._store.entries(HISTORY))

    async def decide(
        self, approval_id: str, approve: bool, by: str, reason: str | None = None, *, channel: Channel = "approvals"
    ) -> Approval:
        """Approve or deny a pending call. Its expiry stays what it was.

        Raises:
            InvalidArguments: There is none with that id.
            ConfirmationInvalid: It is no longer pending.
        """
        approval = await self.get(approval_id)
        if approval.status != "pending":
            raise _already(approval)
        decided = approval.model_copy(
            update={
                "status": "approved" if approve else "denied",
                "decided_by": by,
                "decided_at": self._clock(),
                "channel": channel,
                "reason": reason,
            }
        )
        if not await self._swap(approval, decided, expires_at=approval.expires_at):
            raise _already(await self.get(approval_id))
        return decided

    async def use(self, digest: str) -> Approval | None:
        """Spend the approval of a call: for one of any number of callers, once. None where none is approved.

        The same call parks anew afterwards.
        """
        return await self._end(digest, "approved", {"status": "used", "used_at": self._clock()})

    async def take_denied(self, digest: str) -> Approval | None:
        """The denial of a call, told once; None where it was not denied. The same call parks anew afterwards."""
        return await self._end(digest, "denied", {})

    async def void(self, approval_id: str, why: str) -> Approval:
        """End an approval that no longer fits, such as when its target changed. The same call parks anew afterwards.

        Raises:
            InvalidArguments: There is none with that id.
            ConfirmationInvalid: It is neither pending nor approved.
        """
        for _ in range(_ATTEMPTS):
            approval = await self.get(approval_id)
            if approval.status not in ("pending", "approved"):
                raise _already(approval)
            ended = approval.model_copy(update={"status": "void", "reason": why})
            if await self._swap(approval, ended, expires_at=0.0):
                return ended
        raise _contended(approval_id)

    async def _end(self, digest: str, status: Status, update: JsonObject) -> Approval | None:
        approval = await self.find(digest)
        if approval is None or approval.status != status:
            return None
        ended = approval.model_copy(update=update)
        return ended if await self._swap(approval, ended, expires_at=0.0) else None

    async def _swap(self, before: Approval, after: Approval, *, expires_at: float) -> bool:
        """Change the state if nobody else did. Expiry 0 takes it out of the queue in the same atomic step."""
        swapped = await self._store.replace(
            WAITING, before.digest, _as_json(after), expected=_as_json(before), expires_at=expires_at
        )
        if swapped:
            if after.status != before.status:
                self._observer.approval_changed(after.status)
            await self._record(after)
        return swapped

    async def _record(self, approval: Approval) -> None:
        expires_at = self._clock() + HISTORY_SECONDS
        value = _as_json(approval)
        for _ in range(_ATTEMPTS):
            if await self._store.put_once(HISTORY, approval.id, value, expires_at=expires_at):
                return
            kept = await self._store.get(HISTORY, approval.id)
            if kept is not None and await self._store.replace(
                HISTORY, approval.id, value, expected=kept, expires_at=expires_at
            ):
                return
        raise _contended(approval.id)

    async def _new_id(self, digest: str) -> str:
        # Reserved before use: an operator's yes to an id must never reach another call than the one they looked at.
        expires_at = self._clock() + self._ttl + HISTORY_SECONDS
        for _ in range(_ATTEMPTS):
            fresh = "ap-" + "".join(secrets.choice(_LETTERS) for _ in range(6))
            if await self._store.put_once(IDS, fresh, {"digest": digest}, expires_at=expires_at):
                return fresh
        raise _contended("a new approval")

    async def _unknown(self, approval_id: str) -> InvalidArguments:
        ids = [approval.id for approval in await self.list()] or [approval.id for approval in await self.history()]
        nearest = get_close_matches(approval_id, ids, n=1, cutoff=0.0)
        hint = f" (nearest: {nearest[0]})" if nearest else ", of which there are none"
        return InvalidArguments(
            "approvals",
            [
                Issue(
                    "id",
                    got="an id that no parked call has",
                    wanted=f"the id of a parked call{hint}",
                    example=next(iter(nearest), None),
                )
            ],
            fix="Look the id up with `connector-mcp approvals list`.",
        )


def name_to_type(approval: Approval) -> str:
    """What an operator types to approve a call, as it is shown: the target's name, or the id of a nameless one."""
    return clean(approval.target) or approval.id


def is_confirmed(approval: Approval, typed: str) -> bool:
    """Whether what was typed approves this call. The id does as well as the name, which may be hard to type."""
    return typed.strip() in (name_to_type(approval), approval.id)


def _as_json(approval: Approval) -> JsonObject:
    return approval.model_dump(mode="json")


def _as_approval(kept: JsonObject) -> Approval:
    try:
        return Approval.model_validate(kept)
    except ValidationError as invalid:
        raise StoreUnavailable(
            "The store holds an approval that this version cannot read, so nothing is decided on it.",
            fix="Let all processes that share the state run the same version of connector-mcp.",
            retryable=False,
        ) from invalid


def _already(approval: Approval) -> ConfirmationInvalid:
    by = f" by {approval.decided_by}" if approval.decided_by and approval.status in ("approved", "denied") else ""
    return ConfirmationInvalid(
        f"Approval {approval.id} is no longer pending: it is {approval.status}{by}.",
        fix="Have the agent make the call again if it is still wanted: it is then parked anew.",
        retryable=False,
        details={"status": approval.status},
    )


def _contended(what: str) -> StoreUnavailable:
    return StoreUnavailable(
        f"Too many processes changed the approval of {what} at once, so nothing was done.", fix="Call again."
    )
