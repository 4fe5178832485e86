"""The caller of one MCP request, and how to ask the person behind it (elicitation) in each era of the protocol.

In the 2026-07-28 protocol the question is the result of the call. The client repeats the call with the answer and with
the request state, which is sealed. In earlier protocols the server asks over the back-channel while the call waits.
Only clients that declare elicitation are asked, in the request (2026-07-28) or in the session (earlier): the SDK ends
the call of any other client.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import Any

import anyio
from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp_types import (
    CallToolRequestParams,
    ElicitationCapability,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitRequestURLParams,
    ElicitResult,
    InputRequiredResult,
    InputResponses,
)
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import ValidationError

from connector_mcp.engine.caller import AnswerDue, CannotAsk, ElicitationReply, Question, Resumed, TransportName, Visit
from connector_mcp.text import clean
from connector_mcp.transport.auth.principal import MISSING_SCOPE, MissingScope, Principal

ANSWER_KEY = "confirm"
"""The name of the question among the requests and responses of a multi-round-trip call."""

LOCAL = "local"
"""The principal on stdio."""
ANYBODY = "anonymous"
"""The principal over HTTP if no token is required."""

LONGEST_CLIENT_NAME = 80

PRESENCE = "connector_mcp.presence"
"""The key of an ASGI scope under which the request's `Presence` is."""


class Presence:
    """Whether a client has disconnected. Before 2026-07-28 that does not cancel its call."""

    gone = False


def principal_of(ctx: ServerRequestContext[Any, Any]) -> str:
    """The principal of a request: the token's name, `anonymous` over HTTP without a token, `local` on stdio."""
    scope = _http_scope(ctx)
    if scope is None:
        return LOCAL
    user = scope.get("user")
    return user.name if isinstance(user, Principal) else ANYBODY


class McpCaller:
    """The caller of one MCP request; implements `engine.caller.Caller`.

    `ask_timeout` is how many seconds a question over the back-channel may stay unanswered; after that it counts as
    cancelled. The protocol sets no limit.
    """

    def __init__(
        self,
        ctx: ServerRequestContext[Any, Any],
        params: CallToolRequestParams | None = None,
        *,
        transport: TransportName,
        ask_timeout: float,
    ) -> None:
        self._ctx = ctx
        self._scope: Mapping[str, Any] = _http_scope(ctx) or {}
        self._transport: TransportName = "http" if self._scope else transport
        user = self._scope.get("user")
        self._user = user if isinstance(user, Principal) else None
        self._ask_timeout = ask_timeout
        self._progress = 0
        self._modern = ctx.session.protocol_version in MODERN_PROTOCOL_VERSIONS
        self._resumed: Resumed | None = None
        if self._modern and params is not None and params.request_state is not None:
            self._resumed = Resumed(params.request_state, _reply_among(params.input_responses))

    @property
    def principal(self) -> str:
        return principal_of(self._ctx)

    @property
    def client(self) -> str | None:
        declared = self._ctx.session.client_params
        if declared is None:
            return None
        return clean(f"{declared.client_info.name} {declared.client_info.version}", LONGEST_CLIENT_NAME) or None

    @property
    def transport(self) -> TransportName:
        return self._transport

    @property
    def scopes(self) -> frozenset[str] | None:
        return self._user.granted if self._user else None

    @property
    def profiles(self) -> frozenset[str] | None:
        return self._user.profiles if self._user else None

    @property
    def can_step_up(self) -> bool:
        """Whether the caller can get a token with more scopes, so that it is shown tools beyond those it has."""
        return self._user is not None and self._user.can_step_up

    def note_missing_scope(self, name: str) -> None:
        """Tell the HTTP transport that the call was refused for lack of a scope that the policy would let through."""
        found = self._scope.get(MISSING_SCOPE)
        if isinstance(found, MissingScope):
            found.name = name

    @property
    def can_ask(self) -> bool:
        # An empty declaration means forms: it dates from when forms were the only mode.
        declared = self._elicitation
        return declared is not None and (declared.form is not None or declared.url is None)

    @property
    def can_send(self) -> bool:
        return self._elicitation is not None and self._elicitation.url is not None

    @property
    def _elicitation(self) -> ElicitationCapability | None:
        """The kinds of questions that the client takes, or None if it takes none or cannot be reached."""
        session = self._ctx.session
        if session.client_capabilities is None or not (self._modern or session.can_send_request):
            return None
        return session.client_capabilities.elicitation

    @property
    def resumed(self) -> Resumed | None:
        return self._resumed

    @property
    def gone(self) -> bool:
        presence = self._scope.get(PRESENCE)
        return isinstance(presence, Presence) and presence.gone

    async def ask(self, question: Question, ticket: str) -> ElicitationReply:
        if not self.can_ask:
            raise CannotAsk
        if self._modern:
            raise AnswerDue(question, ticket)
        session, request = self._ctx.session, self._ctx.request_id
        return await self._wait_for(session.elicit_form(question.message, question.schema, related_request_id=request))

    async def send_to(self, visit: Visit, ticket: str) -> ElicitationReply:
        if not self.can_send:
            raise CannotAsk
        if self._modern:
            raise AnswerDue(visit, ticket)
        session, request = self._ctx.session, self._ctx.request_id
        return await self._wait_for(session.elicit_url(visit.message, visit.url, visit.id, related_request_id=request))

    async def visited(self, visit: Visit) -> None:
        if not self._modern:
            await self._ctx.session.send_elicit_complete(visit.id, related_request_id=self._ctx.request_id)

    async def _wait_for(self, asking: Awaitable[ElicitResult]) -> ElicitationReply:
        try:
            with anyio.fail_after(self._ask_timeout):
                answer = await asking
        except TimeoutError:
            return ElicitationReply("cancel", {})
        except (MCPError, ValidationError) as error:
            # Some clients declare elicitation and then answer with an error or with a malformed result.
            raise CannotAsk from error
        return _reply(answer)

    async def progress(self, message: str) -> None:
        self._progress += 1
        await self._ctx.session.report_progress(self._progress, message=message)


def elicitation_result(due: AnswerDue) -> InputRequiredResult:
    """The result that asks a 2026-07-28 client. The SDK's `RequestStateBoundary` seals the ticket in it."""
    match due.question:
        case Question(message, schema):
            params = ElicitRequestFormParams(message=message, requested_schema=schema)
        case Visit(_, message, url):
            params = ElicitRequestURLParams(message=message, url=url)
    return InputRequiredResult(input_requests={ANSWER_KEY: ElicitRequest(params=params)}, request_state=due.ticket)


def _http_scope(ctx: ServerRequestContext[Any, Any]) -> Mapping[str, Any] | None:
    """The ASGI scope of the HTTP request that carried the message; None on stdio."""
    return getattr(ctx.request, "scope", None)


def _reply_among(responses: InputResponses | None) -> ElicitationReply:
    answer = (responses or {}).get(ANSWER_KEY)
    return _reply(answer) if isinstance(answer, ElicitResult) else ElicitationReply("cancel", {})


def _reply(answer: ElicitResult) -> ElicitationReply:
    content: Mapping[str, Any] = answer.content or {}
    return ElicitationReply(answer.action, content if answer.action == "accept" else {})
