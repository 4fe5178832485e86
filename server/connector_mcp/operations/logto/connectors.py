"""Logto connectors: reading and deleting them (facts: sections 3 to 5, traps 2, 8, 11, 16, 17 and 19)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from connector_mcp.json_values import JsonObject
from connector_mcp.operations.logto.platform import LOGTO
from connector_mcp.operations.operation import (
    DELETE,
    GET,
    LOCAL_ONLY,
    Effect,
    ListOperation,
    Operation,
    Paging,
    Record,
    Situation,
    StoredConfig,
    Target,
    at,
)

CONNECTORS = "/api/connectors"
CONNECTOR = f"{CONNECTORS}/{{id}}"

ConnectorId = Annotated[str, Field(description="Connector id, not the factory's.")]
FactoryId = Annotated[str, Field(description="Factory id.")]
Fields = Annotated[list[str] | None, Field(description="Members to return; also readme, logo, formItems."), LOCAL_ONLY]
SyncProfile = Annotated[bool | None, Field(description="Sync profiles at sign-in.")]

EXAMPLE_ID = "x7k2m9q4"


class ConnectorMetadata(BaseModel):
    """How a connector shows itself; only standard connectors (oidc, oauth2, saml) have it at will."""

    model_config = ConfigDict(extra="forbid", strict=True, alias_generator=to_camel, populate_by_name=True)

    target: Annotated[str | None, Field(description="Provider name; cannot change.")] = None
    name: Annotated[dict[str, str | None] | None, Field(description="By language, en included.")] = None
    logo: Annotated[str | None, Field(description="URL.")] = None
    logo_dark: Annotated[str | None, Field(description="URL.")] = None


class ConnectorRecord(Record):
    """A connector; `connectorId` is its factory."""

    id: str | None = None
    connector_id: str | None = None
    type: str | None = None
    target: str | None = None
    platform: str | None = None
    name: JsonObject | None = None
    config: JsonObject | None = None
    metadata: JsonObject | None = None
    sync_profile: bool | None = None
    enable_token_storage: bool | None = None
    is_standard: bool | None = None
    is_demo: bool | None = None


class Deleted(Record):
    """What is answered where the platform confirms a deletion without a body."""

    id: str | None = None
    deleted: bool | None = None


class LogtoOperation(Operation):
    """Base of Logto's operations."""

    on = LOGTO
    heavy = frozenset({"readme", "logo", "logoDark", "configTemplate", "description", "formItems"})


class ConnectorOperation(LogtoOperation):
    """Base of the operations that answer with connectors; the answers hold credentials in clear text (trap 2)."""

    output = ConnectorRecord
    stored_config = StoredConfig(at="config", type_at="connectorId")


class ListConnectors(ConnectorOperation, ListOperation):
    """List the tenant's Email, Sms and Social connectors. A new Email or Sms one deletes the present one."""

    http = GET(CONNECTORS)
    paging = Paging(items="")
    summary = ("id", "connectorId", "type", "target", "platform", "name", "isDemo")
    example = {"target": "google"}

    target: Annotated[str | None, Field(description="Provider, such as google.")] = None


class GetConnector(ConnectorOperation):
    """Get a connector with config, metadata and settings. Demo connectors cannot be read."""

    http = GET(CONNECTOR)
    effect = Effect.READ
    example = {"id": EXAMPLE_ID}

    id: ConnectorId
    fields: Fields = None


def connector_name(connector: Any) -> str:
    """The name that the console shows, or the id where there is none."""
    name = at(connector, "name.en")
    return name if isinstance(name, str) and name else str(at(connector, "id") or "")


def name_of_target(operation: Any, connector: Any) -> str:
    """The name of a target that is one connector."""
    return connector_name(connector) or str(operation.id)


CONNECTOR_TARGET = Target("connector", GetConnector, name=name_of_target, volatile=frozenset({"usage"}))


class DeleteConnector(LogtoOperation):
    """Delete a connector for good. Sign-in with it, or its codes, stop; stored third-party tokens go."""

    http = DELETE(CONNECTOR)
    effect = Effect.DESTROY
    output = Deleted
    acts_on = CONNECTOR_TARGET
    consequence = (
        "Deletes connector {name} (id {id}) with its credentials. If it is social, sign-in with it stops and the "
        "third-party tokens stored for users are deleted; if it is Email or Sms, verification codes are not sent any "
        "more. It cannot be undone."
    )
    example = {"id": EXAMPLE_ID}

    id: ConnectorId

    def shape_result(self, answers: Sequence[Any], situation: Situation) -> Any:
        """A confirmation; the platform's own is an empty answer."""
        return {"id": self.id, "deleted": True}
