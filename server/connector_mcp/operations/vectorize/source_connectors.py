"""Vectorize source connectors (facts: sections 3, 5 and 6, traps 1, 4 to 7, 14, 15 and 19)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from connector_mcp.errors import Issue
from connector_mcp.json_values import JsonObject, items, members
from connector_mcp.operations.connector_types import connector_type
from connector_mcp.operations.fields import in_body, in_query
from connector_mcp.operations.operation import (
    DELETE,
    GET,
    PATCH,
    POST,
    ConfigUse,
    Effect,
    ListOperation,
    Loss,
    Operation,
    Paging,
    Path,
    Record,
    Situation,
    StoredConfig,
    Target,
    at,
)
from connector_mcp.operations.platform import Request
from connector_mcp.operations.update import Merge, UpdateOperation
from connector_mcp.operations.vectorize.platform import VECTORIZE

OrganizationId = Annotated[str, Field(description="Vectorize organization id.")]
SourceConnectorId = Annotated[str, Field(description="Source connector id.")]
WorkspaceId = Annotated[str | None, Field(description="Workspace id."), in_query()]

# The types that a create request may name: those of the vendor's schema, and the multi-user types of its SDK.
SourceType = Literal[
    "AWS_S3",
    "AZURE_BLOB",
    "CONFLUENCE",
    "DISCORD",
    "DROPBOX_OAUTH_MULTI",
    "DROPBOX_OAUTH_MULTI_CUSTOM",
    "FILE_UPLOAD",
    "FIRECRAWL",
    "FIREFLIES",
    "GCS",
    "GITHUB",
    "GOOGLE_DRIVE",
    "GOOGLE_DRIVE_OAUTH_MULTI",
    "GOOGLE_DRIVE_OAUTH_MULTI_CUSTOM",
    "NOTION_OAUTH_MULTI",
    "NOTION_OAUTH_MULTI_CUSTOM",
    "ONE_DRIVE",
    "SHAREPOINT",
    "WEB_CRAWLER",
    "ZOOM",
    "ZOOM_ADMIN",
]

CONNECTORS = "/org/{organization_id}/connectors/sources"
CONNECTOR = f"{CONNECTORS}/{{source_connector_id}}"


class SourceConnector(Record):
    """A source connector as Vectorize shows it; secrets are normally withheld from `configDoc`."""

    id: str | None = None
    type: str | None = None
    name: str | None = None
    config_doc: JsonObject | None = None
    created_at: str | None = None
    verification_status: str | None = None
    error_message: str | None = None


class CreationOutcome(Record):
    """The outcome for one of the connectors to create."""

    name: str | None = None
    id: str | None = None


class UpdatedSourceConnector(SourceConnector):
    """The connector after an update, and the pipelines that use it."""

    pipeline_ids: list[str] | None = None


class Acknowledged(Record):
    """An answer that consists of one sentence."""

    message: str | None = None


class NewSourceConnector(BaseModel):
    """One connector to create."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: Annotated[str, Field(min_length=1, description="Display name.")]
    type: Annotated[SourceType, Field(description="Connector type.")]
    config: Annotated[JsonObject | None, Field(description="Config of that type.")] = None


class VectorizeOperation(Operation):
    """Base of Vectorize's operations."""

    on = VECTORIZE
    stored_config = StoredConfig(at="configDoc", type_at="type")

    organization_id: OrganizationId


class GetSourceConnectors(VectorizeOperation, ListOperation):
    """List the organization's source connectors, a page at a time."""

    http = GET(CONNECTORS)
    output = SourceConnector
    paging = Paging(items="sourceConnectors", limit="limit", cursor="nextToken", next="nextToken")
    summary = ("id", "type", "name", "verificationStatus", "errorMessage")
    example = {"limit": 20}

    workspace_id: WorkspaceId = None


class GetSourceConnector(VectorizeOperation):
    """Get a source connector with config, verification status and error message."""

    http = GET(CONNECTOR)
    effect = Effect.READ
    output = SourceConnector
    example = {"source_connector_id": "550e8400-e29b-41d4-a716-446655440000"}

    source_connector_id: SourceConnectorId


class CreateSourceConnector(VectorizeOperation):
    """Create source connectors. Call describe_connector_type first for the config keys; success does not prove the
    credentials, read verificationStatus."""

    http = POST(CONNECTORS)
    effect = Effect.CREATE
    output = CreationOutcome
    returns_list = True
    repeatable = False
    example = {
        "connectors": [{"name": "Docs site", "type": "WEB_CRAWLER", "config": {"seed-urls": ["https://a.example"]}}]
    }

    connectors: Annotated[list[NewSourceConnector], Field(min_length=1, description="Connectors to create.")]
    workspace_id: WorkspaceId = None

    def make_requests(self, situation: Situation) -> tuple[Request, ...]:
        """Make one request for each connector, or one with the list for servers that take an array (trap 1)."""
        bodies = [connector.model_dump(exclude_unset=True) for connector in self.connectors]
        whole = self.make_request(situation)
        parts: Sequence[Any] = [bodies] if situation.options.get("VECTORIZE_CREATE_BODY") == "array" else bodies
        return tuple(replace(whole, body=part) for part in parts)

    def find_configs(self, situation: Situation) -> tuple[ConfigUse, ...]:
        return tuple(
            ConfigUse(f"connectors[{index}].config", each.type, connector_type("vectorize", each.type), each.config)
            for index, each in enumerate(self.connectors)
            if each.config is not None
        )

    def find_problems(self, situation: Situation) -> tuple[Issue, ...]:
        """Find configs that are missing, and configs of a type that takes none."""
        issues: list[Issue] = []
        for index, connector in enumerate(self.connectors):
            known = connector_type("vectorize", connector.type)
            path = f"connectors[{index}].config"
            if known and known.config.get("required") and connector.config is None:
                needed = ", ".join(known.config["required"])
                issues.append(Issue(path, "nothing", f"the config of {connector.type}: {needed}"))
            if connector.type == "FILE_UPLOAD" and connector.config is not None:
                issues.append(Issue(path, "an object", "no config: FILE_UPLOAD takes none on create"))
        return tuple(issues)

    def shape_result(self, answers: Sequence[Any], situation: Situation) -> Any:
        """Take name and id of each created connector from either form of the answer (trap 1)."""
        created: list[Any] = []
        for answer in answers:
            one, several = at(answer, "connector"), at(answer, "connectors")
            created.extend(items(several) or [one])
        return created

    def read_back(self, data: Any) -> Operation | None:
        """The read of the first connector that was created."""
        identifier = data[0].get("id") if data and isinstance(data[0], dict) else None
        if not isinstance(identifier, str):
            return None
        return GetSourceConnector(organization_id=self.organization_id, source_connector_id=identifier)


SOURCE_CONNECTOR = Target(
    "source connector",
    GetSourceConnector,
    volatile=frozenset({"verificationStatus", "errorMessage", "lastUpdatedById", "lastUpdatedByEmail"}),
)


class UpdateSourceConnector(VectorizeOperation, UpdateOperation):
    """Replace the config of a source connector. Send it whole, secrets included: they cannot be read back. Affects its
    pipelines."""

    http = PATCH(CONNECTOR)
    output = UpdatedSourceConnector
    acts_on = SOURCE_CONNECTOR
    # Whether the platform merges inside the config is not documented, so keys that are not sent count as lost (trap 4).
    strategy = Merge()
    consequence = "Changes the config of source connector {name}; its pipelines use the new one."
    example = {
        "source_connector_id": "550e8400-e29b-41d4-a716-446655440000",
        "config": {"seed-urls": ["https://docs.example.com"]},
    }

    source_connector_id: SourceConnectorId
    config: Annotated[JsonObject, Field(description="Whole config."), in_body(stored_as="configDoc")]

    def find_configs(self, situation: Situation) -> tuple[ConfigUse, ...]:
        type_id = at(situation.current, "type")
        return (ConfigUse("config", type_id, connector_type("vectorize", type_id), self.config),)

    def describe_loss(self, path: Path, before: Any, *, overwritten: bool) -> Loss:
        if len(path) > 1 and not overwritten:
            return Loss(f"Unsets {'.'.join(path[1:])} of the config", path, before)
        return super().describe_loss(path, before, overwritten=overwritten)

    def shape_result(self, answers: Sequence[Any], situation: Situation) -> Any:
        updated, pipelines = at(answers[0], "data.updatedConnector"), at(answers[0], "data.pipelineIds")
        return members(updated) | {"pipelineIds": pipelines}


class DeleteSourceConnector(VectorizeOperation):
    """Delete a source connector for good. Pipelines that read from it stop ingesting."""

    http = DELETE(CONNECTOR)
    effect = Effect.DESTROY
    output = Acknowledged
    acts_on = SOURCE_CONNECTOR
    consequence = "Deletes source connector {name}; pipelines that read from it stop ingesting. It cannot be undone."
    example = {"source_connector_id": "550e8400-e29b-41d4-a716-446655440000"}

    source_connector_id: SourceConnectorId


OPERATIONS = (
    GetSourceConnectors,
    CreateSourceConnector,
    GetSourceConnector,
    UpdateSourceConnector,
    DeleteSourceConnector,
)
