"""What this server is to OAuth: a protected resource (RFC 9728), whose metadata leads a client to the issuer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Self
from urllib.parse import SplitResult, urlsplit

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from connector_mcp.errors import Misconfigured
from connector_mcp.transport.auth.static_tokens import SCOPES
from connector_mcp.transport.http.host_guard import is_loopback

WELL_KNOWN: Final = "/.well-known/oauth-protected-resource"
FACES: Final = ("/mcp", "/sse")
"""The paths that are resources of their own, beside the server as a whole."""


@dataclass(frozen=True)
class ProtectedResource:
    """The server under the address at which callers know it (without a path), and the issuer of their tokens."""

    public_url: str
    issuer: str

    @classmethod
    def of(cls, public_url: str, issuer: str) -> Self:
        """The resource with these addresses.

        Raises:
            Misconfigured: One is not https (loopback excepted), or is not the kind of address that it should be.
        """
        address = check_public_url(public_url)
        check_url(issuer, "CONNECTOR_MCP_OAUTH_ISSUER")
        return cls(address, issuer)

    @property
    def identifiers(self) -> tuple[str, ...]:
        """What a token may name as its audience: the server, or one of its faces."""
        return (self.public_url, *(self.public_url + face for face in FACES))

    def metadata_url(self, path: str) -> str:
        """Where the metadata of what is at this path stands."""
        face = "/sse" if path.startswith("/messages") else path
        return self.public_url + WELL_KNOWN + (face if face in FACES else "")

    def routes(self) -> list[BaseRoute]:
        """The metadata documents, which need no token."""
        return [Route(WELL_KNOWN + face, self._metadata, methods=["GET"]) for face in ("", *FACES)]

    async def _metadata(self, request: Request) -> Response:
        document: dict[str, Any] = {
            "resource": self.public_url + request.url.path.removeprefix(WELL_KNOWN),
            "authorization_servers": [self.issuer],
            "scopes_supported": list(SCOPES),
            "bearer_methods_supported": ["header"],
            "resource_name": "connector-mcp",
        }
        return JSONResponse(document, headers={"Cache-Control": "public, max-age=3600"})


def check_public_url(address: str) -> str:
    """The address without a trailing slash.

    Raises:
        Misconfigured: It is not https (loopback excepted), or has a path or more.
    """
    setting = "CONNECTOR_MCP_PUBLIC_URL"
    parts = check_url(address, setting)
    if parts.path.strip("/"):
        raise Misconfigured(
            f"{setting} is {address!r}, which has a path.", fix="Leave the path out: https://mcp.example.com."
        )
    return f"{parts.scheme}://{parts.netloc.lower()}"


def public_hosts(public_url: str) -> tuple[str, ...]:
    """The Host headers that clients send to this address: they leave the scheme's own port out, or do not."""
    parts = urlsplit(check_public_url(public_url))
    if parts.port is not None:
        return (parts.netloc,)
    return (parts.netloc, f"{parts.netloc}:{443 if parts.scheme == 'https' else 80}")


def check_url(address: str, setting: str) -> SplitResult:
    """The parts of an address that may be trusted with keys and tokens.

    Raises:
        Misconfigured: It is not https (loopback excepted), or has a user, a query or a fragment.
    """
    wrong = ""
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise _wrong_url(address, setting, "is no address") from None
    if not host or parts.scheme not in {"https", "http"} or not address.isprintable() or " " in address:
        wrong = "is no https address"
    elif parts.scheme == "http" and not is_loopback(host):
        wrong = "is not https"
    elif "@" in parts.netloc or "?" in address or "#" in address:
        wrong = "has a user, a query or a fragment"
    if wrong:
        raise _wrong_url(address, setting, wrong)
    return parts


def _wrong_url(address: str, setting: str, wrong: str) -> Misconfigured:
    shown = "something with a user" if "@" in address else repr(address)
    return Misconfigured(
        f"{setting} is {shown}, which {wrong}.", fix=f"Set {setting} to an address such as https://login.example.com."
    )
