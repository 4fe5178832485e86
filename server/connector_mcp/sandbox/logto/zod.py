"""Describes an invalid value as Zod does, which is how Logto reports a refused body or config."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from connector_mcp.json_values import JsonObject, is_array, is_object

_TOO_SMALL = ("minLength", "minItems", "minimum", "exclusiveMinimum", "minProperties")
_TOO_BIG = ("maxLength", "maxItems", "maximum", "exclusiveMaximum", "maxProperties")
_ISSUES: dict[str, tuple[str, str]] = {
    **dict.fromkeys(("anyOf", "oneOf"), ("invalid_union", "Invalid input")),
    **dict.fromkeys(("pattern", "format"), ("invalid_string", "Invalid")),
    **dict.fromkeys(_TOO_SMALL, ("too_small", "Too small")),
    **dict.fromkeys(_TOO_BIG, ("too_big", "Too big")),
    "enum": ("invalid_enum_value", "Invalid enum value"),
    "const": ("invalid_literal", "Invalid literal"),
}
"""JSON Schema keywords to Zod's issue code and message."""
_TYPE_NAMES: dict[Any, str] = {bool: "boolean", int: "number", float: "number", str: "string"}


def zod_report(schema: JsonObject, value: Any) -> JsonObject | None:
    """The ZodError for a value, or None when the value is valid."""
    validator: Any = Draft202012Validator(schema)
    errors: Iterable[ValidationError] = validator.iter_errors(value)
    issues = [_issue(error) for error in errors]
    return {"name": "ZodError", "issues": issues} if issues else None


def zod_details(report: JsonObject) -> str:
    """One line for each issue, as the server puts them into `details`."""
    lines: list[str] = []
    for issue in report["issues"]:
        sentence = str(issue["message"])
        if issue["code"] == "invalid_type":
            sentence = f"Expected {issue['expected']} but received {issue['received']}."
        path = ".".join(str(step) for step in issue["path"])
        lines.append(f'Error in key path "{path}": ({issue["code"]}) {sentence}')
    return "\n".join(lines)


def _issue(error: ValidationError) -> JsonObject:
    path = list(error.absolute_path)
    if error.validator == "required":
        schema: JsonObject = error.schema if is_object(error.schema) else {}
        missing = error.message.split("'")[1]
        expected = str(schema.get("properties", {}).get(missing, {}).get("type", "unknown"))
        return _invalid_type([*path, missing], expected, "undefined", "Required")
    if error.validator == "type":
        expected, received = str(error.validator_value), _type_name(error.instance)
        return _invalid_type(path, expected, received, f"Expected {expected}, received {received}")
    code, message = _ISSUES.get(str(error.validator), ("custom", "Invalid input"))
    return {"code": code, "path": path, "message": message}


def _type_name(value: Any) -> str:
    if is_object(value):
        return "object"
    return "array" if is_array(value) else _TYPE_NAMES.get(type(value), "null")


def _invalid_type(path: Sequence[str | int], expected: str, received: str, message: str) -> JsonObject:
    return {"code": "invalid_type", "expected": expected, "received": received, "path": list(path), "message": message}
