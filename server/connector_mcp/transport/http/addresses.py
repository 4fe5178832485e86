"""Addresses that operators set: which URLs can be trusted, and where callers reach the server."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Final, Self
from urllib.parse import SplitResult, urlsplit

from connector_mcp.config.settings import Settings
from connector_mcp.errors import Misconfigured

SETTING: Final = "CONNECTOR_MCP_PUBLIC_URL"

_SEGMENT: Final = re.compile(r"[A-Za-z0-9_~-][A-Za-z0-9._~-]*")
_OWN_PATHS: Final = (
    *("mcp", "sse", "messages", "console", "secrets", "approvals"),
    *("healthz", "readyz", "metrics", ".well-known"),
)


@dataclass(frozen=True)
class PublicAddress:
    """The address at which callers reach the server. Every address that it gives to others begins with this one.

    `prefix` is the path below which a proxy serves it, empty or as in `/tools/connectors`.
    """

    origin: str
    prefix: str = ""

    @classmethod
    def read(cls, address: str) -> Self:
        """Read the value of `CONNECTOR_MCP_PUBLIC_URL`.

        Raises:
            Misconfigured: It is not an https URL (http is allowed on loopback), or its path cannot be a prefix.
        """
        parts = check_url(address, SETTING)
        prefix = parts.path.removesuffix("/")
        segments = prefix.split("/")[1:]
        # A path that begins like one of this server's own could be meant with or without the prefix.
        if segments and (segments[0] in _OWN_PATHS or segments[-1] in _OWN_PATHS):
            raise Misconfigured(
                f"{SETTING} is {address!r}, which names a page or an endpoint of this server.",
                fix="Set it to the address before that, such as https://mcp.example.com or https://example.com/tools.",
            )
        if not all(_SEGMENT.fullmatch(segment) for segment in segments):
            raise Misconfigured(
                f"{SETTING} is {address!r}, and its path cannot be a prefix.",
                fix="Use a path of letters, digits, dots, _, ~ and -, such as https://example.com/tools/connectors.",
            )
        return cls(f"{parts.scheme}://{parts.netloc.lower()}", prefix)

    @property
    def hosts(self) -> tuple[str, ...]:
        """The Host headers that clients send for it: with and without the scheme's default port."""
        parts = urlsplit(self.origin)
        if parts.port is not None:
            return (parts.netloc,)
        return (parts.netloc, f"{parts.netloc}:{443 if parts.scheme == 'https' else 80}")

    def __str__(self) -> str:
        return self.origin + self.prefix


def public_address(settings: Settings) -> PublicAddress | None:
    """Return the address that is set, else that of a server on loopback; None if callers come from elsewhere.

    Raises:
        Misconfigured: `CONNECTOR_MCP_PUBLIC_URL` is invalid.
    """
    if settings.public_url is not None:
        return PublicAddress.read(settings.public_url)
    if not is_loopback(settings.host) or settings.port == 0:
        return None
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return PublicAddress(f"http://{host}:{settings.port}")


def pages_address(settings: Settings, listening: str | None = None) -> PublicAddress | None:
    """Return the address of the pages for people, or None if it is not known.

    Without a public address it is the first allowed origin. `listening` is what the server listens on, once it does.
    """
    if settings.public_url is None and settings.allowed_origins:
        return PublicAddress(settings.allowed_origins[0])
    if settings.public_url is None and listening is not None:
        return PublicAddress(listening) if is_loopback(urlsplit(listening).hostname or "") else None
    return public_address(settings)


def is_loopback(host: str) -> bool:
    """Check that a server bound to this host can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_url(address: str, setting: str) -> SplitResult:
    """Return the parts of a URL that can be trusted with keys and tokens.

    Raises:
        Misconfigured: It is not an https URL (http is allowed on loopback), or has a user, a query or a fragment.
    """
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise _invalid_url(address, setting, "is not a URL") from None
    if not host or parts.scheme not in {"https", "http"} or not address.isprintable() or " " in address:
        raise _invalid_url(address, setting, "is not an https URL")
    if parts.scheme == "http" and not is_loopback(host):
        raise _invalid_url(address, setting, "is not https")
    if "@" in parts.netloc or "?" in address or "#" in address:
        raise _invalid_url(address, setting, "has a user name, a query or a fragment")
    return parts


def _invalid_url(address: str, setting: str, problem: str) -> Misconfigured:
    shown = "a URL with a user name" if "@" in address else repr(address)
    return Misconfigured(
        f"{setting} is {shown}, which {problem}.", fix=f"Set {setting} to a URL such as https://login.example.com."
    )
