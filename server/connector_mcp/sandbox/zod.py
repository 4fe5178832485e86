"""Reports what is wrong with a value as Zod does, which is how Logto describes a refused body or config."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from connector_mcp.json_values import JsonObject, is_object

_INVALID_STRING = ("pattern", "format")
_TOO_SMALL = ("minLength", "minItems", "minimum", "exclusiveMinimum", "minProperties")
_TOO_BIG = ("maxLength", "maxItems", "maximum", "exclusiveMaximum", "maxProperties")


def zod_report(schema: JsonObject, value: Any) -> JsonObject | None:
    """The ZodError for a value, or None when it fits."""
    validator: Any = Draft202012Validator(schema)
    errors: Iterable[ValidationError] = validator.iter_errors(value)
    issues = [issue for error in errors for issue in _issues(error)]
    return {"name": "ZodError", "issues": issues} if issues else None


def zod_details(report: JsonObject) -> str:
    """One line for each issue, as the server puts them into `details`."""
    return "\n".join(
        f'Error in key path "{".".join(str(step) for step in issue["path"])}": ({issue["code"]}) {_sentence(issue)}'
        for issue in report["issues"]
    )


def _sentence(issue: Mapping[str, Any]) -> str:
    if issue["code"] == "invalid_type":
        return f"Expected {issue['expected']} but received {issue['received']}."
    return str(issue["message"])


def _issues(error: ValidationError) -> list[JsonObject]:
    path = list(error.absolute_path)
    schema: JsonObject = error.schema if is_object(error.schema) else {}
    if error.validator == "required":
        missing = error.message.split("'")[1]
        wanted = schema.get("properties", {}).get(missing, {}).get("type", "unknown")
        return [_invalid_type([*path, missing], str(wanted), "undefined", "Required")]
    if error.validator == "type":
        wanted, received = str(error.validator_value), _type_name(error.instance)
        return [_invalid_type(path, wanted, received, f"Expected {wanted}, received {received}")]
    if error.validator in ("anyOf", "oneOf"):
        return [{"code": "invalid_union", "path": path, "message": "Invalid input"}]
    if error.validator in ("enum", "const"):
        code = "invalid_enum_value" if error.validator == "enum" else "invalid_literal"
        return [{"code": code, "path": path, "message": f"{code.capitalize().replace('_', ' ')}"}]
    if error.validator in _INVALID_STRING:
        return [{"code": "invalid_string", "path": path, "message": "Invalid"}]
    if error.validator in _TOO_SMALL:
        return [{"code": "too_small", "path": path, "message": "Too small"}]
    if error.validator in _TOO_BIG:
        return [{"code": "too_big", "path": path, "message": "Too big"}]
    return [{"code": "custom", "path": path, "message": "Invalid input"}]


def _invalid_type(path: Sequence[str | int], expected: str, received: str, message: str) -> JsonObject:
    return {
        "code": "invalid_type",
        "expected": expected,
        "received": received,
        "path": list(path),
        "message": message,
    }


def _type_name(value: Any) -> str:
    match value:
        case bool():
            return "boolean"
        case int() | float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
        case dict():
            return "object"
        case _:
            return "null"
