"""An id for every HTTP request, which log lines bear: the one that a proxy or client gave it, or one of ours."""

from __future__ import annotations

import re
import secrets
from itertools import count
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from connector_mcp.telemetry.events import REQUEST_ID
from connector_mcp.transport.http.headers import values_of

_HEADER: Final = b"x-request-id"
_PLAIN: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


class RequestIds:
    """ASGI middleware. An `X-Request-ID` counts only where it is short and plain: it ends up in logs."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        # No secret, and to be told apart from those of other processes: a number is enough beside what is random.
        self._prefix = secrets.token_hex(4)
        self._numbers = count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = values_of(scope, _HEADER)
        plain = bool(given) and _PLAIN.fullmatch(given[0]) is not None
        outer = REQUEST_ID.set(given[0] if plain else f"{self._prefix}{next(self._numbers):08x}")
        try:
            await self._app(scope, receive, send)
        finally:
            REQUEST_ID.reset(outer)
