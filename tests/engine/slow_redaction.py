"""Redaction as its rules read, one after the other: nothing is kept, compiled or left out, and everything is copied.

What the package does must come to the same on any JSON; see `test_redaction_by_the_slow_way.py`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from connector_mcp.engine.redaction.key_classifier import names_a_secret
from connector_mcp.engine.redaction.redactor import MARKER
from connector_mcp.json_values import JsonObject
from connector_mcp.operations.connector_types import ConnectorType, connector_type
from connector_mcp.operations.operation import StoredConfig, at
from connector_mcp.operations.platform import Platform
from connector_mcp.secrets.reference import referenced_name


def hide(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: hide(member) for key, member in value.items()}
    if isinstance(value, list):
        return [hide(member) for member in value]
    keeps = (
        value is None or isinstance(value, bool) or value == "" or (isinstance(value, str) and referenced_name(value))
    )
    return value if keeps else MARKER


def text(value: Any, redact: Any) -> Any:
    if not isinstance(value, str):
        return value
    if re.search(r"-----BEGIN [A-Z ]*PRIVATE KEY|://[^\s/:@]*:[^\s/@]+@", value):
        return MARKER
    if not value.lstrip().startswith(("{", "[")):
        return value
    try:
        inner = json.loads(value)
    except RecursionError:
        return MARKER
    except ValueError:
        return value
    return value if redact(inner) == inner else MARKER


def by_name(value: Any, platform: Platform | None, path: str = "") -> Any:
    if isinstance(value, dict):
        shown = {
            key: member_by_name(key, member, platform, f"{path}.{key}" if path else key)
            for key, member in value.items()
        }
        labels = [value[label] for label in ("name", "key") if isinstance(value.get(label), str)]
        if "value" in value and any(names_a_secret(label, platform) for label in labels):
            shown["value"] = hide(value["value"])
        return shown
    if isinstance(value, list):
        return [by_name(member, platform, path) for member in value]
    return text(value, lambda inner: by_name(inner, platform, path))


def member_by_name(key: str, member: Any, platform: Platform | None, path: str) -> Any:
    for end in platform.secret_paths if platform else ():
        if path == end or path.endswith(f".{end}"):
            return hide(member)
    if not names_a_secret(key, platform):
        return by_name(member, platform, path)
    if isinstance(member, dict | list) and re.search(r"(credentials?|auth)$", key.lower()):
        return by_name(member, platform, path)
    return hide(member)


def branches(schema: JsonObject) -> Iterator[JsonObject]:
    yield schema
    for word in ("anyOf", "oneOf", "allOf"):
        for branch in schema.get(word, ()):
            yield from branches(branch)


def by_schema(value: Any, schema: JsonObject, platform: Platform | None, strict: bool) -> Any:
    parts = list(branches(schema))
    for part in parts:
        if part.get("writeOnly") and (not isinstance(value, dict) or part.get("type", "object") == "object"):
            return hide(value)
    if any(part.get("writeOnly") for part in parts) and not any(part.get("properties") for part in parts):
        return hide(value)
    if isinstance(value, dict):
        return {key: member_by_schema(key, member, parts, platform, strict) for key, member in value.items()}
    if isinstance(value, list):
        items = {"anyOf": [part["items"] for part in parts if isinstance(part.get("items"), dict)]}
        return [by_schema(member, items, platform, strict) for member in value]
    return text(value, lambda inner: by_schema(inner, schema, platform, strict))


def member_by_schema(key: str, member: Any, parts: list[JsonObject], platform: Platform | None, strict: bool) -> Any:
    known = [part["properties"][key] for part in parts if key in part.get("properties", {})]
    others = [part.get("additionalProperties") for part in parts]
    known = known or [schema for schema in others if isinstance(schema, dict)]
    if not known:
        return hide(member) if strict and False in others else member_by_name(key, member, platform, key)
    described = any(part.get("properties") for schema in known for part in branches(schema))
    if names_a_secret(key, platform) and not (isinstance(member, dict) and described):
        return hide(member)
    return by_schema(member, {"anyOf": known}, platform, strict)


def redact_config(config: Any, kind: ConnectorType | None, platform: Platform | None, *, strict: bool = False) -> Any:
    if kind is None:
        return hide(config)
    shown = by_schema(config, kind.config, platform, strict)
    for key in kind.traits.get("mayContainSecrets", ()) if isinstance(shown, dict) else ():
        if key in shown:
            shown[key] = hide(shown[key])
    return shown


def redact_record(record: Any, stored: StoredConfig | None, platform: Platform) -> Any:
    if isinstance(record, list):
        return [redact_record(member, stored, platform) for member in record]
    shown = by_name(record, platform)
    if stored is None or not isinstance(record, dict):
        return shown
    type_id = at(record, stored.type_at)
    kind = connector_type(platform.name, type_id) if isinstance(type_id, str) else None
    return with_config(shown, record, stored.at.split("."), kind, platform)


def with_config(
    shown: JsonObject, record: JsonObject, steps: list[str], kind: ConnectorType | None, platform: Platform
) -> JsonObject:
    key, *rest = steps
    held = record.get(key)
    if held is None:
        return shown
    if not rest:
        return {**shown, key: redact_config(held, kind if isinstance(held, dict) else None, platform)}
    if not isinstance(held, dict):
        return {**shown, key: hide(held)}
    if rest[0] not in held:
        return {**shown, key: {name: held[name] if name.startswith("@") else hide(held[name]) for name in held}}
    return {**shown, key: with_config(by_name(held, platform, key), held, rest, kind, platform)}
