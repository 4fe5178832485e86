"""The queue of calls that wait for an operator.

A call is parked under its digest, which covers everything that the operator approves: principal, tool, profile and
arguments. The agent has nothing that could release it; it makes the same call again. That call runs once if an operator
approved it, reports a denial once, and otherwise still waits.

Each change of state is one compare-and-set in the store, so only one of several processes makes it.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from connector_mcp.errors import ConfirmationInvalid, InvalidArguments, Issue, StoreUnavailable
from connector_mcp.json_values import JsonObject
from connector_mcp.state.store import Store
from connector_mcp.suggest import closest
from connector_mcp.telemetry.observer import NULL_OBSERVER, Observer
from connector_mcp.text import clean, same_text

WAITING = "approvals"
HISTORY = "approvals_history"
IDS = "approval_ids"

HISTORY_SECONDS = 90 * 86_400.0
"""How long a decision can be looked up after its call."""

ApprovalStatus = Literal["pending", "approved", "denied", "used", "void"]

Channel = Literal["approvals", "console", "webhook"]
"""How an operator decided: on the command line, in the console, or with a signed callback."""

_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"
_ATTEMPTS = 20


class ApprovalChange(BaseModel):
    """One field that a call would change, redacted for the operator."""

    model_config = ConfigDict(frozen=True, defer_build=True)

    field: str
    before: Any = None
    after: Any = None


class ParkedCall(BaseModel):
    """What the operator needs to know about a call. Everything in it is redacted already."""

    model_config = ConfigDict(frozen=True, defer_build=True)

    digest: str
    tool: str
    platform: str
    profile: str
    tenant: str | None = None
    address: str = ""
    """The platform's address."""
    sandbox: bool = False
    """Whether the platform is the emulated one."""
    principal: str
    client: str | None = None
    effect: str
    """A sentence that says what the call would do."""
    effects: tuple[str, ...] = ()
    """The effects that the policy decided about."""
    target: str = ""
    """The target's name. The operator types it to approve."""
    deletes: bool = False
    """Whether the call deletes the target."""
    losses: tuple[str, ...] = ()
    """What would be lost, one sentence each."""
    diff: tuple[ApprovalChange, ...] = ()
    arguments: JsonObject
    hosts: tuple[str, ...] = ()
    """The hosts that the platform would send credentials to, as far as the call or the stored config names them."""
    secrets: tuple[str, ...] = ()
    """The names of the secrets that the call uses."""
    fingerprint: str | None = None
    """The fingerprint of the target in the preview; None if there is no target to read."""
    snapshot: Any = None
    """The target in the preview."""


class Approval(ParkedCall):
    """A parked call and its decision. Times are epoch seconds."""

    id: str
    status: ApprovalStatus = "pending"
    created_at: float
    expires_at: float
    decided_by: str | None = None
    decided_at: float | None = None
    channel: Channel | None = None
    """The channel of the decision, as the audit log names it."""
    reason: str | None = None
    """The reason for the decision, or for voiding the approval."""
    used_at: float | None = None


class Approvals:
    """The queue of parked calls. Every method may raise `StoreUnavailable`."""

    def __init__(
        self, store: Store, *, ttl: float, clock: Callable[[], float] = time.time, observer: Observer = NULL_OBSERVER
    ) -> None:
        self._store = store
        self._ttl = ttl
        self._clock = clock
        self._observer = observer

    async def park(self, parked: ParkedCall) -> Approval:
        """Park a call. If the digest has a live approval already, return that one unchanged."""
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
        """Return a call's live approval: pending, approved but not used, or denied but not reported."""
        kept = await self._store.get(WAITING, digest)
        return None if kept is None else _as_approval(kept)

    async def get(self, approval_id: str) -> Approval:
        """Return the approval with this id, live or decided.

        Raises:
            InvalidArguments: No approval has this id.
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
                fix="Have the agent make the call again: it is then parked again.",
                retryable=False,
            )
        return _as_approval(decided)

    async def list(self, status: ApprovalStatus | None = None) -> tuple[Approval, ...]:
        """Return the live approvals, oldest first."""
        kept = [_as_approval(value) for _, value in await self._store.entries(WAITING)]
        return tuple(approval for approval in kept if status is None or approval.status == status)

    async def count(self, principal: str) -> int:
        """Return how many live approvals the calls of a principal have."""
        return sum(approval.principal == principal for approval in await self.list())

    async def history(self) -> tuple[Approval, ...]:
        """Return every approval decided in the last 90 days, used or not, in the order of the decisions."""
        return tuple(_as_approval(value) for _, value in await self._store.entries(HISTORY))

    async def decide(
        self, approval_id: str, approve: bool, by: str, reason: str | None = None, *, channel: Channel = "approvals"
    ) -> Approval:
        """Approve or deny a pending call. Its expiry stays what it was.

        Raises:
            InvalidArguments: No approval has this id.
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
        """Spend the approval of a call, for exactly one caller. None if the call is not approved.

        Afterwards the same call is parked again.
        """
        return await self._end(digest, "approved", {"status": "used", "used_at": self._clock()})

    async def take_denied(self, digest: str) -> Approval | None:
        """Take the denial of a call, once; None if it was not denied. Afterwards the same call is parked again."""
        return await self._end(digest, "denied", {})

    async def void(self, approval_id: str, why: str) -> Approval:
        """Void an approval, for example when its target changed. Afterwards the same call is parked again.

        Raises:
            InvalidArguments: No approval has this id.
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

    async def _end(self, digest: str, status: ApprovalStatus, update: JsonObject) -> Approval | None:
        approval = await self.find(digest)
        if approval is None or approval.status != status:
            return None
        ended = approval.model_copy(update=update)
        return ended if await self._swap(approval, ended, expires_at=0.0) else None

    async def _swap(self, before: Approval, after: Approval, *, expires_at: float) -> bool:
        """Change the state unless it changed meanwhile. Expiry 0 removes it from the queue in the same atomic step."""
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
        # Reserved before use: an approval of an id must never reach another call than the one the operator saw.
        expires_at = self._clock() + self._ttl + HISTORY_SECONDS
        for _ in range(_ATTEMPTS):
            fresh = "ap-" + "".join(secrets.choice(_LETTERS) for _ in range(6))
            if await self._store.put_once(IDS, fresh, {"digest": digest}, expires_at=expires_at):
                return fresh
        raise _contended("a new approval")

    async def _unknown(self, approval_id: str) -> InvalidArguments:
        ids = [approval.id for approval in await self.list()] or [approval.id for approval in await self.history()]
        near = closest(approval_id, ids, cutoff=0.0)
        hint = f" (closest match: {near})" if near else "; there are none"
        return InvalidArguments(
            "approvals",
            [Issue("id", got="an id that no parked call has", wanted=f"the id of a parked call{hint}", example=near)],
            fix="Look the id up with `connector-mcp approvals list`.",
        )


def name_to_type(approval: Approval) -> str:
    """Return what an operator types to approve a call: the target's name as shown, or the id if it has none."""
    return clean(approval.target) or approval.id


def is_confirmed(approval: Approval, typed: str) -> bool:
    """Check whether what was typed approves this call. The id is accepted, too: the name may be hard to type."""
    return same_text(typed, name_to_type(approval)) or same_text(typed, approval.id)


def _as_json(approval: Approval) -> JsonObject:
    return approval.model_dump(mode="json")


def _as_approval(kept: JsonObject) -> Approval:
    try:
        return Approval.model_validate(kept)
    except ValidationError as invalid:
        raise StoreUnavailable(
            "The store contains an approval that this version cannot read, so nothing is decided.",
            fix="Run the same version of connector-mcp in all processes that share the state.",
            retryable=False,
        ) from invalid


def _already(approval: Approval) -> ConfirmationInvalid:
    by = f" by {approval.decided_by}" if approval.decided_by and approval.status in ("approved", "denied") else ""
    return ConfirmationInvalid(
        f"Approval {approval.id} is no longer pending: it is {approval.status}{by}.",
        fix="Have the agent make the call again if it is still wanted: it is then parked again.",
        retryable=False,
        details={"status": approval.status},
    )


def _contended(what: str) -> StoreUnavailable:
    return StoreUnavailable(
        f"Too many processes changed the approval of {what} at once, so nothing was done.", fix="Call again."
    )
