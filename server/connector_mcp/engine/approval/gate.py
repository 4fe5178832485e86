"""Decides whether a call may go on. The only place that does.

`allow` lets it pass, `ask` puts the preview to the person at the client, `approve` parks the call until an operator
releases it, `block` refuses. Whatever fails on the way refuses. There is no argument by which an agent could answer.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

from connector_mcp.engine.approval.approval_hold import ApprovalWait
from connector_mcp.engine.approval.queue import Approval, Approvals, Change, Parked
from connector_mcp.engine.caller import Caller, CannotAsk, Question, Reply, TransportName
from connector_mcp.engine.policy import Decision, Policy, resolve
from connector_mcp.engine.preview import Preview, differences
from connector_mcp.engine.secret_refs.secret_prompt import brings_visit
from connector_mcp.errors import ApprovalRequired, Blocked, ConfirmationInvalid, InProgress, Refused, TargetChanged
from connector_mcp.json_values import JsonObject
from connector_mcp.operations.operation import Effect
from connector_mcp.state.store import Store

PERSON = "person"
"""Who decides where a question was asked at the client."""

_QUESTIONS = "questions"
_SAME = ("kind", "tool", "digest", "principal")
"""What a question and the call that brings its answer have in common."""

QUESTION_SECONDS = 600.0
"""How long an answer to a question is taken, at least."""

_SCOPES = {
    Effect.READ: "connectors:read",
    Effect.CREATE: "connectors:write",
    Effect.UPDATE: "connectors:write",
    Effect.DESTROY: "connectors:destroy",
}


@dataclass(frozen=True)
class Passage:
    """Leave to go on, and who gave it. `asked_inline` says that time has passed since the target was read."""

    decision: Decision
    decided_by: str
    asked_inline: bool = False
    channel: str | None = None
    """By which an operator decided, where one did."""


@dataclass(frozen=True)
class Candidate:
    """A call before the gate."""

    tool: str
    platform: str
    profile: str
    declared: Effect
    """What the operation does by its class; the preview's effect may be higher."""
    deletes: bool
    """Whether the operation is a deletion: then the target's name is typed to confirm."""
    preview: Preview
    fingerprint: str
    digest: str
    """Keyed digest of tool, profile, principal and all arguments: what makes another call the same call."""
    arguments: JsonObject
    """Redacted."""
    under: str = ""
    """The account in words, for the person who is asked; empty where the platform has only one."""


def channel_of(decision: Decision, transport: TransportName) -> str:
    """By which channel a decision of this kind is learnt, as the audit log names it."""
    if decision is Decision.ASK:
        return "terminal" if transport == "cli" else "elicitation"
    return "approvals" if decision is Decision.APPROVE else "policy"


def permits(policy: Policy, tool: str, effect: Effect, scopes: frozenset[str] | None) -> bool:
    """Whether a call of this effect could pass at all; tools that never can are not listed."""
    return policy.decide(tool, effect) is not Decision.BLOCK and (scopes is None or _SCOPES[effect] in scopes)


class Gate:
    """The gate, with the policy in force and the channels there are. `decide_at` is where operators' pages are."""

    def __init__(
        self,
        policy: Policy,
        approvals: Approvals,
        store: Store,
        *,
        operator_channel: bool,
        decide_at: str | None = None,
        question_seconds: float = QUESTION_SECONDS,
        wait: ApprovalWait | None = None,
        announce: Callable[[Approval], None] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`announce` is told of every call that is parked, each time it is made while it waits."""
        self._policy = policy
        self._approvals = approvals
        self._store = store
        self._operator_channel = operator_channel
        self._decide_at = decide_at
        self._question_seconds = question_seconds
        self._wait = wait or ApprovalWait(0)
        self._announce = announce
        self._clock = clock
        # A policy never changes its mind, and there are so many tools; deciding costs ten times as much as this.
        self._decisions: dict[tuple[str, Effect], Decision] = {}

    def decide(self, tool: str, effect: Effect, scopes: frozenset[str] | None) -> Decision:
        """What policy says of a call, before anything about its target is known.

        Raises:
            Blocked: Policy, read-only mode or the caller's scopes refuse it.
        """
        if scopes is not None and _SCOPES[effect] not in scopes:
            raise Blocked(
                f"{tool} needs the scope {_SCOPES[effect]}, which the caller's token does not have. Nothing was sent.",
                fix=f"Use a token with the scope {_SCOPES[effect]}.",
            )
        decision = self._decisions.get((tool, effect))
        if decision is None:
            decision = self._decisions[tool, effect] = self._policy.decide(tool, effect)
        if decision is Decision.BLOCK:
            raise self._blocked(tool, effect)
        return decision

    async def pass_through(self, candidate: Candidate, caller: Caller) -> Passage:
        """Leave for the call to go on.

        Raises:
            Blocked, ApprovalRequired, Refused, ConfirmationInvalid, TargetChanged: It may not, now or ever.
            StoreUnavailable: The decision cannot be recorded, so there is none.
            AnswerDue: The question is on its way to the person.
        """
        decision, effect = self.strictest(candidate, caller.scopes)
        if decision is Decision.ALLOW:
            return Passage(decision, "policy")
        if self._operator_channel:
            released = await self._released(candidate)
            if released is not None:
                return _released_by(released)
        resolved = resolve(decision, can_ask=caller.can_ask, operator_channel=self._operator_channel)
        if resolved is Decision.ASK:
            try:
                return await self._ask(candidate, caller)
            except CannotAsk:
                resolved = resolve(decision, can_ask=False, operator_channel=self._operator_channel)
        if resolved is Decision.APPROVE:
            approval = await self._park(candidate, caller)
            if await self._wait.until_decided(approval, self._approvals, caller):
                return await self._decided(candidate, approval)
            raise approval_required(approval, self._decide_at)
        raise self._blocked(candidate.tool, effect, candidate.preview)

    def strictest(self, candidate: Candidate, scopes: frozenset[str] | None) -> tuple[Decision, Effect]:
        """The decision on a call by what it does and by what its operation is: whichever is stricter, and why.

        An update that destroys is an update too: no rule on destruction opens what a rule on updates closes.

        Raises:
            Blocked: One of the two refuses it.
        """
        effects = dict.fromkeys((candidate.preview.effect, candidate.declared))
        decisions = [(self.decide(candidate.tool, effect, scopes), effect) for effect in effects]
        return max(decisions, key=lambda pair: pair[0].strictness)

    async def _released(self, candidate: Candidate) -> Approval | None:
        """The operator's release of this very call, taken so that it serves once."""
        approval = await self._approvals.find(candidate.digest)
        if approval is None:
            return None
        if approval.status == "denied":
            await self._approvals.take_denied(candidate.digest)
            raise denied(approval)
        if approval.status != "approved":
            return None
        if approval.fingerprint != candidate.fingerprint:
            await self._approvals.void(approval.id, "the target changed after the approval")
            raise target_changed(candidate.tool, approval.snapshot, candidate.preview.snapshot)
        return await self._approvals.use(candidate.digest)

    async def _ask(self, candidate: Candidate, caller: Caller) -> Passage:
        note: JsonObject = {
            "kind": "confirmation",
            "tool": candidate.tool,
            "digest": candidate.digest,
            "principal": caller.principal,
            "fingerprint": candidate.fingerprint,
            "snapshot": candidate.preview.snapshot,
        }
        if caller.resumed is not None and not brings_visit(caller):
            ticket, reply = caller.resumed.ticket, caller.resumed.reply
            asked_inline = False
        else:
            ticket = secrets.token_urlsafe(24)
            await self._store.put_once(_QUESTIONS, ticket, note, expires_at=self._clock() + self._question_seconds)
            try:
                reply = await caller.ask(question(candidate), ticket)
            except CannotAsk:
                await self._store.take_once(_QUESTIONS, ticket)
                raise
            asked_inline = True
        asked = await self._store.take_once(_QUESTIONS, ticket)
        if asked is None or any(asked.get(key) != note[key] for key in _SAME):
            raise ConfirmationInvalid(
                "This confirmation was used before, has expired, or belongs to another call. Nothing was changed.",
                fix="Make the call again without a confirmation; it will be asked anew.",
            )
        if asked["fingerprint"] != candidate.fingerprint:
            raise target_changed(candidate.tool, asked["snapshot"], candidate.preview.snapshot)
        judge(candidate, reply)
        return Passage(Decision.ASK, f"{PERSON} at {caller.client or 'the client'}", asked_inline)

    async def _park(self, candidate: Candidate, caller: Caller) -> Approval:
        preview = candidate.preview
        approval = await self._approvals.park(
            Parked(
                digest=candidate.digest,
                tool=candidate.tool,
                platform=candidate.platform,
                profile=candidate.profile,
                principal=caller.principal,
                client=caller.client,
                effect=preview.sentence,
                losses=preview.losses,
                target=preview.name,
                deletes=candidate.deletes,
                diff=tuple(Change(**change.as_dict()) for change in preview.changes),
                arguments=candidate.arguments,
                fingerprint=candidate.fingerprint,
                snapshot=preview.snapshot,
            )
        )
        if self._announce is not None:
            self._announce(approval)
        return approval

    async def _decided(self, candidate: Candidate, approval: Approval) -> Passage:
        """What became of an approval that the call was held for. Of several calls that were, one gets the release."""
        released = await self._released(candidate)
        if released is not None:
            return _released_by(released, asked_inline=True)
        ended = await self._approvals.get(approval.id)
        if ended.status == "denied":
            raise denied(ended)
        if ended.status == "void":
            raise target_changed(candidate.tool, ended.snapshot, candidate.preview.snapshot)
        raise InProgress(
            f"An operator approved this call ({ended.id}), and the same call, made twice, has taken the approval. "
            "Nothing was sent by this one.",
            fix="Use the other call's answer, or read the target; do not repeat the call.",
        )

    def _blocked(self, tool: str, effect: Effect, preview: Preview | None = None) -> Blocked:
        said = f"{preview.sentence} " if preview else ""
        return Blocked(
            f"{said}{tool} with effect {effect} is blocked here. Nothing was changed.",
            fix=self._how_to_open(tool, effect),
            details={"effect": preview.sentence} if preview else None,
        )

    def _how_to_open(self, tool: str, effect: Effect) -> str:
        ruling = self._policy.ruling(tool, effect)
        if ruling.decision is Decision.BLOCK:
            return f"Blocked by {ruling.because}. Whoever runs the server can change that; an agent cannot."
        return (
            f"{ruling.because[:1].upper()}{ruling.because[1:]} wants a decision that nobody here can take. Whoever "
            "runs the server can turn on CONNECTOR_MCP_APPROVALS, use a client with elicitation, or set a policy such "
            f"as --policy '{tool}:{effect}=allow'."
        )


def approval_required(approval: Approval, decide_at: str | None = None) -> ApprovalRequired:
    """The answer to a call that waits for an operator: what it would do, where it waits, and what to do then."""
    command = f"connector-mcp approvals approve {approval.id}"
    page = f"{decide_at}/approvals/{approval.id}" if decide_at else None
    how = f"decides at {page}, or runs `{command}` in a terminal" if page else f"runs `{command}` in a terminal"
    return ApprovalRequired(
        f"{approval.effect} This waits for an operator's approval ({approval.id}); nothing was changed.",
        fix=f"An operator {how}; then make the same call again and it runs once.",
        details={
            "effect": approval.effect,
            "losses": list(approval.losses),
            "approval": {
                "id": approval.id,
                "command": command,
                **({"page": page} if page else {}),
                "expires_at": approval.expires_at,
            },
        },
    )


def denied(approval: Approval) -> Refused:
    """The answer to a call that an operator denied."""
    reason = f" Reason given: {approval.reason}" if approval.reason else ""
    return Refused(
        f"An operator denied this call ({approval.id}).{reason} Nothing was changed.",
        fix="Do not repeat it unless the person you work for wants it asked again.",
        details={"refused_by": approval.decided_by or "operator", "channel": approval.channel or "approvals"},
    )


def _released_by(approval: Approval, *, asked_inline: bool = False) -> Passage:
    return Passage(Decision.APPROVE, approval.decided_by or "operator", asked_inline, approval.channel)


def target_changed(tool: str, before: JsonObject, now: JsonObject) -> TargetChanged:
    """The refusal of a call whose target is no longer what was shown; names what differs, as far as it may be shown."""
    return TargetChanged(
        f"The target of {tool} changed after it was shown for confirmation. Nothing was sent.",
        fix="Make the call again: the present state will be shown and must be confirmed anew.",
        details={"differences": differences(before, now)},
    )


def question(candidate: Candidate) -> Question:
    """What the person is asked: to type the target's name for a deletion, yes or no for anything less."""
    if candidate.deletes:
        name = candidate.preview.name
        member: JsonObject = {"type": "string", "title": "Name", "description": f"Type {name} to confirm."}
        closing = f"To confirm, type the name: {name}"
    else:
        member = {"type": "boolean", "title": "Go on?", "description": "Yes runs the call as shown."}
        closing = "Run this call?"
    schema: JsonObject = {"type": "object", "properties": {"confirm": member}, "required": ["confirm"]}
    under = f"\nUnder {candidate.under}." if candidate.under else ""
    return Question(f"{candidate.preview.text()}{under}\n\n{closing}", schema)


def judge(candidate: Candidate, reply: Reply) -> None:
    """Accept nothing but the exact confirmation.

    Raises:
        Refused: The person declined or cancelled.
        ConfirmationInvalid: The answer is not the one asked for.
    """
    if reply.action != "accept":
        raise Refused(
            f"The person {'declined' if reply.action == 'decline' else 'cancelled'}. Nothing was changed.",
            fix="Do not repeat the call unless the person wants it.",
            details={"refused_by": PERSON},
        )
    given = reply.content.get("confirm")
    right = given == candidate.preview.name and given != "" if candidate.deletes else given is True
    if not isinstance(given, str | bool) or not right:
        wanted = "the target's name exactly as shown" if candidate.deletes else "yes"
        raise ConfirmationInvalid(
            f"The answer was not {wanted}. Nothing was changed.",
            fix="Make the call again if the person wants it; it will be asked anew.",
        )
