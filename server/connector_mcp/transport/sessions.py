"""The sessions of clients before 2026-07-28, as far as calls that pass the SDK by need to know them.

The SDK opens, times out and ends the sessions. What is known of one here is what it was opened with; it is forgotten
when the SDK says that it is gone, and no call passes the SDK by for long, so that it sees the session in use.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final
from uuid import uuid4

from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser, AuthorizationContext, authorization_context
from mcp.server.connection import Connection
from mcp.server.lowlevel.server import Server
from mcp.server.runner import ServerRunner
from mcp.server.streamable_http import MCP_SESSION_ID_HEADER
from mcp.server.streamable_http_manager import DEFAULT_SESSION_IDLE_TIMEOUT
from mcp.shared.jsonrpc_dispatcher import cancelled_request_id_from_params
from mcp_types import InitializeRequestParams, JSONRPCError, JSONRPCResponse, RequestId, jsonrpc_message_adapter
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS, LATEST_HANDSHAKE_VERSION
from pydantic import ValidationError
from starlette.types import Scope

from connector_mcp.transport.exchange import Exchange, settle

PASS_BY: Final = 60.0
"""Seconds after which the SDK is shown a request of the session again."""


class Session:
    """An open session: who opened it, what may be asked in it, and the calls that are under way."""

    def __init__(
        self, identifier: str, server: Server[dict[str, Any]], opened: InitializeRequestParams, owner: Owner
    ) -> None:
        asked = opened.protocol_version
        version = asked if asked in HANDSHAKE_PROTOCOL_VERSIONS else LATEST_HANDSHAKE_VERSION
        info, capabilities = (
            each.model_dump(by_alias=True, mode="json", exclude_none=True)
            for each in (opened.client_info, opened.capabilities)
        )
        self.runner = ServerRunner(server, Connection.from_envelope(version, info, capabilities), {})
        self.headers = [(MCP_SESSION_ID_HEADER.encode(), identifier.encode())]
        self.owner = owner
        self.shown = time.monotonic()
        self._calls: dict[str, Exchange] = {}
        self._questions: dict[str, asyncio.Future[dict[str, Any]]] = {}

    def may_pass_by(self, scope: Scope) -> bool:
        """Whether this is who opened it, and the SDK knows of the session for sure."""
        return owner_of(scope) == self.owner and time.monotonic() - self.shown < PASS_BY

    async def call(self, exchange: Exchange, message: dict[str, Any]) -> None:
        """Make a call and answer it."""
        key = _key(exchange.request_id)
        self._calls[key] = exchange
        try:
            await exchange.run(lambda context: self.runner.on_request(context, message["method"], message["params"]))
        finally:
            if self._calls.get(key) is exchange:
                del self._calls[key]

    def hear(self, message: dict[str, Any]) -> bool:
        """What the client says beside its calls; whether it answered a question of ours, and nobody else's."""
        if message.get("method") == "notifications/cancelled":
            wanted = cancelled_request_id_from_params(message.get("params"))
            if wanted is not None and (call := self._calls.get(_key(wanted))) is not None:
                call.cancel()
            return False
        if "method" in message or (answer := self._questions.get(str(message.get("id")))) is None:
            return False
        try:
            said = jsonrpc_message_adapter.validate_python(message, by_name=False)
        except ValidationError:
            return False
        if not isinstance(said, JSONRPCResponse | JSONRPCError):
            return False
        settle(answer, said)
        return True

    def expect(self) -> tuple[str, asyncio.Future[dict[str, Any]]]:
        # The SDK numbers its own questions: a word is never one of those.
        identifier = f"ask-{uuid4().hex}"
        answer = self._questions[identifier] = asyncio.get_running_loop().create_future()
        return identifier, answer

    def expect_no_more(self, identifier: str) -> None:
        del self._questions[identifier]


class Sessions:
    """The sessions by id, the one shown to the SDK last at the end."""

    def __init__(self, server: Server[dict[str, Any]]) -> None:
        self._server = server
        self._open: dict[str, Session] = {}

    def get(self, identifier: str) -> Session | None:
        return self._open.get(identifier)

    def opened(self, identifier: str, params: Any, scope: Scope) -> None:
        """The SDK has opened a session for a handshake with these params."""
        try:
            known = InitializeRequestParams.model_validate(params, by_name=False)
        except ValidationError:
            return
        self._open[identifier] = Session(identifier, self._server, known, owner_of(scope))
        longest = time.monotonic() - DEFAULT_SESSION_IDLE_TIMEOUT
        while self._open[oldest := next(iter(self._open))].shown < longest:
            del self._open[oldest]

    def shown(self, identifier: str) -> None:
        """The SDK has seen the session in use."""
        if (session := self._open.pop(identifier, None)) is not None:
            session.shown = time.monotonic()
            self._open[identifier] = session

    def ended(self, identifier: str) -> None:
        """The SDK knows the session no more."""
        self._open.pop(identifier, None)


Owner = AuthorizationContext | None


def owner_of(scope: Scope) -> Owner:
    """Who makes a request, as the SDK tells its sessions' owners apart."""
    user = scope.get("user")
    return authorization_context(user) if isinstance(user, AuthenticatedUser) else None


def _key(identifier: RequestId) -> str:
    return str(identifier)
