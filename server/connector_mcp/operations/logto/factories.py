"""Logto connector factories: reading them, and what each demands of its connectors (facts: sections 3, 4 and 6).

A server may have factories of its own. Nothing is known of those, so no rule here refuses anything for them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import Field

from connector_mcp.errors import Issue
from connector_mcp.json_values import JsonObject, is_array, members
from connector_mcp.operations.connector_types import ConnectorType, connector_type
from connector_mcp.operations.fields import LOCAL_ONLY
from connector_mcp.operations.logto.platform import LOGTO
from connector_mcp.operations.operation import GET, Effect, ListOperation, Operation, Paging, Record

FACTORIES = "/api/connector-factories"
DEMO_FACTORIES = frozenset({"logto-sms", "logto-social-demo"})
EXCLUSIVE_TYPES = frozenset({"Email", "Sms"})
"""Connector types of which a tenant has one connector at most: creating one deletes the others."""

FactoryId = Annotated[str, Field(description="Factory id.")]
Fields = Annotated[list[str] | None, Field(description="Members to return; also readme, logo, formItems."), LOCAL_ONLY]

_TYPES = {"email": "Email", "sms": "Sms", "social": "Social"}


# Operations ----------------------------------------------------------------------------------------------------------


class LogtoOperation(Operation):
    """Base of Logto's operations."""

    on = LOGTO
    heavy = frozenset({"readme", "logo", "logoDark", "configTemplate", "description", "formItems"})


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


# Rules ---------------------------------------------------------------------------------------------------------------


def factory(factory_id: Any) -> ConnectorType | None:
    """The connector type of a factory; None for one that Logto does not ship."""
    return connector_type("logto", factory_id)


def type_made(known: ConnectorType | None) -> str | None:
    """Type of the connectors that a factory makes: Email, Sms or Social; None where it is not known."""
    return _TYPES.get(known.kind.lower()) if known else None


def types_replaced(factory_id: str) -> frozenset[str]:
    """Connector types that a creation from this factory may delete: both exclusive ones if its own is not known."""
    made = type_made(factory(factory_id))
    return EXCLUSIVE_TYPES if made is None else EXCLUSIVE_TYPES & {made}


def is_demo(factory_id: str) -> bool:
    """Whether the factory is for demonstration: no connector can be made from it, and none tested."""
    known = factory(factory_id)
    return factory_id in DEMO_FACTORIES or bool(known and known.traits.get("isDemo"))


def missing_config(known: ConnectorType, config: Mapping[str, Any] | None) -> Iterator[Issue]:
    """The problem of a config that is missing, or lacks a template that the factory demands.

    The creation would succeed and leave a connector that cannot work.
    """
    if config is None:
        if required := known.config.get("required"):
            yield Issue("config", "nothing", f"the config of {known.type}: {', '.join(required)}")
        return
    templates = config.get("templates")
    if not is_array(templates):
        return
    present = {str(members(template).get("usageType")) for template in templates}
    missing = [use for use in known.traits.get("requiredTemplateUsageTypes") or () if use not in present]
    if missing:
        yield Issue("config.templates", f"none for {', '.join(missing)}", "one for each of these usageType values")


def wrong_metadata(known: ConnectorType, metadata: JsonObject | None) -> Iterator[Issue]:
    """The problem of a creation's metadata: standard connectors need a target in it, other social ones take none."""
    if known.traits.get("isStandard"):
        if not (metadata or {}).get("target"):
            wanted = "a name of your choice for the identity provider; it cannot be changed later"
            yield Issue("metadata.target", "nothing", wanted, "acme-idp")
    elif type_made(known) == "Social" and metadata is not None:
        yield Issue("metadata", "an object", f"no metadata: {known.type} has its own, even {{}} is refused")


def unsuitable_token_storage(known: ConnectorType) -> Iterator[Issue]:
    """The problem of token storage with a factory that does not support it."""
    if known.traits.get("isTokenStorageSupported") is False:
        yield Issue("enable_token_storage", "true", f"false: {known.type} cannot store third-party tokens")


OPERATIONS = (ListConnectorFactories, GetConnectorFactory)
