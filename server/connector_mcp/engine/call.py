"""The life of one call: `PlatformCall.read` and `PlatformCall.write` show the order of the steps.

Every call leaves exactly one audit record of its end, whatever happens, and a change is recorded before it is sent.
"""

from __future__ import annotations

import logging
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from connector_mcp.audit.record import BEGUN, AuditRecord, Phase
from connector_mcp.audit.trail import AuditTrail
from connector_mcp.config.settings import Settings
from connector_mcp.engine.accounts import Account, Accounts
from connector_mcp.engine.approval.gate import Gate, Passage, channel_of
from connector_mcp.engine.approval.wording import Candidate, target_changed
from connector_mcp.engine.arguments import parse_arguments
from connector_mcp.engine.caller import AnswerDue, Caller, CallResult
from connector_mcp.engine.config_check import check_configs, tolerate
from connector_mcp.engine.ledger import UNKNOWN, Execution, Ledger, Standing, decision_of
from connector_mcp.engine.policy import Decision
from connector_mcp.engine.preview import Preview, fingerprint, keyed_digest, make_preview, readable_plan
from connector_mcp.engine.redaction.scrubber import CALL_SCRUBBER, Scrubber
from connector_mcp.engine.results import Meta, check_cursor, failure, find_cleaned, finish, internal_error, shape_data
from connector_mcp.engine.secret_refs.resolver import (
    FoundSecrets,
    MintedCredentials,
    ReferenceResolver,
    insert_values,
    scan_arguments,
)
from connector_mcp.engine.secret_refs.secret_requests import SecretPrompt
from connector_mcp.engine.sender import Sender, verify
from connector_mcp.errors import ConnectorError, InvalidArguments
from connector_mcp.json_values import JsonObject
from connector_mcp.operations.operation import Effect, Operation, Situation
from connector_mcp.operations.tool import Tool
from connector_mcp.state.database import Database, Work
from connector_mcp.state.keys import secret_key
from connector_mcp.telemetry.observer import Observer

logger = logging.getLogger("connector_mcp.engine")

# Outcomes that show the gate's decision although the call did not pass.
_DECISIONS = {"asked": Decision.ASK, "approval_required": Decision.APPROVE, "blocked": Decision.BLOCK}

# Outcomes of a call that leave it open whether what was sent took effect.
_UNKNOWN = frozenset({"outcome_unknown", "cancelled", "internal"})


_NOT_RECORDED = (
    "The change was made, but its end could not be recorded: the audit log shows only its beginning, and the same call "
    "may be refused for some minutes."
)


@dataclass(frozen=True)
class CallServices:
    """The parts of the engine that calls use."""

    settings: Settings
    accounts: Accounts
    gates: Mapping[Account | None, Gate]
    """The gate of each account, and of calls without one."""
    database: Database
    audit: AuditTrail
    ledger: Ledger
    observer: Observer
    scrubber: Scrubber
    resolver: ReferenceResolver
    minted: MintedCredentials
    prompt: SecretPrompt


class EngineCall(ABC):
    """One call: what all its steps share. Each step adds what it learns."""

    operation: Operation
    found: FoundSecrets | None = None
    """The secrets among the arguments, as far as they were scanned."""

    def __init__(self, tool: Tool, caller: Caller, services: CallServices) -> None:
        self.id = os.urandom(16).hex()
        self.tool = tool
        self.caller = caller
        self._services = services
        self._observer = services.observer
        self._started = time.monotonic()
        accounts = services.accounts.get(tool.operation)
        self.account = accounts[0] if len(accounts) == 1 else None
        self.sandbox = self.account.sandbox if self.account else services.settings.sandbox
        self.scrubber = services.scrubber
        self.meta = Meta()
        self.effect = tool.operation.effect
        self.arguments: JsonObject | None = None
        """The arguments, redacted."""
        self.digest: str | None = None
        self.fingerprint: str | None = None
        self.fingerprint_after: str | None = None
        # Nothing passes before the gate decides.
        self.decision = Decision.BLOCK
        self.decided_by: str | None = None
        self.channel: str | None = None
        self.profile_named = True
        self.status: int | None = None
        self.outcome = "cancelled"

    @property
    def may_have_changed(self) -> bool:
        """Whether a request that changes something may have been sent."""
        return False

    async def run(self, arguments: Mapping[str, Any]) -> CallResult:
        """Run the call. A failure is a result, too.

        Raises:
            AnswerDue: A person must answer the question first.
        """
        with self._observer.call(self.id):
            try:
                result = await self._run_to_end(arguments)
            finally:
                is_recorded = await self._record_end()
            return result if is_recorded else self.unrecorded(result)

    async def _run_to_end(self, arguments: Mapping[str, Any]) -> CallResult:
        try:
            result = await self.run_steps(arguments)
            self.outcome = "ok"
            return result
        except AnswerDue:
            self.outcome = "asked"
            raise
        except ConnectorError as error:
            return self._failure(error)
        except Exception as error:  # noqa: BLE001 - the boundary of a call; the error is logged, scrubbed
            internal = internal_error(error, self.tool.name, arguments, self.scrubber, self.may_have_changed)
            return self._failure(internal)

    @abstractmethod
    async def run_steps(self, arguments: Mapping[str, Any]) -> CallResult:
        """Run the steps of the call in order."""

    def validate(self, arguments: Mapping[str, Any]) -> None:
        """Choose the account, refuse what policy blocks, and parse the arguments."""
        self.account, own, self.profile_named = self._services.accounts.choose(self.tool, arguments)
        # What policy or scopes refuse is not worth the work of parsing.
        self._check_policy()
        with self._observer.step("validate"):
            self.operation = parse_arguments(self.tool, own, self.account.fixed if self.account else {})
        check_cursor(self.operation)

    def _check_policy(self) -> None:
        """Refuse what policy blocks whatever the target is."""
        with self._observer.step("policy"):
            self.decision = self._services.gates[self.account].decide(self.tool.name, self.effect, self.caller.scopes)
        self.channel = "policy"
        self.meta.sandbox = self.sandbox

    def scan_arguments(self, situation: Situation, *, target_known: bool = True) -> None:
        """Find references and credentials in the arguments; refuse misplaced ones.

        The result depends on the target only through the types of configs. If those are as before, nothing is done.
        """
        uses, before = self.operation.find_configs(situation), self.found
        if before is not None and before.is_final and before.uses == uses:
            return
        self.found = found = scan_arguments(self.operation, uses, target_known=target_known)
        self._scrub(found, found.misplaced_keys)
        refused = found.refusals() if self._services.settings.inline_secrets == "refuse" else ()
        if issues := [*found.issues, *refused]:
            raise InvalidArguments(self.tool.name, issues)

    def register_secrets(self) -> None:
        """Remove the secrets given in this call from everything it shows, and warn about those in clear text."""
        assert self.found is not None  # noqa: S101 - the arguments were scanned
        for warning in self.found.warnings(literals=self._services.settings.inline_secrets != "allow"):
            self.meta.warn(warning)
        self._scrub(self.found, self.found.given_values(self.operation))

    def _scrub(self, found: FoundSecrets, values: Collection[str]) -> None:
        if values:
            self.scrubber = self._services.scrubber.extended(values)
            CALL_SCRUBBER.set(self.scrubber)
        self.arguments = self.scrubber.value(found.shown, model=self.tool.operation)

    def audit_record(self, phase: Phase) -> AuditRecord:
        """Make the audit record of the call as far as it has come."""
        caller, account, platform = self.caller, self.account, self.tool.operation.on
        outcome = self.outcome if phase == "ended" else BEGUN
        decision = _DECISIONS.get(outcome, self.decision)
        return AuditRecord(
            phase=phase,
            call_id=self.id,
            principal=caller.principal,
            client=caller.client,
            transport=caller.transport,
            platform=platform.name if platform else None,
            profile=account.profile if account else None,
            tenant=account.tenant if account else None,
            tool=self.tool.name,
            effect=str(self.effect),
            decision=str(decision),
            decided_by=self.decided_by,
            channel=channel_of(decision, caller.transport) if outcome in _DECISIONS else self.channel,
            arguments=self.arguments or {},
            digest=self.digest,
            fingerprint_before=self.fingerprint,
            fingerprint_after=self.fingerprint_after,
            upstream_status=self.status,
            upstream_request_id=self.meta.request_id,
            outcome=outcome,
            duration_ms=round((time.monotonic() - self._started) * 1000, 3),
            sandbox=self.sandbox,
        )

    def end_work(self) -> Work[None] | None:
        """Return what is done in the transaction of the record of the end."""
        return None

    def unrecorded(self, result: CallResult) -> CallResult:
        """Return the result of a call whose end could not be recorded."""
        return result

    async def _record_end(self) -> bool:
        record = self.audit_record("ended")
        self._observer.call_ended(record)
        try:
            with self._observer.step("audit"):
                await self._services.audit.write(record, self.end_work())
        except ConnectorError as error:
            self._observer.store_failed("audit")
            logger.error("the audit record of call %s could not be written: %s", self.id, error.message)
            return False
        return True

    def _failure(self, error: ConnectorError) -> CallResult:
        """Record what the error shows about the call, and make the result."""
        self.outcome = error.code
        if refused_by := error.details.get("refused_by"):
            self.decided_by = refused_by
            self.channel = error.details.get("channel") or channel_of(Decision.ASK, self.caller.transport)
        if error.upstream:
            self._record_response(error.upstream.get("status"), error.upstream.get("request_id"))
        further: JsonObject = {"sandbox": True} if self.sandbox else {}
        if self.account and self._services.accounts.label(self.account):
            further["profile"] = self.account.profile
        operation = self.tool.operation if self.may_have_changed else None
        largest = self._services.settings.max_result_bytes
        return failure(error, self.scrubber, further, largest, may_have_changed=operation)

    def _record_response(self, status: int | None, request_id: str | None) -> None:
        self.status = status
        self.meta.request_id = None if request_id is None else self.scrubber.text(request_id)


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
    """The secrets that the call sends to hosts which the arguments choose, as `Candidate` has them."""
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
        return await (self.read() if self.effect is Effect.READ else self.write())

    async def read(self) -> CallResult:
        """Run the steps of a read."""
        self.scan_arguments(self._situation)
        self.register_secrets()
        if self.decision is not Decision.ALLOW:
            self._preview = make_preview(self.operation, self._situation, (), self.scrubber)
            # The approval is taken with a record, as for a change.
            self._ready = self.operation
            self._execution = await self._authorize()
        await self._send(self.operation)
        return self._result(self.operation.shape_result(self._answers, self._situation))

    async def write(self) -> CallResult:
        """Run the steps of a call that changes something."""
        services = self._services
        await self._check_arguments(target_known=self.operation.acts_on is None)
        if self.operation.acts_on is not None:
            await self._read_target()
            await self._check_arguments()
            if self._person_took_time:
                await self._read_target()
                await self._check_arguments()
        self.register_secrets()
        self._detect_effect()
        # A call that cannot be sent, or with credentials that cannot be stored, must not use an approval.
        self._account.client.open()
        await services.minted.check(self.operation)
        execution = self._execution = await self._authorize()
        self.meta.warnings.extend(execution.warnings)
        await self._send(self._ready)
        await services.minted.keep(self.operation, self._answers, self._account, self.meta)
        data = self._sender.outcomes(self.operation, self._answers, self._situation, self.meta)
        if services.settings.verify_writes:
            plan = readable_plan(self.operation, self._situation)
            with self._observer.step("verify"):
                await verify(self.operation, plan, data, partial(self._sender.read_back, self.operation), self.meta)
            self.fingerprint_after = self._sender.fingerprint_after(self.operation, self._key)
        self.meta.changes = [change.as_dict() for change in self._preview.changes]
        return self._result(data)

    async def _read_target(self) -> None:
        with self._observer.step("read_target"):
            self._situation = await self._sender.situation(self.operation)

    async def _check_arguments(self, *, target_known: bool = True) -> None:
        """Refuse arguments that are wrong, as far as that shows without the target or, later, with it."""
        before = self.found
        self.scan_arguments(self._situation, target_known=target_known)
        tolerates = partial(tolerate, self._services.settings.unknown_config, self.meta)
        if issues := [issue for issue in self.operation.find_problems(self._situation) if not tolerates(issue)]:
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
        if resolved.lacks_only_secrets and ask and services.prompt.is_possible(self.caller):
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
            raise self._services.accounts.profile_required(self.tool)

    async def _authorize(self) -> Execution:
        """Pass the gate, the only place that lets a change through."""
        digest = await self._identify()
        if self.operation.acts_on:
            self.fingerprint = fingerprint(self.operation, self._situation.current, self._key)
        declared, account, found = self.tool.operation.effect, self._account, self.found
        assert found is not None  # noqa: S101 - the arguments were scanned
        candidate = Candidate(
            tool=self.tool.name,
            platform=account.platform.name,
            profile=account.profile,
            declared=declared,
            deletes=declared is Effect.DESTROY,
            preview=self._preview,
            fingerprint=self.fingerprint or "",
            digest=digest,
            arguments=self.arguments or {},
            tenant=account.tenant_of(self.operation),
            address=account.client.base_url,
            sandbox=self.sandbox,
            hosts=tuple(map(self.scrubber.text, found.hosts(self.operation, self._situation))),
            secrets=found.names,
            disclosed=self._disclosed,
        )
        gate, caller = self._services.gates[self._account], self.caller
        with self._observer.step("gate"):
            self.decision, _ = gate.strictest(candidate, caller.scopes)
            look = partial(self._services.ledger.look, digest, self.tool.name)
            return await gate.pass_through(candidate, caller, self._begin, look)

    async def _begin(self, passage: Passage) -> Execution | Standing:
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
        with self._observer.step("shape"):
            shaped = shape_data(self.operation, data, self._answers[-1] if self._answers else None, self.meta)
            content: JsonObject = {"data": shaped, "meta": self.meta.as_dict()}
            largest = self._services.settings.max_result_bytes
            return finish(content, self.scrubber, largest, self.operation.output, offset=self.meta.offset)
