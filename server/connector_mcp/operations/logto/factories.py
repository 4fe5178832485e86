"""Logto connector factories: reading them, and what each demands of its connectors (facts: sections 3, 4 and 6).

A server may have factories of its own, and newer ones than are shipped here: the form that it gives for a factory wins
over the shipped schema.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Annotated, Any

from pydantic import Field

from connector_mcp.errors import Issue
from connector_mcp.json_values import JsonObject, is_array, is_object, items, members, text
from connector_mcp.operations.connector_types import ConnectorType, connector_type
from connector_mcp.operations.fields import LOCAL_ONLY
from connector_mcp.operations.local import TypeSource
from connector_mcp.operations.logto.platform import LOGTO
from connector_mcp.operations.operation import Effect, ListOperation, Operation, Paging, Record, at
from connector_mcp.operations.platform import GET
from connector_mcp.operations.situation import ConfigUse
from connector_mcp.operations.type_names import unknown_type

FACTORIES = "/api/connector-factories"
DEMO_FACTORIES = frozenset({"logto-sms", "logto-social-demo"})
EXCLUSIVE_TYPES = frozenset({"Email", "Sms"})
"""Connector types of which a tenant has one connector at most: creating one deletes the others."""

FactoryId = Annotated[str, Field(description="Id of the factory. logto_list_connector_factories lists them.")]
Fields = Annotated[
    list[str] | None,
    Field(description="Members to return; also those that are otherwise left out: readme, logo, formItems."),
    LOCAL_ONLY,
]

_FORM_TYPES: dict[str, JsonObject] = {
    "Text": {"type": "string"},
    "MultilineText": {"type": "string"},
    "Select": {"type": "string"},
    "Number": {"type": "number"},
    "Switch": {"type": "boolean"},
    "MultiSelect": {"type": "array"},
}
_SHOWN = ("platform", "target", "isStandard", "isDemo", "isTokenStorageSupported")
"""Traits that a factory's record has too."""
_TYPES = {"email": "Email", "sms": "Sms", "social": "Social"}


# Operations ----------------------------------------------------------------------------------------------------------


class LogtoOperation(Operation):
    """Base of Logto's operations."""

    on = LOGTO
    toolset = "logto.connectors"
    by_default = True
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
    """List the factories, which are the kinds of connectors that can be made. A factory's id is the connector_id of
    logto_create_connector."""

    http = GET(FACTORIES)
    paging = Paging(items="")
    summary = ("id", "type", "target", "platform", "name", "isStandard", "isDemo")
    known_by = ("name", "target")
    example = {"limit": 20}


class GetConnectorFactory(FactoryOperation):
    """Get a factory: its type, provider, and with fields its readme or form. describe_connector_type gives the config
    keys in detail."""

    http = GET(f"{FACTORIES}/{{id}}")
    effect = Effect.READ
    example = {"id": "http-sms"}

    id: FactoryId
    fields: Fields = None


# Rules ---------------------------------------------------------------------------------------------------------------


def factory(factory_id: Any) -> ConnectorType | None:
    """The connector type of a factory; None for one that Logto does not ship."""
    known = connector_type("logto", factory_id)
    return None if known is None or known.traits.get("isEnterprise") else known


def connector_name(connector: Any) -> str:
    """The name that the console shows, or the id where there is none."""
    name = at(connector, "name.en")
    return name if isinstance(name, str) and name else str(at(connector, "id") or "")


def is_rival(row: JsonObject, factory_id: str, target: str | None) -> bool:
    """Whether a listed connector keeps one of this factory, and with this target, from being made."""
    made = factory(factory_id)
    target = target or (made.traits.get("target") if made else None)
    return row.get("connectorId") == factory_id or (target is not None and row.get("target") == target)


def type_made(known: ConnectorType | None) -> str | None:
    """Type of the connectors that a factory makes: Email, Sms or Social; None where it is not known."""
    return _TYPES.get(known.kind.lower()) if known else None


def factory_type(factory_id: str, record: Any) -> ConnectorType | None:
    """The connector type of a factory as its record on the platform shows it, or else as Logto ships it.

    The platform's own form wins: its keys are accepted and those that it does not have are not required. Where it
    gives no detail, such as the members of a Json item, the shipped schema holds.
    """
    shipped, shown = factory(factory_id), members(record)
    if shipped is None and str(shown.get("type")).lower() not in _TYPES:
        return None
    fields = {str(field["key"]): field for field in map(members, items(shown.get("formItems"))) if field.get("key")}
    config = shipped.config if shipped else JsonObject(type="object")
    if fields:
        known = members(config.get("properties"))
        properties = known | {key: _form_member(known.get(key), field) for key, field in fields.items()}
        added = [key for key, field in fields.items() if key not in known and _is_required(field)]
        required = [*(key for key in config.get("required", ()) if key in fields), *added]
        config = config | {"properties": properties, "required": required, "additionalProperties": False}
    if shipped:
        return replace(shipped, config=config)
    name = text(at(shown, "name.en")) or factory_id
    traits = {key: shown[key] for key in _SHOWN if key in shown}
    return ConnectorType("logto", factory_id, name, str(shown["type"]), creatable=True, config=config, traits=traits)


def _is_required(field: JsonObject) -> bool:
    return field.get("required") is True and not field.get("showConditions")


def _form_member(shipped: JsonObject | None, field: JsonObject) -> JsonObject:
    """The schema of a config member: the shipped one, unless the form has another type or further options."""
    form = dict(_FORM_TYPES.get(str(field.get("type")), {}))
    options = [members(option).get("value") for option in items(field.get("selectItems"))]
    if shipped is None:
        one_of = {"enum": options} if field.get("type") == "Select" and options else {}
        return form | one_of | {"description": text(field.get("label")) or "Described by the server's own form."}
    if options and "enum" in shipped:
        return shipped | {"enum": [*shipped["enum"], *options]}
    if options and "enum" in members(shipped.get("items")):
        return shipped | {"items": shipped["items"] | {"enum": [*shipped["items"]["enum"], *options]}}
    return shipped if not form or form["type"] == shipped.get("type", form["type"]) else form


def needs_record(factory_id: str, config: Mapping[str, Any] | None) -> bool:
    """Whether the factory's record must be read: it, or a key of the config, is not one that Logto ships."""
    shipped = factory(factory_id)
    if shipped is None:
        return not is_demo(factory_id)
    return any(key not in shipped.config["properties"] for key in config or ())


def checked_config(factory_id: str, config: JsonObject, record: JsonObject | None, path: str = "config") -> ConfigUse:
    """The use of a whole config. It is checked once the factory's record is known, if that is needed."""
    shipped, kind = factory(factory_id), factory_type(factory_id, record)
    if shipped and record is None and needs_record(factory_id, config):
        kind = replace(shipped, config={})
    return ConfigUse(path, factory_id, shipped, config, check_as=kind, empty_is_missing=True)


def unknown_factory(path: str, factory_id: str, record: JsonObject | None) -> Iterator[Issue]:
    """The problem of a factory that neither Logto ships nor the platform has. `record` is empty if it has none."""
    if factory(factory_id) is None and (record == {} or not _can_be_read(factory_id)):
        yield unknown_type(
            path,
            "logto",
            factory_id,
            "the id of a factory; logto_list_connector_factories lists them",
            fits=lambda known: known.creatable and not known.traits.get("isEnterprise"),
        )


def _can_be_read(factory_id: str) -> bool:
    """Whether the id can be part of an address: it has more than dots."""
    return bool(factory_id.strip("."))


def types_replaced(kind: ConnectorType | None) -> frozenset[str]:
    """Connector types that a creation of this type may delete: both exclusive ones if the type is not known."""
    made = type_made(kind)
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
    yield from nameless_metadata(metadata)


def nameless_metadata(metadata: JsonObject | None) -> Iterator[Issue]:
    """The problem of names without an English one, with which Logto refuses any metadata."""
    names = (metadata or {}).get("name")
    if is_object(names) and not names.get("en"):
        yield Issue("metadata.name.en", "nothing", "the name in English, beside those in other languages", "Acme ID")


def unproven_config(made: Any) -> str:
    """What a stored config does not prove: Logto stores it without trying it (facts: section 4)."""
    check = "only a sign-in shows whether it works"
    if made in EXCLUSIVE_TYPES:
        check = "logto_create_connector_test with the whole config sends a real message with it"
    return f"Logto has no check of its own for a stored config: {check}."


def _description_read(type_id: str) -> Operation | None:
    """The factory. SSO providers have no such read."""
    is_shipped_only = connector_type("logto", type_id) is not None and factory(type_id) is None
    return GetConnectorFactory(id=type_id) if _can_be_read(type_id) and not is_shipped_only else None


OPERATIONS = (ListConnectorFactories, GetConnectorFactory)
TYPE_SOURCE = TypeSource(
    read=_description_read,
    describe=factory_type,
)
