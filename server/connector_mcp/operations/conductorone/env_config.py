"""The wrapper around a ConductorOne connector's config (facts: section 5).

On the wire a config is an `Any` of type EnvConfig with objects of strings as values. Callers give the plain map
`{key: value}`; an object with `@type` has the wire form already.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from connector_mcp.errors import Issue
from connector_mcp.json_values import JsonObject, is_array, is_object, items, members
from connector_mcp.operations.connector_types import ConnectorType, stands_for_a_secret
from connector_mcp.operations.operation import at
from connector_mcp.operations.situation import ConfigUse

ENV_CONFIG = "type.googleapis.com/c1.api.app.v1.EnvConfig"
TYPE = "@type"
SELECTED_GROUP = "C1_selected_field_group_name"
"""Key that names the group in use, where a connector type has alternative groups of keys."""
_WRAPPERS = frozenset({"stringValue", "keyValues"})


def is_env_config(config: Any) -> bool:
    """Whether a config in the wire form is an EnvConfig; other types can come back on reads."""
    return at(config, TYPE) == ENV_CONFIG


def configuration_of(config: Any) -> JsonObject:
    """The wrapped values of an EnvConfig in the wire form; empty for anything else."""
    return members(at(config, "configuration")) if is_env_config(config) else {}


def is_foreign(config: Any) -> bool:
    """Whether a given config is in the wire form of another type, which is sent as it is."""
    return TYPE in members(config) and not is_env_config(config)


def given_keys(config: JsonObject | None) -> JsonObject:
    """The keys of a given config: wrapped ones where the caller wrapped it."""
    config = config or {}
    return members(config.get("configuration")) if TYPE in config else config


def config_use(config: JsonObject, type_id: str | None, known: ConnectorType | None, *, complete: bool) -> ConfigUse:
    """A given config, with plain values where its type is known to this server or described by the platform."""
    if is_foreign(config):
        return ConfigUse("config", type_id, None, config, complete=False)
    schemas = members(known.config.get("properties")) if known else {}
    value = {key: plain_for(members(schemas.get(key)), given) for key, given in given_keys(config).items()}
    return ConfigUse("config.configuration" if TYPE in config else "config", type_id, known, value, complete=complete)


def find_commas(config: JsonObject | None) -> Iterator[Issue]:
    """Find lists that would be read as longer ones."""
    for key, value in given_keys(config).items():
        if any("," in str(item) for item in items(value)):
            yield Issue(f"config.{key}", "an item with a comma", "items without: the list is sent joined by commas")


def wrapped_keys(config: JsonObject | None) -> JsonObject:
    """The keys of a given config, each value in the wire form; those that are in it already stay as they are."""
    return {key: wrap(value) for key, value in given_keys(config).items()}


def in_wire_form(configuration: JsonObject) -> JsonObject:
    """A config with these wrapped values."""
    return {TYPE: ENV_CONFIG, "configuration": configuration}


def wrap(value: Any) -> JsonObject:
    """A value in the wire form. Null becomes the empty string, which erases."""
    if is_object(value):
        if value.keys() <= _WRAPPERS:
            return value or {"keyValues": {"items": []}}
        return {"keyValues": {"items": [{"key": key, "value": _text(member)} for key, member in value.items()]}}
    return {"stringValue": ",".join(map(_text, value)) if is_array(value) else _text(value)}


def unwrap(wrapped: Any) -> Any:
    """The plain value of one in the wire form: a string or a map."""
    pairs = at(wrapped, "keyValues.items")
    if not is_array(pairs):
        return at(wrapped, "stringValue")
    return {str(at(pair, "key")): at(pair, "value") for pair in pairs}


def is_empty(wrapped: Any) -> bool:
    """Whether a value in the wire form is empty, so that writing it erases the stored one."""
    return unwrap(wrapped) in (None, "", {})


def is_withheld(wrapped: Any) -> bool:
    """Whether a read shows nothing of a value: it is empty, a mask, or a map with a mask in it."""
    plain = unwrap(wrapped)
    return is_empty(wrapped) or any(stands_for_a_secret(str(each)) for each in (plain, *members(plain).values()))


def find_mixed_groups(groups: Mapping[str, Any], given: JsonObject, kept: JsonObject) -> Iterator[Issue]:
    """Find given keys of one alternative field group beside kept keys of another, or beside its name (section 5)."""
    shared = [key for keys in groups.values() for key in keys]
    own = {name: [key for key in keys if shared.count(key) == 1] for name, keys in groups.items()}
    held = {key for key, value in kept.items() if not is_empty(value)}
    chosen = unwrap(kept.get(SELECTED_GROUP))
    for name, keys in own.items():
        set_here = sorted(held & given.keys() & set(keys))
        others = sorted(held & {key for other, its in own.items() if other != name for key in its})
        if set_here and others:
            wanted = f"keys of one group: null for {', '.join(others)}, or no {', '.join(set_here)}"
            yield Issue(f"config.{set_here[0]}", f"a key of {name} beside those of another group", wanted)
        elif set_here and chosen and chosen != name:
            yield Issue(f"config.{SELECTED_GROUP}", f"another group than that of {set_here[0]}", name, name)


def plain_for(schema: Mapping[str, Any], value: Any) -> Any:
    """Convert a given value to the type that the schema describes, so that it can be validated."""
    plain = unwrap(value) if value and is_object(value) and value.keys() <= _WRAPPERS else value
    match schema.get("type"), plain:
        case "boolean", "true" | "false":
            return plain == "true"
        case "array", str():
            return plain.split(",") if plain else []
        case "array", None:
            return []
        case "boolean", None | "":
            return False
        case "object", None | "":
            return {}
        case "integer", str() if plain.lstrip("-").isdecimal():
            return int(plain)
        case "string", None:
            return ""
        case _:
            return plain


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"), ensure_ascii=False)
