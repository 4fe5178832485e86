"""How the emulated Logto takes bodies and reports errors, and the values that its bodies are made of."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request

from connector_mcp.json_values import JsonObject, is_array, is_object
from connector_mcp.sandbox.emulator import PlatformError, json_body, json_response
from connector_mcp.sandbox.logto.zod import zod_details, zod_report


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
