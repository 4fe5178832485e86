"""The sessions of clients before 2026-07-28, as far as calls that pass the SDK by need to know them.

The SDK opens, times out and ends the sessions. What is known of one here is what it was opened with; it is forgotten
when the SDK says that it is gone, and no call passes the SDK by for long, so that it sees the session in use.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, Final, cast

from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser, AuthorizationContext, authorization_context
from mcp.server.connection import Connection
from mcp.server.lowlevel.server import Server
from mcp.server.runner import ServerRunner
from mcp.server.streamable_http import MCP_SESSION_ID_HEADER
from mcp.server.streamable_http_manager import DEFAULT_SESSION_IDLE_TIMEOUT
from mcp.shared.dispatcher import coerce_request_id
from mcp.shared.jsonrpc_dispatcher import cancelled_request_id_from_params
from mcp_types import InitializeRequestParams, RequestId
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS, LATEST_HANDSHAKE_VERSION
from pydantic import ValidationError
from starlette.types import Scope

from connector_mcp.transport.back_channel import BackChannel
from connector_mcp.transport.exchange import Exchange

PASS_BY: Final = 60.0
"""Seconds after which the SDK is shown a request of the session again."""

Owner = AuthorizationContext | None


def owner_of(scope: Scope) -> Owner:
    """Who makes a request, as the SDK tells its sessions' owners apart."""
    user = scope.get("user")
    return authorization_context(user) if isinstance(user, AuthenticatedUser) else None


class Session:
    """What was agreed on with a client, and its calls under way."""

    def __init__(self, server: Server[dict[str, Any]], opened: InitializeRequestParams) -> None:
        asked = opened.protocol_version
        version = asked if asked in HANDSHAKE_PROTOCOL_VERSIONS else LATEST_HANDSHAKE_VERSION
        # Models are taken as they are.
        connection = Connection.from_envelope(version, opened.client_info, opened.capabilities)
        self.channel = BackChannel()
        self.runner = ServerRunner(server, connection, {})
        self._calls: set[Exchange] = set()
        self._by_id: dict[RequestId, Exchange] = {}

    def began(self, exchange: Exchange) -> None:
        """A call is under way, which `hear` and `end` may end."""
        self._calls.add(exchange)
        # Of two with one id the later one can be cancelled, as in the SDK.
        self._by_id[coerce_request_id(exchange.request_id)] = exchange

    def ended(self, exchange: Exchange) -> None:
        """A call is under way no more."""
        self._calls.discard(exchange)
        key = coerce_request_id(exchange.request_id)
        if self._by_id.get(key) is exchange:
            del self._by_id[key]

    def hear(self, message: dict[str, Any]) -> bool:
        """What the client says beside its calls; whether it answered a question of ours, and nobody else's."""
        if message.get("method") == "notifications/cancelled":
            params: Any = message.get("params")
            if isinstance(params, dict):
                wanted = cancelled_request_id_from_params(cast("dict[str, Any]", params))
                if wanted is not None and (call := self._by_id.get(coerce_request_id(wanted))) is not None:
                    call.cancel()
            return False
        return "method" not in message and self.channel.hear(message)

    def end(self) -> None:
        """The client is gone: end its calls."""
        for call in tuple(self._calls):
            call.scope.cancel()


@dataclass(slots=True)
class OpenSession:
    """A session of Streamable HTTP and who opened it. Each answer in it carries the `headers`."""

    session: Session
    owner: Owner
    headers: list[tuple[bytes, bytes]]
    shown: float = field(default_factory=time.monotonic)

    def may_pass_by(self, scope: Scope) -> bool:
        """Whether this is who opened it, and the SDK knows of the session for sure."""
        return time.monotonic() - self.shown < PASS_BY and owner_of(scope) == self.owner


class Sessions:
    """The sessions by id, the one shown to the SDK last at the end."""

    def __init__(self, server: Server[dict[str, Any]]) -> None:
        self._server = server
        self._open: dict[bytes, OpenSession] = {}

    def get(self, identifier: bytes) -> OpenSession | None:
        return self._open.get(identifier)

    def opened(self, identifier: bytes, params: Any, scope: Scope) -> None:
        """The SDK has opened a session for a handshake with these params."""
        known = handshake(params)
        if known is None:
            return
        headers = [(MCP_SESSION_ID_HEADER.encode(), identifier)]
        self._open[identifier] = OpenSession(Session(self._server, known), owner_of(scope), headers)
        longest = time.monotonic() - DEFAULT_SESSION_IDLE_TIMEOUT
        while self._open[oldest := next(iter(self._open))].shown < longest:
            del self._open[oldest]

    def shown(self, identifier: bytes) -> None:
        """The SDK has seen the session in use."""
        if (known := self._open.pop(identifier, None)) is not None:
            known.shown = time.monotonic()
            self._open[identifier] = known

    def ended(self, identifier: bytes) -> None:
        """The SDK knows the session no more."""
        self._open.pop(identifier, None)


def handshake(params: Any) -> InitializeRequestParams | None:
    """The params of an `initialize`; None where they are none."""
    try:
        return InitializeRequestParams.model_validate(params, by_name=False)
    except ValidationError:
        return None
