"""This server as an OAuth protected resource (RFC 9728): metadata that leads a client to the issuer of its tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from mcp.server.auth.routes import create_protected_resource_routes
from pydantic import AnyHttpUrl, ConfigDict, TypeAdapter
from starlette.routing import BaseRoute

from connector_mcp.transport.auth.principal import SCOPES
from connector_mcp.transport.http.addresses import PublicAddress, check_url

WELL_KNOWN: Final = "/.well-known/oauth-protected-resource"
ENDPOINTS: Final = ("/mcp", "/sse")
"""The paths that are resources of their own, beside the server as a whole."""

# Pydantic's default would add a slash to a URL without a path; issuers and audiences are compared exactly.
_as_url = TypeAdapter(AnyHttpUrl, config=ConfigDict(url_preserve_empty_path=True)).validate_python


@dataclass(frozen=True)
class ProtectedResource:
    """The server at its public address, and the issuer of its callers' tokens.

    Raises:
        Misconfigured: The issuer is not an https URL (http is allowed on loopback).
    """

    address: PublicAddress
    issuer: str

    def __post_init__(self) -> None:
        check_url(self.issuer, "CONNECTOR_MCP_OAUTH_ISSUER")

    @property
    def identifiers(self) -> tuple[str, ...]:
        """The audiences by which a token may name this server: as a whole, or one endpoint."""
        return (str(self.address), *(f"{self.address}{endpoint}" for endpoint in ENDPOINTS))

    def metadata_url(self, path: str) -> str:
        """Return the URL of the metadata document for a request path."""
        endpoint = "/sse" if path.startswith("/messages") else path
        return self.address.origin + WELL_KNOWN + self.address.prefix + (endpoint if endpoint in ENDPOINTS else "")

    def routes(self) -> list[BaseRoute]:
        """Return the routes of the metadata documents, which need no token."""
        return [
            route
            for identifier in self.identifiers
            for route in create_protected_resource_routes(
                _as_url(identifier), [_as_url(self.issuer)], list(SCOPES), "connector-mcp"
            )
        ]
