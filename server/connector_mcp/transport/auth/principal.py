"""Who holds the token of a request. A module of its own, so that stdio does not import what only HTTP needs."""

from __future__ import annotations

from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken


class Principal(AuthenticatedUser):
    """The holder of a token, in the form by which the SDK ties a session to who opened it.

    Client, issuer and subject make that identity, so that the holder of a renewed token keeps the session.
    """

    def __init__(
        self,
        name: str,
        granted: frozenset[str] | None,
        *,
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
