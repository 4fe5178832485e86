"""What a manifest can describe on ConductorOne: apps, and the connectors in them."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import Field
from pydantic.alias_generators import to_camel

from connector_mcp.json_values import JsonObject, items, members
from connector_mcp.operations.conductorone.apps import CreateApp, ListApps, UpdateApp
from connector_mcp.operations.conductorone.connector_setup import (
    CreateConnector,
    CreateDelegatedConnector,
    DeleteConnector,
    UpdateDelegatedConnector,
)
from connector_mcp.operations.conductorone.connectors import ListConnectors, UpdateConnector
from connector_mcp.operations.conductorone.env_config import configuration_of, is_withheld, plain_for
from connector_mcp.operations.connector_types import connector_type
from connector_mcp.operations.provisioning.kinds import SET, Changes, Config, Kind, NamedEntry, ToolCall, given, nested

_UNSPECIFIED = "APP_USER_IDENTITY_MATCHING_UNSPECIFIED"


class AppEntry(NamedEntry):
    """An app. It cannot be deleted here."""

    description: Annotated[str | None, Field(description="What the app is for.")] = None
    instructions: Annotated[str | None, Field(description="Shown to people who request access.")] = None
    grant_policy_id: Annotated[str | None, Field(description="Policy that decides on grants.")] = None
    revoke_policy_id: Annotated[str | None, Field(description="Policy that decides on revocations.")] = None
    certify_policy_id: Annotated[str | None, Field(description="Policy that decides in access reviews.")] = None
    monthly_cost_usd: Annotated[int | None, Field(ge=0, description="Cost of a seat in a month.")] = None
    identity_matching: Annotated[str | None, Field(description="How accounts are matched with people.")] = None
    strict_access_entitlement_provisioning: Annotated[
        bool | None, Field(description="true: grants include the access entitlement.")
    ] = None
    annotations: Annotated[dict[str, str] | None, Field(description="Notes. Those left out stay.")] = None


_SETTINGS = [name for name in AppEntry.model_fields if name not in NamedEntry.model_fields]


class Apps(Kind):
    """Apps, which connectors belong to."""

    section, platform, noun = "apps", "conductorone", "app"
    entry = AppEntry
    lists_all = ListApps
    creation = CreateApp
    known_by = "displayName"
    shown: ClassVar = {"name": "displayName"} | {name: to_camel(name) for name in _SETTINGS}
    argument_names: ClassVar = {"display_name": "name"}

    def rows(self, data: Any, within: str) -> list[JsonObject]:
        return [row for row in map(members, items(data)) if not row.get("deletedAt")]

    def observe(self, record: JsonObject, within: str) -> JsonObject:
        shown = super().observe(record, within)
        return shown | ({"identity_matching": None} if shown["identity_matching"] == _UNSPECIFIED else {})

    def update(self, identifier: str, within: str, entry: JsonObject, changes: Changes) -> tuple[ToolCall, ...]:
        return (self.call(UpdateApp, {path[0]: entry[path[0]] for path in changes} | {"id": identifier}),)


class AppConnectorEntry(NamedEntry):
    """A connector of an app. Without a config, a person enters it in ConductorOne's console."""

    app: Annotated[str, Field(description="Id of the app, such as ${apps.workforce.id}.")]
    type: Annotated[str, Field(description="Catalog id; describe_connector_type lists them.")]
    config: Config = {}
    description: Annotated[str | None, Field(description="Description in the console.")] = None
    owners: Annotated[list[str] | None, Field(description="Ids of the users who own it.")] = None


class AppConnectors(Kind):
    """Connectors of apps."""

    section, platform, noun, check = "app_connectors", "conductorone", "connector", "connector"
    entry = AppConnectorEntry
    lists_all = ListConnectors
    deletion = DeleteConnector
    known_by = "displayName"
    shown: ClassVar = {"name": "displayName", "type": "catalogId", "description": "description"}
    parents = ("app",)
    fixed = frozenset({"app", "type"})
    lists: ClassVar = {"owners": SET, "config.*": SET}
    refers: ClassVar = {"app": "apps"}
    argument_names: ClassVar = {"app_id": "app", "catalog_id": "type", "display_name": "name", "user_ids": "owners"}

    def observe(self, record: JsonObject, within: str) -> JsonObject:
        known = connector_type("conductorone", record.get("catalogId"))
        schemas = members(known.config.get("properties")) if known else {}
        held = configuration_of(record.get("config"))
        config = {
            key: plain_for(members(schemas.get(key)), value) for key, value in held.items() if not is_withheld(value)
        }
        return super().observe(record, within) | {"config": config, "owners": items(record.get("userIds"))}

    def create(self, entry: JsonObject) -> ToolCall | None:
        return self.call(CreateConnector if entry.get("config") else CreateDelegatedConnector, entry)

    def finish(self, entry: JsonObject, identifier: str) -> ToolCall | None:
        """Name a connector that was created with its config: its type names it at first."""
        known = self.config_type(entry)
        if not entry.get("config") or (known and known.name == entry["name"]):
            return None
        named = {"app_id": entry["app"], "connector_id": identifier, "display_name": entry["name"]}
        return ToolCall(UpdateDelegatedConnector, named)

    def update(self, identifier: str, within: str, entry: JsonObject, changes: Changes) -> tuple[ToolCall, ...]:
        settings = {name: changes.get((name,)) for name in ("name", "description", "owners")}
        changed = given(config=nested(changes, "config") or None, **settings)
        return (self.call(UpdateConnector, changed | {"app": within, "id": identifier}),) if changed else ()


KINDS = (Apps, AppConnectors)
