"""Logto connector factories: what connectors can be made from (facts: section 4, traps 1 and 17)."""

from __future__ import annotations

from connector_mcp.json_values import JsonObject
from connector_mcp.operations.logto.connectors import FactoryId, Fields, LogtoOperation
from connector_mcp.operations.operation import GET, Effect, ListOperation, Paging, Record

FACTORIES = "/api/connector-factories"


class ConnectorFactory(Record):
    """A factory; its `id` is the `connectorId` of the connectors made from it."""

    id: str | None = None
    type: str | None = None
    target: str | None = None
    platform: str | None = None
    name: JsonObject | None = None
    is_standard: bool | None = None
    is_token_storage_supported: bool | None = None
    is_demo: bool | None = None


class FactoryOperation(LogtoOperation):
    """Base of the operations on factories."""

    output = ConnectorFactory


class ListConnectorFactories(FactoryOperation, ListOperation):
    """List the factories that connectors can be made from; a factory's id is the connector_id of
    logto_create_connector."""

    http = GET(FACTORIES)
    paging = Paging(items="")
    summary = ("id", "type", "target", "platform", "name", "isStandard", "isDemo")
    example = {"limit": 20}


class GetConnectorFactory(FactoryOperation):
    """Get one connector factory. For its config keys call describe_connector_type, or ask for formItems where the
    factory is the server's own."""

    http = GET(f"{FACTORIES}/{{id}}")
    effect = Effect.READ
    example = {"id": "http-sms"}

    id: FactoryId
    fields: Fields = None
