"""Creating a Logto connector (facts: section 4, traps 5, 7, 8, 9, 14 and 20)."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from connector_mcp.errors import Issue
from connector_mcp.json_values import JsonObject
from connector_mcp.operations.logto import factory_rules as rules
from connector_mcp.operations.logto.connectors import (
    CONNECTORS,
    ConnectorMetadata,
    ConnectorOperation,
    FactoryId,
    GetConnector,
    ListConnectors,
    SyncProfile,
    connector_name,
)
from connector_mcp.operations.logto.stored_json import as_list, as_object
from connector_mcp.operations.operation import POST, ConfigUse, Effect, Loss, Operation, Situation, Target, at


def connectors_in_danger(operation: CreateConnector, connectors: Any) -> list[JsonObject]:
    """Those of the tenant's connectors that this creation deletes or, if its type is not known, may delete."""
    types = rules.types_replaced(operation.connector_id)
    unread = operation.heavy | {"usage"}
    objects = [as_object(connector) for connector in as_list(connectors) or ()]
    return [
        {member: value for member, value in connector.items() if member not in unread}
        for connector in objects
        if connector and connector.get("type") in types
    ]


def name_connectors_in_danger(operation: CreateConnector, connectors: Any) -> str:
    """The names of the connectors in danger, or the factory where there are none."""
    names = [connector_name(connector) for connector in connectors_in_danger(operation, connectors)]
    return ", ".join(names) or operation.connector_id


class CreateConnector(ConnectorOperation):
    """Create a connector from a factory. Call describe_connector_type first for the config keys. An Email or Sms one
    deletes the present one of that type."""

    http = POST(CONNECTORS)
    effect = Effect.CREATE
    acts_on = Target("connector", ListConnectors, name=name_connectors_in_danger, select=connectors_in_danger)
    can_destroy = True
    repeatable = False
    consequence = "Creates a connector from factory {connector_id}."
    example = {"connector_id": "github-universal", "config": {"clientId": "Iv1.abc", "clientSecret": "<client-secret>"}}

    connector_id: FactoryId
    id: Annotated[str | None, Field(description="Own id.")] = None
    config: Annotated[JsonObject | None, Field(description="Whole config.")] = None
    metadata: Annotated[
        ConnectorMetadata | None, Field(description="oidc, oauth2, saml need target; other social: none.")
    ] = None
    sync_profile: SyncProfile = None
    enable_token_storage: Annotated[bool | None, Field(description="Store users' third-party tokens.")] = None

    def make_body(self, situation: Situation) -> Any:
        """What the caller set; a null argument means unset here, as Logto takes it for none of these."""
        return {name: value for name, value in self.given("body") if value is not None}

    def find_configs(self, situation: Situation) -> tuple[ConfigUse, ...]:
        if self.config is None:
            return ()
        return (ConfigUse("config", self.connector_id, rules.factory(self.connector_id), self.config),)

    def find_problems(self, situation: Situation) -> tuple[Issue, ...]:
        """What would be refused, and what would succeed and leave a connector that cannot work."""
        if rules.is_demo(self.connector_id):
            return (Issue("connector_id", "a demo factory", "a factory that connectors can be made from"),)
        known = rules.factory(self.connector_id)
        if known is None:
            return ()
        metadata = None if self.metadata is None else self.metadata.model_dump(by_alias=True, exclude_unset=True)
        return (
            *(rules.missing_config(known) if self.config is None else rules.missing_templates(known, self.config)),
            *rules.wrong_metadata(known, metadata),
            *(rules.unsuitable_token_storage(known) if self.enable_token_storage else ()),
        )

    def find_losses(self, situation: Situation) -> tuple[Loss, ...]:
        """The present connectors of the same type, which no flag saves (trap 7)."""
        types = rules.types_replaced(self.connector_id)
        if situation.current is None:
            return tuple(Loss(f"May delete the present {made} connector and its credentials") for made in sorted(types))
        verb = "Deletes" if rules.factory(self.connector_id) else "May delete, as the new one's type is not known,"
        return tuple(
            Loss(f"{verb} {old['type']} connector {old.get('connectorId')} (id {old.get('id')}) with its credentials")
            for old in connectors_in_danger(self, situation.current)
        )

    def target_read(self) -> Operation | None:
        """The list, unless the new connector is social and so replaces none."""
        return super().target_read() if rules.types_replaced(self.connector_id) else None

    def read_back(self, data: Any) -> Operation | None:
        """Reads the connector that was created."""
        identifier = at(data, "id")
        return GetConnector(id=identifier) if isinstance(identifier, str) and identifier else None
