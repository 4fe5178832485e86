"""Static bearer tokens: who may speak to the server over HTTP, decided before a body is read.

Only digests of the tokens are kept. A token counts in the `Authorization` header and nowhere else: addresses end up
in logs and histories.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from mcp.server.auth.middleware.auth_context import AuthContextMiddleware
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from connector_mcp.errors import Misconfigured

SETTING = "CONNECTOR_MCP_HTTP_TOKEN"


@dataclass(frozen=True)
class BearerToken:
    """A token by its digest, the name that its holder has here, and the scopes it grants (None: there are none)."""

    name: str
    digest: bytes = field(repr=False)
    scopes: frozenset[str] | None = None

    @staticmethod
    def of(secret: str, *, name: str = "token", scopes: Collection[str] | None = None) -> BearerToken:
        """The token with this secret value.

        Raises:
            Misconfigured: No header can carry the value, so nobody could ever present it.
        """
        if not secret or not secret.isascii() or not secret.isprintable() or " " in secret:
            raise Misconfigured(
                f"The bearer token {name!r} is empty or has characters that no Authorization header can carry.",
                fix=f"Set {SETTING} to a long random value, such as the output of `openssl rand -hex 32`.",
            )
        return BearerToken(name, _digest(secret), None if scopes is None else frozenset(scopes))


class Principal(AuthenticatedUser):
    """The holder of a token, in the form by which the SDK ties a session to who opened it."""

    def __init__(self, token: BearerToken) -> None:
        super().__init__(AccessToken(token="", client_id=token.name, scopes=sorted(token.scopes or ())))
        self.name = token.name
        self.granted = token.scopes


class BearerAuthorization:
    """ASGI middleware: 401 with `WWW-Authenticate` to whoever does not present one of the tokens.

    With no tokens everybody passes, as nobody in particular. The `open_paths`, and what lies under them, need no token.
    """

    def __init__(self, app: ASGIApp, tokens: Sequence[BearerToken], open_paths: Collection[str] = ()) -> None:
        self._app = AuthContextMiddleware(app)
        self._tokens = tuple(tokens)
        self._open_paths = frozenset(open_paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or not self._tokens or self._is_open(scope["path"]):
            await self._app(scope, receive, send)
            return
        presented = Headers(scope=scope).getlist("authorization")
        token = self._holder(presented)
        if token is None:
            await _unauthorized(had_token=bool(presented))(scope, receive, send)
            return
        await self._app({**scope, "user": Principal(token)}, receive, send)

    def _is_open(self, path: str) -> bool:
        return path in self._open_paths or any(path.startswith(f"{opened}/") for opened in self._open_paths)

    def _holder(self, presented: Sequence[str]) -> BearerToken | None:
        if len(presented) != 1:
            return None
        scheme, _, secret = presented[0].partition(" ")
        if scheme.lower() != "bearer":
            return None
        given, found = _digest(secret.strip(" ")), None
        # Every token is compared, so that the time taken tells nothing of which one came close.
        for token in self._tokens:
            if hmac.compare_digest(token.digest, given):
                found = token
        return found


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()


def _unauthorized(*, had_token: bool) -> Response:
    challenge = 'Bearer realm="connector-mcp"' + (', error="invalid_token"' if had_token else "")
    message = "This server needs a bearer token in the Authorization header."
    return Response(
        json.dumps({"error": "invalid_token" if had_token else "token_required", "error_description": message}),
        status_code=401,
        media_type="application/json",
        headers={"WWW-Authenticate": challenge},
    )
