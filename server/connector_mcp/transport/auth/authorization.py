"""Authorize HTTP requests before their body is read, by static tokens or the access tokens of an issuer.

A token is accepted in the `Authorization` header only. URLs end up in logs and histories, so a request with a token in
its query is refused, whatever else it presents. Without a token, or with too few scopes, a client gets a challenge
(`WWW-Authenticate`) that leads it to the issuer through this server's metadata as a protected resource (RFC 9728).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl

from mcp.server.auth.routes import create_protected_resource_routes
from pydantic import AnyHttpUrl, ConfigDict, TypeAdapter
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from connector_mcp.engine.caller import Caller
from connector_mcp.engine.engine import Engine
from connector_mcp.errors import Misconfigured
from connector_mcp.text import clean
from connector_mcp.transport.auth.principal import (
    MISSING_SCOPE,
    SCOPES,
    MissingScope,
    Principal,
    TokenRefused,
    VerificationUnavailable,
)
from connector_mcp.transport.auth.static_tokens import TOKEN_PREFIX, StaticToken, TokenFile, digest_of, match_token
from connector_mcp.transport.http.addresses import PublicAddress, check_url
from connector_mcp.transport.http.host_guard import json_error, rpc_error, values_of

if TYPE_CHECKING:
    # The library for JWTs takes some hundredths of a second to import, and most servers have no issuer.
    from connector_mcp.transport.auth.jwt import JwtVerifier

WELL_KNOWN: Final = "/.well-known/oauth-protected-resource"
ENDPOINTS: Final = ("/mcp", "/sse")
"""The paths that are resources of their own, beside the server as a whole."""

# Pydantic's default would add a slash to a URL without a path; issuers and audiences are compared exactly.
_as_url = TypeAdapter(AnyHttpUrl, config=ConfigDict(url_preserve_empty_path=True)).validate_python

_QUERY_NAMES: Final = frozenset({"access_token", "api_key", "authorization", "bearer_token", "id_token", "token"})
_QUERY_VALUES: Final = (TOKEN_PREFIX, "eyJ", "Bearer ")
"""The beginnings of a static token, a JWT and the value of an Authorization header."""

logger = logging.getLogger(__name__)

REFUSALS_LOGGED: Final = 60
"""Refused tokens that are logged in a minute."""

_FILE_RETRY_AFTER: Final = 5
"""Seconds that a client is told to wait while the token file is invalid."""


@dataclass(frozen=True)
class ProtectedResource:
    """The server at its public address, and the issuer of its callers' tokens.

    Raises:
        Misconfigured: The issuer is not an https URL (http is allowed on loopback).
    """

    address: PublicAddress
    issuer: str

    def __post_init__(self) -> None:
        check_url(self.issuer, "CONNECTOR_MCP_OAUTH_ISSUER")

    @property
    def identifiers(self) -> tuple[str, ...]:
        """The audiences by which a token may name this server: as a whole, or one endpoint."""
        return (str(self.address), *(f"{self.address}{endpoint}" for endpoint in ENDPOINTS))

    def metadata_url(self, path: str) -> str:
        """Return the URL of the metadata document for a request path."""
        endpoint = "/sse" if path.startswith("/messages") else path
        return self.address.origin + WELL_KNOWN + self.address.prefix + (endpoint if endpoint in ENDPOINTS else "")

    def routes(self) -> list[BaseRoute]:
        """Return the routes of the metadata documents, which need no token."""
        return [
            route
            for identifier in self.identifiers
            for route in create_protected_resource_routes(
                _as_url(identifier), [_as_url(self.issuer)], list(SCOPES), "connector-mcp"
            )
        ]


class RefusalLog:
    """Logs why tokens are refused, at most `REFUSALS_LOGGED` a minute: anyone can send them."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._minute_ends = float("-inf")
        self._left = 0

    def log(self, reason: str) -> None:
        """Log that a token was refused, and why."""
        now = self._clock()
        if now >= self._minute_ends:
            self._minute_ends, self._left = now + 60, REFUSALS_LOGGED
        self._left -= 1
        if self._left >= 0:
            logger.warning("A token was refused: %s.", reason)
        if self._left == 0:
            logger.warning("Further refused tokens are not logged for up to a minute.")


@dataclass(frozen=True)
class Callers:
    """The sources of callers' tokens. Without any source, every request is accepted anonymously."""

    tokens: Sequence[StaticToken] = ()
    token_file: TokenFile | None = None
    oauth: JwtVerifier | None = None
    refusals: RefusalLog = field(default_factory=RefusalLog)

    @property
    def allow_anonymous(self) -> bool:
        """Whether requests need no token."""
        return not self.tokens and self.token_file is None and self.oauth is None

    @property
    def resource(self) -> ProtectedResource | None:
        """The OAuth metadata of this server, if its callers' tokens come from an issuer."""
        return None if self.oauth is None else self.oauth.resource

    async def identify(self, token: str) -> Principal | None:
        """Return the holder of the token, or None if no source accepts it. The reason is logged.

        Raises:
            VerificationUnavailable: A source that might accept it cannot be read at the moment.
        """
        known, unavailable = [*self.tokens], None
        if self.token_file is not None:
            try:
                known += self.token_file.tokens()
            except Misconfigured as error:
                unavailable = VerificationUnavailable(error.message, retry_after=_FILE_RETRY_AFTER)
        found = match_token(known, digest_of(token))
        if found is not None and not found.has_expired():
            return Principal(found.name, found.scopes, profiles=found.profiles)
        reason = "no token has this value" if found is None else f"the token {found.name} has expired"
        if found is None and self.oauth is not None:
            try:
                return await self.oauth.verify(token)
            except TokenRefused as refused:
                reason = str(refused)
        if unavailable is not None:
            raise unavailable
        self.refusals.log(reason)
        return None


class BearerAuthorization:
    """ASGI middleware that admits requests with a token of the `callers`, and any request below one of `open_paths`.

    401 without a valid token, 403 if it grants none of our scopes, 400 for a token in the query, 503 if the token
    cannot be checked. The SDK's bearer middleware is not used: it takes the first of several Authorization headers,
    requires all scopes instead of one, knows one metadata URL for all paths, and cannot answer 503.
    """

    def __init__(self, app: ASGIApp, callers: Callers, open_paths: Collection[str] = ()) -> None:
        self._app = app
        self._callers = callers
        self._open_paths = frozenset(open_paths)
        self._below_open_paths = tuple(f"{path}/" for path in open_paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        user: Principal | Response | None = None
        if scope["type"] != "lifespan" and not self._is_open(scope["path"]):
            user = await self._authorize(scope)
        if isinstance(user, Response):
            await user(scope, receive, send)
        else:
            await self._app(scope if user is None else {**scope, "user": user}, receive, send)

    def _is_open(self, path: str) -> bool:
        return path in self._open_paths or path.startswith(self._below_open_paths)

    async def _authorize(self, scope: Scope) -> Principal | Response | None:
        """Return the caller, None if callers are anonymous, or the response that refuses the request."""
        refusals = self._callers.refusals
        if _has_token_in_query(scope["query_string"]):
            refusals.log("it was in the URL")
            message = "Tokens are not accepted in the URL. This one may be in logs now: revoke it."
            return self._refuse(scope, 400, "invalid_request", message, "")
        if self._callers.allow_anonymous:
            return None
        headers = values_of(scope, b"authorization")
        token = _bearer_token(headers)
        try:
            principal = None if token is None else await self._callers.identify(token)
        except VerificationUnavailable as error:
            message = "The token cannot be checked at the moment."
            return json_error(503, "temporarily_unavailable", message, {"Retry-After": str(error.retry_after)})
        if principal is None:
            if headers and token is None:
                refusals.log("the Authorization header is not one bearer token")
            message = "A valid bearer token is required in the Authorization header."
            return self._refuse(scope, 401, "invalid_token" if headers else None, message)
        if principal.granted is not None and not principal.granted:
            refusals.log(f"it grants {clean(principal.name, 300)} no scope of this server")
            message = "The token grants no scope of this server."
            return self._refuse(scope, 403, "insufficient_scope", message)
        return principal

    def _refuse(self, scope: Scope, status: int, error: str | None, message: str, wanted: str = SCOPES[0]) -> Response:
        """Refuse a request. A client that has no scope yet is told the first one only: it can ask for more later."""
        headers = challenge(self._callers.resource, scope["path"], error, message, wanted)
        return json_error(status, error or "token_required", message, headers)


class ScopeCheck:
    """Answers 403 to calls of tools that need a scope that the caller's token lacks.

    The engine refuses such calls by itself. OAuth clients know by this status that they can ask the issuer for a token
    with more scopes. `resource` is the metadata that the challenge refers to. Calls of unknown tools, and of those that
    the policy blocks, are left to the engine.
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


def challenge(
    resource: ProtectedResource | None, path: str, error: str | None, message: str, wanted: str = ""
) -> dict[str, str]:
    """Return the header of a refusal that says why, which scopes to ask for, and where to find the issuer."""
    parameters = {
        "realm": "connector-mcp",
        "error": error,
        "error_description": message if error else None,
        "resource_metadata": resource.metadata_url(path) if resource else None,
        "scope": wanted,
    }
    given = ", ".join(f'{name}="{value}"' for name, value in parameters.items() if value)
    return {"WWW-Authenticate": f"Bearer {given}"}


def _bearer_token(headers: Sequence[str]) -> str | None:
    """Return the token of the only Authorization header. Of two, a proxy may check one and this server the other."""
    if len(headers) != 1:
        return None
    scheme, _, token = headers[0].partition(" ")
    token = token.strip(" ")
    return token if scheme.lower() == "bearer" and token and " " not in token and token.isascii() else None


def _has_token_in_query(query: bytes) -> bool:
    return any(
        name.lower() in _QUERY_NAMES or value.startswith(_QUERY_VALUES)
        for name, value in parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    )
