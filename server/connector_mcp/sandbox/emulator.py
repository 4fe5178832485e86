"""What the four emulators share: routing, request and response helpers, page cursors and access tokens."""

from __future__ import annotations

import base64
import json
import secrets
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, unquote

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Scope

from connector_mcp.sandbox.world import World


class PlatformError(Exception):
    """Ends a handler with an error response in the platform's own format."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status_code)
        self.response = response


class Emulator(ABC):
    """One emulated platform.

    Paths are matched in their percent-encoded form: an encoded slash is part of an id, as on the real platforms.
    Endpoints are coroutines because they read the body with Starlette; the body is complete before they start, so they
    never wait and each runs in one transaction.
    """

    def __init__(self, world: World, routes: Sequence[Route]) -> None:
        self._world = world
        self._routes = routes

    async def respond(self, request: Request) -> Response:
        """Carry out the request. Every failure is a response in the platform's own format."""
        await request.body()
        try:
            outside = await self.respond_outside_api(request)
            if outside is not None:
                return outside
            endpoint = self._find_endpoint(request.scope)
            self.authorize(request)
            if endpoint is None:
                return self.error_response(404)
            with self._world.transaction():
                return await endpoint(request)
        except PlatformError as error:
            return error.response

    def serves(self, method: str, path: str) -> bool:
        """Whether an operation of the API has this method and percent-encoded path."""
        return self._find_endpoint({"type": "http", "method": method, "path": path, "headers": []}) is not None

    async def respond_outside_api(self, request: Request) -> Response | None:
        """Answer what needs no access token, such as the token endpoint. None leads on to the API."""
        return None

    @abstractmethod
    def authorize(self, request: Request) -> None:
        """Raise PlatformError unless the request carries valid credentials, for the tenant that its path names."""

    @abstractmethod
    def error_response(self, status: int) -> Response:
        """The platform's general error response for a status: 404 where no operation matches, or an injected one."""

    def _find_endpoint(self, scope: Scope) -> Callable[[Request], Awaitable[Response]] | None:
        scope["path_params"] = {}
        for route in self._routes:
            match, found = route.matches(scope)
            if match is Match.FULL:
                scope["path_params"] = {name: unquote(value) for name, value in found["path_params"].items()}
                return route.endpoint
        return None


def json_response(document: Any, status: int = 200) -> Response:
    """Compact JSON in UTF-8. Lone surrogates, which UTF-8 cannot carry, become question marks."""
    body = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
    return Response(body, status, {"content-type": "application/json; charset=utf-8"})


async def json_body(request: Request, malformed: PlatformError) -> Any:
    """The decoded JSON body, or None when there is no body. Raises `malformed` when it is not JSON."""
    body = await request.body()
    try:
        return json.loads(body) if body.strip() else None
    except ValueError as error:
        raise malformed from error


async def form_fields(request: Request) -> dict[str, str]:
    """The fields of an urlencoded body; empty when the body has another content type."""
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != "application/x-www-form-urlencoded":
        return {}
    return dict(parse_qsl((await request.body()).decode("utf-8", "replace"), keep_blank_values=True))


def query_value(request: Request, name: str) -> str | None:
    """The first non-empty value of a query parameter."""
    return next((value for value in request.query_params.getlist(name) if value), None)


def encode_cursor(prefix: str, position: int) -> str:
    """The opaque page token for a position in a list."""
    return base64.urlsafe_b64encode(f"{prefix}:{position}".encode()).decode()


def decode_cursor(prefix: str, cursor: str | None, invalid: PlatformError) -> int:
    """The position in a page token, or 0 without one. Raises `invalid` when `encode_cursor` did not make it."""
    try:
        return max(0, int(base64.urlsafe_b64decode(cursor or "").decode().removeprefix(f"{prefix}:"))) if cursor else 0
    except ValueError as error:
        raise invalid from error


def page_size(text: str | None, default: int, most: int, invalid: PlatformError) -> int:
    """The size of a page from 1 to `most`. Raises `invalid` for any other text."""
    if text is None:
        return default
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= most:
        raise invalid
    return int(text)


@dataclass(frozen=True)
class Grant:
    """What an access token allows, and until when."""

    scope: str
    audience: str
    expires_at: datetime


class TokenIssuer:
    """Issues opaque access tokens and recognizes them until they expire. Only this process knows them."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._grants: dict[str, Grant] = {}

    def issue(self, *, seconds: int, scope: str = "", audience: str = "") -> str:
        """Create a token. It begins with `sandbox-secret-`, so that a leak is easy to find."""
        now = self._world.now()
        self._grants = {token: grant for token, grant in self._grants.items() if grant.expires_at > now}
        token = f"sandbox-secret-{secrets.token_urlsafe(24)}"
        self._grants[token] = Grant(scope, audience, now + timedelta(seconds=seconds))
        return token

    def grant(self, token: str) -> Grant | None:
        """The token's grant, or None when the token is unknown, expired or revoked."""
        found = self._grants.get(token)
        return found if found is not None and found.expires_at > self._world.now() else None

    def revoke_all(self) -> None:
        """Forget every token, as a restart of the platform would."""
        self._grants.clear()
