"""Apply a plan: one decision, then its actions, concurrently where they do not need each other.

A call answers within 50 seconds and says how far the plan has come. The same call continues: what was done is in the
journal, and what may have been done is looked up before it is done again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial
from time import monotonic
from typing import Any, Final

import anyio

from connector_mcp.engine.accounts import Account
from connector_mcp.engine.across import AcrossCall, side_by_side
from connector_mcp.engine.approval.gate import Passage, channel_of
from connector_mcp.engine.approval.parked_call import Approval
from connector_mcp.engine.caller import Caller, CallResult
from connector_mcp.engine.engine_call import CallServices
from connector_mcp.engine.ledger import Execution, decision_of
from connector_mcp.engine.policy import Decision
from connector_mcp.errors import ConnectorError, InvalidArguments, Issue, NotFound, TargetChanged
from connector_mcp.operations.catalog import platform_folder
from connector_mcp.operations.operation import Effect, ListOperation
from connector_mcp.operations.overview import Read
from connector_mcp.operations.provisioning.kinds import Kind
from connector_mcp.operations.provisioning.tools import ApplyPlan
from connector_mcp.operations.tool import Tool
from connector_mcp.provisioning.decision import candidate_of, check_destructive, check_served, parts_of
from connector_mcp.provisioning.journal import Identity, Journal, PlanStep, StoredPlan, account_key, step_ended
from connector_mcp.provisioning.plan import Action
from connector_mcp.provisioning.rehearsal import SharedReads, read_records
from connector_mcp.provisioning.report import is_ended, report
from connector_mcp.provisioning.steps import NEW, PlannedAction, PlannedCall, may_have_effect, remember, with_ids
from connector_mcp.state.database import Transaction, Value, Work, one_allowance

SECONDS: Final = 50.0
"""How long a call takes at most. Hosts give up on longer calls."""
BEGIN_SECONDS: Final = 35.0
"""For how long it begins actions."""
LEAST_SECONDS: Final = 5.0
"""How long it works at least, however long the decision took."""
AT_ONCE: Final = 32
"""Actions that run side by side."""
MARGIN: Final = 15.0
"""Seconds that a lease outlasts the longest call."""


class ApplyCall(AcrossCall):
    """A call that applies a plan."""

    _stored: StoredPlan
    _execution: Execution | None = None
    _status: str | None = None
    """How far the plan has come, once this call has worked on it."""
    _goes_on = False
    """Whether it continues what an earlier call began."""

    def __init__(self, tool: Tool, caller: Caller, services: CallServices) -> None:
        super().__init__(tool, caller, services)
        self._journal = Journal(services.database)
        self._lease = services.settings.longest_deadline + MARGIN
        self._accounts_of: dict[int, Account] = {}
        self._known: dict[tuple[str, str], Identity] = {}
        self._steps: dict[int, PlanStep] = {}
        self._ended: dict[int, anyio.Event] = {}
        self._limiter = anyio.CapacityLimiter(AT_ONCE)
        self._actions: dict[int, Action] = {}
        self._ids: dict[str, str] = {}
        """The id of the thing of each entry, as far as it is there."""
        self._same: dict[str, list[int]] = defaultdict(list)
        """The actions that change the same target, by its fingerprint."""
        self._locks: dict[str, anyio.Lock] = defaultdict(anyio.Lock)
        """One for each target, so that two actions never change one at the same time."""
        self._lists = SharedReads()
        self._done = 0
        self._deadline = 0.0
        self._begins_until = 0.0
        self._stops_on_failure = False
        self._has_stopped = False

    @property
    def may_have_changed(self) -> bool:
        return any(step.call_id is not None for step in self._steps.values())

    async def run_steps(self, arguments: Mapping[str, Any]) -> CallResult:
        self.check_alone(arguments)
        assert isinstance(self.operation, ApplyPlan)  # noqa: S101 - the engine makes it of these only
        self._stops_on_failure = self.operation.on_failure == "stop"
        stored = self._stored = await self._journal.load(self.operation.plan_id, self.caller.principal)
        plan = stored.plan
        self.digest, self.sandbox = plan.digest, plan.sandbox
        self._steps = dict(stored.steps)
        self._actions = {action.number: action for action in plan.actions}
        self._accounts_of = {action.number: self._account_of(action) for action in plan.actions}
        if stored.status != "done":
            await self._begin_or_go_on(stored)
            try:
                await self._apply()
            finally:
                with anyio.CancelScope(shield=True):
                    await self._journal.release(plan.id, self.id, done=self._is_done)
        answer = report(self._stored.plan, self._steps, has_stopped=self._has_stopped)
        self._status = answer["status"]
        return self.success(answer)

    # The decision ----------------------------------------------------------------------------------------------------

    async def _begin_or_go_on(self, stored: StoredPlan) -> None:
        """Get the plan decided, or continue where an earlier call left it.

        Raises:
            TargetChanged: It can no longer be applied.
            InProgress: Another call applies it.
        """
        plan = stored.plan
        if stored.is_expired or stored.status == "void":
            why = "has expired" if stored.is_expired else "is void: the records came back older"
            raise TargetChanged(
                f"The plan {plan.id} {why}. Nothing was changed by this call.",
                fix="Make a new plan with plan_connectors: it takes over what was done.",
                retryable=False,
            )
        check_served(plan, self._services.operations)
        check_destructive(plan, self._services.settings.plan_max_destructive)
        if stored.status == "begun":
            self.decision = Decision(stored.decision or Decision.ALLOW)
            self.decided_by, self.channel = stored.decided_by, stored.channel
            await self._journal.take_lease(plan.id, self.id, self._lease)
            self._goes_on = True
            # What the other call did last is known only now that it has ended.
            self._stored = await self._journal.load(plan.id, self.caller.principal)
            self._steps = dict(self._stored.steps)
        else:
            await self._journal.refuse_outdated(plan.id)
            await self._pass_gate(stored)

    async def _pass_gate(self, stored: StoredPlan) -> None:
        plan, services = stored.plan, self._services
        parts = parts_of(plan, self._accounts_of, services.gates, services.operations)
        accounts = list(dict.fromkeys(self._accounts_of[action.number] for action in plan.steps))
        candidate = candidate_of(plan, accounts, declared=self.tool.operation.effect, client=self.caller.client)
        self.effect = max((Effect.READ, *candidate.effects), key=tuple(Effect).index)
        # To replace a thing is never decided by a rule alone: what is new has another id.
        least = Decision.ASK if any(action.verb == "replace" for action in plan.actions) else Decision.ALLOW
        look = partial(services.ledger.look, plan.digest, self.tool.name)
        with self._observer.step("gate"):
            gate = services.gates[None]
            self._execution = await gate.pass_through(candidate, self.caller, self._begin, look, parts, least)

    async def _begin(self, passage: Passage) -> Execution | Approval | None:
        record = self.audit_record("begun")
        record.decision, record.decided_by = str(passage.decision), passage.decided_by
        record.channel = channel_of(passage.decision, self.caller.transport)

        def also(tx: Transaction) -> ConnectorError | None:
            begun = self._journal.decided(
                self._stored.plan.id, self.id, record.decision, record.decided_by, record.channel, self._lease
            )
            return begun(tx)

        begun = await self._services.ledger.begin(record, passage.claim, also=also)
        if isinstance(begun, Execution):
            decided = decision_of(begun.approval) if begun.approval else vars(record)
            self.decision = Decision(decided["decision"])
            self.decided_by, self.channel = decided["decided_by"], decided["channel"]
            self._stored = await self._journal.load(self._stored.plan.id)
        return begun

    def end_work(self) -> Work[None] | None:
        """Also keep with the approval what became of the plan: a call that succeeds need not have done all of it."""
        outcome = self._status if self.outcome == "ok" and self._status != "done" else self.outcome
        if self._execution is not None:
            return self._services.ledger.end(self._execution, outcome)
        values: dict[str, Value] = {"digest": self.digest, "outcome": outcome}

        def keep(tx: Transaction) -> None:
            tx.execute("UPDATE approvals SET outcome = :outcome WHERE digest = :digest AND status = 'used'", values)

        return keep if self._goes_on else None

    # The actions -----------------------------------------------------------------------------------------------------

    async def _apply(self) -> None:
        plan = self._stored.plan
        self._known = await self._journal.remembered(plan.manifest, self._accounts_of.values())
        left = max(LEAST_SECONDS, SECONDS - self.elapsed)
        self._deadline = anyio.current_time() + left
        self._begins_until = monotonic() + left - (SECONDS - BEGIN_SECONDS) * left / SECONDS
        self._ended = {action.number: anyio.Event() for action in plan.actions}
        self._done = sum(map(self._is_ended, plan.steps))
        for action in plan.actions:
            self._same[action.fingerprint].append(action.number)
            self._note_id(action)
        await side_by_side(partial(self._run_action, action) for action in plan.actions)
        await self._check_things()

    async def _run_action(self, action: Action) -> None:
        """Run an action once those that it needs have ended."""
        try:
            for need in action.needs:
                await self._ended[need].wait()
            if self._is_ended(action):
                return
            if not all(self._is_ended(self._actions[need]) for need in action.needs):
                return
            async with self._limiter, self._locks[action.fingerprint or str(action.number)]:
                if self._has_stopped or monotonic() >= self._begins_until:
                    return
                if action.calls:
                    await self._call(action)
                else:
                    await self._adopt(action)
        finally:
            self._ended[action.number].set()

    async def _call(self, action: Action) -> None:
        account, step = self._accounts_of[action.number], self._steps.get(action.number)
        tool = self._services.operations[action.tool or ""]
        entry_key, ids = (account_key(account), action.entry), self._ids
        # A host may be named by the id of what this plan makes.
        disclosed = tuple((name, with_ids(host, ids)) for name, host in action.disclosed)
        action = action.model_copy(update={"disclosed": disclosed, "within": self._within(action)})
        planned = PlannedAction(
            stored=self._stored,
            action=action,
            owner=self.id,
            lease=self._lease,
            kind=kind_of(action),
            find=partial(self._made, action, account),
            known=self._known.get(entry_key),
            expected=self._expected(action),
            was_unknown=step is not None and may_have_effect(step, action.verb),
        )
        call = PlannedCall(self._services.accounts.tool(tool), self.caller, self._services, planned)
        call.identifier = None if action.verb in NEW else action.identifier or ids.get(action.entry)
        arguments = {**with_ids(action.arguments, ids), **self.account_arguments(account)}
        # What has begun ends, even if this call is cancelled: only between actions does an apply stop.
        with anyio.CancelScope(shield=True, deadline=self._deadline):
            await call.run(arguments)
        self._steps[action.number] = call.step
        self._note_id(action)
        if call.state == "done" and (identity := call.identity()) is not None:
            self._known[entry_key] = identity
        elif call.state != "done" and self._stops_on_failure:
            self._has_stopped = True
        self._done += call.state == "done"
        steps = self._stored.plan.steps
        await self.caller.progress(f"{self._done} of {len(steps)} done: {action.verb} {action.entry}")

    async def _adopt(self, action: Action) -> None:
        """Remember which thing an entry is. On the platform nothing changes."""
        account, step = self._accounts_of[action.number], PlanStep(action.number, "done", identifier=action.identifier)
        if action.verb == "adopt" and action.identifier is not None:
            identity = Identity(
                account_key(account),
                self._stored.plan.manifest,
                action.entry,
                action.identifier,
                action.within,
                declared=action.declared,
            )

            def work(tx: Transaction) -> None:
                step_ended(tx, self._stored.plan.id, step, self.id)
                remember(tx, action, self._stored, identity.account, identity)

            # Many are written side by side, and each waits for the others.
            with one_allowance():
                await self._services.database.write(work)
        self._steps[action.number] = step

    def _note_id(self, action: Action) -> None:
        """Keep the id of the thing that an action made, changed or found."""
        step = self._steps.get(action.number)
        identifier = (step.identifier if step else None) or action.identifier
        # What a replacement deletes is no longer the thing of the entry.
        if action.verb != "delete" and identifier is not None:
            self._ids[action.entry] = identifier

    def _within(self, action: Action) -> str:
        """Return the ids of what the thing belongs to, which this plan may have made."""
        is_made_here = action.verb in NEW or action.identifier is None
        return kind_of(action).place(with_ids(action.declared, self._ids)) if is_made_here else action.within

    def _expected(self, action: Action) -> set[str]:
        """Return the fingerprints that the target may have: what other actions of this plan left is no change."""
        same = self._same[action.fingerprint] if action.fingerprint else ()
        left = (self._steps[number].outcome.get("fingerprint") for number in same if number in self._steps)
        return {action.fingerprint, *(each for each in left if isinstance(each, str))}

    async def _made(self, action: Action, account: Account) -> list[str]:
        """Return the ids of the things that have the name of what an action makes, apart from what was there before."""
        kind, declared, within = kind_of(action), with_ids(action.declared, self._ids), self._within(action)
        data = await read_records(kind.listing(within), account, self.caller, self._services)
        before = {each.identifier for each in self._stored.plan.actions if each.entry == action.entry}
        found = (kind.identify(row) for row in kind.rows(data, within) if kind.key_of(row) == kind.key(declared))
        return [identifier for identifier in found if identifier not in before]

    def _account_of(self, action: Action) -> Account:
        for account in self._accounts(action.platform, action.profile):
            if account.sandbox is self._stored.plan.sandbox:
                return account
        world = "the sandbox" if self._stored.plan.sandbox else "the platforms themselves"
        raise InvalidArguments(
            self.tool.name,
            [Issue("plan_id", f"a plan for {world}", "a plan for what this server serves")],
            fix="Make a new plan with plan_connectors.",
        )

    def _is_ended(self, action: Action) -> bool:
        return is_ended(action, self._steps)

    @property
    def _is_done(self) -> bool:
        return all(map(self._is_ended, self._stored.plan.actions))

    # Afterwards ------------------------------------------------------------------------------------------------------

    async def _check_things(self) -> None:
        """Check what was made or changed by its recipe, as far as there is time."""
        noted: list[PlanStep] = []
        last = {action.entry: action.number for action in self._stored.plan.steps if action.verb != "delete"}

        async def check(action: Action, step: PlanStep) -> None:
            account, kind = self._accounts_of[action.number], kind_of(action)
            recipe = platform_folder(action.platform).overview.checks[kind.check]
            async with self._limiter:
                if monotonic() >= self._begins_until:
                    return
                try:
                    verdict = await self._verdict(account, recipe(step.identifier or "", self._within(action)))
                except NotFound as error:
                    # What was just made may be shown late.
                    verdict = {"works": "unknown", "reason": f"It cannot be known: {error.message}"}
            noted.append(replace(step, verdict=verdict))

        due: list[Callable[[], Awaitable[None]]] = []
        for action in self._stored.plan.steps:
            step = self._steps.get(action.number)
            is_due = step and step.state == "done" and not step.verdict and kind_of(action).check
            if step and is_due and last.get(action.entry) == action.number:
                due.append(partial(check, action, step))
        await side_by_side(due)
        if noted:
            self._steps |= {step.number: step for step in noted}
            await self._journal.note(self._stored.plan.id, self.id, noted)

    async def _read(self, account: Account, read: Read) -> Any:
        """Read lists once for all checks: every thing of a kind needs the same ones."""
        if not issubclass(read.operation, ListOperation):
            return await super()._read(account, read)
        key = (account, read.operation, repr(read.arguments))
        return await self._lists.get(key, partial(super()._read, account, read))


def kind_of(action: Action) -> Kind:
    """Return the kind of thing that an action is about."""
    section = action.entry.partition(".")[0]
    return next(kind for kind in platform_folder(action.platform).kinds if kind.section == section)
