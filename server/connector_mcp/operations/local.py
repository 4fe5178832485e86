"""The operations that this server answers by itself: describing connector types and listing secrets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from connector_mcp.errors import InvalidArguments, Issue
from connector_mcp.json_values import JsonObject
from connector_mcp.operations.connector_types import connector_types, example, similar_types
from connector_mcp.operations.operation import LocalOperation, Record

LIST_SECRETS = "list_secrets"
"""The tool that is served only where a place for secrets is configured."""


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
            near = [entry.type for entry in similar_types(self.platform, self.type)]
            names = ", ".join(f"{each} ({known[each].name})" for each in near)
            wanted = f"a {self.platform} connector type" + (f", such as {names}" if near else "")
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


class SecretRecord(Record):
    """A secret: its reference, and where it may be used."""

    reference: str | None = None
    source: str | None = None
    platforms: list[str] | None = None
    profiles: list[str] | None = None
    fields: list[str] | None = None
    changed: str | None = None


def list_secrets(listing: Callable[[], Sequence[JsonObject]]) -> type[LocalOperation]:
    """Make the operation that answers with what `listing` returns at each call."""

    class ListSecrets(LocalOperation):
        """List the secrets that the operator has stored, with where each may be used; values are never shown. Give the
        reference as the value of a secret field."""

        output = SecretRecord
        returns_list = True

        def answer_locally(self) -> Any:
            return list(listing())

    return ListSecrets
