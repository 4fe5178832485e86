"""Vectorize: its address, credentials and errors, and what its operations share (facts: sections 2 and 4)."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from connector_mcp.json_values import joined, members
from connector_mcp.operations.fields import ShownBy, in_query
from connector_mcp.operations.operation import Operation, Record
from connector_mcp.operations.platform import ApiKey, Platform, UpstreamMessage, Variable


def read_error(body: Any) -> UpstreamMessage:
    """Read `{error, details, failedUpdates, successfulUpdates}`; a failure may follow a partly applied change."""
    said = members(body)
    applied = {key: said[key] for key in ("failedUpdates", "successfulUpdates") if said.get(key)}
    return UpstreamMessage(message=joined(said.get("error"), said.get("details")), details=applied)


VECTORIZE = Platform(
    name="vectorize",
    title="Vectorize",
    base_url=Variable("VECTORIZE_BASE_URL", "Address of the API.", default="https://api.vectorize.io/v1"),
    credentials=ApiKey(Variable("VECTORIZE_API_KEY", "Access token made in the Vectorize console.", secret=True)),
    read_error=read_error,
    tenant=Variable("VECTORIZE_ORGANIZATION_ID", "Organization that owns the connectors."),
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

OrganizationId = Annotated[
    str, Field(description="Organization that owns the connectors: its id, as the console's address shows it.")
]
WorkspaceId = Annotated[
    str | None,
    Field(description="Id of a workspace, to keep to that one. vectorize_get_workspaces lists them."),
    in_query(),
    ShownBy("vectorize_get_workspaces"),
]


class Acknowledged(Record):
    """An answer that consists of one sentence."""

    message: str | None = None


class VectorizeOperation(Operation):
    """Base of Vectorize's operations."""

    on = VECTORIZE

    organization_id: OrganizationId
