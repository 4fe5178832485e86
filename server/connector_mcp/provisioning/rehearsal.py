"""Calls that a plan makes without changing anything: reads that keep the whole record, and changes that stop before
the gate."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Hashable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import anyio

from connector_mcp.engine.accounts import Account
from connector_mcp.engine.across import NestedRead
from connector_mcp.engine.call import PlatformCall
from connector_mcp.engine.caller import Caller, CallResult
from connector_mcp.engine.checks.arguments import parse_arguments
from connector_mcp.engine.checks.configs import check_configs, tolerate
from connector_mcp.engine.checks.issues import value_at
from connector_mcp.engine.engine_call import CallServices
from connector_mcp.engine.preview import Preview, fingerprint
from connector_mcp.engine.redaction.redactor import parse_steps
from connector_mcp.engine.results import following_cursor, rows_in_all
from connector_mcp.engine.secret_refs.resolver import scan_arguments
from connector_mcp.engine.sender import Sender
from connector_mcp.errors import Blocked, ConnectorError, InvalidArguments, Issue, TooLarge
from connector_mcp.json_values import JsonObject, is_object, items
from connector_mcp.operations.operation import Effect, ListOperation, Operation
from connector_mcp.operations.overview import Read
from connector_mcp.operations.situation import Situation
from connector_mcp.operations.tool import PROFILE, Tool
from connector_mcp.provisioning.manifest import referenced, text_places
from connector_mcp.secrets.reference import mentions_reference


class RecordRead(NestedRead):
    """A read on behalf of a plan. It keeps the data as the platform gave it, for comparison inside this server."""

    data: Any = None
    cursor: str | None = None
    total = 0
    """The number of rows that the platform says a list has."""

    def _result(self, data: Any) -> CallResult:
        self._record_response(self._sender.status, self._sender.request_id)
        self.data = data
        if isinstance(self.operation, ListOperation):
            self.cursor = following_cursor(self.operation, self._answers[-1])
            self.total = rows_in_all(self.operation, self._answers[-1])
        return CallResult({"data": {}, "meta": self.meta.as_dict()}, is_error=False)


PAGES = 200
"""Pages of one list."""


async def read_records(read: Read, account: Account, caller: Caller, services: CallServices) -> Any:
    """Return the data of a read as the platform gave it, of a list that of all its pages.

    Raises:
        ConnectorError: The read failed, or not all pages could be read.
    """
    tool = services.accounts.tool(read.operation)
    arguments = {**read.arguments, **({PROFILE: account.profile} if services.accounts.label(account) else {})}
    rows: list[Any] = []
    for _ in range(PAGES):
        call = RecordRead(tool, caller, services)
        await call.run(arguments)
        if call.error is not None:
            raise call.error
        if call.outcome != "ok":
            raise Blocked(f"{tool.name} could not be read ({call.outcome}).", fix=f"Call {tool.name} by itself.")
        if not issubclass(read.operation, ListOperation):
            return call.data
        rows += items(call.data)
        if call.cursor is None:
            if call.total <= len(rows):
                return rows
            break
        arguments |= {"cursor": call.cursor}
    raise TooLarge(
        f"{account.platform.title} has more than {len(rows)} rows for {tool.name}, and all are needed.",
        fix="Describe fewer things, or things of another account.",
    )


class SharedReads:
    """Reads that several things need and that are sent once. A read that failed is sent again for the next one."""

    def __init__(self) -> None:
        self._found: dict[Hashable, Any] = {}
        self._locks: dict[Hashable, anyio.Lock] = defaultdict(anyio.Lock)

    async def get(self, key: Hashable, read: Callable[[], Awaitable[Any]]) -> Any:
        """Return what the read with this key returned, or send it."""
        async with self._locks[key]:
            found = self._found.get(key)
            if found is None:
                found = await read()
            if not isinstance(found, ConnectorError):
                self._found[key] = found
        return found


class _SharingSender(Sender):
    """Reads a list of what may depend on a target once for all changes of a plan."""

    def __init__(self, account: Account, tool: str, caller: Caller, lists: SharedReads) -> None:
        super().__init__(account, tool, caller)
        self._lists = lists

    async def read_list(self, listed: type[ListOperation], operation: Operation) -> tuple[list[JsonObject], bool]:
        reader = self.list_like(listed, operation)
        return await self._lists.get((self._account, repr(reader)), partial(super().read_list, listed, operation))


@dataclass(frozen=True)
class Rehearsed:
    """What a change would do."""

    effect: Effect
    preview: Preview
    fingerprint: str
    hosts: tuple[str, ...]
    disclosed: tuple[tuple[str, str], ...]


class Rehearsal(PlatformCall):
    """A change that is checked and previewed like any other, and ends there. It leaves no record of its own."""

    def __init__(self, tool: Tool, caller: Caller, services: CallServices, lists: SharedReads) -> None:
        super().__init__(tool, caller, services)
        self._lists = lists
        self.inspected: JsonObject | None = None
        """The arguments that were found to be right, and need not be looked at again."""

    def validate(self, arguments: Mapping[str, Any]) -> None:
        """Choose the account and parse the arguments. Policy decides when the plan is applied."""
        self.account, own, self.profile_named = self._services.accounts.choose(
            self.tool, arguments, self.caller.profiles
        )
        assert self.account is not None  # noqa: S101 - operations of a platform always have an account
        self._account = self.account
        self.operation = parse_arguments(self.tool, own, self.account.fixed)
        self._sender = _SharingSender(self._account, self.tool.name, self.caller, self._lists)
        self._situation = Situation(options=self._account.options)

    def inspect(self, arguments: JsonObject) -> tuple[list[Issue], list[Issue]]:
        """Check the arguments without any read. Return what is wrong with any call, and what is wrong only if the call
        is made.

        The first are secrets in clear text and misplaced references: they must not be stored in a plan.
        """
        try:
            self.validate(arguments)
        except InvalidArguments as error:
            return [], list(error.issues)
        given: JsonObject = self.operation.model_dump(exclude_unset=True)
        found = scan_arguments(self.operation, self.operation.find_configs(self._situation), target_known=True)
        fatal, issues = list(found.refusals()), list[Issue]()
        for issue in found.issues:
            text = value_at(given, parse_steps(issue.path))
            (fatal if not isinstance(text, str) or mentions_reference(text) else issues).append(issue)
        tolerates = partial(tolerate, self._services.settings.unknown_config, self.meta)
        issues += [issue for issue in self.operation.find_problems(self._situation) if not tolerates(issue)]
        try:
            check_configs(self.tool, found.uses, tolerates)
        except InvalidArguments as error:
            issues += error.issues
        if not (fatal or issues or found.misplaced):
            self.found, self.inspected = found, arguments
        return fatal, issues

    async def rehearse(self, arguments: JsonObject, key: bytes) -> Rehearsed:
        """Prepare the call up to its preview.

        Raises:
            InvalidArguments: The call would be refused, or refers to a secret that is missing.
            UpstreamError: The target cannot be read.
        """
        if arguments != self.inspected:
            self.validate(arguments)
        self._key = key
        await self._prepare()
        has_target = self.operation.acts_on is not None and self._situation.current is not None
        found = self.found
        assert found is not None  # noqa: S101 - the arguments were scanned
        return Rehearsed(
            self.effect,
            self._preview,
            fingerprint(self.operation, self._situation.current, key) if has_target else "",
            tuple(map(self.scrubber.text, found.hosts(self.operation, self._situation))),
            self._disclosed,
        )

    async def _read_target(self) -> None:
        if is_pending(self.operation.target_read()):
            # It belongs to something that the plan makes first.
            described = await self._sender.describe(self.operation.type_read())
            self._situation = Situation(options=self._account.options, described=described)
            return
        await super()._read_target()

    def _may_ask(self) -> bool:
        """No person is asked. The ids that the call names are those that the plan found, or makes."""
        return False

    async def _resolve_references(self, *, target_known: bool = True, ask: bool = True) -> None:
        await super()._resolve_references(target_known=target_known, ask=False)


def is_pending(operation: Operation | None) -> bool:
    """Whether an argument stands for an id that only an earlier action of the plan makes."""
    if operation is None:
        return False
    given: JsonObject = operation.model_dump(exclude_unset=True)
    return is_object(given) and any(referenced(text) for _, text in text_places(given))
