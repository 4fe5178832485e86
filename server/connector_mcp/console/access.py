"""Who may use the console: forms of our own pages, private connections, the login limit, and operators' sessions."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import json
import math
import re
import secrets
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from starlette.requests import Request
from starlette.responses import Response

from connector_mcp.console.rendering import Renderer
from connector_mcp.engine.approval.queue import Approvals
from connector_mcp.state.database import Database, Row, Transaction, Value
from connector_mcp.text import strip_hidden
from connector_mcp.transport.http.addresses import is_loopback

HOME = "/console"

FAILURES_PER_NETWORK = 10
"""Wrong tokens a minute from one network."""

FAILURES_IN_TOTAL = 200
"""Wrong tokens a minute from everywhere: far more than people mistype, far fewer than guessing takes."""

_COOKIE = "connector-mcp-console"
_OWN_PATH = re.compile(r"/console(/[a-z0-9-]+)*")
_MAX_FORM_BYTES = 16_384
_MAX_FIELDS = 100


class Problem(Exception):
    """What went wrong and what to do about it, shown to a person in place of a page."""

    def __init__(
        self, status: int, title: str, sentence: str, fix: str = "", *, retry_after: int | None = None
    ) -> None:
        super().__init__(sentence)
        self.status = status
        self.title = title
        self.sentence = sentence
        self.fix = fix
        self.headers = {"Retry-After": str(retry_after)} if retry_after else None


class LoginThrottle:
    """Locks a network out after too many wrong tokens in a minute. Counts in this process; valid tokens never count."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began_at = float("-inf")
        self._failures: Counter[str] = Counter()

    def check(self, request: Request) -> None:
        """Call this before a token is checked.

        Raises:
            Problem: Too many tokens were wrong.
        """
        if self._clock() - self._began_at >= 60:
            self._failures.clear()
        if self._failures[_network(request)] >= FAILURES_PER_NETWORK or self._failures.total() >= FAILURES_IN_TOTAL:
            raise Problem(
                429,
                "Too many attempts",
                "Too many wrong tokens were entered, so this one was not checked.",
                "Try again in a minute.",
                retry_after=max(1, math.ceil(self._began_at + 60 - self._clock())),
            )

    def count_failure(self, request: Request) -> None:
        """Count a wrong token. The first one begins a new minute."""
        if not self._failures.total():
            self._began_at = self._clock()
        self._failures[_network(request)] += 1


def _network(request: Request) -> str:
    """The client's IPv4 address or IPv6 network; who has one IPv6 address usually has the whole /64."""
    host = request.client.host if request.client else ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    return host if address.version == 4 else str(ipaddress.ip_network(f"{address.exploded}/64", strict=False))


async def read_form(request: Request, *, max_bytes: int = _MAX_FORM_BYTES) -> dict[str, str]:
    """Return the fields of a form that was sent by one of our own pages.

    Raises:
        Problem: The request comes from another site, is not a form, or is too large.
    """
    _require_own_page(request)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > max_bytes:
            raise Problem(413, "Form too large", "The form is larger than any of this console. Nothing was done.")
    try:
        if kind != "application/x-www-form-urlencoded":
            raise ValueError
        return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=_MAX_FIELDS))
    except ValueError:
        raise Problem(400, "Not a form", "The request is not a form of this console. Nothing was done.") from None


def _require_own_page(request: Request) -> None:
    """Accept forms from this console's own pages only, by what the browser says of the page.

    A browser that sends `same-origin` has compared scheme, host and port itself, even behind a proxy that gives the
    server another Host. For a browser that does not send it, Origin is compared with Host.
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        is_own = site == "same-origin"
    else:
        is_own = urlsplit(request.headers.get("origin", "")).netloc == request.headers.get("host")
    if not is_own:
        raise Problem(
            403,
            "Sent from another site",
            "This form was not sent by a page of this console, so nothing was done.",
            "Open the console itself and decide there.",
        )


def require_private_connection(request: Request) -> None:
    """Accept secrets over https or from this machine only.

    Raises:
        Problem: The page was loaded over http from another machine.
    """
    # The browser's Origin comes first: behind a proxy, Host may be that of this machine.
    origin = urlsplit(request.headers.get("origin", ""))
    is_private = is_loopback(origin.hostname) if origin.hostname else _is_local(request)
    if not is_private and not _is_https(request):
        raise Problem(
            403,
            "https is required",
            "From other machines the console accepts https only: what is sent over http can be read on the way.",
            "Put a proxy with TLS in front of the server and name its address in CONNECTOR_MCP_ALLOWED_HOSTS and "
            "CONNECTOR_MCP_ALLOWED_ORIGINS. Then have the operator's token replaced.",
        )


def session_key(request: Request, name: str = _COOKIE) -> str | None:
    """Return the session key that the browser sent."""
    return request.cookies.get(_cookie_name(request, name))


def set_session_key(
    request: Request,
    response: Response,
    key: str,
    *,
    name: str = _COOKIE,
    path: str = HOME,
    max_age: int | None = None,
) -> None:
    """Have the browser keep the key until it is closed, out of reach of scripts and of other sites.

    With `max_age=0` the browser deletes it.
    """
    is_local = _is_local(request)
    response.set_cookie(
        _cookie_name(request, name),
        key,
        max_age=max_age,
        path=request.scope.get("root_path", "") + path if is_local else "/",
        secure=not is_local or _is_https(request),
        httponly=True,
        samesite="strict",
    )


def _cookie_name(request: Request, name: str) -> str:
    # The prefix binds a cookie to https and to exactly this host; browsers accept it over https only.
    return name if _is_local(request) else f"__Host-{name}"


def _is_local(request: Request) -> bool:
    return is_loopback(request.url.hostname or "")


def _is_https(request: Request) -> bool:
    return request.url.scheme == "https" or request.headers.get("origin", "").startswith("https://")


IDLE_SECONDS = 1_800.0
"""How long an unused session lasts."""

MAX_SECONDS = 43_200.0
"""How long any session lasts."""

_UPDATE_SECONDS = 60.0
"""How often the use of a session is written to the database."""

_MAX_KEY_LENGTH = 128


@dataclass(frozen=True)
class Visitor:
    """A signed-in operator."""

    operator: str
    key: str = field(repr=False)
    """The value of the session cookie."""
    waiting: int = 0
    """How many calls wait for a decision, for the pages' header."""

    @property
    def form_token(self) -> str:
        """The value that every form of this session carries; no other page can know it."""
        return hmac.new(self.key.encode(), b"console form", hashlib.sha256).hexdigest()


class OperatorSessions:
    """The sessions. `is_operator` checks whether the token with this SHA-256 is still valid.

    Every method raises `StoreUnavailable` if the database cannot be reached.
    """

    def __init__(self, database: Database, is_operator: Callable[[bytes], bool]) -> None:
        self._database = database
        self._is_operator = is_operator

    async def begin(self, operator: str, token: str) -> Visitor:
        """Begin a session with a new key."""
        key = secrets.token_urlsafe(32)
        # The session ends when the token does that began it.
        values: dict[str, Value] = {"id": _digest(key).hex(), "session": json.dumps([operator, _digest(token).hex()])}

        def work(tx: Transaction) -> None:
            tx.execute("DELETE FROM console_sessions WHERE expires_at <= epoch()")
            tx.execute(
                "INSERT INTO console_sessions (id, session, began_at, expires_at) "
                f"VALUES (:id, :session, epoch(), epoch() + {IDLE_SECONDS})",
                values,
            )

        await self._database.write(work)
        return Visitor(operator, key)

    async def find(self, key: str | None, *, in_use: bool = True) -> Visitor | None:
        """Return who is signed in with this key. `in_use` is False for a page that only waits for events."""
        if not key or len(key) > _MAX_KEY_LENGTH:
            return None
        values: dict[str, Value] = {"id": _digest(key).hex()}

        def work(tx: Transaction) -> Row | None:
            sql = (
                "SELECT session, expires_at - epoch() AS rest, epoch() - began_at AS age FROM console_sessions "
                "WHERE id = :id AND expires_at > epoch()"
            )
            return tx.execute(sql, values).first()

        row = await self._database.read(work)
        if row is None:
            return None
        try:
            operator, credential = json.loads(row["session"])
            if not self._is_operator(bytes.fromhex(credential)):
                return None
        except ValueError:
            return None
        longest = min(IDLE_SECONDS, MAX_SECONDS - row["age"])
        if in_use and longest - row["rest"] >= _UPDATE_SECONDS:
            prolong = f"UPDATE console_sessions SET expires_at = epoch() + {longest} WHERE id = :id"
            await self._database.write(lambda tx: tx.execute(prolong, values))
        return Visitor(operator, key)

    async def end(self, key: str | None) -> None:
        """End the session with this key, if there is one."""
        if key and len(key) <= _MAX_KEY_LENGTH:
            values: dict[str, Value] = {"id": _digest(key).hex()}
            await self._database.write(lambda tx: tx.execute("DELETE FROM console_sessions WHERE id = :id", values))


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()


class SignInFirst(Exception):
    """The request has no valid session; `location` is the login page, which leads back to the requested page."""

    def __init__(self, request: Request) -> None:
        super().__init__("not signed in")
        back = own_path(request.url.path) if request.method == "GET" else HOME
        self.location = f"{HOME}/login" if back == HOME else f"{HOME}/login?next={quote(back)}"


class PageShell:
    """What the pages of a signed-in operator share."""

    def __init__(self, renderer: Renderer, sessions: OperatorSessions, approvals: Approvals) -> None:
        self.home = renderer.home
        self.page = renderer.page
        self._sessions = sessions
        self._approvals = approvals

    async def visitor(self, request: Request) -> Visitor:
        """Return who is signed in, or raise `SignInFirst`."""
        visitor = await self._sessions.find(session_key(request))
        if visitor is None:
            raise SignInFirst(request)
        return replace(visitor, waiting=await self._approvals.pending())

    async def submitted(self, request: Request) -> tuple[Visitor, dict[str, str]]:
        """Return the operator from whose own page this form was sent, and the form. Raises `Problem` for any other."""
        form = await read_form(request)
        visitor = await self.visitor(request)
        if not hmac.compare_digest(form.get("form_token", "").encode(), visitor.form_token.encode()):
            raise Problem(
                403,
                "This form belongs to another session",
                "The form was made for another session, so nothing was done.",
                "Open the page again and repeat what you did.",
            )
        return visitor, form


def own_path(path: str | None) -> str:
    """Return the path if it is one of the console's to go to after the login, and `HOME` otherwise."""
    return path if path and _OWN_PATH.fullmatch(path) and not path.startswith(f"{HOME}/log") else HOME


def given(request: Request, *names: str) -> dict[str, str]:
    """Return these parameters of the address of a list, as an operator gave them."""
    return {name: strip_hidden(request.query_params.get(name, "")).strip() for name in names}


def as_query(parameters: Mapping[str, str]) -> str:
    """Return the parameters that are not empty, as links to other pages of a filtered list have them."""
    return urlencode({name: value for name, value in parameters.items() if value})
