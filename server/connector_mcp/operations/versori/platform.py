"""Versori: where its two APIs are, how they are called, how they report errors (facts: sections 1 and 2)."""

from __future__ import annotations

from typing import Any

from connector_mcp.json_values import joined, members, text
from connector_mcp.operations.platform import ApiKey, OtherApi, Platform, UpstreamMessage, Variable


def read_error(body: Any) -> UpstreamMessage:
    """Read `{code, message, fields, details}`; the field messages say what is wrong where."""
    said = members(body)
    fields = {"fields": said["fields"]} if said.get("fields") else {}
    message = joined(said.get("message"), said.get("details"))
    return UpstreamMessage(code=text(said.get("code")), message=message, details=fields)


PLATFORM_V2 = OtherApi(
    name="Platform API v2",
    address=Variable(
        "VERSORI_PLATFORM_URL",
        "Address of the Platform API v2; needed only if VERSORI_BASE_URL does not end in /api/connect/v1.",
    ),
    base_ending="/api/connect/v1",
    path="/api/v2",
)
"""Systems, connections, end users and projects. `VERSORI_BASE_URL` stays the address of the Connect API v1."""

VERSORI = Platform(
    name="versori",
    title="Versori",
    base_url=Variable(
        "VERSORI_BASE_URL", "Address of the Connect API v1.", default="https://platform.versori.com/api/connect/v1"
    ),
    credentials=ApiKey(
        Variable("VERSORI_API_KEY", "API key, or a signing-key JWT with the prefix JWT.", secret=True),
        prefix=Variable("VERSORI_AUTH_PREFIX", "Scheme word before the key.", default="Bearer"),
    ),
    read_error=read_error,
    tenant=Variable("VERSORI_ORGANISATION_ID", "Organisation that owns the connectors."),
    tenant_argument="organisation_id",
    # The settings of an auth scheme of type api-key: where a key goes, not the key.
    holder_keys=frozenset({"apikey"}),
    secret_paths=("credential.data",),
    other_apis=(PLATFORM_V2,),
)
