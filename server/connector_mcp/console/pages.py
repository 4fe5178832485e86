"""The console's pages. A decision is taken by a form of a signed-in operator's own page, and in no other way.

Mounted under `/console`, and in charge of their own authorization; Host and Origin are checked by who serves them.
"""

from __future__ import annotations

import hmac
import logging
import re
from collections.abc import Awaitable, Callable
from fnmatch import fnmatchcase
from functools import wraps
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route, Router
from starlette.types import Receive, Scope, Send

from connector_mcp.console import formatting as words
from connector_mcp.console.console import Console, Operators
from connector_mcp.console.events import Streams, Watch
from connector_mcp.console.health import Health
from connector_mcp.console.login_throttle import Attempts
from connector_mcp.console.problem import Problem
from connector_mcp.console.rendering import Renderer, Secured
from connector_mcp.console.requests import (
    forget_session_key,
    insist_on_privacy,
    keep_session_key,
    network_of,
    read_form,
    session_key,
)
from connector_mcp.console.sessions import Sessions, Visitor
from connector_mcp.engine.approval.queue import Approval, is_confirmed, name_to_type
from connector_mcp.errors import ConfirmationInvalid, ConnectorError, InvalidArguments, StoreUnavailable
from connector_mcp.text import strip_hidden

logger = logging.getLogger("connector_mcp.console")

HOME = "/console"

FIELDS_AT_FIRST = 16
"""Fields of a deleted target that are shown before more are asked for. What a call changes is shown in full."""

HISTORY_LENGTH = 200
CALLS_READ = 2_000
CALLS_SHOWN = 200
REASON_LENGTH = 500

_OWN_PATH = re.compile(r"/console(/[a-z0-9-]+)*")

_Handler = Callable[[Request], Awaitable[Response]]


def console_pages(console: Console) -> list[BaseRoute]:
    """The routes of the console, `/console` and what is under it."""
    if console.operators is None:
        router = Router([Route("/{rest:path}", _Closed(Renderer(console.clock)).answer)])
    else:
        router = Router(_Pages(console, console.operators).routes(), redirect_slashes=False)
    app = Secured(router)
    return [Route(HOME, app), Route(f"{HOME}/{{rest:path}}", app)]


class _Closed:
    """The console of a server that has no operators."""

    def __init__(self, renderer: Renderer) -> None:
        self._renderer = renderer

    async def answer(self, request: Request) -> Response:
        name = request.url.path.removeprefix(f"{HOME}/static/")
        return self._renderer.asset(name) or self._renderer.page("closed", status=HTTPStatus.NOT_FOUND)


class _Pages:
    def __init__(self, console: Console, operators: Operators) -> None:
        self._console = console
        self._operators = operators
        self._sessions = Sessions(console.store, operators.holds, clock=console.clock)
        self._attempts = Attempts()
        self._renderer = Renderer(console.clock)
        self._health = Health(console.check_platforms, console.clock)
        self._streams = Streams(Watch(console.approvals))

    def routes(self) -> list[BaseRoute]:
        def get(path: str, handler: _Handler) -> Route:
            return Route(HOME + path, self._answered(handler), methods=["GET"])

        def post(path: str, handler: _Handler) -> Route:
            return Route(HOME + path, self._answered(handler), methods=["POST"])

        return [
            get("", self._queue),
            get("/approvals/{id}", self._approval),
            post("/approvals/{id}/approve", self._approve),
            post("/approvals/{id}/deny", self._deny),
            get("/history", self._history),
            get("/calls", self._calls),
            get("/platforms", self._platforms),
            post("/platforms/check", self._check_platforms),
            get("/login", self._show_login),
            post("/login", self._log_in),
            post("/logout", self._log_out),
            get("/static/{name}", self._static),
            Route(f"{HOME}/events", _Events(self._sessions, self._streams), methods=["GET"]),
            Route(f"{HOME}/{{rest:path}}", self._answered(self._nowhere)),
        ]

    # Who it is ------------------------------------------------------------------------------------------------------

    async def _show_login(self, request: Request) -> Response:
        return self._login_page(_own_path(request.query_params.get("next")))

    async def _log_in(self, request: Request) -> Response:
        form = await read_form(request)
        insist_on_privacy(request)
        network, going_to = network_of(request), _own_path(form.get("next"))
        self._attempts.check(network)
        token = form.get("token", "").strip()
        operator = self._operators.find(token) if token else None
        if operator is None:
            self._attempts.failed(network)
            logger.warning("a login to the console failed")
            return self._login_page(going_to, wrong=True)
        # What the browser showed before never becomes the key of the new session.
        await self._sessions.end(session_key(request))
        visitor = await self._sessions.begin(operator, token)
        response = RedirectResponse(going_to, HTTPStatus.SEE_OTHER)
        keep_session_key(request, response, visitor.key)
        return response

    async def _log_out(self, request: Request) -> Response:
        visitor, _ = await self._submitted(request)
        await self._sessions.end(visitor.key)
        response = RedirectResponse(f"{HOME}/login", HTTPStatus.SEE_OTHER)
        forget_session_key(request, response)
        return response

    def _login_page(self, going_to: str, *, wrong: bool = False) -> Response:
        status = HTTPStatus.FORBIDDEN if wrong else HTTPStatus.OK
        return self._renderer.page("login", status=status, wrong=wrong, next=going_to, operators=self._operators)

    async def _visitor(self, request: Request) -> Visitor:
        visitor = await self._sessions.find(session_key(request))
        if visitor is None:
            raise _SignInFirst(request)
        return visitor

    async def _submitted(self, request: Request) -> tuple[Visitor, dict[str, str]]:
        """The operator whose own page sent this form, and the form."""
        form = await read_form(request)
        visitor = await self._visitor(request)
        if not hmac.compare_digest(form.get("form_token", "").encode(), visitor.form_token.encode()):
            raise Problem(
                403,
                "This form is not of your session",
                "The form was made for another session, so nothing was done.",
                "Open the page again and repeat what you did.",
            )
        return visitor, form

    # What waits -----------------------------------------------------------------------------------------------------

    async def _queue(self, request: Request) -> Response:
        visitor = await self._visitor(request)
        waiting = await self._console.approvals.list("pending")
        approved = await self._console.approvals.list("approved")
        return self._page("queue", visitor, here="queue", waiting=waiting, approved=approved)

    async def _approval(self, request: Request) -> Response:
        visitor = await self._visitor(request)
        return self._approval_page(visitor, await self._console.approvals.get(request.path_params["id"]))

    async def _approve(self, request: Request) -> Response:
        visitor, form = await self._submitted(request)
        approval = await self._pending(request)
        if not is_confirmed(approval, form.get("name", "")):
            return self._approval_page(visitor, approval, mistyped=True, reason=form.get("reason", ""))
        return await self._decide(visitor, approval, True, form)

    async def _deny(self, request: Request) -> Response:
        visitor, form = await self._submitted(request)
        return await self._decide(visitor, await self._pending(request), False, form)

    async def _pending(self, request: Request) -> Approval:
        approval = await self._console.approvals.get(request.path_params["id"])
        if approval.status != "pending":
            by = f" by {approval.decided_by}" if approval.decided_by else ""
            raise Problem(
                409,
                "Already decided",
                f"{approval.id} is {approval.status}{by}. Your decision was not taken.",
                "If the call is still wanted, have the agent make it again: it is then parked anew.",
            )
        return approval

    async def _decide(self, visitor: Visitor, approval: Approval, approve: bool, form: dict[str, str]) -> Response:
        reason = strip_hidden(form.get("reason", "")).strip()[:REASON_LENGTH] or None
        by = f"operator {visitor.operator}"
        await self._console.approvals.decide(approval.id, approve, by, reason, channel="console")
        return RedirectResponse(f"{HOME}/approvals/{approval.id}", HTTPStatus.SEE_OTHER)

    def _approval_page(
        self, visitor: Visitor, approval: Approval, *, mistyped: bool = False, reason: str = ""
    ) -> Response:
        diff = words.diff(approval)
        return self._page(
            "approval",
            visitor,
            status=HTTPStatus.UNPROCESSABLE_ENTITY if mistyped else HTTPStatus.OK,
            here="queue",
            approval=approval,
            diff=diff,
            at_first=FIELDS_AT_FIRST if approval.deletes else len(diff),
            arguments=words.arguments(approval),
            name_to_type=name_to_type(approval),
            mistyped=mistyped,
            reason=reason,
        )

    # What was -------------------------------------------------------------------------------------------------------

    async def _history(self, request: Request) -> Response:
        visitor = await self._visitor(request)
        decided = await self._console.approvals.history()
        shown = decided[::-1][:HISTORY_LENGTH]
        return self._page("history", visitor, here="history", decided=shown, more=len(decided) - len(shown))

    async def _calls(self, request: Request) -> Response:
        visitor = await self._visitor(request)
        tool, outcome = (request.query_params.get(name, "").strip() for name in ("tool", "outcome"))
        calls = words.newest_first(await self._console.recent_calls(CALLS_READ))
        pattern = tool if any(character in tool for character in "*?[") else f"*{tool}*"
        found = [
            call for call in calls if fnmatchcase(str(call["tool"]), pattern) and outcome in ("", str(call["outcome"]))
        ]
        return self._page(
            "calls",
            visitor,
            here="calls",
            calls=found[:CALLS_SHOWN],
            more=max(0, len(found) - CALLS_SHOWN),
            tool=tool,
            outcome=outcome,
            outcomes=words.outcomes(calls),
        )

    async def _platforms(self, request: Request) -> Response:
        visitor = await self._visitor(request)
        return self._page("platforms", visitor, here="platforms", checkup=self._health.last)

    async def _check_platforms(self, request: Request) -> Response:
        await self._submitted(request)
        await self._health.check()
        return RedirectResponse(f"{HOME}/platforms", HTTPStatus.SEE_OTHER)

    # The rest -------------------------------------------------------------------------------------------------------

    async def _static(self, request: Request) -> Response:
        return self._renderer.asset(request.path_params["name"]) or await self._nowhere(request)

    async def _nowhere(self, request: Request) -> Response:
        raise Problem(404, "Nothing here", "The console has no such page.")

    def _page(self, name: str, visitor: Visitor, *, status: int = HTTPStatus.OK, **values: Any) -> Response:
        shared = {"visitor": visitor, "sandbox": self._console.sandbox}
        return self._renderer.page(name, status=status, **shared, **values)

    def _answered(self, handler: _Handler) -> _Handler:
        """The handler, with every failure that we know as a page."""

        @wraps(handler)
        async def answer(request: Request) -> Response:
            try:
                return await handler(request)
            except _SignInFirst as first:
                return RedirectResponse(first.where, HTTPStatus.SEE_OTHER)
            except Problem as problem:
                found = problem
            except HTTPException:
                raise
            except ConnectorError as error:
                found = _as_problem(error)
            headers = {"Retry-After": str(found.retry_after)} if found.retry_after else None
            return self._renderer.page("problem", status=found.status, headers=headers, problem=found)

        return answer


class _SignInFirst(Exception):
    """Nobody is signed in, or no longer; `where` is the login, from where the page is come back to."""

    def __init__(self, request: Request) -> None:
        super().__init__("nobody is signed in")
        back = _own_path(request.url.path) if request.method == "GET" else HOME
        self.where = f"{HOME}/login" if back == HOME else f"{HOME}/login?next={quote(back)}"


class _Events:
    """The stream of events, for those who are signed in."""

    def __init__(self, sessions: Sessions, streams: Streams) -> None:
        self._sessions = sessions
        self._streams = streams

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        key = session_key(request)

        async def is_signed_in() -> bool:
            return await self._sessions.find(key, in_use=False) is not None

        try:
            allowed = await is_signed_in()
        except StoreUnavailable:
            allowed = False
        if not allowed or request.method == "HEAD":
            await Response(status_code=HTTPStatus.OK if allowed else HTTPStatus.FORBIDDEN)(scope, receive, send)
            return
        await self._streams.serve(scope, receive, send, may_go_on=is_signed_in)


def _own_path(path: str | None) -> str:
    """A path of the console to go to after the login; anything else leads home."""
    return path if path and _OWN_PATH.fullmatch(path) and not path.startswith(f"{HOME}/log") else HOME


def _as_problem(error: ConnectorError) -> Problem:
    match error:
        case InvalidArguments():
            return Problem(
                404, "No such call", "No parked call has this id.", "Look it up in the queue or the history."
            )
        case ConfirmationInvalid():
            return Problem(409, "No longer waiting", error.message, error.fix)
        case StoreUnavailable():
            return Problem(503, "The store is away", error.message, error.fix, retry_after=5)
        case _:
            return Problem(500, "That did not work", error.message, error.fix)
