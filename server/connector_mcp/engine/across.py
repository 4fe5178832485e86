"""Calls that look at several platforms, or at the audit log.

Every read that they make of a platform is a call of its own, with the same policy, redaction and audit record as if a
client had made it. They ask nobody: a read that needs a decision counts as one that failed.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from operator import itemgetter
from typing import Any

import anyio

from connector_mcp.audit.calls import CallLog
from connector_mcp.audit.reader import Wanted
from connector_mcp.audit.record import BEGUN
from connector_mcp.engine.accounts import BIND, Account
from connector_mcp.engine.call import PlatformCall
from connector_mcp.engine.caller import CallResult
from connector_mcp.engine.engine_call import EngineCall
from connector_mcp.engine.policy import Decision
from connector_mcp.engine.results import FEWER
from connector_mcp.errors import (
    Blocked,
    ConnectorError,
    InvalidArguments,
    Issue,
    NotFound,
    StoreUnavailable,
    TimedOut,
    UpstreamFailed,
)
from connector_mcp.json_values import JsonObject, members
from connector_mcp.operations.across import CheckConnector, FindConnectors, RecentChanges
from connector_mcp.operations.catalog import missing_toolset, platform_folder
from connector_mcp.operations.operation import Effect, ListOperation
from connector_mcp.operations.overview import Answer, Awaited, Read, Reads, Row, Verdict
from connector_mcp.operations.tool import PROFILE, name_served, named_tools
from connector_mcp.upstream.responses import TURNED_AWAY

NOT_LISTED = "Not listed: "
"""How the warning about an account begins that could not be read."""
SECONDS = 45.0
"""How long a platform may take. Some clients give up on a call after 60 seconds."""
PAGES = 20
"""Pages that are read of one list."""
_UNKNOWN = frozenset({"outcome_unknown", "cancelled", "internal"})
"""Outcomes of calls that may have changed something, if they had begun."""
_LATE = timedelta(minutes=10)
"""How long after a call its outcome may not show on the platform."""
_WORKS = {True: "yes", False: "no", None: "unknown"}
_SCANNED = 2_000
"""Records of the audit log that one call looks through."""
_AT_ONCE = 200


async def side_by_side(jobs: Iterable[Callable[[], Awaitable[None]]]) -> None:
    """Run jobs concurrently. The first failure cancels the others and is raised."""
    failed: list[ConnectorError] = []

    async def run(job: Callable[[], Awaitable[None]]) -> None:
        try:
            await job()
        except ConnectorError as error:
            failed.append(error)
            tasks.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks:
        for job in jobs:
            tasks.start_soon(run, job)
    if failed:
        raise failed[0]


class AcrossCall(EngineCall):
    """A call that this server answers from reads of its own."""

    async def run_steps(self, arguments: Mapping[str, Any]) -> CallResult:
        self.check_alone(arguments)
        match self.operation:
            case FindConnectors() as operation:
                data: Any = await self._find(operation)
            case CheckConnector() as operation:
                data = await self._check(operation)
            case RecentChanges() as operation:
                data = await self._changes(operation)
            case other:
                raise TypeError(type(other))
        return self.success(data)

    async def _find(self, operation: FindConnectors) -> list[JsonObject]:
        """List the connectors of all accounts side by side. An account that failed is named in the warnings."""
        accounts = self._accounts(operation.platform, operation.profile)
        found: dict[Account, Sequence[Row]] = {}

        async def look(account: Account) -> None:
            overview = platform_folder(account.platform.name).overview
            try:
                found[account] = await self._drive(account, overview.find_connectors())
            except ConnectorError as error:
                label = self._services.accounts.label(account) or account.platform.title
                self.meta.warn(f"{NOT_LISTED}{label} ({error.code}). {error.message}")

        await side_by_side(partial(look, account) for account in accounts)
        rows = [
            self._row(account, row) for account in accounts for row in found.get(account, ()) if _fits(operation, row)
        ]
        return sorted(rows, key=lambda row: row["status"] != "failing")

    def _row(self, account: Account, row: Row) -> JsonObject:
        shown = {key: value for key, value in vars(row).items() if value}
        return {"platform": account.platform.name} | self.account_arguments(account) | shown

    async def _check(self, operation: CheckConnector) -> JsonObject:
        accounts = self._accounts(operation.platform, operation.profile)
        if len(accounts) != 1:
            names = ", ".join(account.profile for account in accounts)
            raise InvalidArguments(self.tool.name, [Issue(PROFILE, "nothing", f"one of {names}")])
        checks = platform_folder(operation.platform).overview.checks
        kind = operation.kind or next(iter(checks))
        if kind not in checks:
            raise InvalidArguments(self.tool.name, [Issue("kind", "an unknown kind", f"one of {', '.join(checks)}")])
        try:
            return await self._verdict(accounts[0], checks[kind](operation.id, operation.within))
        except NotFound as error:
            # What the read said of its own arguments does not help with those of this call.
            kinds = ", ".join(checks)
            error.details = {key: value for key, value in error.details.items() if key == "candidates"}
            there = " there, or within is wrong" if operation.within else ""
            error.fix = f"No {kind} has this id{there}. Take id, kind and within from find_connectors; "
            error.fix += f"kind is one of {kinds}."
            raise

    async def _verdict(self, account: Account, reads: Reads[Verdict]) -> JsonObject:
        """Tell whether a thing works, from what its check reads.

        Raises:
            NotFound: The platform does not have it.
        """
        try:
            verdict = await self._drive(account, reads)
        except NotFound:
            raise
        except ConnectorError as error:
            verdict = Verdict(None, f"It cannot be known: {error.message}", error.fix)
        if verdict.awaits is not None:
            with suppress(StoreUnavailable):
                verdict = await self._consider_calls(account, verdict, verdict.awaits)
        said = {key: str(text) for key in ("reason", "unproven", "next") if (text := vars(verdict)[key])}
        if (served := self.tool.served) is not None:
            absent = named_tools(" ".join(said.values())) - served
            said = name_served(said, served)
            if absent:
                said["next"] = f"{said.get('next', '')} {self._why_absent(absent)}".strip()
        return {"works": _WORKS[verdict.works]} | said | ({"seen": verdict.seen} if verdict.seen else {})

    async def _consider_calls(self, account: Account, verdict: Verdict, awaited: Awaited) -> Verdict:
        """Say in the verdict that a call was made a short while ago whose outcome may not be shown yet."""
        log, now = CallLog(self._services.database), datetime.now(UTC)
        target = f"{account.platform.name}/{account.profile}/{awaited.target}"
        for tool in (each.tool_name() for each in awaited.operations):
            wanted = Wanted(since=now - _LATE, tool=tool, target=target, outcome="ok", once=True)
            records = [line.authentic for line in (await log.page(wanted, count=1)).calls]
            for record in filter(None, records):
                made = datetime.fromisoformat(record["time"])
                if awaited.since is None or made > awaited.since:
                    ago = max(0, round((now - made).total_seconds()))
                    called = f"{tool} was called {ago} s ago (call {record['call_id']})"
                    reason = f"{verdict.reason} But {called}, and its outcome may not show yet."
                    then = f" If it says the same: {verdict.next}" if verdict.next else ""
                    step = f"Call check_connector again in some minutes.{then}"
                    return replace(verdict, works=None, reason=reason, next=step)
        return verdict

    def _why_absent(self, names: Collection[str]) -> str:
        """Say who can change that tools are not served that an advice needs."""
        missing = sorted({missing_toolset(name, self._services.settings.toolsets) for name in names} - {""})
        if missing:
            return f"The operator can add {' and '.join(missing)} with --toolsets."
        return "The policy, CONNECTOR_MCP_TOOLS or the caller's scopes leave that tool out."

    def _accounts(self, platform: str | None, profile: str | None) -> list[Account]:
        """Return the accounts that the arguments name.

        Raises:
            InvalidArguments: No account fits.
            Blocked: The caller may not act under any profile.
        """
        own = self.own_accounts()
        if not own:
            raise Blocked("This caller may not act under any profile. Nothing was sent.", fix=BIND)
        chosen = [
            account
            for account in own
            if platform in (None, account.platform.name) and profile in (None, account.profile)
        ]
        if not chosen:
            names = dict.fromkeys(account.platform.name for account in own)
            if platform is not None and platform not in names:
                raise InvalidArguments(
                    self.tool.name, [Issue("platform", "a platform that is not served", f"one of {', '.join(names)}")]
                )
            profiles = dict.fromkeys(account.profile for account in own if platform in (None, account.platform.name))
            raise InvalidArguments(
                self.tool.name, [Issue(PROFILE, "an unknown profile", f"one of {', '.join(profiles)}")]
            )
        return chosen

    async def _drive(self, account: Account, reads: Reads[Answer]) -> Answer:
        """Send the reads that a generator yields, those of one batch side by side, until it returns its answer."""
        with anyio.move_on_after(SECONDS):
            outcomes: list[Any] | None = None
            while True:
                try:
                    batch = reads.send(outcomes) if outcomes is not None else next(reads)
                except StopIteration as end:
                    return end.value
                outcomes = await self._send_all(account, batch)
        title = account.platform.title
        raise TimedOut(f"{title} did not answer all reads in {SECONDS:.0f} s.", fix="Ask about this platform alone.")

    async def _send_all(self, account: Account, batch: Sequence[Read]) -> list[Any]:
        outcomes: list[Any] = [None] * len(batch)

        async def send(index: int, read: Read) -> None:
            outcomes[index] = await self._read(account, read)

        await side_by_side(partial(send, index, read) for index, read in enumerate(batch))
        return outcomes

    async def _read(self, account: Account, read: Read) -> Any:
        """Return the data of a read, of a list that of all its pages, or the error that it ended with."""
        tool = self._services.accounts.tool(read.operation)
        arguments = {**read.arguments, **self.account_arguments(account)}
        rows: list[Any] = []
        for _ in range(PAGES):
            call = NestedRead(tool, self.caller, self._services)
            result = await call.run(arguments)
            if call.error is not None:
                return call.error
            data = result.content["data"]
            if not issubclass(read.operation, ListOperation):
                return data
            rows += data
            for warning in call.meta.warnings:
                if warning.startswith(FEWER):
                    self.meta.warn(f"{tool.name}: {warning}")
            following = members(result.content["meta"]).get("cursor")
            if following is None:
                return rows
            arguments |= {"cursor": following}
        self.meta.warn(f"{account.platform.title} has more than {len(rows)} rows; the others were not read.")
        return rows

    async def _changes(self, operation: RecentChanges) -> list[JsonObject]:
        changes: list[JsonObject] = []
        log, before = CallLog(self._services.database), ""
        for _ in range(_SCANNED // _AT_ONCE):
            page = await log.page(Wanted(once=True), before=before, count=_AT_ONCE)
            records = [line.authentic for line in page.calls if line.authentic is not None]
            made = [record for record in records if record["effect"] != Effect.READ and _may_be_made(record)]
            changes += [
                change
                for change in map(_change, made)
                if operation.platform in (None, change["platform"])
                and (self.caller.profiles is None or change["profile"] in self.caller.profiles)
                and (not operation.target or operation.target in change["target"].values())
            ]
            if page.older is None:
                break
            before = page.older
        else:
            self.meta.warn(f"Only the last {_SCANNED} records of the audit log were looked through.")
        # Calls come in the order in which they began.
        return sorted(changes, key=itemgetter("time"), reverse=True)


class NestedRead(PlatformCall):
    """A read on behalf of another call."""

    error: ConnectorError | None = None

    @property
    def largest_result(self) -> int:
        """Unbounded: no agent gets the result, and the other call needs all of it."""
        return sys.maxsize

    def _check_policy(self) -> None:
        super()._check_policy()
        if self.decision is not Decision.ALLOW:
            raise Blocked(
                f"{self.tool.name} needs a decision, and this call does not ask for one.",
                fix=f"Call {self.tool.name} by itself.",
            )

    def _failure(self, error: ConnectorError) -> CallResult:
        self.error = error
        return super()._failure(error)


def _fits(operation: FindConnectors, row: Row) -> bool:
    name, kind = (operation.name or "").lower(), (operation.type or "").lower()
    return (
        name in row.name.lower() and kind in f"{row.type} {row.kind}".lower() and operation.status in (None, row.status)
    )


def _may_be_made(record: JsonObject) -> bool:
    """Whether a call changed something, or may have."""
    if record["outcome"] in ("ok", BEGUN):
        return True
    # Nothing is sent before it is decided, so that a call without a decision ended before it began.
    if record["decided_by"] is None:
        return False
    # A platform that failed may have made a part of the change.
    failed = record["outcome"] == UpstreamFailed.code
    return record["upstream_status"] not in TURNED_AWAY if failed else record["outcome"] in _UNKNOWN


def _change(record: JsonObject) -> JsonObject:
    target = dict(_ids(record["arguments"]))
    # A call that creates something has no argument with its id.
    if (place := record.get("target")) and (identifier := place.split("/", 2)[-1]) not in target.values():
        target["id"] = identifier
    return {
        **{key: record[key] for key in ("time", "tool", "platform", "profile", "effect", "outcome", "call_id")},
        "target": target,
        "caller": record["principal"],
        "decided_by": record["decided_by"],
    }


def _ids(arguments: JsonObject) -> Iterator[tuple[str, str]]:
    """The arguments that say what was changed."""
    for name, value in arguments.items():
        if isinstance(value, str) and (name == "id" or name.endswith("_id") or name in ("name", "display_name")):
            yield name, value
