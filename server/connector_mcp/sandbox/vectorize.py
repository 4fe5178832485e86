"""Vectorize, emulated: source connectors and their users (facts: sections 2 to 6 and 9).

Its traps are real here: secrets are taken and never shown again, a PATCH replaces the whole config and checks no key,
a deletion of a user carries a JSON body, and only multi-user types have users. What the documents leave open is
decided so: a page holds 20 connectors unless `limit` says otherwise, creating checks that the required config keys
are there, and `authorized-users` in `configDoc` names the users.
"""

from __future__ import annotations

import base64
import re
from typing import Any
from uuid import uuid4

from connector_mcp.json_values import JsonObject, is_array, is_object, is_strings
from connector_mcp.operations.connector_types import ConnectorType, connector_types
from connector_mcp.sandbox.clock import Clock, timestamp
from connector_mcp.sandbox.seed import (
    VECTORIZE_API_KEY,
    VECTORIZE_OPERATOR_EMAIL,
    VECTORIZE_OPERATOR_ID,
    VECTORIZE_ORGANIZATION_ID,
    VECTORIZE_WORKSPACES,
)
from connector_mcp.sandbox.wire import Answer, Call, RefusalError, Route, Routes, json_answer
from connector_mcp.sandbox.world import World

SOURCES = "vectorize.sources"

_BASE = "/v1/org/{organization}/connectors/sources"
_DONE = "Operation completed successfully"
_PAGE = 20
_BUILT_IN = "VECTORIZE"
_MULTI_USER = re.compile(r"_OAUTH_MULTI(_CUSTOM)?$")


class VectorizeEmulator:
    """Answers the eight source connector operations. `create_body` is the form of a create: `object` or `array`."""

    def __init__(self, world: World, clock: Clock, *, create_body: str = "object") -> None:
        self._world = world
        self._clock = clock
        self._create_body = create_body
        self._routes = Routes(
            (
                Route("GET", _BASE, self._list),
                Route("POST", _BASE, self._create),
                Route("GET", f"{_BASE}/{{connector}}", self._get),
                Route("PATCH", f"{_BASE}/{{connector}}", self._update),
                Route("DELETE", f"{_BASE}/{{connector}}", self._delete),
                Route("POST", f"{_BASE}/{{connector}}/users", self._add_user),
                Route("PATCH", f"{_BASE}/{{connector}}/users", self._update_user),
                Route("DELETE", f"{_BASE}/{{connector}}/users", self._delete_user),
            )
        )

    def handle(self, call: Call) -> Answer:
        try:
            scheme, _, key = call.header("authorization").partition(" ")
            if scheme.lower() != "bearer" or key != VECTORIZE_API_KEY:
                raise _refuse(401, "Unauthorized", "The access token is missing or not valid.")
            found = self._routes.find(call)
            if found is None:
                raise _refuse(404, "Not found", "No operation has this method and path.")
            handler, call = found
            if call.parameters["organization"] != VECTORIZE_ORGANIZATION_ID:
                raise _refuse(403, "Forbidden", "The access token does not belong to this organization.")
            with self._world.transaction():
                return handler(call)
        except RefusalError as refusal:
            return refusal.answer

    def failure(self, status: int) -> Answer:
        return _refuse(status, "An error occurred", f"Injected by the sandbox: {status}.").answer

    def _list(self, call: Call) -> Answer:
        workspace = call.query_value("workspaceId")
        sources = [each for each in self._world.all(SOURCES) if workspace in (None, each["workspaceId"])]
        size = _page_size(call.query_value("limit"))
        start = _offset(call.query_value("nextToken"))
        answer: JsonObject = {"sourceConnectors": [_view(each) for each in sources[start : start + size]]}
        if start + size < len(sources):
            answer["nextToken"] = base64.urlsafe_b64encode(f"offset:{start + size}".encode()).decode()
        return json_answer(answer)

    def _create(self, call: Call) -> Answer:
        workspace = call.query_value("workspaceId") or VECTORIZE_WORKSPACES[0]
        if workspace not in VECTORIZE_WORKSPACES:
            raise _refuse(404, "Workspace not found", workspace)
        body = _body(call)
        if self._create_body == "object":
            if not is_object(body):
                raise _refuse(400, "Invalid request body", "Expected an object.")
            return json_answer({"message": _DONE, "connector": self._created(body, workspace)})
        if not is_array(body) or not body:
            raise _refuse(400, "Invalid request body", "Expected an array of at least one connector.")
        return json_answer({"message": _DONE, "connectors": [self._created(each, workspace) for each in body]})

    def _created(self, wanted: Any, workspace: str) -> JsonObject:
        name, type_id, config = _checked_creation(wanted)
        now = timestamp(self._clock())
        source: JsonObject = {
            "id": str(uuid4()),
            "type": type_id,
            "name": name,
            "config": config,
            "createdAt": now,
            "createdById": VECTORIZE_OPERATOR_ID,
            "createdByEmail": VECTORIZE_OPERATOR_EMAIL,
            "lastUpdatedById": VECTORIZE_OPERATOR_ID,
            "lastUpdatedByEmail": VECTORIZE_OPERATOR_EMAIL,
            "verificationStatus": "verified",
            "workspaceId": workspace,
            "users": {},
            "pipelineIds": [],
        }
        self._world.put(SOURCES, source["id"], source)
        return {"name": name, "id": source["id"]}

    def _get(self, call: Call) -> Answer:
        return json_answer(_view(self._source(call)))

    def _update(self, call: Call) -> Answer:
        source = self._source(call)
        if source["type"] == _BUILT_IN:
            raise _refuse(400, "Cannot update system connector")
        body = _object(call)
        if "config" in body:
            if not is_object(body["config"]):
                raise _refuse(400, "Invalid request body", "config: expected an object.")
            source["config"] = body["config"]
        source |= {"lastUpdatedById": VECTORIZE_OPERATOR_ID, "lastUpdatedByEmail": VECTORIZE_OPERATOR_EMAIL}
        self._world.put(SOURCES, source["id"], source)
        updated: JsonObject = {"updatedConnector": _view(source)}
        if source["pipelineIds"]:
            updated["pipelineIds"] = source["pipelineIds"]
        return json_answer({"message": _DONE, "data": updated})

    def _delete(self, call: Call) -> Answer:
        source = self._source(call)
        if source["type"] == _BUILT_IN:
            raise _refuse(400, "Cannot delete system connector")
        self._world.delete(SOURCES, source["id"])
        return json_answer({"message": _DONE})

    def _add_user(self, call: Call) -> Answer:
        source, body, user = self._user_call(call)
        if user in source["users"]:
            raise _refuse(400, "User already exists on this connector", user)
        if "selectedFiles" not in body:
            raise _refuse(400, "Invalid request body", "selectedFiles: required.")
        token = "accessToken" if source["type"].startswith("NOTION") else "refreshToken"
        if not body.get(token):
            raise _refuse(400, "Invalid request body", f"{token}: required for {source['type']}.")
        return self._stored_user(source, user, body, {})

    def _update_user(self, call: Call) -> Answer:
        source, body, user = self._user_call(call)
        if user not in source["users"]:
            raise _refuse(404, "User not found on this connector", user)
        return self._stored_user(source, user, body, source["users"][user])

    def _stored_user(self, source: JsonObject, user: str, body: JsonObject, before: JsonObject) -> Answer:
        if "selectedFiles" in body:
            _check_selection(source["type"], body["selectedFiles"])
        for token in ("refreshToken", "accessToken"):
            if token in body and not isinstance(body[token], str):
                raise _refuse(400, "Invalid request body", f"{token}: expected a string.")
        kept = ("selectedFiles", "refreshToken", "accessToken")
        source["users"][user] = before | {key: body[key] for key in kept if key in body}
        self._world.put(SOURCES, source["id"], source)
        return json_answer({"message": _DONE})

    def _delete_user(self, call: Call) -> Answer:
        source, _, user = self._user_call(call)
        if source["users"].pop(user, None) is None:
            raise _refuse(404, "User not found on this connector", user)
        self._world.put(SOURCES, source["id"], source)
        return json_answer({"message": _DONE})

    def _user_call(self, call: Call) -> tuple[JsonObject, JsonObject, str]:
        source = self._source(call)
        if not _MULTI_USER.search(source["type"]):
            raise _refuse(400, "Connector does not support users", f"Its type is {source['type']}.")
        body = _object(call)
        user = body.get("userId")
        if not isinstance(user, str) or not user:
            raise _refuse(400, "Invalid request body", "userId: required.")
        return source, body, user

    def _source(self, call: Call) -> JsonObject:
        found = self._world.get(SOURCES, call.parameters["connector"])
        if found is None:
            raise _refuse(404, "Connector not found")
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
        raise _refuse(400, "Invalid request body", "Expected an object with name, type and config.")
    name, type_id = wanted.get("name"), wanted.get("type")
    if not isinstance(name, str) or not name:
        raise _refuse(400, "Invalid request body", "name: required.")
    known = connector_types("vectorize").get(type_id) if isinstance(type_id, str) else None
    if known is None or not known.creatable or known.kind != "source":
        raise _refuse(400, "Invalid request body", "type: not a source connector type that can be created.")
    return name, known.type, _checked_config(known, wanted.get("config"))


def _checked_config(known: ConnectorType, config: Any) -> JsonObject:
    required: list[str] = known.config.get("required", [])
    if config is None and not required:
        return {}
    if not is_object(config):
        raise _refuse(400, "Invalid request body", "config: expected an object.")
    missing = [key for key in required if key not in config]
    if missing:
        raise _refuse(400, "Invalid connector config", f"Missing: {', '.join(missing)}.")
    return config


def _check_selection(type_id: str, selection: Any) -> None:
    if not is_object(selection):
        raise _refuse(400, "Invalid request body", "selectedFiles: expected an object.")
    if type_id.startswith("NOTION"):
        fits = all(is_strings(selection.get(key, [])) for key in ("pageIds", "databaseIds"))
    else:
        fits = all(
            is_object(each) and all(isinstance(each.get(key), str) for key in ("name", "mimeType"))
            for each in selection.values()
        )
    if not fits:
        raise _refuse(400, "Invalid request body", "selectedFiles: not the form that this connector's provider takes.")


def _page_size(limit: str | None) -> int:
    if limit is None:
        return _PAGE
    if not limit.isascii() or not limit.isdigit() or not 1 <= int(limit) <= 100:
        raise _refuse(400, "Invalid query parameter", "limit: expected a number from 1 to 100.")
    return int(limit)


def _offset(token: str | None) -> int:
    if token is None:
        return 0
    try:
        return max(0, int(base64.urlsafe_b64decode(token).decode().removeprefix("offset:")))
    except ValueError as error:
        raise _refuse(400, "Invalid query parameter", "nextToken: not one of ours.") from error


def _body(call: Call) -> Any:
    try:
        return call.json()
    except ValueError as error:
        raise _refuse(400, "Invalid request body", "Not JSON.") from error


def _object(call: Call) -> JsonObject:
    body = _body(call)
    if not is_object(body):
        raise _refuse(400, "Invalid request body", "Expected an object.")
    return body


def _refuse(status: int, error: str, details: str | None = None) -> RefusalError:
    body: JsonObject = {"error": error, "failedUpdates": [], "successfulUpdates": []}
    if details is not None:
        body["details"] = details
    return RefusalError(json_answer(body, status))
