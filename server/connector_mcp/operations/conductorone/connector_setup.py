"""ConductorOne app connectors: creating, naming and deleting them (facts: sections 3 to 6).

A connector is created with its config, or delegated: then a person enters the config in ConductorOne's console.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Annotated, Any

from pydantic import Field

from connector_mcp.errors import Issue
from connector_mcp.json_values import JsonObject, is_array, items, members
from connector_mcp.operations.conductorone import env_config
from connector_mcp.operations.conductorone.apps import APP_TARGET, EntitlementRef
from connector_mcp.operations.conductorone.catalog_schema import GetConfigurationSchema, described_type, is_catalog_id
from connector_mcp.operations.conductorone.connectors import (
    CONNECTOR,
    CONNECTOR_OF_ACTION,
    CONNECTOR_TARGET,
    CONNECTORS,
    EXAMPLE,
    EXAMPLE_APP,
    ConductorOneOperation,
    ConnectorChange,
    ConnectorId,
    ConnectorUpdate,
    ExpandMask,
    GetConnector,
)
from connector_mcp.operations.conductorone.platform import CONDUCTORONE
from connector_mcp.operations.connector_types import ConnectorType, connector_type
from connector_mcp.operations.fields import SECRET
from connector_mcp.operations.operation import Deleted, Effect, Operation, Record, at
from connector_mcp.operations.platform import DELETE, POST
from connector_mcp.operations.situation import ConfigUse, Situation
from connector_mcp.operations.type_names import unknown_type

CatalogId = Annotated[
    str, Field(description="Id of the connector's type in the catalog. describe_connector_type lists them.")
]
Description = Annotated[str | None, Field(description="Description of the connector in the console.")]
Owners = Annotated[list[str] | None, Field(description="Ids of the users who own it; left out, the caller does.")]
_OKTA = "2kG3aTftCcAvWtHZt2Ywry0dPn7"


class NewConnector(ConnectorChange):
    """Base of the operations that create a connector."""

    effect = Effect.CREATE
    acts_on = APP_TARGET
    repeatable = False
    reads_back = GetConnector

    catalog_id: CatalogId

    def kind(self, situation: Situation) -> ConnectorType | None:
        """The connector type, as the platform describes it if it was asked; None if it is not known."""
        if situation.described == {}:
            return None
        return described_type(self.catalog_id, situation.described or {})

    def type_read(self, current: Any = None) -> Operation | None:
        """The catalog's entry, which also says whether there is one."""
        return GetConfigurationSchema(catalog_id=self.catalog_id) if is_catalog_id(self.catalog_id) else None

    def find_problems(self, situation: Situation) -> Iterator[Issue]:
        yield from super().find_problems(situation)
        is_known = connector_type("conductorone", self.catalog_id) is not None
        if situation.described == {} or not (is_known or is_catalog_id(self.catalog_id)):
            wanted = "the catalogId of a type. describe_connector_type lists them"
            yield unknown_type("catalog_id", "conductorone", self.catalog_id, wanted)
        else:
            yield from self.find_type_problems(self.kind(situation))

    def find_type_problems(self, known: ConnectorType | None) -> Iterator[Issue]:
        """Find what the type does not allow."""
        yield from ()


class CreateConnector(NewConnector):
    """Create a connector with its config. describe_connector_type gives the config keys. It has no effect until a sync
    is done. Its name comes from the type; conductorone_update_delegated_connector changes it."""

    http = POST(f"{CONNECTORS}/create")
    consequence = "Creates a connector of type {catalog_id} in app {name}; its syncs read the app's accounts."
    next_step = "Nothing is synced yet: call conductorone_force_sync, then check_connector with the app as within."
    example = {
        "app_id": EXAMPLE_APP,
        "catalog_id": _OKTA,
        "config": {"okta_v2_domain": "acme.okta.com", "okta_v2_api_token": "<api-token>"},
    }

    config: Annotated[JsonObject, Field(description="All config keys, as {key: value}.")]
    description: Description = None
    user_ids: Owners = None
    expand_mask: ExpandMask = None

    def find_configs(self, situation: Situation) -> tuple[ConfigUse, ...]:
        # The platform's own description counts, so that nothing is judged before it was read.
        known = self.kind(situation) if situation.described is not None or self.type_read() is None else None
        return (env_config.config_use(self.config, self.catalog_id, known and self._of_group(known), complete=True),)

    def find_type_problems(self, known: ConnectorType | None) -> Iterator[Issue]:
        group, wrapped = env_config.SELECTED_GROUP, env_config.wrapped_keys(self.config)
        if env_config.is_foreign(self.config):
            yield Issue("config.@type", "another type", "a plain map of keys and values", env_config.ENV_CONFIG)
            return
        if known is not None and not known.config["properties"]:
            wanted = "no config: create it with conductorone_create_delegated_connector"
            yield Issue("config", f"a config for {known.name}, which takes none", wanted)
            return
        if not wrapped:
            wanted = "its keys; conductorone_create_delegated_connector leaves them to a person"
            yield Issue("config", "an empty object", wanted)
        for key in (key for key, value in wrapped.items() if env_config.is_empty(value)):
            yield Issue(f"config.{key}", "an empty value", "a value, or no such key")
        yield from env_config.find_commas(self.config)
        groups = members(known.traits.get("fieldGroups")) if known else {}
        if groups and not self._chosen_group():
            yield Issue(f"config.{group}", "nothing", f"one of {', '.join(groups)}", next(iter(groups)))
        yield from env_config.find_mixed_groups(groups, wrapped, wrapped)

    def make_body(self, situation: Situation) -> Any:
        """Make the body, with the config in the wire form (section 5)."""
        return dict(self.given("body")) | {"config": env_config.in_wire_form(env_config.wrapped_keys(self.config))}

    def _chosen_group(self) -> Any:
        return env_config.unwrap(env_config.wrapped_keys(self.config).get(env_config.SELECTED_GROUP))

    def _of_group(self, known: ConnectorType) -> ConnectorType:
        """The type without the demand for keys that belong to other groups than the chosen one."""
        groups = members(known.traits.get("fieldGroups"))
        own = items(groups.get(str(self._chosen_group())))
        grouped = {key for keys in groups.values() for key in items(keys)}
        required = [key for key in known.config.get("required", ()) if key in own or key not in grouped]
        return replace(known, config=known.config | {"required": required}) if groups else known


class CreateDelegatedConnector(NewConnector):
    """Create a connector without config: a person enters it in ConductorOne's console, so that no secret passes through
    here. Also for self-hosted connectors (Baton), which get a credential instead."""

    http = POST(CONNECTORS)
    consequence = "Creates a connector of type {catalog_id} without config in app {name}."
    example = {"app_id": EXAMPLE_APP, "catalog_id": _OKTA, "display_name": "Okta (to be configured)"}

    display_name: Annotated[str | None, Field(description="Name of the connector.")] = None
    description: Description = None
    user_ids: Owners = None
    app_entitlement_owner_refs: Annotated[
        list[EntitlementRef] | None, Field(description="Entitlements: who has one of them owns the app too.")
    ] = None
    expand_mask: ExpandMask = None

    def find_next_step(self, data: Any, situation: Situation) -> str:
        known = self.kind(situation)
        if known is not None and not known.config["properties"]:
            return "If it is self-hosted: conductorone_rotate_credential gives the credential that it starts with."
        return "A person enters its config in ConductorOne's console; then call conductorone_force_sync."


class UpdateDelegatedConnector(ConnectorUpdate):
    """Change name, description or owners of a connector; its config stays. What is left out is kept, an empty value
    erases, and user_ids replaces all owners."""

    http = POST(f"{CONNECTORS}/{{connector_id}}/delegated")
    acts_on = CONNECTOR_OF_ACTION
    consequence = "Changes connector {name}; its config stays as it is."
    example = {**EXAMPLE, "display_name": "Okta prod"}

    connector_id: ConnectorId
    display_name: Annotated[str | None, Field(description="New display name.")] = None
    description: Annotated[str | None, Field(description="New description in the console.")] = None
    user_ids: Annotated[list[str] | None, Field(description="Ids of all owners; replaces the present ones.")] = None
    expand_mask: ExpandMask = None

    def find_problems(self, situation: Situation) -> Iterator[Issue]:
        if not self.given_members():
            yield Issue("arguments", "nothing to change", "at least one of display_name, description, user_ids")
        yield from super().find_problems(situation)


class DeleteConnector(ConductorOneOperation):
    """Delete a connector. Its syncs and provisioning stop; it is listed no more and cannot be restored by the API."""

    http = DELETE(CONNECTOR)
    by_default = False
    effect = Effect.DESTROY
    output = Deleted
    acts_on = CONNECTOR_TARGET
    consequence = (
        "Deletes connector {name} (id {id}) with its config and credentials: syncs stop, and access can be granted or "
        "revoked through it no more."
    )
    empty_body = {}
    confirms = "deleted"
    example = {"app_id": EXAMPLE_APP, "id": EXAMPLE["connector_id"]}

    id: ConnectorId


class ValidationResult(Record):
    """Whether a configuration is valid, and the remarks on it."""

    valid: bool | None = None
    markers: list[JsonObject] | None = None


class ValidateHttpConnectorConfig(Operation):
    """Check the YAML configuration of the generic HTTP connector. Nothing is stored. Errors come with their lines; a
    valid one goes into http_connector_config_file of the config."""

    on = CONDUCTORONE
    toolset = "conductorone.connectors"
    http = POST("/api/v1/apps/connectors/validate_config/http")
    effect = Effect.READ
    output = ValidationResult
    example = {"text": 'version: "1"'}

    text: Annotated[str, Field(min_length=1, description="The whole YAML text, without secrets."), SECRET]

    def shape_result(self, answers: Sequence[Any], situation: Situation) -> Any:
        """Take the remarks out of the answer. The configuration is valid unless one of them is an error."""
        if "markers" not in members(answers[0]) or not is_array(answers[0]["markers"] or []):
            return None
        found = items(answers[0]["markers"] or [])
        return {"valid": all(at(each, "severity") != "ERROR" for each in found), "markers": found}


OPERATIONS = (
    CreateConnector,
    CreateDelegatedConnector,
    UpdateDelegatedConnector,
    DeleteConnector,
    ValidateHttpConnectorConfig,
)
