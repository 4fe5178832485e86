"""Where a request goes: the base URL as an operator set it, and the path and query that an operation adds.

An agent chooses path parameters, so this is the place where a value must not become part of the route: everything
but unreserved characters is percent-encoded, and a value that any hop could read as "this" or "the parent" is refused.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final
from urllib.parse import quote, unquote, urlencode, urlsplit

from connector_mcp.errors import Internal, InvalidArguments, Issue, Misconfigured
from connector_mcp.operations.platform import Platform, Request

SANDBOX_SUFFIX: Final = ".sandbox.invalid"

PORTS: Final[Mapping[str, int]] = {"http": 80, "https": 443}

_PRINTABLE: Final = re.compile(r"[\x21-\x7e\u00a1-\ud7ff\ue000-\ufffd]+")
_NAME: Final = re.compile(r"[a-z0-9._~-]+")
_FOUR_NUMBERS: Final = re.compile(r"\d+\.\d+\.\d+\.\d+")
_STRAY_PERCENT: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_PLACEHOLDER: Final = re.compile(r"\{(\w+)\}")
_PLAIN: Final = re.compile(r"[A-Za-z0-9_~-]+")
"""Values that are encoded as they stand, which nearly all ids are."""
_SEPARATORS: Final = re.compile(r"[/\\]")


@dataclass(frozen=True, slots=True)
class Address:
    """A base URL: `host` in lower case, without the brackets of IPv6; `path` percent-encoded, no slash behind it.

    A `port` is there where it is not the scheme's own.
    """

    scheme: str
    host: str
    port: int | None
    path: str

    @property
    def authority(self) -> str:
        """Host and port as they go into a URL and the `Host` header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port is None else f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        return f"{self.scheme}://{self.authority}"

    @property
    def reached_at(self) -> int:
        """The port, given or not."""
        return self.port or PORTS[self.scheme]

    def __str__(self) -> str:
        return self.origin + self.path


def read_address(text: str) -> Address:
    """The address that `text` is.

    Raises:
        ValueError: It is none. The message says what is wrong, to be read behind a name, and repeats nothing of it.
    """
    if not _PRINTABLE.fullmatch(text):
        raise ValueError("is not a URL")
    try:
        parts = urlsplit(text)
        port = parts.port
        host = _read_host(parts.hostname or "")
    except ValueError:
        raise ValueError("is not a URL") from None
    if port == 0:
        raise ValueError("is not a URL")
    scheme = parts.scheme.lower()
    if scheme not in PORTS or not host:
        raise ValueError("is not an https address")
    if scheme == "http" and not is_local(host):
        raise ValueError("begins with http://, which would send credentials unencrypted; only loopback addresses may")
    if "@" in parts.netloc:
        raise ValueError("holds a user name or password, which do not belong there")
    if "?" in text or "#" in text:
        raise ValueError("has a query or a fragment")
    if any(unquote(segment) in {".", ".."} for segment in _SEPARATORS.split(parts.path)):
        raise ValueError("has a relative path segment")
    path = quote(_STRAY_PERCENT.sub("%25", parts.path), safe="/%:@!$&'()*+,;=~").rstrip("/")
    return Address(scheme, host, None if port == PORTS[scheme] else port, path)


def read_base_url(platform: Platform, values: Mapping[str, str]) -> Address:
    """The platform's address: what is set, else its default, else derived from the others.

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
    try:
        return read_address(given)
    except ValueError as wrong:
        raise Misconfigured(
            f"{platform.title}: {variable.name} {wrong}.",
            fix=f"Set {variable.name} to an https address, such as https://host.example. {variable.help}",
        ) from None


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
    path = ""
    for text, name in _split(request.path):
        path += text
        if name:
            if name not in request.path_values:
                raise Internal(f"{what}: no value for {{{name}}} of {request.path}.", fix="Report this as a bug.")
            path += _encode(request.path_values[name], name, what)
    if not request.query:
        return path
    try:
        query = urlencode(request.query, doseq=True, quote_via=quote)
    except UnicodeEncodeError:
        raise InvalidArguments(what, [_unencodable("query")]) from None
    return f"{path}?{query}" if query else path


@lru_cache(maxsize=512)
def _split(template: str) -> Sequence[tuple[str, str]]:
    """The pieces of text of a template, each with the name of the placeholder behind it, empty for the last."""
    pieces = [*_PLACEHOLDER.split(template), ""]
    return tuple(zip(pieces[::2], pieces[1::2], strict=True))


def _encode(value: str, name: str, what: str) -> str:
    if _PLAIN.fullmatch(value):
        return value
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


def _read_host(host: str) -> str:
    if ":" in host and "%" not in host:
        return str(ipaddress.IPv6Address(host))
    if not host.isascii():
        # Imported here because hardly any address needs it.
        import idna

        host = idna.encode(host).decode("ascii")
    if host and not _NAME.fullmatch(host):
        raise ValueError("a host of other characters")
    return str(ipaddress.IPv4Address(host)) if _FOUR_NUMBERS.fullmatch(host) else host
