"""The wrapper around a ConductorOne connector's config (facts: section 5).

On the wire a config is an `Any` of type EnvConfig with objects of strings as values. Callers give the plain map
`{key: value}`; an object with `@type` has the wire form already.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

from connector_mcp.json_values import JsonObject, members
from connector_mcp.operations.operation import at

ENV_CONFIG = "type.googleapis.com/c1.api.app.v1.EnvConfig"
TYPE = "@type"
_WRAPPERS = frozenset({"stringValue", "keyValues"})


def is_env_config(config: Any) -> bool:
    """Whether a config in the wire form is an EnvConfig; other types can come back on reads."""
    return at(config, TYPE) == ENV_CONFIG


def configuration_of(config: Any) -> JsonObject:
    """The wrapped values of an EnvConfig in the wire form; empty for anything else."""
    return members(at(config, "configuration")) if is_env_config(config) else {}


def wrap_all(values: Mapping[str, Any]) -> JsonObject:
    """Each value in the wire form; those that are in it already stay as they are."""
    return {key: wrap(value) for key, value in values.items()}


def wrap(value: Any) -> JsonObject:
    """A value in the wire form. Null becomes the empty string, which erases."""
    if isinstance(value, dict):
        entries = cast("JsonObject", value)
        if set(entries) <= _WRAPPERS:
            return entries or {"keyValues": {"items": []}}
        return {"keyValues": {"items": [{"key": key, "value": _text(member)} for key, member in entries.items()]}}
    if isinstance(value, list):
        return {"stringValue": ",".join(_text(item) for item in cast("list[Any]", value))}
    return {"stringValue": _text(value)}


def unwrap(wrapped: Any) -> Any:
    """The plain value of one in the wire form: a string or a map."""
    pairs = at(wrapped, "keyValues.items")
    if not isinstance(pairs, list):
        return at(wrapped, "stringValue")
    return {str(at(pair, "key")): at(pair, "value") for pair in cast("list[Any]", pairs)}


def is_empty(wrapped: Any) -> bool:
    """Whether a value in the wire form is empty, so that writing it erases the stored one."""
    return unwrap(wrapped) in (None, "", {})


def plain_for(schema: Mapping[str, Any], value: Any) -> Any:
    """Convert a given value to the type that the schema describes, so that it can be validated."""
    wrapped = bool(value) and isinstance(value, dict) and set(cast("JsonObject", value)) <= _WRAPPERS
    plain = unwrap(cast("JsonObject", value)) if wrapped else cast("Any", value)
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
        case "string", None:
            return ""
        case _:
            return plain


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"), ensure_ascii=False)
