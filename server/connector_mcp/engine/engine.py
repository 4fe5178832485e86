"""The engine: the tools that can be called, the parts that calls use, and the entry to every call."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

import anyio.to_thread

from connector_mcp.audit.trail import AuditTrail
from connector_mcp.config.settings import Settings
from connector_mcp.engine.accounts import Account, Accounts
from connector_mcp.engine.across import AcrossCall
from connector_mcp.engine.approval.gate import QUESTION_SECONDS, Gate, permits
from connector_mcp.engine.approval.hold import ApprovalHold
from connector_mcp.engine.approval.parked_call import Approval
from connector_mcp.engine.approval.queue import Approvals
from connector_mcp.engine.call import PlatformCall
from connector_mcp.engine.caller import Caller, CallResult
from connector_mcp.engine.engine_call import CallServices, EngineCall
from connector_mcp.engine.ledger import Ledger
from connector_mcp.engine.policy import Policy
from connector_mcp.engine.redaction.scrubber import CALL_SCRUBBER, Scrubber, secrets_of_settings
from connector_mcp.engine.results import fit, shape_data
from connector_mcp.engine.secret_refs.resolver import MintedCredentials, ReferenceResolver
from connector_mcp.engine.secret_refs.secret_requests import SecretPrompt, SecretRequests
from connector_mcp.json_values import JsonObject
from connector_mcp.operations.operation import LocalOperation, Operation, Situation
from connector_mcp.operations.tool import Tool
from connector_mcp.secrets.collection import Secrets
from connector_mcp.state.database import Database, Transaction, one_allowance
from connector_mcp.state.keys import secret_key
from connector_mcp.telemetry.observer import NULL_OBSERVER, Observer


class UnknownTool(KeyError):
    """No tool has this name, or the caller may not see it."""


class Engine:
    """Runs calls. There is one engine in a process; it is safe for concurrent calls on one event loop."""

    def __init__(
        self,
        settings: Settings,
        operations: Mapping[str, type[Operation]],
        accounts: Iterable[Account],
        *,
        policy: Policy,
        database: Database,
        audit: AuditTrail,
        secrets: Secrets | None = None,
        hold: ApprovalHold | None = None,
        announce: Callable[[Approval], None] | None = None,
        observer: Observer = NULL_OBSERVER,
        decide_at: str | None = None,
        secret_requests: SecretRequests | None = None,
    ) -> None:
        """Put the parts together.

        `hold` replaces the one made from the settings. `announce` is called with each call that waits for an operator.
        `decide_at` is the address of the operators' console. With `secret_requests` that have pages, a person can be
        asked for missing secrets.
        """
        secrets = secrets or Secrets()
        self.settings = settings
        self.database = database
        database.on_failure = observer.store_failed
        self.secret_requests = secret_requests
        self.approvals = approvals = Approvals(database, ttl=settings.approval_ttl, observer=observer)
        self._accounts = Accounts(accounts)
        self._policy = policy
        self._audit = audit
        self._observer = observer
        self._secrets = secrets
        self._settings_secrets = tuple(secrets_of_settings(settings))
        public = (*operations, *(account.platform.name for account in self._accounts.all))
        self._scrubber = Scrubber(self._own_secrets, public)
        self._hold = hold = hold or ApprovalHold(settings.approval_wait, records=database)

        def make_gate(policy: Policy) -> Gate:
            return Gate(
                policy,
                approvals,
                database,
                operator_channel=settings.approvals,
                decide_at=decide_at,
                reading_seconds=settings.ask_reading_time,
                question_seconds=max(QUESTION_SECONDS, 2 * settings.ask_timeout),
                hold=hold,
                announce=announce,
            )

        self._services = CallServices(
            settings=settings,
            accounts=self._accounts,
            gates={None: make_gate(policy), **{each: make_gate(each.policy or policy) for each in self.accounts}},
            database=database,
            audit=audit,
            ledger=Ledger(database, audit, longest=3 * settings.longest_deadline, observer=observer),
            observer=observer,
            scrubber=self._scrubber,
            resolver=ReferenceResolver(secrets, settings.credential_secrets),
            minted=MintedCredentials(secrets),
            prompt=SecretPrompt(secret_requests, hold, settings.ask_timeout),
        )
        self._tools = {name: self._accounts.tool(operation) for name, operation in operations.items()}
        self._visible: dict[frozenset[str] | None, tuple[Tool, ...]] = {}

    def tools(self, caller: Caller | None = None) -> tuple[Tool, ...]:
        """Return the tools that policy and the caller's scopes do not rule out altogether."""
        scopes = caller.scopes if caller else None
        # Policies never change while the server runs, and there are only three scopes.
        if scopes not in self._visible:
            visible: list[Tool] = []
            for tool in self._tools.values():
                policies = [account.policy or self._policy for account in self._accounts.get(tool.operation)]
                effect = tool.operation.effect
                if any(permits(each, tool.name, effect, scopes) for each in policies or [self._policy]):
                    visible.append(tool)
            self._visible[scopes] = tuple(visible)
        return self._visible[scopes]

    def tool(self, name: str) -> Tool | None:
        """Return the tool with this name, even if a caller may not see it."""
        return self._tools.get(name)

    @property
    def accounts(self) -> tuple[Account, ...]:
        """Every account; those of one platform stand together."""
        return self._accounts.all

    def scrub(self, text: str) -> str:
        """Replace every secret value that this process or, within a call, the call knows."""
        return (CALL_SCRUBBER.get() or self._scrubber).text(text)

    async def check_audit(self) -> None:
        """Check that a change could be recorded.

        Raises:
            StoreUnavailable: It could not, so no change is let through.
        """
        await self._audit.check()

    async def check_store(self) -> None:
        """Write a row and remove it again: only then does a full disk or a read-only database show.

        Raises:
            StoreUnavailable: It could not be done, so no decision can be recorded.
        """

        def work(transaction: Transaction) -> None:
            transaction.execute("INSERT INTO questions VALUES ('probe', '', epoch(), 0) ON CONFLICT DO NOTHING")
            transaction.execute("DELETE FROM questions WHERE ticket = 'probe'")

        await self.database.write(work)

    async def request_state_key(self) -> bytes:
        """Return the key that seals request state; all processes that share the database have the same one."""
        return await secret_key(self.database, "request-state")

    def end_waiting(self) -> None:
        """Answer all calls held for an operator, and hold none from now on. For a server that shuts down."""
        self._hold.end()

    async def recent_calls(
        self, limit: int, *, before: int | None = None, after: int | None = None
    ) -> list[JsonObject]:
        """Return the audit records of the calls that ended last, newest first, of all replicas.

        With `before` those before the record with that number, with `after` the ones next after it.

        Raises:
            StoreUnavailable: The audit log cannot be read.
        """
        return await self._audit.recent(limit, before=before, after=after)

    async def call(self, name: str, arguments: Mapping[str, Any], caller: Caller) -> CallResult:
        """Run a call. A failure is a result, too: `is_error` with `{"error": {...}}`.

        Raises:
            UnknownTool: There is no such tool.
            AnswerDue: A person must be asked first, by returning the question.
        """
        tool = self._tools.get(name)
        if tool is None:
            self._observer.tool_unknown()
            raise UnknownTool(name)
        kind = PlatformCall
        if tool.operation.on is None:
            kind = LocalCall if issubclass(tool.operation, LocalOperation) else AcrossCall
        if self._secrets.is_outdated():
            await anyio.to_thread.run_sync(self._secrets.read_all)
        outer = CALL_SCRUBBER.set(None)
        try:
            with one_allowance():
                return await kind(tool, caller, self._services).run(arguments)
        finally:
            CALL_SCRUBBER.reset(outer)

    async def aclose(self) -> None:
        """Close the clients, the audit log and the database."""
        for account in self.accounts:
            await account.client.aclose()
        await self._audit.aclose()
        await self.database.aclose()

    def _own_secrets(self) -> Iterator[str]:
        of_accounts = chain.from_iterable([account.client.secrets() for account in self._accounts.all])
        return chain(self._settings_secrets, of_accounts, self._secrets.known)


class LocalCall(EngineCall):
    """A call that this server answers without a platform."""

    async def run_steps(self, arguments: Mapping[str, Any]) -> CallResult:
        self.validate(arguments)
        self.scan_arguments(Situation())
        self.register_secrets()
        assert isinstance(self.operation, LocalOperation)  # noqa: S101 - Engine.call makes it of these only
        data = shape_data(self.operation, self.operation.answer_locally(), None, self.meta)
        content: JsonObject = {"data": data, "meta": self.meta.as_dict()}
        return CallResult(fit(content, self._services.settings.max_result_bytes), is_error=False)
