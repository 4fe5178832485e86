"""An id for every HTTP request, which log lines bear: the one that a proxy or client gave it, or one of ours."""

from __future__ import annotations

import re
import secrets
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from connector_mcp.telemetry.correlation import REQUEST_ID

_HEADER: Final = b"x-request-id"
_PLAIN: Final = re.compile(rb"[A-Za-z0-9._-]{1,64}")


class RequestIds:
    """ASGI middleware. An `X-Request-ID` counts only where it is short and plain: it ends up in logs."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = next((value for name, value in scope["headers"] if name == _HEADER), b"")
        outer = REQUEST_ID.set(given.decode("ascii") if _PLAIN.fullmatch(given) else secrets.token_hex(8))
        try:
            await self._app(scope, receive, send)
        finally:
            REQUEST_ID.reset(outer)
