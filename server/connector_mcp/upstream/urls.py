"""The URL of a request: the base URL that an operator sets, and the path and query that an operation adds.

Agents choose path parameters, so a value must not become part of the route: everything but unreserved characters is
percent-encoded, and a value that a proxy or server could read as `.` or `..` is refused.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import quote, unquote, urlencode, urlsplit

from connector_mcp.errors import Internal, InvalidArguments, Issue, Misconfigured
from connector_mcp.operations.platform import OtherApi, Platform, Request

SANDBOX_SUFFIX: Final = ".sandbox.invalid"

PORTS: Final[Mapping[str, int]] = {"http": 80, "https": 443}

_PRINTABLE: Final = re.compile(r"[\x21-\x7e\u00a1-\ud7ff\ue000-\ufffd]+")
_NAME: Final = re.compile(r"([a-z0-9_~-]{1,63}\.)*[a-z0-9_~-]{1,63}\.?")
_FOUR_NUMBERS: Final = re.compile(r"\d+\.\d+\.\d+\.\d+")
_STRAY_PERCENT: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_PLACEHOLDER: Final = re.compile(r"\{(\w+)\}")
_SEPARATORS: Final = re.compile(r"[/\\]")


@dataclass(frozen=True, slots=True)
class Address:
    """A base URL: `host` in lower case and without IPv6 brackets, `path` percent-encoded and without a trailing slash.

    `port` is None if it is the scheme's default.
    """

    scheme: str
    host: str
    port: int | None
    path: str

    @property
    def authority(self) -> str:
        """Host and port for a URL and the `Host` header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port is None else f"{host}:{self.port}"

    @property
    def effective_port(self) -> int:
        """The port, or the scheme's default."""
        return self.port or PORTS[self.scheme]

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.path}"


def read_address(text: str) -> Address:
    """Parse `text` as the base URL of an API.

    Raises:
        ValueError: The address is not safe to use. The message follows the setting's name and does not repeat `text`.
    """
    if not _PRINTABLE.fullmatch(text):
        raise ValueError("is not a URL")
    try:
        parts = urlsplit(text)
        port = parts.port
        host = read_host(parts.hostname or "")
    except ValueError:
        raise ValueError("is not a URL") from None
    if port == 0:
        raise ValueError("is not a URL")
    scheme = parts.scheme.lower()
    if scheme not in PORTS or not host:
        raise ValueError("is not an https address")
    if scheme == "http" and not is_local(host):
        raise ValueError("starts with http://, which would send credentials unencrypted; only loopback addresses may")
    if "@" in parts.netloc:
        raise ValueError("holds a user name or password, which do not belong there")
    if "?" in text or "#" in text:
        raise ValueError("has a query or a fragment")
    if any(unquote(segment) in {".", ".."} for segment in _SEPARATORS.split(parts.path)):
        raise ValueError("has a relative path segment")
    path = quote(_STRAY_PERCENT.sub("%25", parts.path), safe="/%:@!$&'()*+,;=~").rstrip("/")
    return Address(scheme, host, None if port == PORTS[scheme] else port, path)


def read_base_url(platform: Platform, values: Mapping[str, str]) -> Address:
    """Return the platform's address: the variable's value, its default, or one derived from the other variables.

    Raises:
        Misconfigured: There is no address, or it is not safe to use.
    """
    variable = platform.base_url
    given = values.get(variable.name) or variable.default
    if given is None and platform.base_url_from is not None:
        given = platform.base_url_from(values)
    if given is None:
        raise Misconfigured(
            f"{platform.title}: {variable.name} is not set.", fix=f"Set {variable.name}. {variable.help}"
        )
    try:
        return read_address(given)
    except ValueError as wrong:
        raise Misconfigured(
            f"{platform.title}: {variable.name} {wrong}.",
            fix=f"Set {variable.name} to an https address, such as https://host.example. {variable.help}",
        ) from None


def read_roots(platform: Platform, values: Mapping[str, str]) -> Mapping[OtherApi | None, Address]:
    """Return the address of each API of the platform; that of None is the base URL.

    All have the origin of the base URL, so that credentials go to one host, and on the same way.

    Raises:
        Misconfigured: An address is missing, not safe to use, or at another origin.
    """
    base = read_base_url(platform, values)
    return {None: base} | {api: _read_root(platform, api, base, values) for api in platform.other_apis}


def _read_root(platform: Platform, api: OtherApi, base: Address, values: Mapping[str, str]) -> Address:
    given = values.get(api.address.name)
    if not given and base.path.endswith(api.base_ending):
        return replace(base, path=base.path.removesuffix(api.base_ending) + api.path)
    wrong = f"is not set and does not follow from {platform.base_url.name}"
    if given:
        try:
            root = read_address(given)
        except ValueError as invalid:
            wrong = str(invalid)
        else:
            if (root.scheme, root.authority) == (base.scheme, base.authority):
                return root
            wrong = f"is at another host or port than {platform.base_url.name}"
    name = api.address.name
    raise Misconfigured(
        f"{platform.title}: {name} {wrong}.",
        fix=f"Set {name} to an address at the host of {platform.base_url.name}. {api.address.help}",
    )


def is_local(host: str) -> bool:
    """Check that requests to `host` never leave this machine: loopback, or a sandbox in this process."""
    if host == "localhost" or host.endswith(SANDBOX_SUFFIX):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def build_target(request: Request, what: str) -> str:
    """Return the percent-encoded path and query of `request`, to be appended to the base URL.

    Raises:
        InvalidArguments: A path value is empty, a dot segment, or not expressible in UTF-8. `what` names the tool.
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
    # A proxy may decode `%2F` and `%2E` before it routes.
    if not {".", ".."}.isdisjoint(_SEPARATORS.split(value) + _SEPARATORS.split(unquote(value))):
        raise InvalidArguments(what, [Issue(name, "a relative path segment", "the id of an object")])
    try:
        return quote(value, safe="")
    except UnicodeEncodeError:
        raise InvalidArguments(what, [_unencodable(name)]) from None


def _unencodable(path: str) -> Issue:
    return Issue(path, "text with half of a surrogate pair", "text that can be written as UTF-8")


def read_host(host: str) -> str:
    """Return a host name or address in the form that requests use. Raises ValueError if it is neither."""
    if ":" in host and "%" not in host:
        return str(ipaddress.IPv6Address(host))
    if not host.isascii():
        # Imported here to save start-up time: hardly any address needs it.
        import idna

        host = idna.encode(host).decode("ascii")
    if host and not _NAME.fullmatch(host):
        raise ValueError("not a host name")
    return str(ipaddress.IPv4Address(host)) if _FOUR_NUMBERS.fullmatch(host) else host
