"""The life of a call to a platform: `PlatformCall.read` and `PlatformCall.write` show the order of the steps.

A change is recorded before it is sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from itertools import filterfalse
from typing import Any

import anyio

from connector_mcp.engine.accounts import Account
from connector_mcp.engine.approval.gate import Passage, channel_of
from connector_mcp.engine.approval.parked_call import Approval
from connector_mcp.engine.approval.wording import Candidate, target_changed
from connector_mcp.engine.caller import CallResult
from connector_mcp.engine.checks.configs import check_configs, tolerate
from connector_mcp.engine.engine_call import EngineCall
from connector_mcp.engine.ledger import UNKNOWN, Execution, decision_of, explain_gone
from connector_mcp.engine.lookup import Lookup, named_things
from connector_mcp.engine.policy import Decision
from connector_mcp.engine.preview import Change, Preview, fingerprint, keyed_digest, make_preview, readable_plan
from connector_mcp.engine.results import find_cleaned
from connector_mcp.engine.secret_refs.resolver import insert_values
from connector_mcp.engine.sender import Sender, verify
from connector_mcp.errors import Blocked, Conflict, InvalidArguments, NotFound, Rejected, StoreUnavailable
from connector_mcp.json_values import members
from connector_mcp.operations.operation import Effect, Operation
from connector_mcp.operations.situation import Situation
from connector_mcp.operations.tool import name_served, only_served
from connector_mcp.state.database import Work
from connector_mcp.state.keys import secret_key

# Outcomes of a call that leave it open whether what was sent took effect.
_UNKNOWN = frozenset({"outcome_unknown", "cancelled", "internal"})

_NOT_RECORDED = (
    "The change was made, but its end could not be recorded: the audit log shows only its beginning, and the same call "
    "may be refused for some minutes."
)


class PlatformCall(EngineCall):
    """A call that is sent to a platform."""

    _account: Account
    _sender: Sender
    _situation: Situation
    _ready: Operation
    """The operation with the values of its references."""
    _preview: Preview
    _key: bytes
    """Keys the digest and the fingerprints."""
    _answers: list[Any]
    _disclosed: tuple[tuple[str, str], ...] = ()
    """The secrets that the call sends to hosts which the arguments choose, as `Candidate.of` takes them."""
    _person_took_time = False
    """Whether a person was asked for a secret, so the target may have changed meanwhile."""
    _execution: Execution | None = None
    """The execution, if the call has begun to change something."""

    @property
    def may_have_changed(self) -> bool:
        return self._execution is not None and self.effect is not Effect.READ and self._sender.may_have_changed

    async def run_steps(self, arguments: Mapping[str, Any]) -> CallResult:
        self.validate(arguments)
        assert self.account is not None  # noqa: S101 - operations of a platform always have an account
        self._account = account = self.account
        self.meta.platform, self.meta.profile, self.meta.tenant = account.platform.name, account.profile, account.tenant
        self._sender = Sender(account, self.tool.name, self.caller)
        self._situation = Situation(options=account.options)
        try:
            return await (self.read() if self.effect is Effect.READ else self.write())
        except InvalidArguments as error:
            await self._explain_gone(error)
            raise
        except (NotFound, Rejected, Conflict) as error:
            failed = error
        # The lookup is a part of the call, within its time.
        with anyio.move_on_after(account.client.deadline - self.elapsed):
            while await self._look_up(failed):
                try:
                    return await self._read_again()
                except (NotFound, Rejected, Conflict) as again:
                    failed = again
        raise failed

    async def _look_up(self, error: NotFound | Rejected | Conflict) -> bool:
        """Say in the error what was likely meant. Return whether that is certain, and may be read instead."""
        if "argument" in error.details:
            # It was found and explained before the call was sent.
            return False
        if isinstance(error, NotFound) and await self._explain_gone(error):
            return False
        if isinstance(error, Rejected) and self._sender.may_have_changed:
            details = (error.upstream or {}).get("details")
            issues, look = self.operation.explain_refusal(details)
            if issues:
                error.fix = f"Correct the arguments named in issues and call again. {look}"
                error.details["issues"] = [issue.as_dict() for issue in issues]
                return False
        lookup = Lookup(self.operation, self._sender, self._allowed_tools(), self.scrubber)
        await lookup.explain_conflict(error)
        lookup.explain_cursor(error)
        match = None if isinstance(error, Conflict) else await lookup.explain_missing(error)
        # An approval is for what was asked, and a change is never made to something else.
        if match is None or self.effect is not Effect.READ or self.decision is not Decision.ALLOW:
            return False
        if match.argument in self.meta.resolved:
            return False
        self.operation = self.operation.model_copy(update={match.argument: match.id})
        self.meta.resolved |= {match.argument: match.id}
        kind = "the id of something else" if match.member == "id" else f"a {match.member}"
        self.meta.warn(f"{match.argument} gave {kind}. The only one that fits was read: meta.resolved has its id.")
        return True

    async def _explain_gone(self, error: NotFound | InvalidArguments) -> bool:
        """Say in the error that an earlier call of the same deletion explains it. Return whether that may be so."""
        http, target = self.operation.http, self.operation.acts_on
        is_named = isinstance(error, InvalidArguments) and error.issues[0].path in http.placeholders[-1:]
        if http.method != "DELETE" or not (is_named or isinstance(error, NotFound)):
            return False
        with suppress(StoreUnavailable):
            digest, begun = await self._identify(), self._execution
            earlier = begun.earlier if begun else await self._services.ledger.look(digest, self.tool.name)
            was_seen = is_named or (target is not None and target.read.http.shape == http.shape)
            return explain_gone(error, earlier, was_seen=was_seen)
        return False

    async def read(self) -> CallResult:
        """Run the steps of a read."""
        self.scan_arguments(self._situation)
        self.register_secrets()
        if self.decision is not Decision.ALLOW:
            self._preview = make_preview(self.operation, self._situation, (), self.scrubber)
            # The approval is taken with a record, as for a change.
            self._ready = self.operation
            self._execution = await self._authorize()
        return await self._read_again()

    async def _read_again(self) -> CallResult:
        await self._send(self.operation)
        return self._result(self.operation.shape_result(self._answers, self._situation))

    async def write(self) -> CallResult:
        """Run the steps of a call that changes something."""
        await self._prepare()
        # A call that cannot be sent, or with credentials that cannot be stored, must not use an approval.
        self._account.client.open()
        await self._services.minted.check(self.operation)
        execution = self._execution = await self._authorize()
        self.meta.warnings.extend(execution.warnings)
        return await self._carry_out()

    async def _prepare(self) -> None:
        """Check the arguments against the target as it is now, and find what the call would do to it."""
        named = any(named_things(self.operation))
        has_target = self.operation.acts_on is not None
        await self._check_arguments(target_known=not has_target and not named)
        if named and self._may_ask():
            await Lookup(self.operation, self._sender, self._allowed_tools(), self.scrubber).require_named()
        if has_target:
            await self._read_target()
        if has_target or named:
            await self._check_arguments()
        if has_target and self._person_took_time:
            await self._read_target()
            await self._check_arguments()
        self.register_secrets()
        self._detect_effect()

    async def _carry_out(self) -> CallResult:
        """Send the change and read the target back."""
        services = self._services
        await self._send(self._ready)
        await services.minted.keep(self.operation, self._answers, self._account, self.meta)
        data = self._sender.outcomes(self.operation, self._answers, self._situation, self.meta)
        if self.tool.operation.effect is Effect.CREATE and not (self.tool.target and self.operation.acts_on):
            made = members(data[0] if isinstance(data, list) and data else data)
            self.made = self.scrubber.text(str(made["id"])) if made.get("id") else None
        if services.settings.verify_writes:
            plan = readable_plan(self.operation, self._situation)
            with self._observer.step("verify"):
                await verify(self.operation, plan, data, partial(self._sender.read_back, self.operation), self.meta)
            self.fingerprint_after = self._sender.fingerprint_after(self.operation, self._key)
        else:
            self.meta.unproven = "Not read back: CONNECTOR_MCP_VERIFY_WRITES is off."
        self.meta.next = self.operation.find_next_step(data, self._situation)
        if self.tool.served is not None and (self.meta.next or self.meta.unproven):
            self.meta.next = only_served(self.meta.next, self.tool.served)
            self.meta.unproven = name_served(self.meta.unproven, self.tool.served)
        self.meta.changes = list(map(Change.as_dict, self._preview.changes))
        return self._result(data)

    def _may_ask(self) -> bool:
        """Whether a person or an operator may be asked about the call, or for a secret."""
        if self.found is not None and self.found.references:
            return True
        worst = Effect.DESTROY if self.operation.can_destroy else self.effect
        with suppress(Blocked):
            decision = self._services.gates[self._account].decide(self.tool.name, worst, self.caller.scopes)
            return decision is not Decision.ALLOW
        return True

    def _allowed_tools(self) -> dict[str, type[Operation]]:
        """Return the reads that run without a decision, and the other tools that policy does not block."""
        gate, allowed = self._services.gates[self._account], dict[str, type[Operation]]()
        for name, operation in self._services.operations.items():
            with suppress(Blocked):
                decision = gate.decide(name, operation.effect, self.caller.scopes)
                if decision is Decision.ALLOW or operation.effect is not Effect.READ:
                    allowed[name] = operation
        return allowed

    async def _read_target(self) -> None:
        with self._observer.step("read_target"):
            self._situation = await self._sender.situation(self.operation)

    async def _check_arguments(self, *, target_known: bool = True) -> None:
        """Refuse arguments that are wrong, as far as that shows without the target or, later, with it."""
        before = self.found
        self.scan_arguments(self._situation, target_known=target_known)
        tolerates = partial(tolerate, self._services.settings.unknown_config, self.meta)
        if issues := list(filterfalse(tolerates, self.operation.find_problems(self._situation))):
            raise InvalidArguments(self.tool.name, issues)
        if self.found is not None and self.found is not before:
            check_configs(self.tool, self.found.uses, tolerates)
        await self._resolve_references(target_known=target_known)

    async def _resolve_references(self, *, target_known: bool = True, ask: bool = True) -> None:
        """Look up the secrets that the arguments refer to. A person may be asked for missing ones before the gate."""
        self._ready, found, services = self.operation, self.found, self._services
        if found is None or not found.references:
            return
        destinations = self.operation.find_destinations(self._situation) if target_known else None
        resolve = partial(services.resolver.resolve, found, self._account, destinations)
        resolved = await resolve()
        if resolved.lacks_only_secrets and ask and services.prompt.is_possible:
            if not target_known:
                # The person is asked once everything else is known to be right.
                return
            self._person_took_time = True
            digest = await self._identify()
            resolved = await services.prompt.obtain(
                self.caller, self.tool.name, self._account, digest, resolved, resolve
            )
        resolved.require_all(self.tool.name)
        if target_known:
            self._disclosed = tuple(dict.fromkeys(resolved.disclosed))
            self._ready = insert_values(self.tool, self.operation, self._situation, resolved.values)

    def _detect_effect(self) -> None:
        """Preview what the call does to the target; its losses raise the effect to destroy."""
        cleaned = find_cleaned(self.operation.plan_changes(self._situation), self._situation.current)
        losses = (*self.operation.find_losses(self._situation), *cleaned)
        self._preview = make_preview(self.operation, self._situation, losses, self.scrubber)
        self.effect = self._preview.effect
        if self._disclosed and self.effect is not Effect.DESTROY:
            self.effect = Effect.DISCLOSE
        if self.effect is Effect.DESTROY and not self.profile_named:
            raise self._services.accounts.profile_required(self.tool, self.caller.profiles)

    async def _authorize(self) -> Execution:
        """Pass the gate, the only place that lets a change through."""
        digest = await self._identify()
        if self.operation.acts_on:
            self.fingerprint = fingerprint(self.operation, self._situation.current, self._key)
        account, found = self._account, self.found
        assert found is not None  # noqa: S101 - the arguments were scanned
        candidate = Candidate.of(
            self._preview,
            self._disclosed,
            tool=self.tool.name,
            platform=account.platform.name,
            profile=account.profile,
            principal=self.caller.principal,
            client=self.caller.client,
            declared=self.tool.operation.effect,
            fingerprint=self.fingerprint or "",
            digest=digest,
            arguments=self.arguments or {},
            tenant=account.tenant_of(self.operation),
            address=account.client.base_url,
            sandbox=self.sandbox,
            hosts=tuple(map(self.scrubber.text, found.hosts(self.operation, self._situation))),
            secrets=found.names,
        )
        gate, caller = self._services.gates[self._account], self.caller
        with self._observer.step("gate"):
            self.decision, _ = gate.strictest(candidate, caller.scopes)
            look = partial(self._services.ledger.look, digest, self.tool.name)
            return await gate.pass_through(candidate, caller, self._begin, look)

    async def _begin(self, passage: Passage) -> Execution | Approval | None:
        """Begin the execution. If a person took time, compare the target and look up the secrets again first."""
        if passage.took_time:
            if self.operation.acts_on is not None:
                await self._compare_target()
            if self._ready is not self.operation:
                await self._resolve_references(ask=False)
        record = self.audit_record("begun")
        record.decision, record.decided_by = str(passage.decision), passage.decided_by
        record.channel = channel_of(passage.decision, self.caller.transport)
        creates = self.tool.operation.effect is Effect.CREATE
        with self._observer.step("ledger"):
            begun = await self._services.ledger.begin(record, passage.claim, creates=creates)
        if isinstance(begun, Execution):
            decided = decision_of(begun.approval) if begun.approval else vars(record)
            self.decision = Decision(decided["decision"])
            self.decided_by, self.channel = decided["decided_by"], decided["channel"]
        return begun

    async def _compare_target(self) -> None:
        with self._observer.step("read_target"):
            now = await self._sender.situation(self.operation)
        if fingerprint(self.operation, now.current, self._key) != self.fingerprint:
            present = make_preview(self.operation, now, (), self.scrubber)
            raise target_changed(self.tool.name, self._preview.snapshot, present.snapshot)

    def end_work(self) -> Work[None] | None:
        return self._services.ledger.end(self._execution, self._execution_outcome()) if self._execution else None

    def unrecorded(self, result: CallResult) -> CallResult:
        if self._execution is None:
            return result
        self._services.ledger.owe(self._execution, self._execution_outcome())
        if result.is_error:
            return result
        meta = result.content["meta"]
        meta = {**meta, "warnings": [*meta.get("warnings", []), _NOT_RECORDED]}
        return CallResult({**result.content, "meta": meta}, is_error=False)

    def _execution_outcome(self) -> str | None:
        """Return the outcome for the ledger: None if nothing was sent."""
        if not self._sender.may_have_changed:
            return None
        is_unknown = self._sender.left_unknown or self.outcome in _UNKNOWN
        return UNKNOWN if is_unknown else self.outcome

    async def _identify(self) -> str:
        """Return the digest of the call: of tool, account, world, principal and all arguments."""
        if self.digest is None:
            self._key = await secret_key(self._services.database, "digest")
            account, given = self._account, self.operation.model_dump(exclude_unset=True)
            identity = [self.tool.name, account.platform.name, account.profile, self.caller.principal, given]
            identity += [self.sandbox, account.client.base_url, account.tenant_of(self.operation)]
            self.digest = keyed_digest(identity, self._key)
        return self.digest

    async def _send(self, operation: Operation) -> None:
        with self._observer.step("send"):
            self._answers = await self._sender.send(operation, self._situation)

    def _result(self, data: Any) -> CallResult:
        """Redact, shape and fit the data of a success."""
        self._record_response(self._sender.status, self._sender.request_id)
        return self.success(data, self._answers[-1] if self._answers else None)
