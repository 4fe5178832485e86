"""Vectorize, emulated: connectors and the users of sources (facts: sections 2 to 8 and 9).

It reproduces the platform's traps: secrets are accepted and never shown again, a PATCH replaces the whole config and
validates no key, deleting a user takes a JSON body, and only multi-user types have users. A create answers 200 for
credentials that do not work: those that begin with `invalid-` show as failed in the next read. Where the documents are
silent: a create requires the required config keys, and `authorized-users` in `configDoc` lists the users.
"""

from __future__ import annotations

import re
from typing import Any
from uuid import uuid4

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from connector_mcp.json_values import JsonObject, is_array, is_object, is_strings
from connector_mcp.operations.connector_types import connector_types
from connector_mcp.sandbox import seed
from connector_mcp.sandbox.emulator import Emulator, json_response
from connector_mcp.sandbox.vectorize import wire
from connector_mcp.sandbox.vectorize.pipelines import VectorizePipelines
from connector_mcp.sandbox.vectorize.uploads import STORAGE, VectorizeUploads
from connector_mcp.sandbox.world import World

SOURCES = "vectorize.sources"

_BASE = f"{wire.ORGANIZATION}/connectors/{{kind}}"
_USERS = f"{wire.ORGANIZATION}/connectors/sources/{{connector}}/users"
_ROWS = {"sources": "sourceConnectors", "destinations": "destinationConnectors", "aiplatforms": "aiPlatformConnectors"}
_UPDATER = {"lastUpdatedById": seed.VECTORIZE_OPERATOR_ID, "lastUpdatedByEmail": seed.VECTORIZE_OPERATOR_EMAIL}
_MULTI_USER = re.compile(r"_OAUTH_MULTI(_CUSTOM)?$")


class VectorizeEmulator(Emulator):
    """All of Vectorize. `create_body` is the form of a create of connectors: `object` or `array`."""

    def __init__(self, world: World, *, create_body: str = "object") -> None:
        self._pipelines, self._uploads = VectorizePipelines(world), VectorizeUploads(world)
        routes = (
            Route(_BASE, self._list, methods=["GET"]),
            Route(_BASE, self._create, methods=["POST"]),
            Route(f"{_BASE}/{{connector}}", self._get, methods=["GET"]),
            Route(f"{_BASE}/{{connector}}", self._update, methods=["PATCH"]),
            Route(f"{_BASE}/{{connector}}", self._delete, methods=["DELETE"]),
            Route(_USERS, self._add_user, methods=["POST"]),
            Route(_USERS, self._update_user, methods=["PATCH"]),
            Route(_USERS, self._delete_user, methods=["DELETE"]),
            *self._pipelines.routes,
            *self._uploads.routes,
        )
        super().__init__(world, routes)
        self._create_body = create_body

    async def respond_outside_api(self, request: Request) -> Response | None:
        return await self._uploads.store(request) if request.url.path.startswith(STORAGE) else None

    def authorize(self, request: Request) -> None:
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or key != seed.VECTORIZE_API_KEY:
            raise wire.error(401, "Unauthorized", "The access token is missing or not valid.")
        if request.path_params.get("organization", seed.VECTORIZE_ORGANIZATION_ID) != seed.VECTORIZE_ORGANIZATION_ID:
            raise wire.error(403, "Forbidden", "The access token does not belong to this organization.")

    def error_response(self, status: int) -> Response:
        return wire.error(status, "An error occurred", f"The sandbox answers {status}.").response

    async def _list(self, request: Request) -> Response:
        kind = _kind(request)
        rows = [_view(each) for each in wire.in_workspace(request, self._world.all(f"vectorize.{kind}"))]
        return wire.page_of(request, rows, _ROWS[kind])

    async def _create(self, request: Request) -> Response:
        kind, workspace = _kind(request), wire.workspace_for(request)
        body = await wire.any_body(request)
        if self._create_body == "object":
            if not is_object(body):
                raise wire.invalid("Expected an object.")
            return wire.done(connector=self._created(body, kind, workspace))
        if not is_array(body) or not body:
            raise wire.invalid("Expected an array of at least one connector.")
        return wire.done(connectors=[self._created(each, kind, workspace) for each in body])

    def _created(self, wanted: Any, kind: str, workspace: str) -> JsonObject:
        name, type_id, config = _checked_creation(wanted, wire.KINDS[kind])
        source: JsonObject = {
            "id": str(uuid4()),
            "type": type_id,
            "name": name,
            "config": config,
            "createdAt": self._world.timestamp(),
            "createdById": seed.VECTORIZE_OPERATOR_ID,
            "createdByEmail": seed.VECTORIZE_OPERATOR_EMAIL,
            **_UPDATER,
            **wire.verification(type_id, config),
            "workspaceId": workspace,
            "users": {},
        }
        self._world.put(f"vectorize.{kind}", source["id"], source)
        return {"name": name, "id": source["id"]}

    async def _get(self, request: Request) -> Response:
        return json_response(_view(self._connector(request)))

    async def _update(self, request: Request) -> Response:
        source = self._connector(request)
        if source["type"] == wire.BUILT_IN:
            raise wire.error(400, "Cannot update system connector")
        body = await wire.object_body(request)
        if "config" in body:
            if not is_object(body["config"]):
                raise wire.invalid("config: expected an object.")
            source.pop("errorMessage", None)
            source |= {"config": body["config"], **wire.verification(source["type"], body["config"])}
        source |= _UPDATER
        self._world.put(f"vectorize.{_kind(request)}", source["id"], source)
        updated: JsonObject = {"updatedConnector": _view(source)}
        if pipelines := self._pipelines.using(source["id"]):
            updated["pipelineIds"] = pipelines
        return wire.done(data=updated)

    async def _delete(self, request: Request) -> Response:
        source = self._connector(request)
        if source["type"] == wire.BUILT_IN:
            raise wire.error(400, "Cannot delete system connector")
        self._world.delete(f"vectorize.{_kind(request)}", source["id"])
        return wire.done()

    async def _add_user(self, request: Request) -> Response:
        source, body, user = await self._user_request(request)
        if user in source["users"]:
            raise wire.error(400, "User already exists on this connector", user)
        if "selectedFiles" not in body:
            raise wire.invalid("selectedFiles: required.")
        token = "accessToken" if source["type"].startswith("NOTION") else "refreshToken"
        if not body.get(token):
            raise wire.invalid(f"{token}: required for {source['type']}.")
        return self._stored_user(source, user, body, {})

    async def _update_user(self, request: Request) -> Response:
        source, body, user = await self._user_request(request)
        if user not in source["users"]:
            raise wire.error(404, "User not found on this connector", user)
        return self._stored_user(source, user, body, source["users"][user])

    def _stored_user(self, source: JsonObject, user: str, body: JsonObject, before: JsonObject) -> Response:
        if "selectedFiles" in body:
            _check_selection(source["type"], body["selectedFiles"])
        for token in ("refreshToken", "accessToken"):
            if token in body and not isinstance(body[token], str):
                raise wire.invalid(f"{token}: expected a string.")
        kept = ("selectedFiles", "refreshToken", "accessToken")
        source["users"][user] = before | {key: body[key] for key in kept if key in body}
        self._world.put(SOURCES, source["id"], source)
        return wire.done()

    async def _delete_user(self, request: Request) -> Response:
        source, _, user = await self._user_request(request)
        if source["users"].pop(user, None) is None:
            raise wire.error(404, "User not found on this connector", user)
        self._world.put(SOURCES, source["id"], source)
        return wire.done()

    async def _user_request(self, request: Request) -> tuple[JsonObject, JsonObject, str]:
        source = wire.find_connector(self._world, request.path_params["connector"], ["sources"])
        if not _MULTI_USER.search(source["type"]):
            raise wire.error(400, "Connector does not support users", f"Its type is {source['type']}.")
        body = await wire.object_body(request)
        wire.require_text(body, "userId")
        return source, body, body["userId"]

    def _connector(self, request: Request) -> JsonObject:
        return wire.find_connector(self._world, request.path_params["connector"], [_kind(request)])


def _kind(request: Request) -> str:
    """The kind of connector that the path names."""
    kind: str = request.path_params["kind"]
    if kind not in wire.KINDS:
        raise wire.error(404, "Not found")
    return kind


def _view(source: JsonObject) -> JsonObject:
    """A connector as reads show it: non-secret config only; nothing at all of a type whose keys are not known."""
    known = connector_types("vectorize").get(source["type"])
    secret = set[str]() if known is None else {path.partition(".")[0] for path in known.secret_paths}
    shown: JsonObject = {} if known is None else {k: v for k, v in source["config"].items() if k not in secret}
    if source.get("users"):
        shown["authorized-users"] = list(source["users"])
    hidden = ("config", "workspaceId", "users")
    return {key: value for key, value in source.items() if key not in hidden} | {"configDoc": shown}


def _checked_creation(wanted: Any, kind: str) -> tuple[str, str, JsonObject]:
    if not is_object(wanted):
        raise wire.invalid("Expected an object with name, type and config.")
    wire.require_text(wanted, "name")
    known = connector_types("vectorize").get(str(wanted.get("type")))
    if known is None or not known.creatable or known.kind != kind:
        raise wire.invalid(f"type: not a type of {kind} that can be created.")
    required, config = known.config.get("required", []), wanted.get("config")
    if config is None and not required:
        return wanted["name"], known.type, {}
    if not is_object(config):
        raise wire.invalid("config: expected an object.")
    if missing := [key for key in required if key not in config]:
        raise wire.error(400, "Invalid connector config", f"Missing: {', '.join(missing)}.")
    return wanted["name"], known.type, config


def _check_selection(type_id: str, selection: Any) -> None:
    if not is_object(selection):
        raise wire.invalid("selectedFiles: expected an object.")
    if type_id.startswith("NOTION"):
        fits = all(is_strings(selection.get(key, [])) for key in ("pageIds", "databaseIds"))
    else:
        fits = all(
            is_object(each) and all(isinstance(each.get(key), str) for key in ("name", "mimeType"))
            for each in selection.values()
        )
    if not fits:
        raise wire.invalid("selectedFiles: not the form that this connector's provider takes.")
