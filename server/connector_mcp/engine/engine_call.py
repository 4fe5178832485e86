"""What every call shares: its services, its boundary, its arguments and its audit record.

Every call leaves exactly one audit record of its end, whatever happens.
"""

from __future__ import annotations

import logging
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from connector_mcp.audit.record import BEGUN, AuditRecord, Phase
from connector_mcp.audit.trail import AuditTrail
from connector_mcp.config.settings import Settings
from connector_mcp.engine.accounts import Account, Accounts
from connector_mcp.engine.approval.gate import Gate, channel_of, require_scope
from connector_mcp.engine.caller import AnswerDue, Caller, CallResult
from connector_mcp.engine.checks.arguments import parse_arguments
from connector_mcp.engine.ledger import Ledger
from connector_mcp.engine.policy import Decision
from connector_mcp.engine.redaction.scrubber import CALL_SCRUBBER, Scrubber
from connector_mcp.engine.results import Meta, check_cursor, failure, finish, internal_error, shape_data
from connector_mcp.engine.secret_refs.resolver import FoundSecrets, MintedCredentials, ReferenceResolver, scan_arguments
from connector_mcp.engine.secret_refs.secret_requests import SecretPrompt
from connector_mcp.errors import ConnectorError, InvalidArguments
from connector_mcp.json_values import JsonObject
from connector_mcp.operations.operation import Operation
from connector_mcp.operations.situation import Situation
from connector_mcp.operations.tool import PROFILE, Tool
from connector_mcp.state.database import Database, Work, one_allowance
from connector_mcp.telemetry.observer import Observer

logger = logging.getLogger("connector_mcp.engine")

# Outcomes that show the gate's decision although the call did not pass.
_DECISIONS = {"asked": Decision.ASK, "approval_required": Decision.APPROVE, "blocked": Decision.BLOCK}


@dataclass(frozen=True)
class CallServices:
    """The parts of the engine that calls use."""

    settings: Settings
    accounts: Accounts
    operations: Mapping[str, type[Operation]]
    """Those that are served, by tool name."""
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
        # Ids that begin with the time stand together in the database's index, so that it changes fewer pages.
        self.id = f"{time.time_ns() // 1_000_000:012x}{os.urandom(10).hex()}"
        self.tool = tool
        self.caller = caller
        self._services = services
        self._observer = services.observer
        self._started = time.monotonic()
        accounts = services.accounts.get(tool.operation, caller.profiles)
        self.account = accounts[0] if len(accounts) == 1 else None
        self.sandbox = self.account.sandbox if self.account else services.settings.sandbox
        self.scrubber = services.scrubber
        self.meta = Meta()
        self.effect = tool.operation.effect
        self.arguments: JsonObject | None = None
        """The arguments, redacted."""
        self.made: str | None = None
        """The id of what the call created."""
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
    def elapsed(self) -> float:
        """Seconds since the call came."""
        return time.monotonic() - self._started

    @property
    def largest_result(self) -> int:
        """The largest result in bytes. A longer one is cut."""
        return self._services.settings.max_result_bytes

    @property
    def may_have_changed(self) -> bool:
        """Whether a request that changes something may have been sent."""
        return False

    async def run(self, arguments: Mapping[str, Any]) -> CallResult:
        """Run the call. A failure is a result, too.

        Raises:
            AnswerDue: A person must answer the question first.
        """
        # Also a call that is part of another one has a time limit of its own for the database.
        with self._observer.call(self.id), one_allowance():
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
        """Refuse what scopes or policy block, choose the account, and parse the arguments."""
        require_scope(self.tool.name, self.effect, self.caller.scopes)
        accounts = self._services.accounts
        self.account, own, self.profile_named = accounts.choose(self.tool, arguments, self.caller.profiles)
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

    def check_alone(self, arguments: Mapping[str, Any]) -> None:
        """Check the arguments of a call that has no target."""
        self.validate(arguments)
        self.scan_arguments(Situation())
        self.register_secrets()

    def own_accounts(self) -> list[Account]:
        """Return the accounts that the caller may act under."""
        bound = self.caller.profiles
        return [each for each in self._services.accounts.all if bound is None or each.profile in bound]

    def account_arguments(self, account: Account) -> JsonObject:
        """Return the argument that names the account, where its platform has several."""
        return {PROFILE: account.profile} if self._services.accounts.label(account) else {}

    def success(self, data: Any, answer: Any = None) -> CallResult:
        """Redact, shape and fit the data of a success. `answer` is the platform's, for its paging."""
        with self._observer.step("shape"):
            shaped = shape_data(self.operation, data, answer, self.meta)
            content: JsonObject = {"data": shaped, "meta": self.meta.as_dict()}
            return finish(content, self.scrubber, self.largest_result, self.operation.output, offset=self.meta.offset)

    def audit_record(self, phase: Phase) -> AuditRecord:
        """Make the audit record of the call as far as it has come."""
        caller, account, platform = self.caller, self.account, self.tool.operation.on
        outcome = self.outcome if phase == "ended" else BEGUN
        decision = _DECISIONS.get(outcome, self.decision)
        target = self.made or (self.arguments or {}).get(self.tool.target)
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
            target=f"{platform.name}/{account.profile}/{target}" if platform and account and target else None,
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
            duration_ms=round(self.elapsed * 1000, 3),
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
        return failure(
            error, self.scrubber, further, self.largest_result, may_have_changed=operation, served=self.tool.served
        )

    def _record_response(self, status: int | None, request_id: str | None) -> None:
        self.status = status
        self.meta.request_id = None if request_id is None else self.scrubber.text(request_id)
