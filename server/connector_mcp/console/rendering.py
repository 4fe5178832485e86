"""Pages from templates. Every value in them is escaped, and invisible characters are removed."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.datastructures import MutableHeaders
from starlette.responses import HTMLResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from connector_mcp.console import formatting
from connector_mcp.text import strip_hidden

_ASSETS = {"console.css": "text/css", "console.js": "text/javascript"}

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self' data:; "
        "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Without any referrer, a browser leaves out the Origin of forms, by which our own pages are recognized.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}
"""Headers of every response of the console, unless the response sets them itself."""


class SecurityHeaders:
    """ASGI middleware that adds `HEADERS` to every response."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_with_headers)


class Renderer:
    """The templates, and the two files that pages load. `home` is the path below which the pages are served."""

    def __init__(self, clock: Callable[[], float] = time.time, *, home: str = "/console") -> None:
        self._home = home
        folder = files("connector_mcp.console") / "static"
        self._assets = {name: (folder / name).read_bytes() for name in _ASSETS}
        self._templates = Environment(
            loader=PackageLoader("connector_mcp.console"),
            autoescape=True,
            undefined=StrictUndefined,
            finalize=_without_hidden,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._functions: dict[str, Any] = {
            "asset": self._address,
            "moment": formatting.moment,
            "machine_time": formatting.machine_time,
            "ago": formatting.ago,
            "left": formatting.left,
            "status": formatting.status,
            "now": clock,
        }

    def page(
        self, name: str, /, *, status: int = 200, headers: Mapping[str, str] | None = None, **values: Any
    ) -> Response:
        """Return the page made from a template."""
        template = self._templates.get_template(f"{name}.html", globals=self._functions)
        return HTMLResponse(template.render(values), status, headers)

    def asset(self, name: str) -> Response | None:
        """Return a file that pages load. Browsers may keep it: its URL changes with its content."""
        if name not in self._assets:
            return None
        headers = {"Cache-Control": "public, max-age=31536000, immutable"}
        return Response(self._assets[name], media_type=_ASSETS[name], headers=headers)

    def _address(self, name: str) -> str:
        return f"{self._home}/static/{name}?v={hashlib.sha256(self._assets[name]).hexdigest()[:12]}"


def _without_hidden(value: Any) -> Any:
    # Markup was made by a template; everything else comes from outside.
    return strip_hidden(value) if isinstance(value, str) and not isinstance(value, Markup) else value
