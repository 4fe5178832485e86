"""Where others reach a server over HTTP. Links, metadata and audiences are all made from these two functions."""

from __future__ import annotations

from urllib.parse import urlsplit

from connector_mcp.config.settings import Settings
from connector_mcp.transport.http.addresses import PublicAddress
from connector_mcp.transport.http.host_guard import is_loopback


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
