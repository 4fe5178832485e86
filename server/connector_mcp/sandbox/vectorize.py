"""Vectorize, emulated: source connectors and their users (facts: sections 2 to 6 and 9).

It reproduces the platform's traps: secrets are accepted and never shown again, a PATCH replaces the whole config and
validates no key, deleting a user takes a JSON body, and only multi-user types have users. Where the documents are
silent: a page holds 20 connectors unless `limit` says otherwise, a create requires the required config keys, and
`authorized-users` in `configDoc` lists the users.
"""

from __future__ import annotations

import re
from typing import Any
from uuid import uuid4

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from connector_mcp.json_values import JsonObject, is_array, is_object, is_strings
from connector_mcp.operations.connector_types import ConnectorType, connector_types
from connector_mcp.sandbox import seed
from connector_mcp.sandbox.emulator import (
    Emulator,
    PlatformError,
    decode_cursor,
    encode_cursor,
    json_body,
    json_response,
    page_size,
    query_value,
)
from connector_mcp.sandbox.world import World

SOURCES = "vectorize.sources"

_BASE = "/v1/org/{organization}/connectors/sources"
_DONE = "Operation completed successfully"
_PAGE = 20
_BUILT_IN = "VECTORIZE"
_MULTI_USER = re.compile(r"_OAUTH_MULTI(_CUSTOM)?$")


class VectorizeEmulator(Emulator):
    """The eight source connector operations. `create_body` is the form of a create: `object` or `array`."""

    def __init__(self, world: World, *, create_body: str = "object") -> None:
        routes = (
            Route(_BASE, self._list, methods=["GET"]),
            Route(_BASE, self._create, methods=["POST"]),
            Route(f"{_BASE}/{{connector}}", self._get, methods=["GET"]),
            Route(f"{_BASE}/{{connector}}", self._update, methods=["PATCH"]),
            Route(f"{_BASE}/{{connector}}", self._delete, methods=["DELETE"]),
            Route(f"{_BASE}/{{connector}}/users", self._add_user, methods=["POST"]),
            Route(f"{_BASE}/{{connector}}/users", self._update_user, methods=["PATCH"]),
            Route(f"{_BASE}/{{connector}}/users", self._delete_user, methods=["DELETE"]),
        )
        super().__init__(world, routes)
        self._create_body = create_body

    def authorize(self, request: Request) -> None:
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or key != seed.VECTORIZE_API_KEY:
            raise _error(401, "Unauthorized", "The access token is missing or not valid.")
        if request.path_params.get("organization", seed.VECTORIZE_ORGANIZATION_ID) != seed.VECTORIZE_ORGANIZATION_ID:
            raise _error(403, "Forbidden", "The access token does not belong to this organization.")

    def error_response(self, status: int) -> Response:
        return _error(status, "An error occurred", f"The sandbox answers {status}.").response

    async def _list(self, request: Request) -> Response:
        workspace = query_value(request, "workspaceId")
        sources = [each for each in self._world.all(SOURCES) if workspace in (None, each["workspaceId"])]
        bad_limit = _error(400, "Invalid query parameter", "limit: expected a number from 1 to 100.")
        size = page_size(query_value(request, "limit"), _PAGE, 100, bad_limit)
        bad_token = _error(400, "Invalid query parameter", "nextToken: unknown.")
        start = decode_cursor("offset", query_value(request, "nextToken"), bad_token)
        page: JsonObject = {"sourceConnectors": [_view(each) for each in sources[start : start + size]]}
        if start + size < len(sources):
            page["nextToken"] = encode_cursor("offset", start + size)
        return json_response(page)

    async def _create(self, request: Request) -> Response:
        workspace = query_value(request, "workspaceId") or seed.VECTORIZE_WORKSPACES[0]
        if workspace not in seed.VECTORIZE_WORKSPACES:
            raise _error(404, "Workspace not found", workspace)
        body = await _body(request)
        if self._create_body == "object":
            if not is_object(body):
                raise _error(400, "Invalid request body", "Expected an object.")
            return json_response({"message": _DONE, "connector": self._created(body, workspace)})
        if not is_array(body) or not body:
            raise _error(400, "Invalid request body", "Expected an array of at least one connector.")
        return json_response({"message": _DONE, "connectors": [self._created(each, workspace) for each in body]})

    def _created(self, wanted: Any, workspace: str) -> JsonObject:
        name, type_id, config = _checked_creation(wanted)
        now = self._world.timestamp()
        source: JsonObject = {
            "id": str(uuid4()),
            "type": type_id,
            "name": name,
            "config": config,
            "createdAt": now,
            "createdById": seed.VECTORIZE_OPERATOR_ID,
            "createdByEmail": seed.VECTORIZE_OPERATOR_EMAIL,
            "lastUpdatedById": seed.VECTORIZE_OPERATOR_ID,
            "lastUpdatedByEmail": seed.VECTORIZE_OPERATOR_EMAIL,
            "verificationStatus": "verified",
            "workspaceId": workspace,
            "users": {},
            "pipelineIds": [],
        }
        self._world.put(SOURCES, source["id"], source)
        return {"name": name, "id": source["id"]}

    async def _get(self, request: Request) -> Response:
        return json_response(_view(self._source(request)))

    async def _update(self, request: Request) -> Response:
        source = self._source(request)
        if source["type"] == _BUILT_IN:
            raise _error(400, "Cannot update system connector")
        body = await _object(request)
        if "config" in body:
            if not is_object(body["config"]):
                raise _error(400, "Invalid request body", "config: expected an object.")
            source["config"] = body["config"]
        source |= {"lastUpdatedById": seed.VECTORIZE_OPERATOR_ID, "lastUpdatedByEmail": seed.VECTORIZE_OPERATOR_EMAIL}
        self._world.put(SOURCES, source["id"], source)
        updated: JsonObject = {"updatedConnector": _view(source)}
        if source["pipelineIds"]:
            updated["pipelineIds"] = source["pipelineIds"]
        return json_response({"message": _DONE, "data": updated})

    async def _delete(self, request: Request) -> Response:
        source = self._source(request)
        if source["type"] == _BUILT_IN:
            raise _error(400, "Cannot delete system connector")
        self._world.delete(SOURCES, source["id"])
        return json_response({"message": _DONE})

    async def _add_user(self, request: Request) -> Response:
        source, body, user = await self._user_request(request)
        if user in source["users"]:
            raise _error(400, "User already exists on this connector", user)
        if "selectedFiles" not in body:
            raise _error(400, "Invalid request body", "selectedFiles: required.")
        token = "accessToken" if source["type"].startswith("NOTION") else "refreshToken"
        if not body.get(token):
            raise _error(400, "Invalid request body", f"{token}: required for {source['type']}.")
        return self._stored_user(source, user, body, {})

    async def _update_user(self, request: Request) -> Response:
        source, body, user = await self._user_request(request)
        if user not in source["users"]:
            raise _error(404, "User not found on this connector", user)
        return self._stored_user(source, user, body, source["users"][user])

    def _stored_user(self, source: JsonObject, user: str, body: JsonObject, before: JsonObject) -> Response:
        if "selectedFiles" in body:
            _check_selection(source["type"], body["selectedFiles"])
        for token in ("refreshToken", "accessToken"):
            if token in body and not isinstance(body[token], str):
                raise _error(400, "Invalid request body", f"{token}: expected a string.")
        kept = ("selectedFiles", "refreshToken", "accessToken")
        source["users"][user] = before | {key: body[key] for key in kept if key in body}
        self._world.put(SOURCES, source["id"], source)
        return json_response({"message": _DONE})

    async def _delete_user(self, request: Request) -> Response:
        source, _, user = await self._user_request(request)
        if source["users"].pop(user, None) is None:
            raise _error(404, "User not found on this connector", user)
        self._world.put(SOURCES, source["id"], source)
        return json_response({"message": _DONE})

    async def _user_request(self, request: Request) -> tuple[JsonObject, JsonObject, str]:
        source = self._source(request)
        if not _MULTI_USER.search(source["type"]):
            raise _error(400, "Connector does not support users", f"Its type is {source['type']}.")
        body = await _object(request)
        user = body.get("userId")
        if not isinstance(user, str) or not user:
            raise _error(400, "Invalid request body", "userId: required.")
        return source, body, user

    def _source(self, request: Request) -> JsonObject:
        found = self._world.get(SOURCES, request.path_params["connector"])
        if found is None:
            raise _error(404, "Connector not found")
        return found


def _view(source: JsonObject) -> JsonObject:
    """A connector as reads show it: non-secret config only; nothing at all of a type whose keys are not known."""
    known = connector_types("vectorize").get(source["type"])
    secret = set[str]() if known is None else {path.partition(".")[0] for path in known.secret_paths}
    shown: JsonObject = {} if known is None else {k: v for k, v in source["config"].items() if k not in secret}
    if source["users"]:
        shown["authorized-users"] = list(source["users"])
    hidden = ("config", "workspaceId", "users", "pipelineIds")
    return {key: value for key, value in source.items() if key not in hidden} | {"configDoc": shown}


def _checked_creation(wanted: Any) -> tuple[str, str, JsonObject]:
    if not is_object(wanted):
        raise _error(400, "Invalid request body", "Expected an object with name, type and config.")
    name, type_id = wanted.get("name"), wanted.get("type")
    if not isinstance(name, str) or not name:
        raise _error(400, "Invalid request body", "name: required.")
    known = connector_types("vectorize").get(type_id) if isinstance(type_id, str) else None
    if known is None or not known.creatable or known.kind != "source":
        raise _error(400, "Invalid request body", "type: not a source connector type that can be created.")
    return name, known.type, _checked_config(known, wanted.get("config"))


def _checked_config(known: ConnectorType, config: Any) -> JsonObject:
    required: list[str] = known.config.get("required", [])
    if config is None and not required:
        return {}
    if not is_object(config):
        raise _error(400, "Invalid request body", "config: expected an object.")
    missing = [key for key in required if key not in config]
    if missing:
        raise _error(400, "Invalid connector config", f"Missing: {', '.join(missing)}.")
    return config


def _check_selection(type_id: str, selection: Any) -> None:
    if not is_object(selection):
        raise _error(400, "Invalid request body", "selectedFiles: expected an object.")
    if type_id.startswith("NOTION"):
        fits = all(is_strings(selection.get(key, [])) for key in ("pageIds", "databaseIds"))
    else:
        fits = all(
            is_object(each) and all(isinstance(each.get(key), str) for key in ("name", "mimeType"))
            for each in selection.values()
        )
    if not fits:
        raise _error(400, "Invalid request body", "selectedFiles: not the form that this connector's provider takes.")


async def _body(request: Request) -> Any:
    return await json_body(request, _error(400, "Invalid request body", "Not JSON."))


async def _object(request: Request) -> JsonObject:
    body = await _body(request)
    if not is_object(body):
        raise _error(400, "Invalid request body", "Expected an object.")
    return body


def _error(status: int, error: str, details: str | None = None) -> PlatformError:
    body: JsonObject = {"error": error, "failedUpdates": [], "successfulUpdates": []}
    if details is not None:
        body["details"] = details
    return PlatformError(json_response(body, status))
