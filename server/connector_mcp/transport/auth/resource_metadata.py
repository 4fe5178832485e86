"""This server as an OAuth protected resource (RFC 9728): metadata that leads a client to the issuer of its tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self
from urllib.parse import SplitResult, urlsplit

from mcp.server.auth.routes import create_protected_resource_routes
from pydantic import AnyHttpUrl, ConfigDict, TypeAdapter
from starlette.routing import BaseRoute

from connector_mcp.errors import Misconfigured
from connector_mcp.transport.auth.principal import SCOPES
from connector_mcp.transport.http.host_guard import is_loopback

WELL_KNOWN: Final = "/.well-known/oauth-protected-resource"
ENDPOINTS: Final = ("/mcp", "/sse")
"""The paths that are resources of their own, beside the server as a whole."""

# Pydantic's default would add a slash to a URL without a path; issuers and audiences are compared exactly.
_as_url = TypeAdapter(AnyHttpUrl, config=ConfigDict(url_preserve_empty_path=True)).validate_python


@dataclass(frozen=True)
class ProtectedResource:
    """The server's public URL (without a path), and the issuer of its callers' tokens."""

    public_url: str
    issuer: str

    @classmethod
    def from_urls(cls, public_url: str, issuer: str) -> Self:
        """Create a resource from two settings.

        Raises:
            Misconfigured: One is not an https URL (http is allowed on loopback), or the public URL has a path.
        """
        check_url(issuer, "CONNECTOR_MCP_OAUTH_ISSUER")
        return cls(check_public_url(public_url), issuer)

    @property
    def identifiers(self) -> tuple[str, ...]:
        """The audiences by which a token may name this server: as a whole, or one endpoint."""
        return (self.public_url, *(self.public_url + endpoint for endpoint in ENDPOINTS))

    def metadata_url(self, path: str) -> str:
        """Return the URL of the metadata document for a request path."""
        endpoint = "/sse" if path.startswith("/messages") else path
        return self.public_url + WELL_KNOWN + (endpoint if endpoint in ENDPOINTS else "")

    def routes(self) -> list[BaseRoute]:
        """Return the routes of the metadata documents, which need no token."""
        return [
            route
            for identifier in self.identifiers
            for route in create_protected_resource_routes(
                _as_url(identifier), [_as_url(self.issuer)], list(SCOPES), "connector-mcp"
            )
        ]


def check_public_url(address: str) -> str:
    """Return the URL without a trailing slash.

    Raises:
        Misconfigured: It is not an https URL (http is allowed on loopback), or has a path, query or fragment.
    """
    setting = "CONNECTOR_MCP_PUBLIC_URL"
    parts = check_url(address, setting)
    if parts.path.strip("/"):
        raise Misconfigured(
            f"{setting} is {address!r}, which has a path.", fix="Remove the path, as in https://mcp.example.com."
        )
    return f"{parts.scheme}://{parts.netloc.lower()}"


def public_hosts(public_url: str) -> tuple[str, ...]:
    """Return the Host headers that clients send for this URL: with and without the scheme's default port."""
    parts = urlsplit(check_public_url(public_url))
    if parts.port is not None:
        return (parts.netloc,)
    return (parts.netloc, f"{parts.netloc}:{443 if parts.scheme == 'https' else 80}")


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
