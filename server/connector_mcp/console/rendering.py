"""Pages from templates, and the form in which they show values, times and calls.

Every value on a page is escaped, and invisible characters are removed."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.datastructures import MutableHeaders
from starlette.responses import HTMLResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from connector_mcp.engine.approval.parked_call import Approval
from connector_mcp.engine.preview import Change
from connector_mcp.json_values import members
from connector_mcp.operations.operation import Effect
from connector_mcp.provisioning.plan import Action, Plan
from connector_mcp.text import PICTURE, strip_hidden

_ASSETS = {"console.css": "text/css", "console.js": "text/javascript"}

_VERBS = ("delete", "replace", "update", "rotate", "create", "adopt")
"""The order in which a plan is shown: what destroys comes first."""

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
    """The templates, and the two files that pages load.

    Pages are served below `home`. `prefix` is the path of the server's public address, with which links begin.
    """

    def __init__(
        self, clock: Callable[[], float] = time.time, *, home: str = "/console", prefix: str = "", sandbox: bool = False
    ) -> None:
        self.home = prefix + home
        """The path below which the pages are served, as links have it."""
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
        functions: dict[str, Any] = {
            "asset": self._address,
            "prefix": prefix,
            "sandbox": sandbox,
            "moment": moment,
            "machine_time": machine_time,
            "ago": ago,
            "relative": relative,
            "status": status,
            "grave_effect": grave_effect,
            "now": clock,
        }
        # Macros that other macros use find them only here.
        self._templates.globals.update(functions)

    def page(
        self,
        name: str,
        /,
        visitor: object = None,
        *,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        **values: Any,
    ) -> Response:
        """Return the page made from a template, for the operator who is signed in."""
        template = self._templates.get_template(f"{name}.html")
        return HTMLResponse(template.render(values, visitor=visitor), status, headers)

    def asset(self, name: str) -> Response | None:
        """Return a file that pages load. Browsers may keep it: its URL changes with its content."""
        if name not in self._assets:
            return None
        headers = {"Cache-Control": "public, max-age=31536000, immutable"}
        return Response(self._assets[name], media_type=_ASSETS[name], headers=headers)

    def _address(self, name: str) -> str:
        return f"{self.home}/static/{name}?v={hashlib.sha256(self._assets[name]).hexdigest()[:12]}"


def _without_hidden(value: Any) -> Any:
    # Markup was made by a template; everything else comes from outside.
    return strip_hidden(value) if isinstance(value, str) and not isinstance(value, Markup) else value


SOON = 3_600
"""Seconds before its expiry when a call stands out."""

_MAX_VALUE = 4_000
"""Characters of one value on a page."""


@dataclass(frozen=True)
class ShownValue:
    """A value as text. `note` says what is not visible in it."""

    text: str
    note: str = ""
    unset: bool = False
    is_picture: bool = False
    """Whether the text is the `data:` URL of a picture."""


def show(value: Any) -> ShownValue:
    """Return a value in full, up to what a page can hold."""
    if value is None:
        return ShownValue("not set", unset=True)
    if isinstance(value, str) and PICTURE.fullmatch(value):
        return ShownValue(value, is_picture=True)
    full = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2)
    text = strip_hidden(full)
    notes = ["contains invisible characters"] if text != full else []
    if len(text) > _MAX_VALUE:
        notes.append(f"cut: {len(text) - _MAX_VALUE} more characters are not shown")
        text = text[:_MAX_VALUE]
    return ShownValue(text or "empty", "; ".join(notes), unset=not text)


def diff(approval: Approval) -> list[Change]:
    """Return what the call changes, with `ShownValue`s; for a deletion, every field of the target as it was read."""
    if approval.deletes and not approval.diff:
        fields = members(approval.snapshot)
        # Lists mostly hold what the platform says of every such connector, so the target's own fields come first.
        names = sorted(fields, key=lambda field: "[" in field)
        return [Change(name, show(fields[name]), ShownValue("deleted", unset=True)) for name in names]
    return [Change(change.field, show(change.before), show(change.after)) for change in approval.diff]


def grouped(plan: Plan) -> list[tuple[str, list[tuple[Action, list[Change]]]]]:
    """Return what a plan does by verb, what destroys first, each action with what it changes as `ShownValue`s."""
    groups: dict[str, list[tuple[Action, list[Change]]]] = {verb: [] for verb in _VERBS}
    for action in plan.actions:
        rows = [Change(change.field, show(change.before), show(change.after)) for change in action.diff]
        groups.setdefault(action.verb, []).append((action, rows))
    return [(verb, actions) for verb, actions in groups.items() if actions and verb != "unchanged"]


def grave_effect(approval: Approval) -> str:
    """Return the gravest effect of a call; empty if none is known."""
    return max(approval.effects, key=list(Effect).index, default="")


def in_groups(approvals: Sequence[Approval], by: str) -> list[tuple[str, list[Approval]]]:
    """Return calls by `caller` or by `target`, with the group's name, in the order of the first call of each group."""
    groups: dict[str, list[Approval]] = {}
    for approval in approvals:
        name = {"caller": approval.principal, "target": approval.target or "no target"}.get(by, "")
        groups.setdefault(name, []).append(approval)
    return list(groups.items())


def status(approval: Approval, now: float) -> str:
    """Return the state of the call in one word."""
    if approval.status in ("pending", "approved") and approval.expires_at <= now:
        return "expired"
    return "waiting" if approval.status == "pending" else approval.status


def moment(when: float | str) -> str:
    """Return seconds since 1970, or a time in ISO 8601, in UTC to the minute."""
    return _as_utc(when).strftime("%Y-%m-%d %H:%M UTC")


def machine_time(when: float | str) -> str:
    """Return the same for the `datetime` attribute."""
    return _as_utc(when).isoformat(timespec="seconds")


def duration(seconds: float) -> str:
    """Return about how long, in the two largest units."""
    minutes = int(seconds // 60)
    if minutes < 1:
        return "less than a minute"
    days, minutes = divmod(minutes, 1_440)
    hours, minutes = divmod(minutes, 60)
    parts = [f"{count} {unit}" for count, unit in ((days, "d"), (hours, "h"), (minutes, "min")) if count]
    return " ".join(parts[:2])


def ago(when: float, now: float) -> str:
    """Return how long ago a time was."""
    return f"{duration(now - when)} ago" if now - when >= 60 else "just now"


def relative(when: float, now: float) -> Markup:
    """Return how far away a time is, as an element that the script keeps right. The time itself is its title."""
    text = f"in {duration(when - now)}" if when > now else ago(when, now)
    soon = ' class="soon"' if 0 < when - now < SOON else ""
    # All of it is made here, of digits and words, so nothing needs escaping, which takes long on a page of many rows.
    return Markup(f'<time datetime="{machine_time(when)}" title="{moment(when)}" data-relative{soon}>{text}</time>')  # noqa: S704


def _as_utc(when: float | str) -> datetime:
    return datetime.fromisoformat(when).astimezone(UTC) if isinstance(when, str) else datetime.fromtimestamp(when, UTC)
