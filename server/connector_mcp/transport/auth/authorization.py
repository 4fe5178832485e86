"""Who may speak to the server over HTTP, decided before a body is read: static tokens, and those of an issuer.

Only digests of tokens are kept. A token counts in the `Authorization` header and nowhere else: addresses end up in logs
and histories, so a request that has one there is refused whatever else it brings.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final, Protocol
from urllib.parse import parse_qsl

from mcp.server.auth.middleware.auth_context import AuthContextMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from connector_mcp.errors import Misconfigured
from connector_mcp.transport.auth.principal import Principal
from connector_mcp.transport.auth.resource_metadata import ProtectedResource
from connector_mcp.transport.auth.static_tokens import (
    SCOPES,
    SETTING,
    TOKEN_PREFIX,
    BearerToken,
    CannotTell,
    digest_of,
    find_holder,
)
from connector_mcp.transport.auth.token_file import TokenFile
from connector_mcp.transport.http.host_guard import values_of

__all__ = ["SETTING", "BearerAuthorization", "BearerToken", "Callers", "Verifier"]

_QUERY_NAMES: Final = frozenset({"access_token", "api_key", "authorization", "bearer_token", "id_token", "token"})
_QUERY_VALUES: Final = (TOKEN_PREFIX, "eyJ", "Bearer ")
"""How a token begins: one of ours, a JWT, and what a header would hold."""

_RETRY_AFTER: Final = 5
"""Seconds after which a file of tokens may be right again."""


class Verifier(Protocol):
    """What tells the holders of an issuer's tokens; see `transport.oauth.OAuth`."""

    resource: ProtectedResource

    async def principal(self, token: str) -> Principal | None:
        """The holder of a token that is good.

        Raises:
            CannotTell: It cannot be told now.
        """
        ...


@dataclass(frozen=True)
class Callers:
    """Whom the server knows. With no source of tokens everybody passes, as nobody in particular."""

    tokens: Sequence[BearerToken] = ()
    token_file: TokenFile | None = None
    oauth: Verifier | None = None

    @property
    def are_everybody(self) -> bool:
        """Whether no token is needed."""
        return not self.tokens and self.token_file is None and self.oauth is None

    @property
    def resource(self) -> ProtectedResource | None:
        """What clients are told of the issuer; None where there is none."""
        return None if self.oauth is None else self.oauth.resource

    async def identify(self, token: str) -> Principal | None:
        """The holder of the token; None where it is nobody's.

        Raises:
            CannotTell: It may be somebody's, and what would tell is not there.
        """
        held = find_holder(self.tokens, digest_of(token)) if self.tokens else None
        unknown: CannotTell | None = None
        if held is None and self.token_file is not None:
            try:
                held = self.token_file.find(token)
            except Misconfigured as fault:
                unknown = CannotTell(fault.message, retry_after=_RETRY_AFTER)
        if held is not None:
            return Principal(held.name, held.scopes)
        verified = None if self.oauth is None else await self.oauth.principal(token)
        if verified is None and unknown is not None:
            raise unknown
        return verified


class BearerAuthorization:
    """ASGI middleware: who passes has a token of one of the `callers`, or asks for one of the `open_paths`.

    401 without a good token, 403 for one that grants none of our scopes, 400 for one in the address, 503 where it
    cannot be told. What lies under an open path is open too.
    """

    def __init__(self, app: ASGIApp, callers: Callers, open_paths: Collection[str] = ()) -> None:
        self._app = AuthContextMiddleware(app)
        self._callers = callers
        self._open_paths = frozenset(open_paths)
        self._below_open_paths = tuple(f"{opened}/" for opened in open_paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or self._is_open(scope["path"]):
            await self._app(scope, receive, send)
        elif _has_token_in_query(scope["query_string"]):
            message = "A token in the address counts nowhere and may be in logs now: withdraw it."
            await self._refuse(400, "invalid_request", message, scope["path"])(scope, receive, send)
        elif self._callers.are_everybody:
            await self._app(scope, receive, send)
        else:
            held = await self._principal(scope)
            if isinstance(held, Response):
                await held(scope, receive, send)
            else:
                await self._app({**scope, "user": held}, receive, send)

    def _is_open(self, path: str) -> bool:
        return path in self._open_paths or path.startswith(self._below_open_paths)

    async def _principal(self, scope: Scope) -> Principal | Response:
        """Who asks, or what they are told instead."""
        presented, path = values_of(scope, b"authorization"), scope["path"]
        token = _presented_token(presented)
        try:
            principal = None if token is None else await self._callers.identify(token)
        except CannotTell as unknown:
            return _answer(
                503,
                "temporarily_unavailable",
                "Whether this token is good cannot be told now.",
                {"Retry-After": str(unknown.retry_after)},
            )
        if principal is None:
            message = "This server needs a good bearer token in the Authorization header."
            return self._refuse(401, "invalid_token" if presented else None, message, path)
        if principal.granted is not None and not principal.granted:
            return self._refuse(403, "insufficient_scope", "The token grants none of this server's scopes.", path)
        return principal

    def _refuse(self, status: int, error: str | None, message: str, path: str) -> Response:
        resource = self._callers.resource
        told = {
            "realm": "connector-mcp",
            "error": error,
            "error_description": message if error else None,
            "resource_metadata": resource.metadata_url(path) if resource else None,
            "scope": " ".join(SCOPES) if status != 400 else None,
        }
        challenge = ", ".join(f'{name}="{value}"' for name, value in told.items() if value)
        return _answer(status, error or "token_required", message, {"WWW-Authenticate": f"Bearer {challenge}"})


def _presented_token(presented: Sequence[str]) -> str | None:
    """The token of the one Authorization header; two headers may be read differently by whoever stands before us."""
    if len(presented) != 1:
        return None
    scheme, _, token = presented[0].partition(" ")
    token = token.strip(" ")
    return token if scheme.lower() == "bearer" and token and " " not in token and token.isascii() else None


def _has_token_in_query(query: bytes) -> bool:
    if not query:
        return False
    return any(
        name.lower() in _QUERY_NAMES or value.startswith(_QUERY_VALUES)
        for name, value in parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    )


def _answer(status: int, error: str, message: str, headers: dict[str, str]) -> Response:
    return Response(
        json.dumps({"error": error, "error_description": message}),
        status_code=status,
        media_type="application/json",
        headers={"Cache-Control": "no-store", **headers},
    )
