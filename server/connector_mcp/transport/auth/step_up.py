"""Calls without the scope that they need: 403 with a challenge that names it, so that the caller can get it.

The engine refuses such calls by itself. This module turns the refusal into the status by which OAuth clients know that
they can ask the issuer for a token with more scopes.
"""

from __future__ import annotations

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from connector_mcp.engine.caller import Caller
from connector_mcp.engine.engine import Engine
from connector_mcp.transport.auth.authorization import challenge
from connector_mcp.transport.auth.principal import MISSING_SCOPE, SCOPES, MissingScope, Principal
from connector_mcp.transport.auth.resource_metadata import ProtectedResource
from connector_mcp.transport.http.host_guard import rpc_error


class ScopeCheck:
    """Answers 403 to calls of tools that need a scope that the caller's token lacks.

    `resource` is the metadata that the challenge refers to. Calls of unknown tools, and of those that the policy
    blocks, are left to the engine.
    """

    def __init__(self, engine: Engine, resource: ProtectedResource | None) -> None:
        self._engine = engine
        self._resource = resource

    async def refusal(self, scope: Scope, tool: object, request_id: int | str | None = None) -> Response | None:
        """Return the response that refuses a call of this tool, or None if the engine may have it."""
        user = scope.get("user")
        if not isinstance(user, Principal) or user.granted is None or not isinstance(tool, str):
            return None
        missing = self._engine.missing_scope(tool, user.granted)
        if missing is None:
            return None
        # The engine refuses it for the same reason, and records that in the audit log.
        await self._engine.call(tool, {}, Caller(user.name, "http", user.granted, profiles=user.profiles))
        return self._refuse(scope, missing, f"{tool} needs", request_id)

    def watch(self, scope: Scope, receive: Receive, send: Send, request_id: int | str | None) -> tuple[Scope, Send]:
        """Return what to serve a call with, so that it is refused if the engine finds that a scope is missing.

        Some calls need another scope because of what they would do to their target, which only the engine finds out.
        The head of the answer waits for the first part of its body: by then that is known.
        """
        user = scope.get("user")
        if not isinstance(user, Principal) or user.granted is None or user.granted.issuperset(SCOPES):
            return scope, send
        found = MissingScope()
        head: Message | None = None
        is_refused = False

        async def send_or_refuse(message: Message) -> None:
            nonlocal head, is_refused
            if message["type"] == "http.response.start":
                head = message
                return
            if head is not None and found.name is not None:
                head, is_refused = None, True
                await self._refuse(scope, found.name, "What this call would do needs", request_id)(scope, receive, send)
            if is_refused:
                return
            if head is not None:
                await send(head)
                head = None
            await send(message)

        return {**scope, MISSING_SCOPE: found}, send_or_refuse

    def _refuse(self, scope: Scope, missing: str, what: str, request_id: int | str | None) -> Response:
        message = f"{what} the scope {missing}, which the token does not grant. Nothing was sent."
        # Some clients replace the scopes that they have by those that are named here.
        wanted = " ".join(each for each in SCOPES if each == missing or each in scope["user"].granted)
        headers = challenge(self._resource, scope["path"], "insufficient_scope", message, wanted)
        return rpc_error(403, message, request_id, headers)
