"""The life of one call, from arguments to audit record. Each step stands in its own file; this one is their order.

arguments → validate → account → policy → (read target → detect effect → gate) → ledger → resolve references → send
→ verify → redact → shape → audit
"""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from connector_mcp.engine.account import Account
from connector_mcp.engine.approvals import Approvals
from connector_mcp.engine.arguments import check_configs, parse_arguments
from connector_mcp.engine.audit import AuditLog
from connector_mcp.engine.call_record import CallRecord
from connector_mcp.engine.caller import AnswerDue, Caller, CallResult
from connector_mcp.engine.gate import PERSON, QUESTION_SECONDS, Candidate, Gate, channel_of, permits, target_changed
from connector_mcp.engine.ledger import Ledger
from connector_mcp.engine.policy import Decision, Policy
from connector_mcp.engine.preview import Preview, fingerprint, keyed_digest, make_preview, readable_plan
from connector_mcp.engine.redact import all_strings, credentials_of, redact_arguments, secret_values
from connector_mcp.engine.references import Found, References, look_for_credentials, with_values
from connector_mcp.engine.results import check_cursor, clean_strings, encode_bytes, fit, shape_data, shows_all
from connector_mcp.engine.scrub import Scrubber
from connector_mcp.engine.sending import Sender
from connector_mcp.engine.verify import verify
from connector_mcp.errors import ConnectorError, Internal, InvalidArguments, OutcomeUnknown
from connector_mcp.operations.catalogue import platform_folder
from connector_mcp.operations.operation import Effect, ListOperation, LocalOperation, Operation, Situation
from connector_mcp.operations.platform import JsonObject
from connector_mcp.operations.tool import Tool, tool_of
from connector_mcp.secrets.collection import Secrets
from connector_mcp.settings import Settings
from connector_mcp.state.store import Store, secret_key

logger = logging.getLogger("connector_mcp.engine")


class UnknownTool(KeyError):
    """No tool has this name, or this caller may not know of it."""


class Engine:
    """Runs calls. One for a process; safe for concurrent calls on one event loop."""

    def __init__(
        self,
        settings: Settings,
        operations: Mapping[str, type[Operation]],
        accounts: Mapping[str, Account],
        *,
        policy: Policy,
        store: Store,
        audit: AuditLog,
        secrets: Secrets | None = None,
    ) -> None:
        self.settings = settings
        self.store = store
        self.approvals = Approvals(store, ttl=settings.approval_ttl)
        self._accounts = accounts
        self._policy = policy
        self._audit = audit
        self._scrubber = Scrubber(self._account_secrets)
        self._references = References(secrets or Secrets(), settings.inline_secrets)
        self._gate = Gate(
            policy,
            self.approvals,
            store,
            operator_channel=settings.approvals,
            question_seconds=max(QUESTION_SECONDS, 2 * settings.ask_timeout),
        )
        self._ledger = Ledger(store, longest=2 * settings.deadline)
        self._tools = {
            name: tool_of(operation, hidden=accounts[operation.on.name].fixed if operation.on else ())
            for name, operation in operations.items()
        }

    # What can be called --------------------------------------------------------------------------------------------

    def tools(self, caller: Caller | None = None) -> tuple[Tool, ...]:
        """The tools that policy, and the caller's scopes, do not rule out altogether."""
        scopes = caller.scopes if caller else None
        return tuple(t for t in self._tools.values() if permits(self._policy, t.name, t.operation.effect, scopes))

    def tool(self, name: str) -> Tool | None:
        """The tool with this name, whoever may call it."""
        return self._tools.get(name)

    @property
    def accounts(self) -> Mapping[str, Account]:
        """The accounts by platform."""
        return self._accounts

    def scrub(self, text: str) -> str:
        """The text without any secret value that this process knows."""
        return self._scrubber.text(text)

    async def request_state_key(self) -> bytes:
        """The key that seals request state, the same in every process that shares the store."""
        return await secret_key(self.store, "request-state")

    async def aclose(self) -> None:
        """Close the clients, the store and the audit log."""
        for account in self._accounts.values():
            await account.client.aclose()
        await self.store.aclose()
        self._audit.close()

    # One call ------------------------------------------------------------------------------------------------------

    async def call(self, name: str, arguments: Mapping[str, Any], caller: Caller) -> CallResult:
        """Run a call to its answer. A failure of the call is an answer too: `is_error` with `{"error": {...}}`.

        Raises:
            UnknownTool: There is no such tool.
            AnswerDue: A person is to be asked first, by returning the question.
        """
        tool = self._tools.get(name)
        if tool is None:
            raise UnknownTool(name)
        operation = tool.operation
        account = self._accounts[operation.on.name] if operation.on else None
        sandbox = account.sandbox if account else self.settings.sandbox
        call = CallRecord(tool, caller, account, self._scrubber, time.monotonic(), sandbox, effect=operation.effect)
        try:
            content = await self._run(call, arguments)
            call.outcome = "ok"
            return CallResult(content, is_error=False)
        except AnswerDue:
            call.outcome = "asked"
            raise
        except ConnectorError as error:
            return self._failure(call, error)
        except Exception as error:  # noqa: BLE001 - the boundary of a call; `_fault` logs it, scrubbed
            return self._failure(call, self._fault(call, error, arguments))
        finally:
            self._end_audit(call)

    async def _run(self, call: CallRecord, arguments: Mapping[str, Any]) -> JsonObject:
        fixed = call.account.fixed if call.account else {}
        operation = parse_arguments(call.tool, arguments, fixed)
        call.decision = self._gate.decide(call.tool.name, call.effect, call.caller.scopes)
        call.channel = "policy"
        check_cursor(operation)
        call.meta.sandbox = call.sandbox
        if isinstance(operation, LocalOperation) or call.effect is Effect.READ:
            self._look(call, operation, Situation(options=call.account.options if call.account else {}))
        if isinstance(operation, LocalOperation):
            data = shape_data(operation, operation.answer_locally(), None, call.meta)
            return fit({"data": data, "meta": call.meta.as_dict()}, self.settings.max_result_bytes)
        assert call.account is not None  # noqa: S101 - every other operation belongs to a platform
        call.meta.platform = call.account.platform.name
        call.meta.profile = call.account.profile
        call.meta.tenant = call.account.tenant
        sender = Sender(call.account, call.tool.name, call.caller)
        if call.effect is Effect.READ:
            situation = Situation(options=call.account.options)
            self._learn(call, operation, situation)
            answers = await sender.send(operation, situation)
            return self._content(call, operation, operation.shape_result(answers, situation), answers, sender)
        return await self._write(call, operation, sender)

    async def _write(self, call: CallRecord, operation: Operation, sender: Sender) -> JsonObject:
        unread = Situation(options=sender.options)
        # Everything that is wrong without looking at the target is said before anything is sent.
        ready = await self._check(call, operation, unread, settled=operation.acts_on is None)
        situation = unread
        if operation.acts_on is not None:
            situation = await sender.situation(operation)
            ready = await self._check(call, operation, situation)
        self._learn(call, operation, situation)
        losses = operation.find_losses(situation)
        preview = make_preview(operation, situation, losses, call.scrubber)
        call.effect = preview.effect
        # Before the gate, so that no approval is spent on a call that could not be recorded.
        self._audit.check()
        if await self._pass(call, operation, situation, preview):
            await self._check_unchanged(call, operation, sender, preview)
        assert call.digest is not None  # noqa: S101 - set by _pass
        async with self._ledger.entry(call.digest, call.tool.name) as entry:
            if ready is not operation:
                # A person may have taken their time: what is sent is what the secrets are now.
                ready = await self._check(call, operation, situation)
            # What cannot be recorded is not sent; what was sent and has no end in the log is known to have been sent.
            self._audit.write(call.record("begun"))
            call.changing = True
            answers = await sender.send(ready, situation)
            entry.outcome_unknown = sender.left_unknown
        call.meta.warnings.extend(entry.warnings)
        data = sender.outcomes(operation, answers, situation, call.meta)
        if self.settings.verify_writes:
            plan = readable_plan(operation, situation)
            await verify(operation, plan, data, partial(sender.read_back, operation), call.meta)
            call.fingerprint_after = _fingerprint_after(operation, sender, call.key)
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
        values = await self._references.values(call.tool.name, found, call.account)
        self._scrubber.remember({text for value in values.values() for text in credentials_of(value)})
        return with_values(call.tool, operation, situation, values) if settled else operation

    def _look(self, call: CallRecord, operation: Operation, situation: Situation, *, settled: bool = True) -> Found:
        """Find references and credentials among the arguments, and refuse those that are in a wrong place."""
        found = look_for_credentials(operation, situation, settled=settled)
        self._scrubber.remember(found.keys)
        call.arguments = call.scrubber.value(redact_arguments(operation, operation.find_configs(situation)))
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
            call.scrubber = Scrubber(self._scrubber.values)
            call.scrubber.remember(secret_values(operation, uses))
        call.arguments = call.scrubber.value(redact_arguments(operation, uses))

    async def _pass(self, call: CallRecord, operation: Operation, situation: Situation, preview: Preview) -> bool:
        """Pass the gate or raise; whether time has passed on the way, so that the target must be looked at again."""
        account, caller = call.account, call.caller
        assert account is not None  # noqa: S101 - only platforms' operations come here
        key = call.key = await secret_key(self.store, "digest")
        given = operation.model_dump(exclude_unset=True)
        identity = [call.tool.name, account.platform.name, account.profile, caller.principal, given]
        call.digest = keyed_digest(identity, key)
        call.fingerprint = fingerprint(operation, situation.current, key) if operation.acts_on else None
        candidate = Candidate(
            tool=call.tool.name,
            platform=account.platform.name,
            profile=account.profile,
            declared=type(operation).effect,
            deletes=type(operation).effect is Effect.DESTROY,
            preview=preview,
            fingerprint=call.fingerprint or "",
            digest=call.digest,
            arguments=call.arguments or {},
        )
        call.decision, _ = self._gate.strictest(candidate, caller.scopes)
        passage = await self._gate.pass_through(candidate, caller)
        call.decision, call.decided_by = passage.decision, passage.decided_by
        call.channel = channel_of(passage.decision, caller.transport)
        return passage.asked_inline

    async def _check_unchanged(self, call: CallRecord, operation: Operation, sender: Sender, preview: Preview) -> None:
        """A person takes their time: the target must still be the one they were shown."""
        if operation.acts_on is None:
            return
        now = await sender.situation(operation)
        if fingerprint(operation, now.current, call.key) != call.fingerprint:
            present = make_preview(operation, now, (), call.scrubber)
            raise target_changed(call.tool.name, preview.snapshot, present.snapshot)

    # What comes back -----------------------------------------------------------------------------------------------

    def _content(
        self, call: CallRecord, operation: Operation, data: Any, answers: Sequence[Any], sender: Sender
    ) -> JsonObject:
        call.status = sender.status
        call.meta.request_id = sender.request_id
        shaped = shape_data(operation, data, answers[-1] if answers else None, call.meta)
        content: JsonObject = {"data": shaped, "meta": call.meta.as_dict()}
        # Nearly every result is plain and holds nothing that is known: its text shows it, and the walks are spared.
        text = encode_bytes(content)
        if not shows_all(text):
            content = clean_strings(content)
            text = encode_bytes(content)
        if call.scrubber.finds(text.decode("utf-8", "surrogatepass")):
            content = call.scrubber.value(content)
        elif len(text) <= self.settings.max_result_bytes:
            return content
        return fit(content, self.settings.max_result_bytes, offset=call.meta.offset)

    def _failure(self, call: CallRecord, error: ConnectorError) -> CallResult:
        call.outcome = error.code
        if refused_by := error.details.get("refused_by"):
            call.decided_by = refused_by
            refusal = Decision.ASK if refused_by == PERSON else Decision.APPROVE
            call.channel = channel_of(refusal, call.caller.transport)
        if error.upstream:
            call.status = error.upstream.get("status")
            call.meta.request_id = error.upstream.get("request_id")
        members = error.as_dict()
        if isinstance(error, OutcomeUnknown | Internal) and call.changing:
            members["fix"] = f"{members['fix']} {_reader_hint(call.tool.operation)}".strip()
        if call.sandbox:
            members["sandbox"] = True
        return CallResult({"error": clean_strings(call.scrubber.value(members))}, is_error=True)

    def _fault(self, call: CallRecord, error: Exception, arguments: Mapping[str, Any]) -> Internal:
        """The answer to a failure that nobody foresaw; its traceback goes to the log, without any argument's text."""
        scrubber = Scrubber(call.scrubber.values)
        scrubber.remember(all_strings(dict(arguments)))
        told = scrubber.text("".join(traceback.format_exception(error)))
        logger.error("%s failed inside the server\n%s", call.tool.name, told)
        sent = " The change had been sent and may have been made." if call.changing else ""
        look = "See first whether it was; the" if call.changing else "The"
        return Internal(
            f"{call.tool.name} failed inside this server.{sent}",
            fix=f"{look} operator finds the cause in the server's log on stderr.",
        )

    def _end_audit(self, call: CallRecord) -> None:
        try:
            self._audit.write(call.record("ended"))
        except ConnectorError as error:
            logger.error("the audit record of call %s could not be written: %s", call.id, error.message)

    def _account_secrets(self) -> tuple[str, ...]:
        return tuple(secret for account in self._accounts.values() for secret in account.client.secrets())


def _fingerprint_after(operation: Operation, sender: Sender, key: bytes) -> str | None:
    """What the target's fingerprint is after the write, as far as reading back has shown it."""
    if sender.found_gone:
        return "gone"
    return fingerprint(operation, sender.found.current, key) if sender.found else None


def _reader_hint(operation: type[Operation]) -> str:
    if operation.acts_on is not None:
        return f"Look with {operation.acts_on.read.tool_name()}."
    if operation.on is None:
        return ""
    lists = [o for o in platform_folder(operation.on.name).operations if issubclass(o, ListOperation)]
    return f"Look with {lists[0].tool_name()}." if lists else ""
