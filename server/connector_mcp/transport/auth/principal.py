"""The holder of a request's token, and the scopes that a token can grant.

A module of its own because the MCP handlers read it on every transport: stdio must not import what only HTTP needs.
"""

from __future__ import annotations

from typing import Final

from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken

SCOPES: Final = ("connectors:read", "connectors:write", "connectors:destroy")
"""The scopes that a token can grant. No scope includes another."""

MISSING_SCOPE: Final = "connector_mcp.missing_scope"
"""The key of an ASGI scope under which the request's `MissingScope` is."""


class MissingScope:
    """The scope without which the engine refused a call; None if it did not."""

    name: str | None = None


class TokenRefused(Exception):
    """A token is not valid. The text is the reason, for the log; it never holds the token."""


class VerificationUnavailable(Exception):
    """A token cannot be checked at the moment, so it is not accepted; `retry_after` is in seconds."""

    def __init__(self, message: str, *, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Principal(AuthenticatedUser):
    """The holder of a token, in the form by which the SDK ties a session to the caller that opened it.

    Client, issuer and subject make up that identity, so a caller keeps its session when its token is renewed.
    """

    def __init__(
        self,
        name: str,
        granted: frozenset[str] | None,
        *,
        profiles: frozenset[str] | None = None,
        client_id: str | None = None,
        issuer: str | None = None,
        subject: str | None = None,
    ) -> None:
        super().__init__(
            AccessToken(
                token="",
                client_id=name if client_id is None else client_id,
                scopes=sorted(granted or ()),
                subject=subject,
                claims=None if issuer is None else {"iss": issuer},
            )
        )
        self.name = name
        self.granted = granted
        """The granted scopes; None for a token without scopes, which may do everything."""
        self.profiles = profiles
        """The profiles that the caller may act under; None for all."""
        self.can_step_up = issuer is not None
        """Whether the caller can ask the issuer for a token with more scopes."""
