"""What the emulated parts of Vectorize share: errors, bodies, pages, workspaces, and the check of credentials."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from connector_mcp.json_values import JsonObject, is_object
from connector_mcp.operations.connector_types import connector_types
from connector_mcp.sandbox import seed
from connector_mcp.sandbox.emulator import (
    PlatformError,
    decode_cursor,
    encode_cursor,
    json_body,
    json_response,
    page_size,
    query_value,
)
from connector_mcp.sandbox.world import World

ORGANIZATION = "/v1/org/{organization}"
DONE = "Operation completed successfully"
BUILT_IN = "VECTORIZE"
KINDS = {"sources": "source", "destinations": "destination", "aiplatforms": "AI platform"}
"""The kind of connector type by the last part of the path of its connectors, which is also that of its collection."""
_PAGE = 20


def error(status: int, message: str, details: str | None = None) -> PlatformError:
    """An error in the form of all of Vectorize's."""
    body: JsonObject = {"error": message, "failedUpdates": [], "successfulUpdates": []}
    if details is not None:
        body["details"] = details
    return PlatformError(json_response(body, status))


def invalid(details: str) -> PlatformError:
    return error(400, "Invalid request body", details)


async def any_body(request: Request) -> Any:
    return await json_body(request, invalid("Not JSON."))


async def object_body(request: Request) -> JsonObject:
    body = await any_body(request)
    if not is_object(body):
        raise invalid("Expected an object.")
    return body


def require_text(body: JsonObject, *keys: str) -> None:
    """Refuse a body in which one of these members is missing, empty or not a text."""
    for key in keys:
        if not isinstance(body.get(key), str) or not body[key]:
            raise invalid(f"{key}: required.")


def done(**more: Any) -> Response:
    """A success: Vectorize's sentence, and further members."""
    return json_response({"message": DONE, **more})


def page_of(request: Request, rows: Sequence[JsonObject], member: str, *, sized: bool = True, **more: Any) -> Response:
    """One page of a list. Where the documents are silent it holds 20 rows unless `limit` says otherwise."""
    bad_limit = error(400, "Invalid query parameter", "limit: expected a number from 1 to 100.")
    size = page_size(query_value(request, "limit"), _PAGE, 100, bad_limit) if sized else _PAGE
    bad_token = error(400, "Invalid query parameter", "nextToken: unknown.")
    start = decode_cursor("offset", query_value(request, "nextToken"), bad_token)
    page: JsonObject = {**more, member: list(rows[start : start + size])}
    if start + size < len(rows):
        page["nextToken"] = encode_cursor("offset", start + size)
    return json_response(page)


def in_workspace(request: Request, rows: Sequence[JsonObject]) -> list[JsonObject]:
    """The rows of the workspace that the query names, or all."""
    workspace = query_value(request, "workspaceId")
    return [each for each in rows if workspace in (None, each["workspaceId"])]


def workspace_for(request: Request) -> str:
    """The workspace in which a creation lands: the first unless the query names one."""
    workspace = query_value(request, "workspaceId") or seed.VECTORIZE_WORKSPACES[0]
    if workspace not in seed.VECTORIZE_WORKSPACES:
        raise error(404, "Workspace not found", workspace)
    return workspace


def find_connector(world: World, identifier: Any, kinds: Sequence[str] = tuple(KINDS)) -> JsonObject:
    """A connector of one of these kinds."""
    for kind in kinds:
        connector = world.get(f"vectorize.{kind}", str(identifier))
        if connector is not None:
            return connector
    raise error(404, "Connector not found")


def verification(type_id: str, config: JsonObject) -> JsonObject:
    """The members of a connector's record about its credentials. Those that begin with `invalid-` are refused."""
    known = connector_types("vectorize").get(type_id)
    given = [config.get(path) for path in known.secret_paths] if known else []
    if any(isinstance(value, str) and (value.startswith("invalid-") or '"invalid-' in value) for value in given):
        name = known.name if known else type_id
        return {"verificationStatus": "failed", "errorMessage": f"{name} refused the credentials."}
    return {"verificationStatus": "verified"}
