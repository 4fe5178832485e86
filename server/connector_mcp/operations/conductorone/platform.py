"""ConductorOne: where it is, how it is called, how it reports errors (facts: sections 1 to 3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from connector_mcp.json_values import members, text
from connector_mcp.operations.platform import Platform, SignedAssertion, UpstreamMessage, Variable


def read_error(body: Any) -> UpstreamMessage:
    """Read the JSON form of a gRPC status; `code` is the gRPC number and the message carries the request id."""
    said = members(body)
    return UpstreamMessage(code=text(said.get("code")), message=text(said.get("message")))


def base_url_from(values: Mapping[str, str]) -> str | None:
    """Derive the tenant's address from a client id `<name>@<host>/<use>`."""
    _, at, rest = values.get("CONDUCTORONE_CLIENT_ID", "").partition("@")
    host = rest.partition("/")[0]
    return f"https://{host.lower()}" if at and "." in host else None


CONDUCTORONE = Platform(
    name="conductorone",
    title="ConductorOne",
    base_url=Variable("CONDUCTORONE_BASE_URL", "Address of the tenant; taken from the client id when that names it."),
    credentials=SignedAssertion(
        client_id=Variable("CONDUCTORONE_CLIENT_ID", "Client id, such as name-12345@acme.conductor.one/pcc."),
        client_secret=Variable(
            "CONDUCTORONE_CLIENT_SECRET", "Client secret that belongs to the client id.", secret=True
        ),
        access_token=Variable(
            "CONDUCTORONE_ACCESS_TOKEN", "A ready access token, instead of id and secret.", secret=True
        ),
        token_path="/auth/v1/token",  # noqa: S106 - a path
        secret_prefix="secret-token:conductorone.com:",  # noqa: S106 - a prefix
    ),
    read_error=read_error,
    foreign_variables=frozenset({"CONDUCTORONE_OIDC_TOKEN", "CONDUCTORONE_TENANT_DOMAIN", "CONDUCTORONE_SERVER_URL"}),
    empty_answer={},
    base_url_from=base_url_from,
    writing_needs="the role Connector Administrator or Super Administrator (for applications that they own, "
    "Application Administrator), and credentials with the full scope",
    own_roles_path="/api/v1/auth/introspect",
)
