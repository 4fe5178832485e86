"""Vectorize: where it is, how it is called, how it reports errors (facts: sections 2 and 4)."""

from __future__ import annotations

from typing import Any

from connector_mcp.operations.platform import ApiKey, Platform, UpstreamMessage, Variable


def read_error(body: Any) -> UpstreamMessage:
    """Read `{error, details, failedUpdates, successfulUpdates}`; a failure may follow a partly applied change."""
    if not isinstance(body, dict):
        return UpstreamMessage()
    error, details = body.get("error"), body.get("details")
    said = " ".join(str(part) for part in (error, details) if part)
    applied = {key: body[key] for key in ("failedUpdates", "successfulUpdates") if body.get(key)}
    return UpstreamMessage(message=said or None, details=applied)


VECTORIZE = Platform(
    name="vectorize",
    title="Vectorize",
    base_url=Variable("VECTORIZE_BASE_URL", "Address of the API.", default="https://api.vectorize.io/v1"),
    credentials=ApiKey(Variable("VECTORIZE_API_KEY", "Access token made in the Vectorize console.", secret=True)),
    read_error=read_error,
    tenant=Variable("VECTORIZE_ORGANIZATION_ID", "Organization whose connectors are managed."),
    tenant_argument="organization_id",
    options=(
        Variable(
            "VECTORIZE_CREATE_BODY",
            "`object` sends one connector a request; `array` sends the list that older servers take.",
            default="object",
            choices=("object", "array"),
        ),
    ),
)
