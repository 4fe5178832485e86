"""One action of a plan as a call: the same steps, policy, audit and redaction as any other call.

It asks for no decision: the plan was decided as a whole. So it requires that what it would do now is what the plan
said, and nothing more.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, Final

from connector_mcp.engine.approval.wording import target_changed, tell_disclosures
from connector_mcp.engine.call import PlatformCall
from connector_mcp.engine.caller import Caller, CallResult
from connector_mcp.engine.checks.issues import value_at
from connector_mcp.engine.engine_call import CallServices
from connector_mcp.engine.ledger import NO_CLAIM, UNKNOWN, Execution
from connector_mcp.engine.policy import Decision
from connector_mcp.engine.preview import fingerprint, make_preview, readable_plan
from connector_mcp.errors import ConnectorError, NotFound, OutcomeUnknown, TargetChanged, UpstreamFailed
from connector_mcp.json_values import JsonObject, is_array, items, members, same_json
from connector_mcp.operations.operation import Effect, at
from connector_mcp.operations.provisioning.kinds import Kind
from connector_mcp.operations.tool import Tool
from connector_mcp.provisioning.differences import references_in
from connector_mcp.provisioning.journal import (
    Identity,
    Journal,
    PlanStep,
    StepState,
    StoredPlan,
    WrittenSecret,
    account_key,
    forget,
    keep,
    secret_digest,
    step_ended,
)
from connector_mcp.provisioning.manifest import plain, with_texts
from connector_mcp.provisioning.plan import Action, Verb
from connector_mcp.state.database import Transaction, Work

_PLACEHOLDER: Final = re.compile(r"(?<!\$)\$\{([\w-]+\.[\w.-]+)\.id\}")
_RANKS: Final = (Effect.READ, Effect.CREATE, Effect.UPDATE, Effect.DISCLOSE, Effect.DESTROY)
NEW: Final = ("create", "replace")
"""The verbs of actions that make something."""


class PlannedCall(PlatformCall):
    """A change that a decided plan contains."""

    identifier: str | None = None
    """The id of what it made or changed, as far as its answer says it."""
    _written: Mapping[str, str]
    """The digests of the secrets that the call writes, by their names."""
    _told: JsonObject
    """The failure as the call reports it."""

    def __init__(
        self,
        tool: Tool,
        caller: Caller,
        services: CallServices,
        *,
        stored: StoredPlan,
        action: Action,
        owner: str,
        lease: float,
        kind: Kind,
        find: Callable[[], Awaitable[list[str]]],
        known: Identity | None,
        expected: Collection[str],
        was_unknown: bool,
    ) -> None:
        """`owner` is the call that has the lease of the plan. `find` returns the ids of what may be the thing that the
        action makes. `expected` are the fingerprints that the target may have: that of the plan, and those that other
        actions of the plan left behind. `was_unknown` says that an earlier run of the action may have had an effect,
        but is not known to be done.
        """
        super().__init__(tool, caller, services)
        self._stored = stored
        self._action = action
        self._owner = owner
        self._lease = lease
        self._kind = kind
        self._find = find
        self._known = known
        self._expected = expected
        self._was_unknown = was_unknown
        self._journal = Journal(services.database)
        self._written = {}
        self._answers = []
        self._told = {}

    async def write(self) -> CallResult:
        if self._was_unknown and self._action.verb in NEW and await self._took_effect():
            return self._already()
        try:
            await self._prepare()
        except NotFound:
            if not self._was_unknown or self._action.verb != "delete":
                raise
            return self._already()
        if self._was_unknown and self._shows_effect():
            return self._already()
        self._account.client.open()
        await self._services.minted.check(self.operation)
        self._execution = await self._authorize()
        try:
            result = await self._carry_out()
        except (OutcomeUnknown, UpstreamFailed) as failure:
            if _made_nothing(self._action.verb, failure.retryable) or not await self._settle():
                raise failure
            self.meta.warn("The answer was lost or a failure, and a read shows that it took effect.")
            return self._result({})
        if self.identifier is None and self._action.verb in NEW:
            await self._settle()
        return result

    async def _settle(self) -> bool:
        """Look whether what was sent took effect. False if that cannot be known now."""
        try:
            return await self._took_effect()
        except ConnectorError:
            return False

    def _already(self) -> CallResult:
        """End a call that sends nothing, because an earlier run of the action took effect."""
        self.effect, self.decision = Effect.READ, Decision.ALLOW
        self.meta.warn("An earlier run of this action took effect, although its answer was lost or a failure.")
        return CallResult({"data": {}, "meta": self.meta.as_dict()}, is_error=False)

    async def _took_effect(self) -> bool:
        """Look whether the action took effect. Of something new it finds the id, where only one thing can be it."""
        if self._action.verb in NEW:
            found = await self._find()
            self.identifier = found[0] if len(found) == 1 else None
            if len(found) > 1:
                self.meta.warn(f"Several things can be it: {', '.join(found)}.")
            return self.identifier is not None
        try:
            self._situation = await self._sender.situation(self.operation)
        except NotFound:
            return self._action.verb == "delete"
        return self._shows_effect()

    def _shows_effect(self) -> bool:
        """Whether the target differs from what it was, and has all that this action sets."""
        planned = readable_plan(self.operation, self._situation)
        current = self._situation.current
        now = fingerprint(self.operation, current, self._key)
        if not planned or not self._action.fingerprint or now in self._expected:
            return False
        return all(same_json(at(current, path), value) for path, value in planned.items())

    async def _prepare(self) -> None:
        await self._identify()
        await super()._prepare()
        self._written = await self._written_secrets()

    async def _resolve_references(self, *, target_known: bool = True, ask: bool = True) -> None:
        await super()._resolve_references(target_known=target_known, ask=False)

    async def _authorize(self) -> Execution:
        """Require that the decided plan covers the call, and begin it."""
        gate, action = self._services.gates[self._account], self._action
        effects = (self.tool.operation.effect, self.effect, *([Effect.DISCLOSE] if self._disclosed else []))
        for effect in dict.fromkeys(effects):
            gate.decide(self.tool.name, effect, self.caller.scopes)
        if self.operation.acts_on is not None:
            self.fingerprint = fingerprint(self.operation, self._situation.current, self._key)
        if action.verb not in NEW and action.fingerprint and self.fingerprint not in self._expected:
            now = make_preview(self.operation, self._situation, (), self.scrubber)
            changed = target_changed(self.tool.name, action.snapshot, now.snapshot)
            changed.message = f"{action.entry} changed after the plan was made. Nothing was sent for it."
            changed.fix = "Make a new plan: it shows the present state."
            raise changed
        further = [each for each in self._disclosed if each not in action.disclosed]
        if _RANKS.index(self.effect) > _RANKS.index(action.effect) or further:
            does = " ".join(filter(None, (self._preview.sentence, tell_disclosures(further))))
            raise TargetChanged(
                f"{does} That is more than the plan said of {action.entry}. Nothing was sent for it.",
                fix="Make a new plan: it shows the present state.",
                details={"effect": str(self.effect), "planned": str(action.effect)},
            )
        stored = self._stored
        self.decision = Decision(stored.decision or Decision.ALLOW)
        self.decided_by, self.channel = stored.decided_by, stored.channel
        begun = self._journal.step_begun(stored.plan.id, action.number, self.id, self._owner, self._lease)
        record = self.audit_record("begun")
        with self._observer.step("ledger"):
            execution = await self._services.ledger.begin(record, NO_CLAIM, also=begun)
        assert isinstance(execution, Execution)  # noqa: S101 - only a claim for an approval can find none
        return execution

    async def _identify(self) -> str:
        """Return a digest of this run of the action. The lease keeps it from running twice, not the ledger."""
        if self.digest is None:
            await super()._identify()
            self.digest = f"{self.digest}-{self.id}"
        return self.digest

    def _result(self, data: Any) -> CallResult:
        if self._action.verb in NEW and self.identifier is None:
            record = members(items(data)[0]) if is_array(data) and data else members(data)
            identifier = self._kind.identify(record)
            self.identifier = identifier if identifier in map(str, record.values()) else None
        return super()._result(data)

    def _failure(self, error: ConnectorError) -> CallResult:
        result = super()._failure(error)
        self._told = result.content["error"]
        return result

    # What is recorded of it ------------------------------------------------------------------------------------------

    @property
    def state(self) -> StepState:
        """How the step stands after the call."""
        if self.outcome == "ok":
            return "done"
        if self._execution is None and self._was_unknown:
            return "unknown"
        if self._execution is None or self._execution_outcome() is None:
            return "waiting" if self.outcome == "cancelled" else "failed"
        return "unknown" if self._execution_outcome() == UNKNOWN else "failed"

    @property
    def step(self) -> PlanStep:
        """The step as it is recorded, redacted."""
        outcome: JsonObject = {"code": self.outcome} | self._told
        if self.fingerprint_after:
            outcome["fingerprint"] = self.fingerprint_after
        if self.meta.warnings:
            outcome["warnings"] = self.meta.warnings
        return PlanStep(self._action.number, self.state, self.id, self.identifier, outcome)

    def end_work(self) -> Work[None] | None:
        ended, step = super().end_work(), self.step
        identity = self.identity() if self.state == "done" else None

        def work(tx: Transaction) -> None:
            if ended is not None:
                ended(tx)
            step_ended(tx, self._stored.plan.id, step, self._owner)
            remember(tx, self._action, self._stored, account_key(self._account), identity)

        return work

    def identity(self) -> Identity | None:
        """Return what is remembered of the thing, as far as its id is known."""
        action, known = self._action, self._known
        identifier = self.identifier or (None if action.verb in NEW else action.identifier)
        if identifier is None or action.verb == "delete":
            return None
        secrets: dict[str, WrittenSecret] = {}
        for path, name in references_in(action.declared).items():
            if name in self._written:
                secrets[path] = WrittenSecret(name, self._written[name])
            elif known is not None and action.verb not in NEW and path in known.secrets:
                secrets[path] = known.secrets[path]
        return Identity(
            account_key(self._account),
            self._stored.plan.manifest,
            action.entry,
            identifier,
            action.within,
            secrets,
            action.declared,
        )

    async def _written_secrets(self) -> dict[str, str]:
        """Return the digest of each secret that the call writes, by its name."""
        found = self.found
        if found is None or not found.references:
            return {}
        values, written = self._ready.model_dump(exclude_unset=True), dict[str, str]()
        for reference in found.references:
            value = value_at(values, reference.steps)
            if isinstance(value, str):
                written[reference.name] = await secret_digest(self._services.database, value)
        return written


def may_have_effect(step: PlanStep, verb: Verb) -> bool:
    """Whether what a run of an action sent may have had an effect, although it is not known to be done."""
    if step.state in ("begun", "unknown"):
        return True
    failed = step.outcome.get("code") == UpstreamFailed.code
    return failed and not _made_nothing(verb, bool(step.outcome.get("retryable")))


def _made_nothing(verb: Verb, retryable: bool) -> bool:
    """Whether a platform that failed certainly made nothing. In its own words it may have made a part of the change."""
    return verb in NEW and retryable


def remember(tx: Transaction, action: Action, stored: StoredPlan, account: str, identity: Identity | None) -> None:
    """Remember or forget which thing an entry is, as part of a transaction."""
    if identity is not None:
        keep(tx, identity)
    elif action.verb == "delete" and action.identifier is not None:
        forget(tx, account, stored.plan.manifest, action.entry, action.identifier)


def with_ids(value: Any, ids: Mapping[str, str]) -> Any:
    """Put the ids of entries in the places of the references to them.

    Raises:
        KeyError: An entry has no id yet.
    """
    return with_texts(value, lambda text: plain(_PLACEHOLDER.sub(lambda match: ids[match[1]], text)))
