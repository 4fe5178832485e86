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
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitRequestURLParams,
    ElicitResult,
    InputRequiredResult,
    InputResponses,
)
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import ValidationError

from connector_mcp.engine.caller import (
    AnswerDue,
    Caller,
    CannotAsk,
    ElicitationReply,
    Question,
    Resumed,
    TransportName,
    Visit,
)
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


class McpCaller(Caller):
    """The caller of one MCP request.

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
        scope, user = _http_scope(ctx), _user(ctx)
        modern = ctx.session.protocol_version in MODERN_PROTOCOL_VERSIONS
        resumed = None
        if modern and params is not None and params.request_state is not None:
            resumed = Resumed(params.request_state, _reply_among(params.input_responses))
        super().__init__(
            principal_of(ctx),
            transport if scope is None else "http",
            user.granted if user else None,
            _client_of(ctx),
            user.profiles if user else None,
            resumed,
        )
        self._ctx = ctx
        self._ask_timeout = ask_timeout
        self._progress = 0
        self._modern = modern
        if (capabilities := ctx.session.client_capabilities) is not None and (declared := capabilities.elicitation):
            can_carry = modern or ctx.session.can_send_request
            # An empty declaration means forms: it dates from when forms were the only mode.
            self.can_ask = can_carry and (declared.form is not None or declared.url is None)
            self.can_send = can_carry and declared.url is not None

    @property
    def can_step_up(self) -> bool:
        """Whether the caller can get a token with more scopes, so that it is shown tools beyond those it has."""
        user = _user(self._ctx)
        return user is not None and user.can_step_up

    def note_missing_scope(self, name: str) -> None:
        """Tell the HTTP transport that the call was refused for lack of a scope that the policy would let through."""
        found = (_http_scope(self._ctx) or {}).get(MISSING_SCOPE)
        if isinstance(found, MissingScope):
            found.name = name

    @property
    def gone(self) -> bool:
        presence = (_http_scope(self._ctx) or {}).get(PRESENCE)
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


def _user(ctx: ServerRequestContext[Any, Any]) -> Principal | None:
    user = (_http_scope(ctx) or {}).get("user")
    return user if isinstance(user, Principal) else None


def _client_of(ctx: ServerRequestContext[Any, Any]) -> str | None:
    declared = ctx.session.client_params
    if declared is None:
        return None
    return clean(f"{declared.client_info.name} {declared.client_info.version}", LONGEST_CLIENT_NAME) or None


def _reply_among(responses: InputResponses | None) -> ElicitationReply:
    answer = (responses or {}).get(ANSWER_KEY)
    return _reply(answer) if isinstance(answer, ElicitResult) else ElicitationReply("cancel", {})


def _reply(answer: ElicitResult) -> ElicitationReply:
    content: Mapping[str, Any] = answer.content or {}
    return ElicitationReply(answer.action, content if answer.action == "accept" else {})
