"""Checks of a request's headers on every route: Host, Origin, path, and the id that log lines carry.

A page in a person's browser can reach a server on their machine: by name through DNS rebinding, else across origins.
The names that a server answers to are few and known, so all others are refused, for health checks too.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from itertools import count
from typing import Final, Self

from mcp_types import INVALID_REQUEST, ErrorData, JSONRPCError
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from connector_mcp.errors import Misconfigured
from connector_mcp.telemetry.events import REQUEST_ID

LOOPBACK_NAMES: Final = ("127.0.0.1", "localhost", "[::1]")

HEAD_BYTES: Final = 16_384
"""Bytes of the largest head of a request. A token with many claims fits."""

_PLAIN_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


def values_of(scope: Scope, name: bytes) -> list[str]:
    """Return the values of all headers of this name; `name` is in lower case."""
    lines: list[tuple[bytes, bytes]] = scope["headers"]
    return [value.decode("latin-1") for key, value in lines if key == name]


def json_error(status: int, error: str, message: str, headers: dict[str, str], **members: int) -> Response:
    """Return the response that refuses a request, with an error code for programs and a message for people."""
    content = json.dumps({"error": error, "error_description": message, **members})
    return Response(content, status, {"Cache-Control": "no-store", **headers}, "application/json")


def rpc_error(
    status: int, message: str, request_id: int | str | None = None, headers: dict[str, str] | None = None
) -> Response:
    """Return the response that refuses a message, as an error of JSON-RPC, which clients show to the model."""
    error = JSONRPCError(jsonrpc="2.0", id=request_id, error=ErrorData(code=INVALID_REQUEST, message=message))
    text = error.model_dump_json(by_alias=True, exclude_unset=True)
    return Response(text, status, {"Cache-Control": "no-store", **(headers or {})}, "application/json")


@dataclass(frozen=True)
class Reach:
    """The allowed values of Host (`name:port`) and Origin (`scheme://name:port`), compared exactly."""

    hosts: frozenset[str]
    origins: frozenset[str]

    @classmethod
    def for_address(cls, host: str, port: int, *, hosts: Collection[str] = (), origins: Collection[str] = ()) -> Self:
        """Allow the loopback names, the server's own address, and the given additions.

        Raises:
            Misconfigured: An addition is a pattern. Patterns would match by prefix and admit other hosts.
        """
        for value in (*hosts, *origins):
            if "*" in value or not value:
                raise Misconfigured(
                    f"{value!r} is not an exact host or origin.",
                    fix="Name each host as name:port and each origin as scheme://name:port.",
                )
        names = dict.fromkeys((*LOOPBACK_NAMES, f"[{host}]" if ":" in host else host))
        # Clients leave out the port if it is the default of the scheme.
        own = [f"{name}:{port}" for name in names] + (list(names) if port == 80 else [])
        return cls(frozenset((*own, *hosts)), frozenset((*(f"http://{name}" for name in own), *origins)))


class HostAndOriginGuard:
    """ASGI middleware: answer 421 to an unknown Host, 403 to an unknown Origin and 431 to a head that is too large."""

    def __init__(self, app: ASGIApp, reach: Reach) -> None:
        self._app = app
        self._reach = reach

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        hosts, origins = values_of(scope, b"host"), values_of(scope, b"origin")
        if len(hosts) != 1 or hosts[0] not in self._reach.hosts:
            await PlainTextResponse("Invalid Host header", 421)(scope, receive, send)
        elif any(origin not in self._reach.origins for origin in origins):
            await PlainTextResponse("Invalid Origin header", 403)(scope, receive, send)
        elif sum(len(name) + len(value) for name, value in scope["headers"]) > HEAD_BYTES:
            # uvicorn limits only heads that come in more than one piece.
            refusal = PlainTextResponse("Request header fields too large", 431, {"Connection": "close"})
            await refusal(scope, receive, send)
        else:
            await self._app(scope, receive, send)


class RequestPath:
    """ASGI middleware: take `/mcp/` for `/mcp`, and so with every path but those in `kept`, and take off `prefix`.

    Starlette would redirect to an address made of the Host header and the scheme of the last hop, which is http behind
    a proxy that speaks TLS. A proxy that serves this server below a prefix takes that off or leaves it on; either way
    the addresses that applications make begin with it (`root_path`).
    """

    def __init__(self, app: ASGIApp, prefix: str = "", kept: Collection[str] = ()) -> None:
        self._app = app
        self._prefix = prefix
        self._kept = frozenset({"/", *kept})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path: str = scope["path"]
            if self._prefix and f"{path}/".startswith(f"{self._prefix}/"):
                path = path[len(self._prefix) :] or "/"
            if path.endswith("/") and path not in self._kept:
                path = path[:-1]
            scope = {**scope, "root_path": self._prefix, "path": path}
        await self._app(scope, receive, send)


class RequestIds:
    """ASGI middleware: give every request an id for log lines, from `X-Request-ID` if that is short and plain."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        # Not a secret: random enough to tell the ids of different processes apart.
        self._prefix = secrets.token_hex(4)
        self._numbers = count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = values_of(scope, b"x-request-id")
        plain = bool(given) and _PLAIN_ID.fullmatch(given[0]) is not None
        outer = REQUEST_ID.set(given[0] if plain else f"{self._prefix}{next(self._numbers):08x}")
        try:
            await self._app(scope, receive, send)
        finally:
            REQUEST_ID.reset(outer)
