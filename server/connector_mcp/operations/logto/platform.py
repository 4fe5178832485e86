"""Logto: where it is, how it is called, how it reports errors (facts: sections 1 to 3)."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from connector_mcp.json_values import joined, members, text
from connector_mcp.operations.platform import ClientCredentials, Platform, UpstreamMessage, Variable


def default_resource(endpoint: str) -> str:
    """The Management API's indicator: the tenant's own on Logto Cloud, elsewhere that of self-hosted servers."""
    host = urlsplit(endpoint).hostname or ""
    return f"https://{host}/api" if host.endswith(".logto.app") else "https://default.logto.app/api"


def read_error(body: Any) -> UpstreamMessage:
    """Read `{code, message, data, details}`. `data` is left out: it may hold token claims."""
    said = members(body)
    return UpstreamMessage(code=text(said.get("code")), message=joined(said.get("message"), said.get("details")))


def blames_credentials(said: UpstreamMessage) -> bool:
    """Codes of `connector.*` on a 401 come from the provider behind a connector, not from the check of our token."""
    return not (said.code or "").startswith("connector.")


LOGTO = Platform(
    name="logto",
    title="Logto",
    base_url=Variable("LOGTO_ENDPOINT", "Address of the tenant, such as https://acme.logto.app."),
    credentials=ClientCredentials(
        client_id=Variable("LOGTO_APP_ID", "Id of a machine-to-machine application."),
        client_secret=Variable("LOGTO_APP_SECRET", "Secret of that application.", secret=True),
        token_path="/oidc/token",  # noqa: S106 - a path
        resource=Variable("LOGTO_RESOURCE", "Indicator of the Management API; needed for self-hosted multi-tenancy."),
        scope="all",
        default_resource=default_resource,
    ),
    read_error=read_error,
    requests_per_second=20.0,
    foreign_variables=frozenset({"LOGTO_ADMIN_ENDPOINT", "LOGTO_COOKIE_SECRET"}),
    blames_credentials=blames_credentials,
    writing_needs="a machine-to-machine role with the permission `all` of the Logto Management API",
)
