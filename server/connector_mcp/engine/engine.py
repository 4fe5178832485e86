"""The life of one call, from arguments to audit record. Each step stands in its own file; this one is their order.

arguments → validate → account → policy → (read target → detect effect → gate) → ledger → resolve references → send
→ verify → redact → shape → audit
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from connector_mcp.audit.trail import AuditTrail
from connector_mcp.config.settings import Settings
from connector_mcp.engine.account import Account
from connector_mcp.engine.approval.approval_hold import ApprovalWait
from connector_mcp.engine.approval.gate import QUESTION_SECONDS, Candidate, Gate, channel_of, target_changed
from connector_mcp.engine.approval.queue import Approval, Approvals
from connector_mcp.engine.arguments import check_configs, parse_arguments
from connector_mcp.engine.call_record import CallRecord
from connector_mcp.engine.caller import AnswerDue, Caller, CallResult
from connector_mcp.engine.failures import failure, fault
from connector_mcp.engine.ledger import Ledger
from connector_mcp.engine.policy import Policy
from connector_mcp.engine.preview import Preview, fingerprint, keyed_digest, make_preview, readable_plan
from connector_mcp.engine.profiles import Profiles, unnamed
from connector_mcp.engine.read_back import verify
from connector_mcp.engine.redaction.redactor import credentials_of, redact_arguments, secret_values
from connector_mcp.engine.redaction.scrubber import Scrubber
from connector_mcp.engine.results import check_cursor, finish, fit, shape_data
from connector_mcp.engine.secret_refs.minted_credentials import Minting
from connector_mcp.engine.secret_refs.secret_prompt import Missing, SecretAsking
from connector_mcp.engine.secret_refs.secret_references import (
    Followed,
    Found,
    References,
    look_for_credentials,
    with_values,
)
from connector_mcp.engine.secret_refs.secret_requests import SecretRequests
from connector_mcp.engine.sender import Sender
from connector_mcp.engine.tool_visibility import Listed
from connector_mcp.errors import ConnectorError, InvalidArguments
from connector_mcp.json_values import JsonObject
from connector_mcp.operations.operation import Effect, LocalOperation, Operation, Situation
from connector_mcp.operations.tool import Tool
from connector_mcp.secrets.collection import Secrets
from connector_mcp.state.store import Store, secret_key
from connector_mcp.telemetry.observer import NULL_OBSERVER, Observer

logger = logging.getLogger("connector_mcp.engine")


class UnknownTool(KeyError):
    """No tool has this name, or this caller may not know of it."""


class Engine:
    """Runs calls. One for a process; safe for concurrent calls on one event loop."""

    def __init__(
        self,
        settings: Settings,
        operations: Mapping[str, type[Operation]],
        accounts: Iterable[Account],
        *,
        policy: Policy,
        store: Store,
        audit: AuditTrail,
        secrets: Secrets | None = None,
        wait: ApprovalWait | None = None,
        announce: Callable[[Approval], None] | None = None,
        observer: Observer = NULL_OBSERVER,
        decide_at: str | None = None,
        secret_requests: SecretRequests | None = None,
    ) -> None:
        """`wait` is by default that of the settings; `announce` is told of calls that wait for an operator.

        With `secret_requests` that have pages a person can be asked for secrets that are missing.
        """
        self.settings = settings
        self.store = store
        self.approvals = Approvals(store, ttl=settings.approval_ttl, observer=observer)
        self._profiles = Profiles(accounts)
        self._policy = policy
        self._audit = audit
        self._observer = observer
        self._scrubber = Scrubber(self._account_secrets)
        self._references = References(secrets or Secrets(), settings.inline_secrets, settings.credential_secrets)
        self._minting = Minting(secrets or Secrets(), self._scrubber)
        self._wait = wait or ApprovalWait(settings.approval_wait)
        self.secret_requests = secret_requests
        self._asking = SecretAsking(secret_requests, self._wait, settings.ask_timeout)
        self._ledger = Ledger(store, longest=2 * settings.longest_deadline)
        gate = partial(
            Gate,
            approvals=self.approvals,
            store=store,
            operator_channel=settings.approvals,
            decide_at=decide_at,
            question_seconds=max(QUESTION_SECONDS, 2 * settings.ask_timeout),
            wait=self._wait,
            announce=announce,
        )
        self._gate = gate(policy)
        self._own_gates = {account: gate(account.policy) for account in self.accounts if account.policy}
        self._tools = {name: self._profiles.tool(operation) for name, operation in operations.items()}
        self._listed = Listed(self._tools.values(), self._policies)

    # What can be called --------------------------------------------------------------------------------------------

    def tools(self, caller: Caller | None = None) -> tuple[Tool, ...]:
        """The tools that policy, and the caller's scopes, do not rule out altogether."""
        return self._listed.within(caller.scopes if caller else None)

    def tool(self, name: str) -> Tool | None:
        """The tool with this name, whoever may call it."""
        return self._tools.get(name)

    @property
    def accounts(self) -> tuple[Account, ...]:
        """Every account, those of one platform one after the other."""
        return self._profiles.accounts

    def scrub(self, text: str) -> str:
        """The text without any secret value that this process knows."""
        return self._scrubber.text(text)

    async def check_audit(self) -> None:
        """See that what a call changes could be recorded.

        Raises:
            StoreUnavailable: It could not, so no such call is let through.
        """
        await self._audit.check()

    async def request_state_key(self) -> bytes:
        """The key that seals request state, the same in every process that shares the store."""
        return await secret_key(self.store, "request-state")

    def end_waiting(self) -> None:
        """Answer the calls that are held for an operator, and hold none from now on; for a server that is to end."""
        self._wait.end()

    async def recent_calls(self, limit: int) -> list[JsonObject]:
        """The audit records of the calls that ended last, newest first; of all replicas where they share a store.

        Raises:
            StoreUnavailable: The audit log cannot be read.
        """
        return await self._audit.recent(limit)

    async def aclose(self) -> None:
        """Close the clients, the store and the audit log."""
        for account in self.accounts:
            await account.client.aclose()
        await self.store.aclose()
        await self._audit.aclose()

    # One call ------------------------------------------------------------------------------------------------------

    async def call(self, name: str, arguments: Mapping[str, Any], caller: Caller) -> CallResult:
        """Run a call to its answer. A failure of the call is an answer too: `is_error` with `{"error": {...}}`.

        Raises:
            UnknownTool: There is no such tool.
            AnswerDue: A person is to be asked first, by returning the question.
        """
        tool = self._tools.get(name)
        if tool is None:
            self._observer.tool_unknown()
            raise UnknownTool(name)
        account, effect = self._profiles.only(tool.operation), tool.operation.effect
        sandbox = account.sandbox if account else self.settings.sandbox
        call = CallRecord(tool, caller, account, self._scrubber, time.monotonic(), sandbox, effect=effect)
        with self._observer.call(call.id):
            return await self._answer(call, arguments)

    async def _answer(self, call: CallRecord, arguments: Mapping[str, Any]) -> CallResult:
        try:
            result = await self._run(call, arguments)
            call.outcome = "ok"
            return result
        except AnswerDue:
            call.outcome = "asked"
            raise
        except ConnectorError as error:
            return failure(call, error, tell_profile=bool(self._under(call)))
        except Exception as error:  # noqa: BLE001 - the boundary of a call; `_fault` logs it, scrubbed
            return failure(call, fault(call, error, arguments), tell_profile=bool(self._under(call)))
        finally:
            await self._end_audit(call)

    async def _run(self, call: CallRecord, arguments: Mapping[str, Any]) -> CallResult:
        choice = self._profiles.choose(call.tool, arguments)
        call.account, call.named = choice.account, choice.named
        fixed = call.account.fixed if call.account else {}
        with self._observer.step("validate"):
            operation = parse_arguments(call.tool, choice.arguments, fixed)
        with self._observer.step("policy"):
            call.decision = self._gate_of(call.account).decide(call.tool.name, call.effect, call.caller.scopes)
        call.channel = "policy"
        check_cursor(operation)
        call.meta.sandbox = call.sandbox
        situation = Situation(options=call.account.options if call.account else {})
        if isinstance(operation, LocalOperation):
            self._look(call, operation, situation)
            data = shape_data(operation, operation.answer_locally(), None, call.meta)
            content: JsonObject = {"data": data, "meta": call.meta.as_dict()}
            return CallResult(fit(content, self.settings.max_result_bytes), is_error=False)
        assert call.account is not None  # noqa: S101 - every other operation belongs to a platform
        call.meta.platform = call.account.platform.name
        call.meta.profile = call.account.profile
        call.meta.tenant = call.account.tenant
        sender = Sender(call.account, call.tool.name, call.caller)
        if call.effect is Effect.READ:
            if not self._look(call, operation, situation).is_clean:
                self._learn(call, operation, situation)
            with self._observer.step("send"):
                answers = await sender.send(operation, situation)
            return self._content(call, operation, operation.shape_result(answers, situation), answers, sender)
        return await self._write(call, operation, sender)

    async def _write(self, call: CallRecord, operation: Operation, sender: Sender) -> CallResult:
        unread = Situation(options=sender.options)
        # Everything that is wrong without looking at the target is said before anything is sent.
        ready = await self._check(call, operation, unread, settled=operation.acts_on is None)
        situation = unread
        if operation.acts_on is not None:
            with self._observer.step("read_target"):
                situation = await sender.situation(operation)
            ready = await self._check(call, operation, situation)
            if call.held:
                # A person took their time: what is shown and decided on is what is there now.
                with self._observer.step("read_target"):
                    situation = await sender.situation(operation)
                ready = await self._check(call, operation, situation)
        self._learn(call, operation, situation)
        losses = operation.find_losses(situation)
        preview = make_preview(operation, situation, losses, call.scrubber)
        call.effect = preview.effect
        if call.effect is Effect.DESTROY and not call.named:
            raise unnamed(call.tool, self._profiles.of(type(operation)))
        # Before the gate, so that no approval is spent on a call that could not be recorded.
        await self._audit.check()
        await self._minting.check(operation)
        with self._observer.step("gate"):
            asked_inline = await self._pass(call, operation, situation, preview)
        if asked_inline:
            await self._check_unchanged(call, operation, sender, preview)
        assert call.digest is not None  # noqa: S101 - set by _pass
        assert call.account is not None  # noqa: S101 - likewise
        async with self._observer.step("ledger"), self._ledger.entry(call.digest, call.tool.name) as entry:
            if ready is not operation:
                # A person may have taken their time: what is sent is what the secrets are now.
                ready = await self._check(call, operation, situation)
            # What cannot be recorded is not sent; what was sent and has no end in the log is known to have been sent.
            with self._observer.step("audit"):
                await self._audit.write(call.record("begun"))
            call.changing = True
            with self._observer.step("send"):
                answers = await sender.send(ready, situation)
            await self._minting.keep(operation, answers, call.account, call.meta)
            entry.outcome_unknown = sender.left_unknown
        call.meta.warnings.extend(entry.warnings)
        data = sender.outcomes(operation, answers, situation, call.meta)
        if self.settings.verify_writes:
            plan = readable_plan(operation, situation)
            with self._observer.step("verify"):
                await verify(operation, plan, data, partial(sender.read_back, operation), call.meta)
            call.fingerprint_after = sender.fingerprint_after(operation, call.key)
        call.meta.changes = [change.as_dict() for change in preview.changes]
        return self._content(call, operation, data, answers, sender)

    async def _check(
        self, call: CallRecord, operation: Operation, situation: Situation, *, settled: bool = True
    ) -> Operation:
        """What can be said against the call is said; what is left is the operation to send, references resolved.

        `settled` says that the situation is all that will be known of the target.
        """
        assert call.account is not None  # noqa: S101 - only platforms' operations come here
        found = self._look(call, operation, situation, settled=settled)
        issues = operation.find_problems(situation)
        if issues:
            raise InvalidArguments(call.tool.name, issues)
        check_configs(call.tool, operation.find_configs(situation))
        if not found.references:
            return operation
        followed = await self._references.follow(found, call.account)
        # Nobody is asked any more once the gate has been passed.
        if followed.lacks_only_secrets and call.decided_by is None and self._asking.is_possible(call.caller):
            if not settled:
                return operation
            followed = await self._obtain(call, operation, found, followed)
        followed.insist(call.tool.name)
        values = followed.values
        self._scrubber.remember({text for value in values.values() for text in credentials_of(value)})
        return with_values(call.tool, operation, situation, values) if settled else operation

    async def _obtain(self, call: CallRecord, operation: Operation, found: Found, followed: Followed) -> Followed:
        assert call.account is not None  # noqa: S101 - only platforms' operations come here
        call.held = True
        missing = Missing(call.caller, call.tool.name, call.account, await self._identify(call, operation))
        return await self._asking.obtain(missing, followed, partial(self._references.follow, found, call.account))

    def _look(self, call: CallRecord, operation: Operation, situation: Situation, *, settled: bool = True) -> Found:
        """Find references and credentials among the arguments, and refuse those that are in a wrong place."""
        found = look_for_credentials(operation, situation, settled=settled)
        self._scrubber.remember(found.keys)
        call.arguments = call.scrubber.value(found.shown)
        inline = self._references.inline
        issues = [*found.issues, *(found.refusals() if inline == "refuse" else ())]
        if issues:
            raise InvalidArguments(call.tool.name, issues)
        if inline == "allow":
            found.literals.clear()
        for warning in found.warnings() if settled else ():
            call.meta.warn(warning)
        return found

    def _learn(self, call: CallRecord, operation: Operation, situation: Situation) -> None:
        """Know the call's own secrets before anything of it is sent.

        Of a config whose type is not known every string counts as one. Those are known for this call only: as likely as
        not one of them is the name of a region.
        """
        uses = operation.find_configs(situation)
        typed = [use for use in uses if use.type is not None]
        values = secret_values(operation, typed)
        if not values and len(typed) == len(uses):
            # `_look` has redacted the arguments with all that is known of them.
            return
        self._scrubber.remember(values)
        if len(typed) < len(uses):
            call.scrubber = self._scrubber.and_also(secret_values(operation, uses))
        call.arguments = call.scrubber.value(redact_arguments(operation, uses))

    async def _pass(self, call: CallRecord, operation: Operation, situation: Situation, preview: Preview) -> bool:
        """Pass the gate or raise; whether time has passed on the way, so that the target must be looked at again."""
        account, caller = call.account, call.caller
        assert account is not None  # noqa: S101 - only platforms' operations come here
        digest = await self._identify(call, operation)
        call.fingerprint = fingerprint(operation, situation.current, call.key) if operation.acts_on else None
        candidate = Candidate(
            tool=call.tool.name,
            platform=account.platform.name,
            profile=account.profile,
            declared=type(operation).effect,
            deletes=type(operation).effect is Effect.DESTROY,
            preview=preview,
            fingerprint=call.fingerprint or "",
            digest=digest,
            arguments=call.arguments or {},
            under=self._under(call),
        )
        gate = self._gate_of(call.account)
        call.decision, _ = gate.strictest(candidate, caller.scopes)
        passage = await gate.pass_through(candidate, caller)
        call.decision, call.decided_by = passage.decision, passage.decided_by
        call.channel = passage.channel or channel_of(passage.decision, caller.transport)
        return passage.asked_inline

    async def _identify(self, call: CallRecord, operation: Operation) -> str:
        """The digest of the call, which is also kept in its record."""
        assert call.account is not None  # noqa: S101 - only platforms' operations come here
        call.key = await secret_key(self.store, "digest")
        account, given = call.account, operation.model_dump(exclude_unset=True)
        identity = [call.tool.name, account.platform.name, account.profile, call.caller.principal, given]
        call.digest = keyed_digest(identity, call.key)
        return call.digest

    async def _check_unchanged(self, call: CallRecord, operation: Operation, sender: Sender, preview: Preview) -> None:
        """A person takes their time: the target must still be the one they were shown."""
        if operation.acts_on is None:
            return
        with self._observer.step("read_target"):
            now = await sender.situation(operation)
        if fingerprint(operation, now.current, call.key) != call.fingerprint:
            present = make_preview(operation, now, (), call.scrubber)
            raise target_changed(call.tool.name, preview.snapshot, present.snapshot)

    # What comes back -----------------------------------------------------------------------------------------------

    def _content(
        self, call: CallRecord, operation: Operation, data: Any, answers: Sequence[Any], sender: Sender
    ) -> CallResult:
        call.status = sender.status
        call.meta.request_id = call.scrubbed(sender.request_id)
        with self._observer.step("shape"):
            shaped = shape_data(operation, data, answers[-1] if answers else None, call.meta)
            content: JsonObject = {"data": shaped, "meta": call.meta.as_dict()}
            return finish(content, call.scrubber, self.settings.max_result_bytes, offset=call.meta.offset)

    async def _end_audit(self, call: CallRecord) -> None:
        record = call.record("ended")
        self._observer.call_ended(record)
        try:
            with self._observer.step("audit"):
                await self._audit.write(record)
        except ConnectorError as error:
            self._observer.store_failed("audit")
            logger.error("the audit record of call %s could not be written: %s", call.id, error.message)

    def _policies(self, operation: type[Operation]) -> list[Policy]:
        """The policies that the operation can come under: those of its accounts, or the server's."""
        return [account.policy or self._policy for account in self._profiles.of(operation)] or [self._policy]

    def _gate_of(self, account: Account | None) -> Gate:
        """The gate before a call under this account, which knows no policy but the account's."""
        return self._own_gates.get(account, self._gate) if account else self._gate

    def _under(self, call: CallRecord) -> str:
        """The account in words, where the platform has several."""
        if call.account is None or len(self._profiles.of(call.tool.operation)) < 2:
            return ""
        return f"the profile {call.account.profile} of {call.account.platform.title}"

    def _account_secrets(self) -> tuple[str, ...]:
        return tuple(secret for account in self.accounts for secret in account.client.secrets())
