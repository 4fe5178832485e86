"""The gate: the only place that decides whether a call may go on.

`allow` lets the call pass, `ask` shows the preview to the person at the client, `approve` parks the call until an
operator releases it, and `block` refuses it. Every failure on the way refuses. No argument lets an agent answer.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from connector_mcp.engine.approval.hold import ApprovalHold
from connector_mcp.engine.approval.parked_call import Approval
from connector_mcp.engine.approval.queue import Approvals
from connector_mcp.engine.approval.wording import (
    Candidate,
    approval_required,
    client_of,
    denied,
    judge,
    question,
    refuse_excess,
    refused_by_client,
    target_changed,
)
from connector_mcp.engine.caller import AnswerDue, Caller, CannotAsk, ElicitationReply, TransportName
from connector_mcp.engine.ledger import NO_CLAIM, Claim, Execution, confirmation_spent
from connector_mcp.engine.policy import Decision, Policy, resolve
from connector_mcp.engine.secret_refs.secret_requests import brings_visit
from connector_mcp.errors import (
    Blocked,
    ConfirmationInvalid,
    ConnectorError,
    InProgress,
    StoreUnavailable,
    TargetChanged,
)
from connector_mcp.json_values import JsonObject
from connector_mcp.operations.operation import Effect
from connector_mcp.state.database import Database, Row, Transaction, Value

_SAME = ("tool", "digest", "principal")
"""Members that must be equal in a question and in the call that brings its answer."""

_CHANGED = "the target changed after the approval"

QUESTION_SECONDS = 600.0
"""The least time for which an answer to a question is accepted."""

SCOPE_OF = {
    Effect.READ: "connectors:read",
    Effect.CREATE: "connectors:write",
    Effect.UPDATE: "connectors:write",
    Effect.DISCLOSE: "connectors:write",
    Effect.DESTROY: "connectors:destroy",
}


@dataclass(frozen=True)
class Passage:
    """What lets a call begin, as soon as the claim is taken."""

    decision: Decision
    claim: Claim = NO_CLAIM
    decided_by: str | None = None
    """Who decided; None if the approval in the claim says it."""
    took_time: bool = False
    """Whether time has passed since the target was read, so that it must be compared again."""


class Part(NamedTuple):
    """One of several calls that are decided together: its gate, its tool and one of its effects."""

    gate: Gate
    tool: str
    effect: Effect


Begin = Callable[[Passage], Awaitable[Execution | Approval | None]]
"""Begins the call: takes the claim in one transaction with the record of the beginning. Returns as `Ledger.begin`."""


def channel_of(decision: Decision, transport: TransportName) -> str:
    """Return the channel of a decision, as the audit log names it."""
    if decision is Decision.ASK:
        return "terminal" if transport == "cli" else "elicitation"
    return "approvals" if decision is Decision.APPROVE else "policy"


def permits(policy: Policy, tool: str, effect: Effect, scopes: frozenset[str] | None) -> bool:
    """Check whether a call with this effect could ever pass. Tools that never can are not listed."""
    return policy.decide(tool, effect) is not Decision.BLOCK and (scopes is None or SCOPE_OF[effect] in scopes)


def require_scope(tool: str, effect: Effect, scopes: frozenset[str] | None) -> None:
    """Refuse a call with this effect that the caller's scopes do not allow.

    Raises:
        Blocked: A scope is missing.
    """
    if scopes is not None and SCOPE_OF[effect] not in scopes:
        raise Blocked(
            f"{tool} needs the scope {SCOPE_OF[effect]}, which the caller's token does not have. Nothing was sent.",
            fix=f"Use a token with the scope {SCOPE_OF[effect]}.",
            details={"scope": SCOPE_OF[effect]},
        )


class NotRead(Exception):
    """A client answered a question that no person can have read. The text says how."""


class Gate:
    """The gate for calls under one policy. `decide_at` is the address of the operators' console."""

    def __init__(
        self,
        policy: Policy,
        approvals: Approvals,
        database: Database,
        *,
        operator_channel: bool,
        decide_at: str | None = None,
        question_seconds: float = QUESTION_SECONDS,
        reading_seconds: float = 0.5,
        hold: ApprovalHold | None = None,
        announce: Callable[[Approval], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`announce` is called with a parked call each time that call is made.

        An answer within `reading_seconds` is the client's own: no person can have read the question.
        """
        self._policy = policy
        self._approvals = approvals
        self._database = database
        self._operator_channel = operator_channel
        self.decide_at = decide_at
        self._question_seconds = question_seconds
        self._reading_seconds = reading_seconds
        self._clock = clock
        self._hold = hold or ApprovalHold(0, records=database)
        self._announce = announce
        self._answered: set[str] = set()
        """Tickets of questions that were not answered with a yes, while the database does not say so."""

    def decide(self, tool: str, effect: Effect, scopes: frozenset[str] | None) -> Decision:
        """Decide by policy alone, before anything about the target is known.

        Raises:
            Blocked: Policy, read-only mode or the caller's scopes refuse the call.
        """
        decision = self._policy.decide(tool, effect)
        if decision is Decision.BLOCK:
            raise self.blocked(tool, effect)
        require_scope(tool, effect, scopes)
        return decision

    async def pass_through(
        self,
        candidate: Candidate,
        caller: Caller,
        begin: Begin,
        look: Callable[[], Awaitable[object]],
        parts: Sequence[Part] = (),
        least: Decision = Decision.ALLOW,
    ) -> Execution:
        """Begin the call, or raise. `look` raises if the same call is under way.

        `parts` are the calls that are decided with this one. The decision is at least as strict as `least`.

        Raises:
            Blocked, ApprovalRequired, Refused, ConfirmationInvalid, TargetChanged, InProgress: The call may not go on.
            StoreUnavailable: The decision cannot be recorded, so there is none.
            AnswerDue: The question is on its way to the person.
        """
        decision, (gate, tool, effect) = self.strictest(candidate, caller.scopes, parts)
        decision = least if least.strictness > decision.strictness else decision
        if decision is Decision.ALLOW:
            return await _begun(begin, Passage(decision, decided_by="policy"))
        # A call that is under way must not use up an approval, be parked or be asked about.
        if self._operator_channel:
            found = await begin(_approved(candidate))
            if isinstance(found, Execution):
                return found
            await self._refuse_ended(candidate, found)
        else:
            await look()
        because = ""
        resolved = resolve(decision, can_ask=caller.can_ask, operator_channel=self._operator_channel)
        if resolved is Decision.ASK:
            try:
                return await _begun(begin, await self._ask(candidate, caller))
            except CannotAsk:
                resolved = resolve(decision, can_ask=False, operator_channel=self._operator_channel)
            except NotRead as answer:
                if not self._operator_channel:
                    raise refused_by_client(caller, str(answer)) from None
                resolved, because = Decision.APPROVE, str(answer)
        if resolved is Decision.APPROVE:
            approval = await self._park(candidate)
            page = f"{self.decide_at}/approvals/{approval.id}" if self.decide_at else None
            if await self._hold.until_decided(approval, self._approvals, caller, page):
                return await self._begin_decided(candidate, approval, begin)
            raise approval_required(approval, page, because)
        raise gate.blocked(tool, effect, candidate.effect)

    def strictest(
        self, candidate: Candidate, scopes: frozenset[str] | None, parts: Sequence[Part] = ()
    ) -> tuple[Decision, Part]:
        """Return the strictest decision, and what it is about, of the effects of the call and that of its operation.

        An update that destroys is still an update: a rule for destruction cannot open what a rule for updates closes.

        Raises:
            Blocked: One of the effects is blocked.
        """
        own = map(partial(Part, self, candidate.tool), (*candidate.effects, candidate.declared))
        every = dict.fromkeys((*own, *parts))
        decided = [(gate.decide(tool, effect, scopes), Part(gate, tool, effect)) for gate, tool, effect in every]
        return max(decided, key=lambda each: each[0].strictness)

    async def _refuse_ended(self, candidate: Candidate, approval: Approval | None) -> None:
        """Report a denial, once, and void an approval of another state of the target."""
        if approval is None or approval.status == "pending":
            return
        if approval.status == "denied":
            # If it cannot be taken, it is reported once more.
            with suppress(StoreUnavailable):
                await self._approvals.take_denied(candidate.digest)
            raise denied(approval)
        await self._approvals.void(approval.id, _CHANGED)
        raise target_changed(candidate.tool, approval.snapshot, candidate.snapshot)

    async def _ask(self, candidate: Candidate, caller: Caller) -> Passage:
        """Ask the person, or take the answer that the call brings to an earlier question."""
        if caller.resumed is not None and not brings_visit(caller):
            return await self._take_answer(candidate, caller, caller.resumed.ticket, caller.resumed.reply)
        ticket, asked_at = secrets.token_urlsafe(24), self._clock()
        try:
            reply = await caller.ask(question(candidate), ticket)
        except AnswerDue:
            await self._keep_question(ticket, candidate)
            raise
        self._judge(candidate, caller, reply, self._clock() - asked_at)
        return Passage(Decision.ASK, decided_by=client_of(caller), took_time=True)

    async def _take_answer(self, candidate: Candidate, caller: Caller, ticket: str, reply: ElicitationReply) -> Passage:
        asked, seconds = await self._asked(ticket)
        if asked is None or ticket in self._answered or any(asked[key] != getattr(candidate, key) for key in _SAME):
            raise confirmation_spent()
        try:
            if asked["fingerprint"] != candidate.fingerprint:
                raise target_changed(candidate.tool, asked["snapshot"], candidate.snapshot)
            self._judge(candidate, caller, reply, seconds)
        except (ConnectorError, NotRead):
            # A question is answered once. Only when the database has no such question any more is a no reported as one.
            self._answered.add(ticket)
            await self._drop_question(ticket)
            self._answered.discard(ticket)
            raise
        return Passage(Decision.ASK, Claim(ticket=ticket), client_of(caller))

    def _judge(self, candidate: Candidate, caller: Caller, reply: ElicitationReply, seconds: float) -> None:
        if reply.action == "cancel":
            raise NotRead("The client cancelled the question.")
        if seconds < self._reading_seconds:
            raise NotRead(f"The client answered after {seconds:.2f} s, before a person could read the question.")
        judge(candidate, reply, caller)

    async def _keep_question(self, ticket: str, candidate: Candidate) -> None:
        note = candidate.model_dump_json(include={*_SAME, "fingerprint", "snapshot"})
        values: dict[str, Value] = {"ticket": ticket, "note": note, "seconds": self._question_seconds}

        def work(tx: Transaction) -> None:
            tx.execute("DELETE FROM questions WHERE expires_at <= epoch()")
            tx.execute("INSERT INTO questions VALUES (:ticket, :note, epoch(), epoch() + :seconds)", values)

        await self._database.write(work)

    async def _asked(self, ticket: str) -> tuple[JsonObject | None, float]:
        """Return the question and how many seconds ago it was asked."""

        def work(tx: Transaction) -> Row | None:
            return tx.execute(
                "SELECT question, epoch() - asked_at AS seconds FROM questions "
                "WHERE ticket = :ticket AND expires_at > epoch()",
                {"ticket": ticket},
            ).first()

        row = await self._database.read(work)
        return (None, 0.0) if row is None else (json.loads(row["question"]), row["seconds"])

    async def _drop_question(self, ticket: str) -> None:
        await self._database.write(
            lambda tx: tx.execute("DELETE FROM questions WHERE ticket = :ticket", {"ticket": ticket})
        )

    async def _park(self, candidate: Candidate) -> Approval:
        is_parked = await self._approvals.find(candidate.digest) is not None
        refuse_excess(candidate, 0 if is_parked else await self._approvals.count(candidate.principal))
        approval = await self._approvals.park(candidate)
        if self._announce is not None:
            self._announce(approval)
        return approval

    async def _begin_decided(self, candidate: Candidate, approval: Approval, begin: Begin) -> Execution:
        """Act on the decision that the call was held for. If several calls were held, one gets the approval."""
        try:
            found = await begin(_approved(candidate, took_time=True))
        except TargetChanged:
            with suppress(StoreUnavailable, ConfirmationInvalid):
                await self._approvals.void(approval.id, _CHANGED)
            raise
        if isinstance(found, Execution):
            return found
        await self._refuse_ended(candidate, found)
        ended = await self._approvals.get(approval.id)
        if ended.status == "denied":
            raise denied(ended)
        if ended.status == "void":
            raise target_changed(candidate.tool, ended.snapshot, candidate.snapshot)
        raise InProgress(
            f"An operator approved this call ({ended.id}), and the same call, made twice, has taken the approval. "
            "Nothing was sent by this one.",
            fix="Use the other call's answer, or read the target; do not repeat the call.",
        )

    def blocked(self, tool: str, effect: Effect, sentence: str = "") -> Blocked:
        """Make the error for a call that cannot pass: which rule or setting closes the way."""
        ruling = self._policy.ruling(tool, effect)
        if ruling.decision is Decision.BLOCK:
            fix = f"Blocked by {ruling.because}. The operator of the server can change that; an agent cannot."
        else:
            fix = (
                f"{ruling.because[:1].upper()}{ruling.because[1:]} requires a decision, and no person or operator can "
                "be asked here. The operator of the server can turn on CONNECTOR_MCP_APPROVALS, use a client with "
                f"elicitation, or set a policy such as --policy '{tool}:{effect}=allow'."
            )
        return Blocked(
            f"{sentence} {tool} with effect {effect} is blocked here. Nothing was changed.".lstrip(),
            fix=fix,
            details={"effect": sentence} if sentence else None,
        )


def _approved(candidate: Candidate, *, took_time: bool = False) -> Passage:
    return Passage(Decision.APPROVE, Claim(fingerprint=candidate.fingerprint), took_time=took_time)


async def _begun(begin: Begin, passage: Passage) -> Execution:
    execution = await begin(passage)
    assert isinstance(execution, Execution)  # noqa: S101 - only a claim for an approval can find none
    return execution
