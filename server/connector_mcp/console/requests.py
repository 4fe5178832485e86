"""What a request must be before it may change anything, and where its session is found."""

from __future__ import annotations

import ipaddress
from urllib.parse import parse_qsl, urlsplit

from starlette.requests import Request
from starlette.responses import Response

from connector_mcp.console.problem import Problem
from connector_mcp.transport.http.host_guard import is_loopback

_COOKIE = "connector-mcp-console"
_LONGEST_FORM = 16_384
_MOST_FIELDS = 12
_ADDRESSES_OF_ONE = 64
"""Bits of an IPv6 address that stand for one network; whoever has one address there has them all."""


async def read_form(request: Request, *, longest: int = _LONGEST_FORM) -> dict[str, str]:
    """The fields of a form of ours, of at most `longest` bytes.

    Raises:
        Problem: The request comes from another site, or is no such form.
    """
    _insist_on_own_page(request)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > longest:
            raise Problem(413, "Too much was sent", "The form is larger than any of this console. Nothing was done.")
    try:
        if kind != "application/x-www-form-urlencoded":
            raise ValueError
        return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=_MOST_FIELDS))
    except ValueError:
        raise Problem(400, "Not a form", "What was sent is not a form of this console. Nothing was done.") from None


def _insist_on_own_page(request: Request) -> None:
    """Only a page of this console may send a form to it, and a browser says which page does.

    A browser that says `same-origin` has compared scheme, host and port itself, also behind a proxy that gives the
    server another Host. One that does not say it has Origin compared with Host.
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        own = site == "same-origin"
    else:
        own = urlsplit(request.headers.get("origin", "")).netloc == request.headers.get("host")
    if not own:
        raise Problem(
            403,
            "Sent from elsewhere",
            "This form was not sent by a page of this console, so nothing was done.",
            "Open the console itself and decide there.",
        )


def insist_on_privacy(request: Request) -> None:
    """Refuse to sign anybody in over a line that others can read.

    Raises:
        Problem: The page was fetched over http from beyond this machine.
    """
    # The browser's own word comes first: behind a proxy the Host may be that of this machine.
    origin = urlsplit(request.headers.get("origin", ""))
    private = is_loopback(origin.hostname) if origin.hostname else _is_local(request)
    if private or _is_https(request):
        return
    raise Problem(
        403,
        "https is needed",
        "Beyond this machine the console is used over https only: what is sent over http can be read on its way.",
        "Put a proxy with TLS in front of the server and name its address in CONNECTOR_MCP_ALLOWED_HOSTS and "
        "CONNECTOR_MCP_ALLOWED_ORIGINS; then have the operator's token replaced.",
    )


def session_key(request: Request, name: str = _COOKIE) -> str | None:
    """The key that the browser shows."""
    return request.cookies.get(_cookie_name(request, name))


def keep_session_key(
    request: Request, response: Response, key: str, *, name: str = _COOKIE, home: str = "/console"
) -> None:
    """Have the browser keep the key until it is closed, where no script and no other site gets at it."""
    local = _is_local(request)
    response.set_cookie(
        _cookie_name(request, name),
        key,
        path=home if local else "/",
        secure=not local or _is_https(request),
        httponly=True,
        samesite="strict",
    )


def forget_session_key(request: Request, response: Response) -> None:
    """Have the browser forget the key."""
    local = _is_local(request)
    response.delete_cookie(
        _cookie_name(request, _COOKIE),
        path="/console" if local else "/",
        secure=not local or _is_https(request),
        httponly=True,
        samesite="strict",
    )


def network_of(request: Request) -> str:
    """Who is counted as one at the login: an IPv4 address, or the network of an IPv6 one."""
    host = request.client.host if request.client else ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if address.version == 4:
        return host
    return str(ipaddress.ip_network(f"{address.exploded}/{_ADDRESSES_OF_ONE}", strict=False))


def _cookie_name(request: Request, name: str) -> str:
    # The prefix binds a cookie to https, this host and no part of it; browsers take it on https alone.
    return name if _is_local(request) else f"__Host-{name}"


def _is_local(request: Request) -> bool:
    return is_loopback(request.url.hostname or "")


def _is_https(request: Request) -> bool:
    return request.url.scheme == "https" or request.headers.get("origin", "").startswith("https://")
