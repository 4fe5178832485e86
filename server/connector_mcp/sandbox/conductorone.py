"""ConductorOne, emulated: list, read and update the connectors of an app (facts: sections 2 to 6).

Its traps are real here: update is a POST with a mask, a masked field that the message lacks is cleared, config values
are wrapped and secret ones never shown, an empty secret erases the stored one, deleted connectors still answer, and
odd path segments are redirected. What the documents leave open is decided so: an update without a mask is refused, a
secret key that an update of `config` leaves out survives, lists contain deleted connectors.
"""

from __future__ import annotations

import base64
import re
from typing import Any
from uuid import uuid4

from connector_mcp.json_values import JsonObject, is_object, is_strings
from connector_mcp.operations.connector_types import connector_types
from connector_mcp.sandbox.client_assertion import is_proved
from connector_mcp.sandbox.clock import Clock, timestamp
from connector_mcp.sandbox.seed import CONDUCTORONE_APP, CONDUCTORONE_USERS
from connector_mcp.sandbox.tokens import TokenDesk
from connector_mcp.sandbox.wire import Answer, Call, RefusalError, Route, Routes, json_answer
from connector_mcp.sandbox.world import World

CONNECTORS = "conductorone.connectors"
ENV_CONFIG = "type.googleapis.com/c1.api.app.v1.EnvConfig"

_BASE = "/api/v1/apps/{app}/connectors"
_TOKEN_SECONDS = 600
_PAGE, _LEAST, _MOST = 25, 10, 100
_MASK_PATH = re.compile(r"^[a-z][A-Za-z0-9]*$")
_GROUP = "C1_selected_field_group_name"

# gRPC number and its name for the HTTP statuses that the gateway gives.
_GRPC = {400: 3, 401: 16, 403: 7, 404: 5, 409: 6, 429: 8, 500: 13, 501: 12, 503: 14, 504: 4}

_UNPOPULATED: JsonObject = {
    "displayName": "",
    "description": "",
    "userIds": [],
    "config": None,
    "profileAllowList": [],
    "profileIgnoreList": [],
    "syncConfig": None,
    "disableCheckBadSync": False,
    "parallelSyncWorkerCount": None,
}
"""The writable fields, and what each reads as when it holds nothing."""


class ConductorOneEmulator:
    """Answers List, Get and Update of the connector service, and the token endpoint, of one tenant."""

    def __init__(self, world: World, clock: Clock) -> None:
        self._world = world
        self._clock = clock
        self.tokens = TokenDesk(clock)
        self._routes = Routes(
            (
                Route("GET", _BASE, self._list),
                Route("GET", f"{_BASE}/{{id}}", self._get),
                Route("POST", f"{_BASE}/create", self._not_emulated),
                Route("POST", f"{_BASE}/{{id}}", self._update),
            )
        )

    def handle(self, call: Call) -> Answer:
        if (call.method, call.path) == ("POST", "/auth/v1/token"):
            return self._token(call)
        if not call.path.startswith("/api/"):
            return Answer(200, b"<!doctype html><title>ConductorOne</title>", {"content-type": "text/html"})
        collection, slash, last = call.path.rpartition("/")
        if slash and last in ("", ".", "%2E", "%2e", "%2F", "%2f"):
            return Answer(301, b"", {"location": collection})
        try:
            scheme, _, token = call.header("authorization").partition(" ")
            if scheme.lower() != "bearer" or self.tokens.grant(token) is None:
                raise _refuse(401, "unauthenticated")
            found = self._routes.find(call)
            if found is None:
                raise _refuse(404, "not found")
            handler, call = found
            if call.parameters["app"] != CONDUCTORONE_APP["id"]:
                raise _refuse(404, "not found")
            with self._world.transaction():
                return handler(call)
        except RefusalError as refusal:
            return refusal.answer

    def failure(self, status: int) -> Answer:
        return _refuse(status, "injected by the sandbox").answer

    def _token(self, call: Call) -> Answer:
        form = call.form()
        if form.get("grant_type") != "client_credentials" or not is_proved(form, call.host(), self._clock()):
            return json_answer({"error": "invalid_client", "error_description": "client authentication failed"}, 401)
        token = self.tokens.issue(seconds=_TOKEN_SECONDS)
        return json_answer({"access_token": token, "token_type": "Bearer", "expires_in": _TOKEN_SECONDS})

    def _list(self, call: Call) -> Answer:
        connectors = self._world.all(CONNECTORS)
        size = _page_size(call.query_value("page_size"))
        start = _offset(call.query_value("page_token"))
        following = start + size
        more = base64.urlsafe_b64encode(f"from:{following}".encode()).decode() if following < len(connectors) else ""
        rows = [_view(_shown(each)) for each in connectors[start:following]]
        return json_answer({"list": rows, "expanded": [], "nextPageToken": more})

    def _get(self, call: Call) -> Answer:
        return json_answer({"connectorView": _view(_shown(self._connector(call))), "expanded": []})

    def _not_emulated(self, _call: Call) -> Answer:
        raise _refuse(501, "the sandbox does not emulate this operation")

    def _update(self, call: Call) -> Answer:
        connector = self._connector(call)
        if connector["deletedAt"] is not None:
            raise _refuse(404, "connector was deleted")
        body = _body(call)
        message = body.get("connector")
        if not is_object(message):
            raise _refuse(400, "invalid ConnectorServiceUpdateRequest.Connector: value is required")
        expand = _expand_paths(body.get("expandMask"))
        now = timestamp(self._clock())
        for path in _mask(body.get("updateMask")):
            value = message.get(path)
            if path == "config":
                connector["config"] = None if value is None else _merged_config(connector, value)
                connector["configUpdatedAt"] = now
            else:
                connector[path] = _UNPOPULATED[path] if value is None else _checked(path, value)
        connector["updatedAt"] = now
        self._world.put(CONNECTORS, connector["id"], connector)
        view, expanded = _expanded(_view(_shown(connector)), connector, expand)
        return json_answer({"connectorView": view, "expanded": expanded})

    def _connector(self, call: Call) -> JsonObject:
        found = self._world.get(CONNECTORS, call.parameters["id"])
        if found is None:
            raise _refuse(404, "not found")
        return found


def _secret_keys(catalog_id: str) -> set[str] | None:
    known = connector_types("conductorone").get(catalog_id)
    return None if known is None else {path.partition(".")[0] for path in known.secret_paths}


def _shown(connector: JsonObject) -> JsonObject:
    """The connector without secret config values; without any of a catalog entry whose keys are not known."""
    config = connector["config"]
    if config is None:
        return connector
    secret = _secret_keys(connector["catalogId"])
    values: JsonObject = config["configuration"]
    visible = {} if secret is None else {key: value for key, value in values.items() if key not in secret}
    return {**connector, "config": {**config, "configuration": visible}}


def _view(connector: JsonObject) -> JsonObject:
    return {"connector": connector, "appPath": "", "usersPath": "", "capabilitiesPath": ""}


def _expanded(view: JsonObject, connector: JsonObject, paths: set[str]) -> tuple[JsonObject, list[JsonObject]]:
    expanded: list[JsonObject] = []
    if paths & {"app_id", "*"}:
        view["appPath"] = f"$.expanded[{len(expanded)}]"
        expanded.append({"@type": "type.googleapis.com/c1.api.app.v1.App", **CONDUCTORONE_APP})
    users = [user for user in CONDUCTORONE_USERS if user["id"] in (connector["userIds"] or [])]
    if paths & {"user_ids", "*"} and users:
        positions = ",".join(str(len(expanded) + n) for n in range(len(users)))
        view["usersPath"] = f"$.expanded[{positions}]"
        expanded += [{"@type": "type.googleapis.com/c1.api.user.v1.User", **user} for user in users]
    return view, expanded


def _merged_config(connector: JsonObject, config: Any) -> JsonObject:
    """The config as it is stored: replaced, but for secrets left out; an empty secret is erased."""
    if not is_object(config) or config.get("@type") != ENV_CONFIG:
        raise _refuse(400, f'proto: google.protobuf.Any: "@type" must be {ENV_CONFIG}')
    values: Any = config.get("configuration") or {}
    if not is_object(values) or not all(_is_wrapped(each) for each in values.values()):
        raise _refuse(400, "proto: invalid value for c1.api.app.v1.EnvConfig.configuration: each must be an object")
    reserved = [key for key in values if key.startswith("C1_") and key != _GROUP]
    if reserved:
        raise _refuse(400, f"config keys beginning with C1_ are reserved: {', '.join(reserved)}")
    secret = _secret_keys(connector["catalogId"]) or set[str]()
    before: JsonObject = {} if connector["config"] is None else connector["config"]["configuration"]
    kept = {key: value for key, value in before.items() if key in secret and key not in values}
    erased = {key for key in secret if values.get(key) == {"stringValue": ""}}
    merged = {key: value for key, value in (kept | values).items() if key not in erased}
    return {"@type": ENV_CONFIG, "configuration": merged}


def _is_wrapped(value: Any) -> bool:
    if not is_object(value) or len(value) != 1:
        return False
    if "stringValue" in value:
        return isinstance(value["stringValue"], str)
    return is_object(value.get("keyValues"))


def _mask(mask: Any) -> list[str]:
    if not isinstance(mask, str):
        raise _refuse(400, "invalid ConnectorServiceUpdateRequest.UpdateMask: a string of paths is required")
    paths = [path for path in mask.split(",") if path]
    if not paths:
        raise _refuse(400, "invalid ConnectorServiceUpdateRequest.UpdateMask: at least one path is required")
    for path in paths:
        if not _MASK_PATH.match(path) or path not in _UNPOPULATED:
            raise _refuse(400, f"invalid ConnectorServiceUpdateRequest.UpdateMask: no writable field {path[:64]!r}")
    return paths


def _checked(field: str, value: Any) -> Any:
    match field:
        case "displayName" | "description":
            fits = isinstance(value, str)
        case "disableCheckBadSync":
            fits = isinstance(value, bool)
        case "parallelSyncWorkerCount":
            fits = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 4
        case "syncConfig":
            fits = is_object(value) and is_strings(value.get("syncResourceTypeIds") or [])
        case _:
            fits = is_strings(value)
    if not fits:
        raise _refuse(400, f"proto: invalid value for field {field}")
    return value


def _expand_paths(mask: Any) -> set[str]:
    if mask is None:
        return set()
    paths: Any = (mask.get("paths") or []) if is_object(mask) else None
    if not is_strings(paths):
        raise _refuse(400, "proto: invalid value for field expandMask")
    return set(paths)


def _page_size(size: str | None) -> int:
    if size is None:
        return _PAGE
    try:
        return min(_MOST, max(_LEAST, int(size)))
    except ValueError as error:
        raise _refuse(400, "type mismatch, parameter: page_size") from error


def _offset(token: str | None) -> int:
    if token is None:
        return 0
    try:
        return max(0, int(base64.urlsafe_b64decode(token).decode().removeprefix("from:")))
    except ValueError as error:
        raise _refuse(400, "invalid page_token") from error


def _body(call: Call) -> JsonObject:
    try:
        body: Any = call.json()
    except ValueError as error:
        raise _refuse(400, "proto: syntax error") from error
    if body is None:
        return {}
    if not is_object(body):
        raise _refuse(400, "proto: syntax error: unexpected token")
    return body


def _refuse(status: int, message: str) -> RefusalError:
    text = f"{message} (request-id: {uuid4().hex})"
    return RefusalError(json_answer({"code": _GRPC.get(status, 2), "message": text, "details": []}, status))
