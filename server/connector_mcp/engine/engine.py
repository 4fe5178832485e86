"""The engine: the tools that can be called, the parts that calls use, and the entry to every call."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import anyio.to_thread

from connector_mcp.audit.trail import AuditTrail
from connector_mcp.config.settings import Settings
from connector_mcp.engine.accounts import Account, Accounts
from connector_mcp.engine.across import AcrossCall
from connector_mcp.engine.approval.gate import QUESTION_SECONDS, SCOPE_OF, Gate, permits
from connector_mcp.engine.approval.hold import ApprovalHold
from connector_mcp.engine.approval.parked_call import Approval
from connector_mcp.engine.approval.queue import Approvals
from connector_mcp.engine.call import PlatformCall
from connector_mcp.engine.caller import Caller, CallResult
from connector_mcp.engine.engine_call import CallServices, EngineCall
from connector_mcp.engine.ledger import Ledger
from connector_mcp.engine.policy import Decision, Policy
from connector_mcp.engine.redaction.scrubber import CALL_SCRUBBER, Scrubber, secrets_of_settings
from connector_mcp.engine.secret_refs.resolver import MintedCredentials, ReferenceResolver
from connector_mcp.engine.secret_refs.secret_requests import SecretPrompt, SecretRequests
from connector_mcp.engine.sender import Sender
from connector_mcp.errors import Blocked, UpstreamError
from connector_mcp.json_values import JsonObject
from connector_mcp.operations.catalog import PLATFORMS, catalog, missing_toolset, platform_folder
from connector_mcp.operations.local import LIST_SECRETS
from connector_mcp.operations.operation import Effect, LocalOperation, Operation
from connector_mcp.operations.situation import Situation
from connector_mcp.operations.tool import Tool
from connector_mcp.program import runnable
from connector_mcp.secrets.collection import Secrets
from connector_mcp.secrets.reference import SCHEME
from connector_mcp.state.database import Database, Transaction
from connector_mcp.state.keys import secret_key
from connector_mcp.suggest import meant
from connector_mcp.telemetry.events import Backlog
from connector_mcp.telemetry.observer import NULL_OBSERVER, Observer
from connector_mcp.text import clean

# A cursor that still lacks a record of 30 days ago is that of an export which is not used any more.
_UNEXPORTED = """
SELECT name, (SELECT coalesce(max(seq), 0) FROM audit) - seq AS records FROM export_cursors AS cursors
WHERE coalesce((SELECT at FROM audit WHERE audit.seq > cursors.seq ORDER BY audit.seq LIMIT 1), epoch())
    > epoch() - 2592000
"""


class UnknownTool(KeyError):
    """No tool that is served has this name. `candidates` are tools that may be meant and that the caller may call."""

    def __init__(self, name: str, candidates: Sequence[str] = (), why: str = "") -> None:
        super().__init__(name)
        self.candidates = list(candidates)
        hint = f"Did you mean {' or '.join(candidates)}?" if candidates else why or "Call tools/list to see the tools."
        self.message = f"Unknown tool: {clean(name, 64)}. {hint}"


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
        calls: Mapping[type[Operation], type[EngineCall]] | None = None,
    ) -> None:
        """Put the parts together.

        `hold` replaces the one made from the settings. `announce` is called with each call that waits for an operator.
        `decide_at` is the address of the operators' console. With `secret_requests` that have pages, a person can be
        asked for missing secrets. `calls` has the calls that another part of the server answers, by operation.
        """
        secrets = secrets or Secrets()
        self.settings = settings
        self.database = database
        database.on_failure = observer.store_failed
        self.secret_requests = secret_requests
        self.approvals = Approvals(database, ttl=settings.approval_ttl, observer=observer)
        self._accounts = Accounts(accounts)
        self._policy = policy
        self._calls = calls or {}
        self._audit = audit
        self.observer = observer
        self._secrets = secrets
        self._settings_secrets = tuple(secrets_of_settings(settings))
        public = (*operations, *(account.platform.name for account in self._accounts.all))
        self._scrubber = Scrubber(self._own_secrets, public)
        self._hold = hold = hold or ApprovalHold(settings.approval_wait, records=database)
        make_gate = partial(
            Gate,
            approvals=self.approvals,
            database=database,
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
            operations=operations,
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
        self._visible: dict[tuple[frozenset[str] | None, frozenset[str] | None], dict[str, Tool]] = {}
        self._profiles = frozenset(account.profile for account in self._accounts.all)

    def tools(self, caller: Caller | None = None, *, any_scope: bool = False) -> tuple[Tool, ...]:
        """Return the tools that policy and the caller's profiles and scopes do not rule out altogether.

        With `any_scope` the scopes do not count: the caller can get others.
        """
        if caller is None:
            return tuple(self._seen(None, None).values())
        return tuple(self._seen(None if any_scope else caller.scopes, caller.profiles).values())

    def _seen(self, scopes: frozenset[str] | None, profiles: frozenset[str] | None) -> dict[str, Tool]:
        """Return what callers with these scopes and profiles see. The texts mention no other tool or profile."""
        # Policies never change while the server runs, and there are few scopes and profiles.
        key = scopes, None if profiles is None else profiles & self._profiles
        if key not in self._visible:
            permitted: dict[str, list[str]] = {}
            for name, tool in self._tools.items():
                accounts, effect = self._accounts.get(tool.operation, profiles), tool.operation.effect
                names = [
                    each.profile for each in accounts if permits(each.policy or self._policy, name, effect, scopes)
                ]
                if names or (tool.operation.on is None and permits(self._policy, name, effect, scopes)):
                    permitted[name] = names
            served = frozenset(permitted)
            seen = {name: self._tools[name].seen_with(served, names) for name, names in permitted.items()}
            self._visible[key] = seen
        return self._visible[key]

    def missing_scope(self, name: str, scopes: frozenset[str]) -> str | None:
        """Return the scope that a caller with these scopes lacks to call a tool; None for what the policy blocks."""
        tool = self._tools.get(name)
        if tool is None or name not in self._seen(None, None):
            return None
        needed = SCOPE_OF[tool.operation.effect]
        return None if needed in scopes else needed

    def tool(self, name: str) -> Tool | None:
        """Return the tool with this name, even if a caller may not see it."""
        return self._seen(None, None).get(name) or self._tools.get(name)

    @property
    def accounts(self) -> tuple[Account, ...]:
        """Every account; those of one platform stand together."""
        return self._accounts.all

    def scrub(self, text: str) -> str:
        """Replace every secret value that this process or, within a call, the call knows."""
        return (CALL_SCRUBBER.get() or self._scrubber).text(text)

    def have_console_at(self, address: str) -> None:
        """Set the address of the operators' console once it is known."""
        for gate in self._services.gates.values():
            gate.decide_at = address

    async def backlog(self) -> Backlog:
        """Count what waits in the database.

        Raises:
            StoreUnavailable: It cannot be read.
        """

        def read_rest(transaction: Transaction) -> tuple[float, dict[str, int]]:
            oldest = transaction.execute(
                "SELECT epoch() - min(created_at) AS seconds FROM approvals "
                "WHERE is_open = 1 AND status = 'pending' AND expires_at > epoch()"
            ).first()
            exports = transaction.execute(_UNEXPORTED).all()
            return (oldest["seconds"] if oldest else None) or 0.0, {row["name"]: row["records"] for row in exports}

        return Backlog(await self.approvals.counts(), *await self.database.read(read_rest))

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

    async def call(self, name: str, arguments: Mapping[str, Any], caller: Caller) -> CallResult:
        """Run a call. A failure is a result, too: `is_error` with `{"error": {...}}`.

        Raises:
            UnknownTool: There is no such tool.
            AnswerDue: A person must be asked first, by returning the question.
        """
        tool = self._seen(caller.scopes, caller.profiles).get(name) or self._tools.get(name)
        if tool is None:
            self.observer.tool_unknown()
            raise self.unknown_tool(name, caller)
        kind = self._calls.get(tool.operation, PlatformCall)
        if kind is PlatformCall and tool.operation.on is None:
            kind = LocalCall if issubclass(tool.operation, LocalOperation) else AcrossCall
        if self._secrets.is_outdated():
            await anyio.to_thread.run_sync(self._secrets.read_all)
        outer = CALL_SCRUBBER.set(None)
        try:
            return await kind(tool, caller, self._services).run(arguments)
        finally:
            CALL_SCRUBBER.reset(outer)

    def unknown_tool(self, name: str, caller: Caller) -> UnknownTool:
        """Make the error for a name that no tool has: the tools that may be meant, or why they are not served."""
        platforms = [account.platform.name for account in self.accounts]
        plain = re.sub(r"[\W_]", "", name.lower())
        for absent in (each for each in PLATFORMS if each in plain and each not in platforms):
            title = platform_folder(absent).platform.title
            return UnknownTool(
                name, why=runnable(f"This server does not serve {title}; `connector-mcp doctor` shows why.")
            )
        likely = meant(name, [*self._tools, *catalog(dict.fromkeys(platforms))])
        callable_by = {tool.name for tool in self.tools(caller)}
        candidates, why = [each for each in likely if each in callable_by], ""
        if likely and not candidates:
            why = self._why_left_out(likely[0])
            if tool := self._tools.get(likely[0]):
                account = next(iter(self._accounts.get(tool.operation)), None)
                try:
                    self._services.gates[account].decide(tool.name, tool.operation.effect, caller.scopes)
                except Blocked as blocked:
                    why = f"{blocked.message} {blocked.fix}"
        return UnknownTool(name, candidates, why)

    def _why_left_out(self, name: str) -> str:
        """Say which setting leaves a tool of a configured platform out."""
        if toolset := missing_toolset(name, self.settings.toolsets):
            return f"The toolset {toolset} is not served: the operator can add it with --toolsets."
        return f"The operator left {name} out with CONNECTOR_MCP_TOOLS."

    async def aclose(self) -> None:
        """Close the clients, the audit log and the database."""
        for account in self.accounts:
            await account.client.aclose()
        await self._audit.aclose()
        await self.database.aclose()

    def _own_secrets(self) -> Iterator[str]:
        yield from self._settings_secrets
        for account in self._accounts.all:
            yield from account.client.secrets()
        yield from self._secrets.known


class LocalCall(EngineCall):
    """A call that this server answers without a platform."""

    async def run_steps(self, arguments: Mapping[str, Any]) -> CallResult:
        self.check_alone(arguments)
        assert isinstance(self.operation, LocalOperation)  # noqa: S101 - Engine.call makes it of these only
        situation = Situation(described=await self._describe(self.operation.type_read()))
        data = self.operation.answer_locally(situation)
        is_bound = self.tool.name == LIST_SECRETS and self.caller.profiles is not None
        return self.success([row for row in map(self._for_own_profiles, data) if row] if is_bound else data)

    def _for_own_profiles(self, secret: JsonObject) -> JsonObject | None:
        """Return a secret without the names of others' profiles; None if no account of the caller may use it."""
        name, platforms = secret["reference"].removeprefix(SCHEME), secret.get("platforms")
        own = [
            each.profile
            for each in self.own_accounts()
            if (each.secrets is None or name in each.secrets)
            and (platforms is None or each.platform.name in platforms)
            and each.profile in secret.get("profiles", (each.profile,))
        ]
        return secret | ({"profiles": sorted(set(own))} if "profiles" in secret else {}) if own else None

    async def _describe(self, reader: Operation | None) -> JsonObject | None:
        """Read what the platform itself says of a connector type, if policy lets such a read pass."""
        accounts = self._services.accounts.get(type(reader), self.caller.profiles) if reader else ()
        if reader is None or not accounts:
            return None
        account = next((each for each in accounts if each.default), accounts[0])
        gate = self._services.gates[account]
        try:
            if (
                gate.decide(f"{account.platform.name}_{self.tool.name}", Effect.READ, self.caller.scopes)
                is not Decision.ALLOW
            ):
                return None
            return await Sender(account, self.tool.name, self.caller).describe(reader)
        except Blocked:
            return None
        except UpstreamError as error:
            self.meta.warn(
                f"The platform did not describe the type ({error.code}): this is what the server knows of it."
            )
            return None
