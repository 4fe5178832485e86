"""The pages of connectors: all of them, one of them, and whether the platforms can be reached.

Everything is read through the engine as calls of the signed-in operator, marked as checks in the audit log.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from http import HTTPStatus

import anyio
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from connector_mcp import __version__
from connector_mcp.audit.calls import CallLog
from connector_mcp.audit.reader import Wanted
from connector_mcp.audit.record import PROBE
from connector_mcp.console.access import PageShell, Problem, Visitor, given
from connector_mcp.console.rendering import show
from connector_mcp.engine.accounts import Account
from connector_mcp.engine.across import NOT_LISTED
from connector_mcp.engine.caller import Caller
from connector_mcp.engine.engine import Engine, UnknownTool
from connector_mcp.json_values import JsonObject, items, members
from connector_mcp.operations.across import CheckConnector, FindConnectors
from connector_mcp.operations.operation import Operation

CHECK_SECONDS = 10.0
"""How long a platform may take on these pages, and how long the result of a check of all platforms is reused."""

CALLS = 10
"""Calls of the history that the page of a connector shows."""

STATUSES = ("failing", "pending", "paused", "unknown", "ok")

_REMEMBERED = 2_000
_ADDRESS = ("platform", "profile", "id", "kind", "within")
"""What names a connector, in links and in the form."""

OpenEngine = Callable[[], AbstractAsyncContextManager[Engine | None]]


@dataclass(frozen=True)
class Listed:
    """The connectors of one account, or why they could not be listed."""

    account: Account
    rows: Sequence[JsonObject] = ()
    failure: str = ""
    notes: Sequence[str] = ()
    """What the list lacks."""

    def target(self, row: JsonObject) -> str:
        """Return how the audit log names a connector of this account."""
        return f"{self.account.platform.name}/{self.account.profile}/{row['id']}"


class ConnectorPages:
    """The handlers of `/console/connectors`, `/console/connector` and `/console/platforms`."""

    def __init__(
        self,
        shell: PageShell,
        log: CallLog,
        engine: OpenEngine,
        check_platforms: Callable[[], Awaitable[Sequence[JsonObject]]],
        clock: Callable[[], float],
    ) -> None:
        self._shell = shell
        self._log = log
        self._engine = engine
        self._check = check_platforms
        self._clock = clock
        self._seen: dict[str, JsonObject] = {}
        """The row of each connector when it was last listed, and when that was (`at`)."""
        self._last_check: JsonObject | None = None
        """When the platforms were checked (`at`), and the result; None if it did not finish in time."""
        self._checking = anyio.Lock()

    async def connectors(self, request: Request) -> Response:
        """List the connectors of all accounts side by side."""
        visitor = await self._shell.visitor(request)
        chosen = given(request, "platform", "status", "name")
        if chosen["status"] not in STATUSES:
            chosen["status"] = ""
        async with self._engine() as engine:
            accounts = engine.accounts if engine else ()
            found: dict[Account, Listed] = {}

            async def look(engine: Engine, account: Account) -> None:
                found[account] = await _list(engine, account, chosen, visitor)

            async with anyio.create_task_group() as tasks:
                for account in accounts:
                    if engine and chosen["platform"] in ("", account.platform.name):
                        tasks.start_soon(look, engine, account)
        listed = [found[account] for account in accounts if account in found]
        rows = {each.target(row): row for each in listed for row in each.rows}
        if len(self._seen) > _REMEMBERED:
            self._seen.clear()
        self._seen |= {target: {**row, "at": self._clock()} for target, row in rows.items()}
        return self._shell.page(
            "connectors",
            visitor,
            here="connectors",
            chosen=chosen,
            platforms={account.platform.name: account.platform.title for account in accounts},
            statuses=STATUSES,
            listed=listed,
            changes=await self._log.last_changes(rows),
        )

    async def connector(self, request: Request) -> Response:
        """Show one connector with its history. Nothing is read from its platform."""
        visitor = await self._shell.visitor(request)
        return await self._connector_page(visitor, request.query_params)

    async def check(self, request: Request) -> Response:
        """Check whether a connector works, and show the verdict on its page."""
        visitor, form = await self._shell.submitted(request)
        address = {name: form[name] for name in _ADDRESS if form.get(name)}
        async with self._engine() as engine:
            verdict = await _verdict(engine, address, visitor)
        return await self._connector_page(visitor, form, verdict)

    async def _connector_page(
        self, visitor: Visitor, fields: Mapping[str, str], verdict: JsonObject | None = None
    ) -> Response:
        address = {name: fields.get(name, "") for name in _ADDRESS}
        if not (address["platform"] and address["id"]):
            raise Problem(404, "Connector not found", "The address names no connector.", "Choose one in the list.")
        target = f"{address['platform']}/{address['profile'] or 'default'}/{address['id']}"
        history = await self._log.page(Wanted(target=target, probes=False, once=True), count=CALLS)
        return self._shell.page(
            "connector",
            visitor,
            here="connectors",
            address=address,
            target=target,
            row=self._seen.get(target),
            history=history,
            verdict=verdict and {**dict.fromkeys(("unproven", "next"), ""), **verdict},
            seen=[(name, show(value)) for name, value in members((verdict or {}).get("seen")).items()],
            at=self._clock(),
        )

    async def platforms(self, request: Request) -> Response:
        visitor = await self._shell.visitor(request)
        return self._shell.page("platforms", visitor, here="connectors", check=self._last_check)

    async def check_platforms(self, request: Request) -> Response:
        await self._shell.submitted(request)
        async with self._checking:
            last = self._last_check
            if last is None or self._clock() - last["at"] >= CHECK_SECONDS:
                platforms = None
                with anyio.move_on_after(CHECK_SECONDS):
                    platforms = await self._check()
                self._last_check = {"at": self._clock(), "platforms": platforms}
        return RedirectResponse(f"{self._shell.home}/platforms", HTTPStatus.SEE_OTHER)


async def _call(
    engine: Engine, operation: type[Operation], arguments: JsonObject, visitor: Visitor
) -> tuple[JsonObject, JsonObject | None]:
    """Return the content of a call that the operator makes, and the error that it ended with, if any."""
    caller = Caller(f"operator {visitor.operator}", PROBE, client=f"connector-mcp {__version__}")
    name, content = operation.tool_name(), dict[str, object]()
    with anyio.move_on_after(CHECK_SECONDS) as limit:
        try:
            content = (await engine.call(name, arguments, caller)).content
        except UnknownTool as failure:
            return {}, {"code": "", "message": failure.message, "fix": f"Serve {name}, for example with --tools."}
    if limit.cancelled_caught:
        message = f"The platform did not answer within {CHECK_SECONDS:.0f} seconds."
        return {}, {"code": "timed_out", "message": message, "fix": "Try again."}
    return content, members(content.get("error")) or None


async def _list(engine: Engine, account: Account, chosen: Mapping[str, str], visitor: Visitor) -> Listed:
    filters = {name: chosen[name] for name in ("status", "name") if chosen[name]}
    arguments = {"platform": account.platform.name, "profile": account.profile, **filters}
    content, error = await _call(engine, FindConnectors, arguments, visitor)
    if error:
        return Listed(account, failure=f"{error['message']} {error['fix']}")
    warnings = [str(each) for each in items(members(content["meta"]).get("warnings"))]
    failed = [each.removeprefix(NOT_LISTED) for each in warnings if each.startswith(NOT_LISTED)]
    notes = [each for each in warnings if not each.startswith(NOT_LISTED)]
    # A row has only the members that are known.
    rows = [{**dict.fromkeys(("name", "type", "error", "within"), ""), **row} for row in items(content["data"])]
    return Listed(account, rows, " ".join(failed), notes)


async def _verdict(engine: Engine | None, address: JsonObject, visitor: Visitor) -> JsonObject:
    """Return whether a connector works: yes, no, or unknown with the reason."""
    if engine is None:
        return {"works": "unknown", "reason": "No platform is configured, so nothing was read."}
    content, error = await _call(engine, CheckConnector, address, visitor)
    if error is None:
        return members(content["data"])
    # That it is not there is known; any other failure says nothing about it.
    return {
        "works": "no" if error["code"] == "not_found" else "unknown",
        "reason": error["message"],
        "next": error["fix"],
    }
