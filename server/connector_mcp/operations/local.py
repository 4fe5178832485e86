"""The operations that this server answers by itself: describing connector types and listing secrets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from connector_mcp.errors import InvalidArguments, Issue
from connector_mcp.json_values import JsonObject
from connector_mcp.operations.connector_types import ConnectorType, connector_types, example
from connector_mcp.operations.operation import LocalOperation, Operation, Record
from connector_mcp.operations.situation import Situation
from connector_mcp.operations.type_names import only_type, unknown_type
from connector_mcp.suggest import nearest

LIST_SECRETS = "list_secrets"
"""The tool that is served only where a place for secrets is configured."""


@dataclass(frozen=True)
class TypeSource:
    """How a platform itself describes its connector types. What it says wins over what this server ships."""

    read: Callable[[str], Operation | None]
    """The read of a type's description; None where the shipped one suffices or there cannot be such a type."""
    describe: Callable[[str, JsonObject], ConnectorType | None]
    """The type with an id as the answer of that read describes it; None if the platform does not have it."""


class ConnectorTypeRecord(Record):
    """A connector type, or the list of them."""

    type: str | None = None
    name: str | None = None
    creatable: bool | None = None
    types: list[str] | None = None


def describe_connector_type(sources: Mapping[str, TypeSource | None]) -> type[LocalOperation]:
    """Make the operation for these platforms, with the source of each one that describes its types itself."""

    class DescribeConnectorType(LocalOperation):
        """Get the exact config schema of a connector type, with its secret keys and an example. Call it before you
        create a connector or change a config. Without `type` it lists the types."""

        output = ConnectorTypeRecord
        example = {"platform": next(iter(sources), "")}

        platform: Annotated[
            str, Field(description="Where the connector is or will be.", json_schema_extra={"enum": [*sources]})
        ]
        type: Annotated[
            str | None,
            Field(description="Id of the type as connectors show it, or words of its name such as s3, google or http."),
        ] = None

        def type_read(self, current: Any = None) -> Operation | None:
            """The platform's own description of the type."""
            source, found = sources.get(self.platform), only_type(self.platform, self.type or "")
            return source.read(found.type if found else self.type or "") if source else None

        def answer_locally(self, situation: Situation) -> Any:
            if self.platform not in sources:
                near = nearest(self.platform, sources, count=1)
                raise InvalidArguments(
                    self.tool_name(),
                    [
                        Issue(
                            "platform", "a platform that is not served", f"one of {', '.join(sources)}", candidates=near
                        )
                    ],
                )
            if self.type is None:
                return {"types": [f"{each.type}: {each.name}" for each in connector_types(self.platform).values()]}
            found, source, described = only_type(self.platform, self.type), sources[self.platform], situation.described
            if source and described:
                found = source.describe(found.type if found else self.type, described)
            if found is None:
                raise InvalidArguments(
                    self.tool_name(),
                    [unknown_type("type", self.platform, self.type, f"a {self.platform} connector type")],
                    fix=f"Call again with the id of a type, or with only platform={self.platform!r} to list the types.",
                )
            return _description(found, self.type, by_platform=bool(described))

    return DescribeConnectorType


def _description(found: ConnectorType, name: str, *, by_platform: bool) -> JsonObject:
    notes = list(found.notes)
    if name != found.type:
        notes.insert(0, f"{found.type} is the only type that this name fits.")
    described = {
        "type": found.type,
        "name": found.name,
        "kind": found.kind,
        "creatable": found.creatable,
        "described_by": "the platform" if by_platform else "this server",
        "secret_keys": list(found.secret_paths),
        "config_schema": found.config,
        "config_example": example(found.config),
    }
    return described | ({"notes": notes} if notes else {}) | found.traits


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

        def answer_locally(self, situation: Situation) -> Any:
            return list(listing())

    return ListSecrets
