"""The operation that belongs to no platform: what a connector type's config must look like."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Annotated, Any, Literal

from pydantic import Field

from connector_mcp.errors import InvalidArguments, Issue
from connector_mcp.operations.connector_types import connector_types, example
from connector_mcp.operations.operation import LocalOperation, Record


class ConnectorTypeRecord(Record):
    """A connector type, or the list of them."""

    type: str | None = None
    name: str | None = None
    creatable: bool | None = None
    types: list[str] | None = None


class DescribeConnectorType(LocalOperation):
    """Give the exact config schema of a connector type, with its secret keys and an example. Call it before creating a
    connector or changing a config; without `type` it lists the types."""

    output = ConnectorTypeRecord
    example = {"platform": "vectorize", "type": "AWS_S3"}

    platform: Annotated[
        Literal["vectorize", "logto", "versori", "conductorone"], Field(description="Platform of the connector type.")
    ]
    type: Annotated[
        str | None, Field(description="Vectorize type, Logto factory id, Versori protocol or ConductorOne catalog id.")
    ] = None

    def answer_locally(self) -> Any:
        known = connector_types(self.platform)
        if self.type is None:
            return {"types": [f"{entry.type}: {entry.name}" for entry in known.values()]}
        found = known.get(self.type) or next((e for e in known.values() if e.name.lower() == self.type.lower()), None)
        if found is None:
            names = [name for entry in known.values() for name in (entry.type, entry.name)]
            near = get_close_matches(self.type, names, n=3, cutoff=0.5)
            wanted = f"a {self.platform} connector type" + (f", such as {', '.join(near)}" if near else "")
            raise InvalidArguments(
                self.tool_name(),
                [Issue("type", "an unknown type", wanted, near[0] if near else next(iter(known), None))],
                fix=f"Call {self.tool_name()} with only platform={self.platform!r} to list the types.",
            )
        described = {
            "type": found.type,
            "name": found.name,
            "kind": found.kind,
            "creatable": found.creatable,
            "secret_keys": list(found.secret_paths),
            "config_schema": found.config,
            "config_example": example(found.config),
        }
        if found.notes:
            described["notes"] = list(found.notes)
        return described | found.traits
