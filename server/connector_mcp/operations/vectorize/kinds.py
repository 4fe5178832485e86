"""What a manifest can describe on Vectorize: connectors, users of sources, and pipelines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from connector_mcp.json_values import JsonObject, items, members
from connector_mcp.operations.operation import at
from connector_mcp.operations.overview import Read, read
from connector_mcp.operations.provisioning.kinds import (
    SET,
    Changes,
    Config,
    Entries,
    Entry,
    Kind,
    NamedEntry,
    ToolCall,
    given,
    keyed,
)
from connector_mcp.operations.vectorize import (
    ai_platform_connectors,
    destination_connectors,
    pipelines,
    source_connectors,
    source_users,
)
from connector_mcp.operations.vectorize.connectors import ConnectorUpdate

_USERS = "authorized-users"

Workspace = Annotated[str | None, Field(description="Id of the workspace to create it in, if not the first.")]


class ConnectorEntry(NamedEntry):
    """A connector. The built-in destination and AI platform, of type VECTORIZE, can only be named."""

    type: Annotated[str, Field(description="Connector type; describe_connector_type lists them.")]
    config: Config = {}
    workspace: Workspace = None


class ConnectorKind(Kind):
    """Base of the three kinds of connectors."""

    platform = "vectorize"
    entry = ConnectorEntry
    shown: ClassVar = {"name": "name", "type": "type"}
    fixed = frozenset({"name", "type"})
    lists: ClassVar = {"config.*": SET}
    argument_names: ClassVar = {"connectors[0]": "", "workspace_id": "workspace"}
    computed = frozenset({_USERS})

    change: ClassVar[type[ConnectorUpdate]]

    def observe(self, record: JsonObject, within: str) -> JsonObject:
        if "configDoc" not in record:
            return super().observe(record, within)
        config = {key: value for key, value in members(record["configDoc"]).items() if key != _USERS}
        return super().observe(record, within) | {"config": config}

    def create(self, entry: JsonObject) -> ToolCall | None:
        if entry["type"] == pipelines.BUILT_IN:
            return None
        connector = given(name=entry["name"], type=entry["type"], config=entry.get("config") or None)
        return super().create(entry | {"connectors": [connector]})

    def update(self, identifier: str, within: str, entry: JsonObject, changes: Changes) -> tuple[ToolCall, ...]:
        arguments = {self.change.http.placeholders[-1]: identifier, "config": entry.get("config", {})}
        return (ToolCall(self.change, arguments),)


class Sources(ConnectorKind):
    """Source connectors."""

    section, noun, check = "sources", "source connector", "source connector"
    lists_all, creation, _, change, deletion = source_connectors.OPERATIONS


class Destinations(ConnectorKind):
    """Destination connectors."""

    section, noun, check = "destinations", "destination connector", "destination connector"
    lists_all, creation, _, change, deletion = destination_connectors.OPERATIONS


class AiPlatforms(ConnectorKind):
    """AI platform connectors."""

    section, noun, check = "ai_platforms", "AI platform connector", "AI platform connector"
    lists_all, creation, _, change, deletion = ai_platform_connectors.OPERATIONS


class SourceUserEntry(Entry):
    """A user of a multi-user source connector."""

    source: Annotated[str, Field(description="Id of the source connector, such as ${sources.drive.id}.")]
    user: Annotated[str, Field(min_length=1, description="Id of the user in your own application.")]
    selected_files: Annotated[
        JsonObject | None, Field(description="All that is ingested of the user. No read shows it.")
    ] = None
    refresh_token: Annotated[str | None, Field(description="secret://NAME; of a Drive or Dropbox user.")] = None
    access_token: Annotated[str | None, Field(description="secret://NAME; of a Notion user.")] = None


class SourceUsers(Kind):
    """Users of multi-user source connectors. Reads show only that they are there."""

    section, platform, noun = "source_users", "vectorize", "user of a source connector"
    entry = SourceUserEntry
    lists_all = source_connectors.GetSourceConnector
    creation = source_users.AddUserToSourceConnector
    shown: ClassVar = {"user": "id"}
    known_by = "id"
    key_member = "user"
    parents = ("source",)
    fixed = frozenset({"source", "user"})
    hidden = frozenset({"selected_files"})
    refers: ClassVar = {"source": "sources"}
    argument_names: ClassVar = {"source_connector_id": "source", "user_id": "user"}

    def rows(self, data: Any, within: str) -> list[JsonObject]:
        return [{"id": user} for user in items(at(data, f"configDoc.{_USERS}")) if isinstance(user, str)]

    def update(self, identifier: str, within: str, entry: JsonObject, changes: Changes) -> tuple[ToolCall, ...]:
        sent = {"source", "user"} | {path[0] for path in changes}
        changed = {member: value for member, value in entry.items() if member in sent}
        return (self.call(source_users.UpdateUserInSourceConnector, changed),)

    def delete(self, identifier: str, within: str) -> ToolCall | None:
        user = {"source_connector_id": within, "user_id": identifier}
        return ToolCall(source_users.DeleteUserFromSourceConnector, user)

    def secret_members(self, entry: JsonObject) -> Sequence[str]:
        return ("refresh_token", "access_token")


class PartEntry(BaseModel):
    """A connector in a pipeline."""

    model_config = ConfigDict(extra="forbid", strict=True)

    id: Annotated[str, Field(description="Id of the connector, such as ${sources.docs.id}.")]
    type: Annotated[str | None, Field(description="Its type; left out, that of the entry that id refers to.")] = None
    config: Annotated[JsonObject | None, Field(description="Keys of the type's pipeline_config.")] = None


class PipelineEntry(NamedEntry):
    """A pipeline. It cannot be changed, so that every difference replaces it."""

    sources: Annotated[list[PartEntry], Field(min_length=1, description="Source connectors to read from.")]
    destination: Annotated[PartEntry, Field(description="Destination connector to write to.")]
    ai_platform: Annotated[PartEntry, Field(description="AI platform connector that makes the vectors.")]
    schedule: Annotated[
        Literal["manual", "realtime"], Field(description="realtime reads until stopped, manual at each start.")
    ]
    workspace: Workspace = None


_PARTS = {"destination": "destinationConnector", "ai_platform": "aiPlatformConnector"}


class Pipelines(Kind):
    """Pipelines."""

    section, platform, noun, check = "pipelines", "vectorize", "pipeline", "pipeline"
    entry = PipelineEntry
    lists_all = pipelines.GetPipelines
    deletion = pipelines.DeletePipeline
    fixed = frozenset({"name", "sources", "destination", "ai_platform", "schedule"})
    lists: ClassVar = {"sources": keyed("id"), "sources.config.*": SET}
    refers: ClassVar = {"sources.id": "sources", "destination.id": "destinations", "ai_platform.id": "ai_platforms"}
    argument_names: ClassVar = {
        "pipeline_name": "name",
        "source_connectors": "sources",
        "destination_connector": "destination",
        "ai_platform_connector": "ai_platform",
        "workspace_id": "workspace",
    }

    def reading(self, identifier: str, within: str) -> Read | None:
        return read(pipelines.GetPipeline, pipeline_id=identifier)

    def observe(self, record: JsonObject, within: str) -> JsonObject:
        stored, shown = members(record.get("configDoc")), JsonObject(name=record.get("name"))
        sources = list(map(_part, items(stored.get("sourceConnectors"))))
        shown["sources"] = sources or _parts_of(record, "sourceConnector")
        for member, name in _PARTS.items():
            ids = "aiPlatform" if member == "ai_platform" else name
            shown[member] = _part(stored[name]) if name in stored else next(iter(_parts_of(record, ids)), None)
        if (schedule := at(stored, "schedule.type")) is not None:
            shown["schedule"] = schedule
        return shown

    def complete(self, entry: JsonObject, entries: Entries) -> JsonObject:
        """Fill in the types of connectors that the manifest describes."""

        def completed(part: JsonObject) -> JsonObject:
            section, _, key = part["id"].removeprefix("${").removesuffix(".id}").partition(".")
            kind = entries.get(section, {}).get(key, {}).get("type")
            return part if part.get("type") or kind is None else part | {"type": kind}

        parts = {member: completed(entry[member]) for member in _PARTS}
        return entry | {"sources": list(map(completed, entry["sources"]))} | parts

    def create(self, entry: JsonObject) -> ToolCall | None:
        sources = [{"config": {}} | part for part in entry["sources"]]
        whole = entry | {"sources": sources, "ai_platform": {"config": {}} | entry["ai_platform"]}
        return self.call(pipelines.CreatePipeline, whole)


def _part(stored: Any) -> JsonObject:
    return {"id": at(stored, "id"), "type": at(stored, "type"), "config": members(at(stored, "config"))}


def _parts_of(record: JsonObject, name: str) -> list[JsonObject]:
    """The connectors of a pipeline of which only ids and types are shown."""
    ids, types = items(record.get(f"{name}AuthIds")), items(record.get(f"{name}Types"))
    return [{"id": each, "type": kind} for each, kind in zip(ids, types, strict=False)]


KINDS = (Sources, Destinations, AiPlatforms, SourceUsers, Pipelines)
