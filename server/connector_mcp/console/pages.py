"""The operator's console, below `/console`. Only a form on a signed-in operator's own page takes a decision.

The pages do their own authorization; Host and Origin are checked by the server that they are mounted in.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, replace
from functools import wraps
from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route, Router

from connector_mcp.audit.calls import CallLog
from connector_mcp.console.access import (
    HOME,
    LoginThrottle,
    OperatorSessions,
    PageShell,
    Problem,
    SignInFirst,
    Visitor,
    as_query,
    given,
    own_path,
    read_form,
    require_private_connection,
    session_key,
    set_session_key,
)
from connector_mcp.console.connectors import ConnectorPages
from connector_mcp.console.events import QueueStreams
from connector_mcp.console.records import RecordPages
from connector_mcp.console.rendering import Renderer, SecurityHeaders, diff, grouped, in_groups, show
from connector_mcp.engine.approval.parked_call import Approval, is_confirmed, name_to_type
from connector_mcp.engine.approval.queue import Approvals, QueueFilter
from connector_mcp.engine.engine import Engine
from connector_mcp.errors import (
    ConfirmationInvalid,
    ConnectorError,
    InvalidArguments,
    Misconfigured,
    StoreUnavailable,
    StoreUncertain,
)
from connector_mcp.json_values import JsonObject
from connector_mcp.operations.catalog import PLATFORMS
from connector_mcp.operations.operation import Effect
from connector_mcp.operations.provisioning.tools import APPLY_PLAN
from connector_mcp.provisioning.journal import Journal
from connector_mcp.provisioning.plan import Plan
from connector_mcp.state.database import Database
from connector_mcp.text import strip_hidden

logger = logging.getLogger("connector_mcp.console")

QUEUE_ROWS = 15
"""Calls on one page of the queue."""

APPROVED_ROWS = 10
"""Approved calls that are shown below the queue."""

MAX_REASON = 500

_APPROVAL_ID = re.compile(r"ap-[a-z0-9]+")

_Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True)
class Operators:
    """Who may sign in."""

    find: Callable[[str], str | None]
    """Returns the name of the operator with this token; None if it is unknown or has expired."""
    holds: Callable[[bytes], bool]
    """Checks whether the token with this SHA-256 is still valid: a session ends with the token that began it."""
    credential: str = "Operator token"
    """The label of the field in which the token is entered."""
    hint: str = ""
    """Where to find it."""


@dataclass(frozen=True)
class Console:
    """Everything that the console shows and does. Without `operators` it is closed, and says which setting opens it."""

    approvals: Approvals
    database: Database
    """The database of records, in which sessions are kept, too."""
    operators: Operators | None
    engine: Callable[[], AbstractAsyncContextManager[Engine | None]]
    """Opens the engine that reads from platforms; None if no platform is configured."""
    check_platforms: Callable[[], Awaitable[Sequence[JsonObject]]]
    """Reads once from each platform: title, state, detail, fix, and the names of variables `set` and `missing`."""
    sandbox: bool = False
    prefix: str = ""
    """The path of the server's public address, with which links begin."""
    clock: Callable[[], float] = time.time


def console_pages(console: Console) -> list[BaseRoute]:
    """Return the routes of `/console` and everything below it."""
    if console.operators is None:
        router = Router([Route("/{rest:path}", _closed_page(Renderer(console.clock, prefix=console.prefix)))])
    else:
        router = Router(_ConsolePages(console, console.operators).routes(), redirect_slashes=False)
    app = SecurityHeaders(router)
    return [Route(HOME, app), Route(f"{HOME}/{{rest:path}}", app)]


def _closed_page(renderer: Renderer) -> _Handler:
    async def answer(request: Request) -> Response:
        asset = renderer.asset(request.url.path.removeprefix(f"{HOME}/static/"))
        return asset or renderer.page("closed", status=HTTPStatus.NOT_FOUND)

    return answer


class _ConsolePages:
    def __init__(self, console: Console, operators: Operators) -> None:
        self._console = console
        self._operators = operators
        self._sessions = OperatorSessions(console.database, operators.holds)
        self._throttle = LoginThrottle()
        self._renderer = Renderer(console.clock, prefix=console.prefix, sandbox=console.sandbox)
        self._shell = PageShell(self._renderer, self._sessions, console.approvals)

    def routes(self) -> list[BaseRoute]:
        def route(method: str, path: str, handler: _Handler) -> Route:
            return Route(HOME + path, self._with_problems(handler), methods=[method])

        console, shell = self._console, self._shell
        log = CallLog(console.database)
        records = RecordPages(shell, console.approvals, log)
        connectors = ConnectorPages(shell, log, console.engine, console.check_platforms, console.clock)
        streams = QueueStreams(console.approvals, console.database, self._sessions)
        return [
            route("GET", "", self._queue),
            route("POST", "/deny", self._deny_selected),
            route("GET", "/approvals/{id}", self._approval),
            route("POST", "/approvals/{id}/approve", self._approve),
            route("POST", "/approvals/{id}/deny", self._deny),
            route("GET", "/history", records.history),
            route("GET", "/calls", records.calls),
            route("GET", "/calls/export", records.export),
            route("GET", "/calls/{id}", records.call),
            route("GET", "/connectors", connectors.connectors),
            route("GET", "/connector", connectors.connector),
            route("POST", "/connector", connectors.check),
            route("GET", "/platforms", connectors.platforms),
            route("POST", "/platforms/check", connectors.check_platforms),
            route("GET", "/login", self._show_login),
            route("POST", "/login", self._log_in),
            route("POST", "/logout", self._log_out),
            route("GET", "/static/{name}", self._static),
            Route(f"{HOME}/events", streams, methods=["GET"]),
            Route(f"{HOME}/{{rest:path}}", self._with_problems(self._not_found)),
        ]

    # Signing in -----------------------------------------------------------------------------------------------------

    async def _show_login(self, request: Request) -> Response:
        return self._login_page(own_path(request.query_params.get("next")))

    async def _log_in(self, request: Request) -> Response:
        form = await read_form(request)
        require_private_connection(request)
        self._throttle.check(request)
        going_to, token = own_path(form.get("next")), form.get("token", "").strip()
        operator = self._operators.find(token) if token else None
        if operator is None:
            self._throttle.count_failure(request)
            logger.warning("a login to the console failed")
            return self._login_page(going_to, wrong=True)
        # The key of the new session is never one that the browser already had.
        await self._sessions.end(session_key(request))
        visitor = await self._sessions.begin(operator, token)
        response = RedirectResponse(self._console.prefix + going_to, HTTPStatus.SEE_OTHER)
        set_session_key(request, response, visitor.key)
        return response

    async def _log_out(self, request: Request) -> Response:
        visitor, _ = await self._shell.submitted(request)
        await self._sessions.end(visitor.key)
        response = RedirectResponse(f"{self._shell.home}/login", HTTPStatus.SEE_OTHER)
        set_session_key(request, response, "", max_age=0)
        return response

    def _login_page(self, going_to: str, *, wrong: bool = False) -> Response:
        status = HTTPStatus.FORBIDDEN if wrong else HTTPStatus.OK
        return self._renderer.page("login", status=status, wrong=wrong, next=going_to, operators=self._operators)

    # Pending calls --------------------------------------------------------------------------------------------------

    async def _queue(self, request: Request) -> Response:
        visitor = await self._shell.visitor(request)
        chosen = given(request, "q", "platform", "effect", "caller", "by")
        wanted = QueueFilter(chosen["q"], chosen["platform"], chosen["effect"], chosen["caller"])
        page = await self._console.approvals.waiting(
            "pending", wanted, **given(request, "before", "after"), count=QUEUE_ROWS
        )
        approved = await self._console.approvals.waiting("approved", count=APPROVED_ROWS)
        return self._shell.page(
            "queue",
            visitor,
            here="queue",
            page=page,
            groups=in_groups(page.approvals, chosen["by"]),
            approved=approved,
            chosen=chosen,
            query=as_query(chosen),
            platforms=PLATFORMS,
            effects=list(Effect),
        )

    async def _deny_selected(self, request: Request) -> Response:
        """Deny each call that is selected, and show what became of each."""
        visitor, form = await self._shell.submitted(request)
        denied: list[Approval] = []
        kept: list[tuple[str, Approval | None, str]] = []
        unavailable = ""
        for approval_id in filter(_APPROVAL_ID.fullmatch, form):
            approval, why = None, unavailable
            try:
                if not unavailable:
                    denied.append(await self._take(visitor, approval_id, False, form))
                    continue
            except StoreUncertain as error:
                why = error.message
            except StoreUnavailable as error:
                # The rest is not tried, as each would wait for the store again.
                why, unavailable = error.message, "It was not tried, because the store is unavailable."
            except ConnectorError as error:
                why = error.message
                with suppress(ConnectorError):
                    approval = await self._console.approvals.get(approval_id)
            kept.append((approval_id, approval, why))
        if not denied and not kept:
            raise Problem(400, "No call was selected", "Nothing was denied.", "Select calls in the queue first.")
        visitor = replace(visitor, waiting=max(0, visitor.waiting - len(denied)))
        status = HTTPStatus.CONFLICT if kept else HTTPStatus.OK
        return self._shell.page("denied", visitor, status=status, here="queue", denied=denied, kept=kept)

    async def _approval(self, request: Request) -> Response:
        visitor = await self._shell.visitor(request)
        return await self._approval_page(visitor, await self._console.approvals.get(request.path_params["id"]))

    async def _approve(self, request: Request) -> Response:
        visitor, form = await self._shell.submitted(request)
        approval = await self._console.approvals.get(request.path_params["id"])
        if approval.status == "pending" and not is_confirmed(approval, form.get("name", "")):
            status = HTTPStatus.UNPROCESSABLE_ENTITY
            return await self._approval_page(visitor, approval, status, mistyped=True, reason=form.get("reason", ""))
        return await self._decide(visitor, approval.id, True, form)

    async def _deny(self, request: Request) -> Response:
        visitor, form = await self._shell.submitted(request)
        return await self._decide(visitor, request.path_params["id"], False, form)

    async def _decide(self, visitor: Visitor, approval_id: str, approve: bool, form: dict[str, str]) -> Response:
        try:
            await self._take(visitor, approval_id, approve, form)
        except ConfirmationInvalid as error:
            decided = await self._console.approvals.get(approval_id)
            return await self._approval_page(visitor, decided, HTTPStatus.CONFLICT, too_late=error.message)
        return RedirectResponse(f"{self._shell.home}/approvals/{approval_id}", HTTPStatus.SEE_OTHER)

    async def _take(self, visitor: Visitor, approval_id: str, approve: bool, form: dict[str, str]) -> Approval:
        """Take an operator's decision, with the reason that the form has."""
        reason = strip_hidden(form.get("reason", "")).strip()[:MAX_REASON] or None
        by = f"operator {visitor.operator}"
        return await self._console.approvals.decide(approval_id, approve, by, reason, channel="console")

    async def _approval_page(
        self,
        visitor: Visitor,
        approval: Approval,
        status: HTTPStatus = HTTPStatus.OK,
        *,
        mistyped: bool = False,
        too_late: str = "",
        reason: str = "",
    ) -> Response:
        rows, plan = diff(approval), await self._plan_of(approval)
        return self._shell.page(
            "approval" if plan is None else "plan",
            visitor,
            status=status,
            here="queue",
            approval=approval,
            diff=rows,
            arguments=[(name, show(value)) for name, value in approval.arguments.items()],
            name_to_type=name_to_type(approval),
            mistyped=mistyped,
            too_late=too_late,
            reason=reason,
            groups=[] if plan is None else grouped(plan),
        )

    async def _plan_of(self, approval: Approval) -> Plan | None:
        """Return the plan that a parked call would apply, if it is the one that the decision is bound to."""
        plan_id = approval.arguments.get("plan_id")
        if approval.tool != APPLY_PLAN or not isinstance(plan_id, str):
            return None
        try:
            plan = (await Journal(self._console.database).load(plan_id)).plan
        except (InvalidArguments, StoreUnavailable):
            # The call itself shows all that is decided.
            return None
        return plan if plan.digest == approval.digest else None

    # Shared by all pages --------------------------------------------------------------------------------------------

    async def _static(self, request: Request) -> Response:
        return self._renderer.asset(request.path_params["name"]) or await self._not_found(request)

    async def _not_found(self, request: Request) -> Response:
        raise Problem(404, "Page not found", "The console has no such page.")

    def _with_problems(self, handler: _Handler) -> _Handler:
        """Wrap the handler so that a failure is shown as a page, or leads to the login."""

        @wraps(handler)
        async def answer(request: Request) -> Response:
            try:
                return await handler(request)
            except SignInFirst as redirect:
                return RedirectResponse(self._console.prefix + redirect.location, HTTPStatus.SEE_OTHER)
            except Problem as error:
                problem = error
            except ConnectorError as error:
                problem = _as_problem(error)
            # A signed-in operator keeps the header, if the store still says who that is.
            visitor = None
            with suppress(SignInFirst, ConnectorError):
                visitor = await self._shell.visitor(request)
            headers = problem.headers
            return self._shell.page(
                "problem", visitor, status=problem.status, headers=headers, here="", problem=problem
            )

        return answer


def _as_problem(error: ConnectorError) -> Problem:
    match error:
        case InvalidArguments():
            return Problem(404, "Call not found", "No parked call has this id.", "Look for it in the history.")
        case ConfirmationInvalid():
            return Problem(409, "No longer waiting", error.message, error.fix)
        case StoreUncertain():
            return Problem(503, "Not known", error.message, error.fix)
        case StoreUnavailable():
            return Problem(503, "The store is unavailable", error.message, error.fix, retry_after=5)
        case Misconfigured():
            # Anyone may see this page, so it does not repeat the message, which may name files of this machine.
            fix = "Look at the server's log, or run `connector-mcp config check` where it runs."
            return Problem(503, "The console is unavailable", "A setting of the server is wrong.", fix, retry_after=5)
        case _:
            return Problem(500, "Something went wrong", error.message, error.fix)
