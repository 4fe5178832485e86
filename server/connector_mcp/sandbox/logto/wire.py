"""What the emulated parts of Logto share: bodies, and errors, which describe invalid values as Zod does."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from starlette.requests import Request

from connector_mcp.json_values import JsonObject, is_array, is_object
from connector_mcp.sandbox.emulator import PlatformError, json_body, json_response

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


def body_schema(properties: JsonObject, *required: str) -> JsonObject:
    """The JSON Schema of an object. Unknown members are valid, as on the server."""
    return {"type": "object", "properties": properties, "required": list(required)}


TEXT: JsonObject = {"type": "string"}
FLAG: JsonObject = {"type": "boolean"}


async def guarded(request: Request, schema: JsonObject) -> JsonObject:
    """The body, validated against the schema. Malformed JSON and invalid bodies get the server's own errors."""
    malformed = PlatformError(json_response({"message": "The request body is not valid JSON."}, 400))
    body: Any = await json_body(request, malformed)
    body = JsonObject() if body is None else body
    report = zod_report(schema, body)
    if report is not None or not is_object(body):
        raise error(400, "guard.invalid_input", "The request body is invalid.", report)
    return body


def without_empty_values(value: Any) -> Any:
    """The value without members that are `""`, null, `[]` or `{}`, at any depth, as the server stores it."""
    if is_object(value):
        cleaned = {key: without_empty_values(member) for key, member in value.items()}
        return {key: member for key, member in cleaned.items() if not _is_empty(member)}
    if is_array(value):
        return [member for member in (without_empty_values(each) for each in value) if not _is_empty(member)]
    return value


def _is_empty(value: Any) -> bool:
    return value is None or value in ("", [], {})


def not_found() -> PlatformError:
    """The error of an unknown id."""
    return error(404, "entity.not_found", "The resource does not exist.")


def error(status: int, code: str, message: str, report: JsonObject | None = None, *, data: Any = None) -> PlatformError:
    """An error in Logto's form, with a ZodError or other data."""
    body: JsonObject = {"code": code, "message": message}
    if report is not None:
        body |= {"data": report, "details": zod_details(report)}
    elif data is not None:
        body["data"] = data
    return PlatformError(json_response(body, status))


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
