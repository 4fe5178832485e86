"""Where a request goes: the base URL as an operator set it, and the path and query that an operation adds.

An agent chooses path parameters, so this is the place where a value must not become part of the route: everything
but unreserved characters is percent-encoded, and a value that any hop could read as "this" or "the parent" is refused.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import quote, unquote, urlencode

import httpx

from connector_mcp.errors import Internal, InvalidArguments, Issue, Misconfigured
from connector_mcp.operations.platform import Platform
from connector_mcp.operations.request import Request

SANDBOX_SUFFIX: Final = ".sandbox.invalid"

_PLACEHOLDER: Final = re.compile(r"\{(\w+)\}")
_SEPARATORS: Final = re.compile(r"[/\\]")


def read_base_url(platform: Platform, values: Mapping[str, str]) -> str:
    """The platform's address without a trailing slash: what is set, else its default, else derived from the others.

    Raises:
        Misconfigured: There is none, it is no URL, or it would send credentials in clear to another machine.
    """
    variable = platform.base_url
    given = values.get(variable.name) or variable.default
    if given is None and platform.base_url_from is not None:
        given = platform.base_url_from(values)
    if given is None:
        raise Misconfigured(
            f"{platform.title}: {variable.name} is not set.", fix=f"Set {variable.name}. {variable.help}"
        )
    wrong = _find_fault(given)
    if wrong:
        raise Misconfigured(
            f"{platform.title}: {variable.name} {wrong}.",
            fix=f"Set {variable.name} to an https address, such as https://host.example. {variable.help}",
        )
    return str(httpx.URL(given)).rstrip("/")


def is_local(host: str) -> bool:
    """Whether requests to `host` never leave this machine: loopback, or a sandbox that is reached in process."""
    if host == "localhost" or host.endswith(SANDBOX_SUFFIX):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def build_target(request: Request, what: str) -> str:
    """Path and query of `request`, percent-encoded, to be appended to the base URL.

    Raises:
        InvalidArguments: A path value is empty, a dot segment, or not expressible in UTF-8; `what` names the tool.
    """

    def fill(placeholder: re.Match[str]) -> str:
        name = placeholder[1]
        if name not in request.path_values:
            raise Internal(f"{what}: no value for {{{name}}} of {request.path}.", fix="Report this as a bug.")
        return _encode(request.path_values[name], name, what)

    path = _PLACEHOLDER.sub(fill, request.path)
    if not request.query:
        return path
    try:
        query = urlencode(request.query, doseq=True, quote_via=quote)
    except UnicodeEncodeError:
        raise InvalidArguments(what, [_unencodable("query")]) from None
    return f"{path}?{query}" if query else path


def _encode(value: str, name: str, what: str) -> str:
    if not value.strip():
        raise InvalidArguments(what, [Issue(name, "an empty string", "the id of an object")])
    if "." in value or "%" in value:
        for segment in _read_segments(value):
            if segment in {".", ".."}:
                raise InvalidArguments(what, [Issue(name, "a relative path segment", "the id of an object")])
    try:
        return quote(value, safe="")
    except UnicodeEncodeError:
        raise InvalidArguments(what, [_unencodable(name)]) from None


def _read_segments(value: str) -> Iterator[str]:
    """The segments that a careless proxy would see, which decodes `%2F` and `%2E` before it routes."""
    yield from _SEPARATORS.split(value)
    yield from _SEPARATORS.split(unquote(value))


def _unencodable(path: str) -> Issue:
    return Issue(path, "text with half of a surrogate pair", "text that can be written as UTF-8")


def _find_fault(address: str) -> str | None:
    """What is wrong with a base URL, without repeating it: it may hold a password."""
    try:
        url = httpx.URL(address)
    except httpx.InvalidURL:
        return "is not a URL"
    if url.scheme not in {"https", "http"} or not url.host:
        return "is not an https address"
    if url.scheme == "http" and not is_local(url.host):
        return "begins with http://, which would send credentials unencrypted; only loopback addresses may"
    if url.userinfo:
        return "holds a user name or password, which do not belong there"
    if url.query or url.fragment or address.rstrip().endswith(("?", "#")):
        return "has a query or a fragment"
    return None
