"""What a factory demands of the connectors made from it (facts: sections 3, 4 and 6, traps 5, 7, 9 and 14).

A server may carry factories of its own. Of those nothing is known, and nothing is refused on their account.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from connector_mcp.errors import Issue
from connector_mcp.json_values import JsonObject
from connector_mcp.operations.connector_types import ConnectorType, connector_type
from connector_mcp.operations.logto.stored_json import as_list, as_object

DEMO_FACTORIES = frozenset({"logto-sms", "logto-social-demo"})
EXCLUSIVE_TYPES = frozenset({"Email", "Sms"})
"""Connector types of which a tenant has one connector at most: creating one deletes the others."""

_TYPES = {"email": "Email", "sms": "Sms", "social": "Social"}


def factory(factory_id: Any) -> ConnectorType | None:
    """What is known of a factory; None for one that Logto does not ship."""
    return connector_type("logto", factory_id) if isinstance(factory_id, str) else None


def type_made(known: ConnectorType | None) -> str | None:
    """Type of the connectors that a factory makes: Email, Sms or Social; None where it is not known."""
    return _TYPES.get(known.kind.lower()) if known else None


def types_replaced(factory_id: str) -> frozenset[str]:
    """Types whose connectors may be deleted by creating one from this factory; both where its type is not known."""
    made = type_made(factory(factory_id))
    return EXCLUSIVE_TYPES if made is None else EXCLUSIVE_TYPES & {made}


def is_demo(factory_id: str) -> bool:
    """Whether no connector can be made from a factory, nor tested."""
    known = factory(factory_id)
    return factory_id in DEMO_FACTORIES or bool(known and known.traits.get("isDemo"))


def missing_config(known: ConnectorType) -> Iterator[Issue]:
    """The problem of a creation without config: it would succeed and leave a connector that cannot work."""
    required = known.config.get("required")
    if required:
        yield Issue("config", "nothing", f"the config of {known.type}: {', '.join(required)}")


def missing_templates(known: ConnectorType, config: Mapping[str, Any]) -> Iterator[Issue]:
    """Usage types for which the factory demands a template and the config has none."""
    templates = as_list(config.get("templates"))
    if templates is None:
        return
    present = templates_by_use(templates)
    missing = [use for use in known.traits.get("requiredTemplateUsageTypes") or () if use not in present]
    if missing:
        yield Issue("config.templates", f"none for {', '.join(missing)}", "one for each of these usageType values")


def templates_by_use(templates: Sequence[Any]) -> dict[str, JsonObject]:
    """The templates of a list by their usage types."""
    objects = [as_object(template) for template in templates]
    return {str(template["usageType"]): template for template in objects if template and "usageType" in template}


def wrong_metadata(known: ConnectorType, metadata: JsonObject | None) -> Iterator[Issue]:
    """A creation's metadata: wanted with a target by standard connectors, refused by other social ones."""
    if known.traits.get("isStandard"):
        if not (metadata or {}).get("target"):
            wanted = "a name of your choice for the identity provider; it cannot be changed later"
            yield Issue("metadata.target", "nothing", wanted, "acme-idp")
    elif type_made(known) == "Social" and metadata is not None:
        yield Issue("metadata", "an object", f"no metadata: {known.type} has its own, even {{}} is refused")


def unsuitable_token_storage(known: ConnectorType) -> Iterator[Issue]:
    """Token storage for a factory that has none."""
    if known.traits.get("isTokenStorageSupported") is False:
        yield Issue("enable_token_storage", "true", f"false: {known.type} cannot store third-party tokens")
