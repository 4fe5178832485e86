"""ConductorOne, emulated: apps, their connectors and the catalog of connector types (facts: sections 2 to 6).

It reproduces the platform's traps: update is a POST with a mask, a masked field that the message lacks is cleared,
config values are wrapped and secret ones never shown, an empty secret erases the stored one, deleted connectors still
answer, and odd path segments are redirected. Where the documents are silent: an update without a mask is refused, a
secret key that an update of `config` leaves out is kept, lists contain deleted connectors.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from secrets import compare_digest
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import jwt
from jwt.types import Options
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from connector_mcp.json_values import JsonObject, is_object, is_strings
from connector_mcp.operations.connector_types import ConnectorType, connector_types
from connector_mcp.sandbox import seed
from connector_mcp.sandbox.emulator import (
    Emulator,
    PlatformError,
    TokenIssuer,
    decode_cursor,
    encode_cursor,
    form_fields,
    json_body,
    json_response,
    query_value,
)
from connector_mcp.sandbox.world import World

CONNECTORS = "conductorone.connectors"
CATALOG = "conductorone.catalog"
"""Configuration schemas of catalog entries that differ from those that are shipped, or are not."""
ENV_CONFIG = "type.googleapis.com/c1.api.app.v1.EnvConfig"

_BASE = "/api/v1/apps/{app}/connectors"
_TOKEN_SECONDS = 600
_PAGE, _LEAST, _MOST = 25, 10, 100
_MASK_PATH = re.compile(r"^[a-z][A-Za-z0-9]*$")
_GROUP = "C1_selected_field_group_name"

# gRPC number and its name for the HTTP statuses that the gateway gives.
_GRPC = {400: 3, 401: 16, 403: 7, 404: 5, 409: 6, 429: 8, 500: 13, 501: 12, 503: 14, 504: 4}


_WRITABLE: dict[str, tuple[Any, Callable[[Any], bool]]] = {
    "displayName": ("", lambda value: isinstance(value, str)),
    "description": ("", lambda value: isinstance(value, str)),
    "userIds": ([], is_strings),
    "config": (None, is_object),
    "profileAllowList": ([], is_strings),
    "profileIgnoreList": ([], is_strings),
    "syncConfig": (None, lambda value: is_object(value) and is_strings(value.get("syncResourceTypeIds") or [])),
    "disableCheckBadSync": (False, lambda value: isinstance(value, bool)),
    "parallelSyncWorkerCount": (None, lambda value: type(value) is int and 0 <= value <= 4),
}
"""The writable fields: what each reads as when it is empty, and which values it takes."""

_APP: JsonObject = {
    "description": "",
    "isDirectory": False,
    "isManuallyManaged": False,
    "parentAppId": "",
    "userCount": "2",
    "deletedAt": None,
}

_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_ASSERTION_SECONDS = 300
_LEEWAY = 60
_NONCE = re.compile(r"^[0-9a-f]{32}$")
# Times are checked against the sandbox's clock; the library only knows the real one.
_UNCHECKED: Options = {"verify_exp": False, "verify_nbf": False, "verify_iat": False, "verify_aud": False}


class ConductorOneEmulator(Emulator):
    """The emulated operations and the token endpoint of one tenant."""

    def __init__(self, world: World) -> None:
        routes = (
            Route("/api/v1/apps", self._apps, methods=["GET"]),
            Route("/api/v1/connectorcatalog", self._schema, methods=["POST"]),
            Route(_BASE, self._list, methods=["GET"]),
            Route(f"{_BASE}/{{id}}", self._get, methods=["GET"]),
            Route(f"{_BASE}/create", self._not_emulated, methods=["POST"]),
            Route(f"{_BASE}/{{id}}", self._update, methods=["POST"]),
        )
        super().__init__(world, routes)
        self.tokens = TokenIssuer(world)

    async def respond_outside_api(self, request: Request) -> Response | None:
        path: str = request.scope["path"]
        if (request.method, path) == ("POST", "/auth/v1/token"):
            return await self._token(request)
        if not path.startswith("/api/"):
            return Response("<!doctype html><title>ConductorOne</title>", headers={"content-type": "text/html"})
        collection, _, last = path.rpartition("/")
        if last in ("", ".", "%2E", "%2e", "%2F", "%2f"):
            return Response(status_code=301, headers={"location": collection})
        return None

    def authorize(self, request: Request) -> None:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or self.tokens.grant(token) is None:
            raise _error(401, "unauthenticated")
        if request.path_params.get("app", seed.CONDUCTORONE_APP["id"]) != seed.CONDUCTORONE_APP["id"]:
            raise _error(404, "not found")

    def error_response(self, status: int) -> Response:
        return _error(status, f"the sandbox answers {status}").response

    async def _token(self, request: Request) -> Response:
        form = await form_fields(request)
        host = urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
        if form.get("grant_type") != "client_credentials" or not _is_authenticated(form, host, self._world.now()):
            return json_response({"error": "invalid_client", "error_description": "client authentication failed"}, 401)
        token = self.tokens.issue(seconds=_TOKEN_SECONDS)
        return json_response({"access_token": token, "token_type": "Bearer", "expires_in": _TOKEN_SECONDS})

    async def _list(self, request: Request) -> Response:
        connectors = self._world.all(CONNECTORS)
        size = _page_size(query_value(request, "page_size"))
        start = decode_cursor("from", query_value(request, "page_token"), _error(400, "invalid page_token"))
        following = start + size
        more = encode_cursor("from", following) if following < len(connectors) else ""
        rows = [_view(_shown(each)) for each in connectors[start:following]]
        return json_response({"list": rows, "expanded": [], "nextPageToken": more})

    async def _apps(self, request: Request) -> Response:
        apps = [{**_APP, **seed.CONDUCTORONE_APP}]
        start = decode_cursor("from", query_value(request, "page_token"), _error(400, "invalid page_token"))
        rows = apps[start : start + _page_size(query_value(request, "page_size"))]
        return json_response({"list": rows, "nextPageToken": ""})

    async def _schema(self, request: Request) -> Response:
        catalog_id = str((await _body(request)).get("catalogId") or "")
        described = self._world.get(CATALOG, catalog_id)
        if described is None and (known := connector_types("conductorone").get(catalog_id)) is not None:
            described = _described(known)
        if described is None:
            raise _error(404, "not found")
        return json_response({"schema": described, "formSchema": None})

    async def _get(self, request: Request) -> Response:
        return json_response({"connectorView": _view(_shown(self._connector(request))), "expanded": []})

    async def _not_emulated(self, _request: Request) -> Response:
        raise _error(501, "the sandbox does not emulate this operation")

    async def _update(self, request: Request) -> Response:
        connector = self._connector(request)
        if connector["deletedAt"] is not None:
            raise _error(404, "connector was deleted")
        body = await _body(request)
        message = body.get("connector")
        if not is_object(message):
            raise _error(400, "invalid ConnectorServiceUpdateRequest.Connector: value is required")
        expand = _expand_paths(body.get("expandMask"))
        now = self._world.timestamp()
        for path in _mask(body.get("updateMask")):
            value = message.get(path)
            if path == "config":
                connector["config"] = None if value is None else _merged_config(connector, value)
                connector["configUpdatedAt"] = now
                continue
            empty, is_valid = _WRITABLE[path]
            if value is not None and not is_valid(value):
                raise _error(400, f"proto: invalid value for field {path}")
            connector[path] = empty if value is None else value
        connector["updatedAt"] = now
        self._world.put(CONNECTORS, connector["id"], connector)
        view, expanded = _expanded(_view(_shown(connector)), connector, expand)
        return json_response({"connectorView": view, "expanded": expanded})

    def _connector(self, request: Request) -> JsonObject:
        found = self._world.get(CONNECTORS, request.path_params["id"])
        if found is None:
            raise _error(404, "not found")
        return found


def _described(known: ConnectorType) -> JsonObject:
    """The configuration schema of a catalog entry."""
    groups: JsonObject = known.traits.get("fieldGroups", {})
    fields = [_field(key, member) for key, member in known.config["properties"].items() if key != _GROUP]
    return {
        "displayName": known.name,
        "fields": fields,
        "fieldGroups": [{"name": name, "displayName": name, "fieldNames": keys} for name, keys in groups.items()],
    }


def _field(key: str, member: JsonObject) -> JsonObject:
    secret = {"secret": member.get("writeOnly", False)}
    kinds: JsonObject = {
        "boolean": {"checkbox": {"checked": False}},
        "array": {"strList": {"valueValidator": None}},
        "object": {"keyValue": {**secret, "supportsFileUpload": False}},
        "string": {"str": {**secret, "valueValidator": None}},
    }
    return {"name": key, "displayName": member["description"].rstrip("."), "placeholder": "", **kinds[member["type"]]}


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
        expanded.append({"@type": "type.googleapis.com/c1.api.app.v1.App", **seed.CONDUCTORONE_APP})
    users = [user for user in seed.CONDUCTORONE_USERS if user["id"] in (connector["userIds"] or [])]
    if paths & {"user_ids", "*"} and users:
        positions = ",".join(str(len(expanded) + n) for n in range(len(users)))
        view["usersPath"] = f"$.expanded[{positions}]"
        expanded += [{"@type": "type.googleapis.com/c1.api.user.v1.User", **user} for user in users]
    return view, expanded


def _merged_config(connector: JsonObject, config: Any) -> JsonObject:
    """The config as it is stored: replaced, but for secrets left out; an empty secret is erased."""
    if not is_object(config) or config.get("@type") != ENV_CONFIG:
        raise _error(400, f'proto: google.protobuf.Any: "@type" must be {ENV_CONFIG}')
    values: Any = config.get("configuration") or {}
    if not is_object(values) or not all(_is_wrapped(each) for each in values.values()):
        raise _error(400, "proto: invalid value for c1.api.app.v1.EnvConfig.configuration: each must be an object")
    reserved = [key for key in values if key.startswith("C1_") and key != _GROUP]
    if reserved:
        raise _error(400, f"config keys beginning with C1_ are reserved: {', '.join(reserved)}")
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
        raise _error(400, "invalid ConnectorServiceUpdateRequest.UpdateMask: a string of paths is required")
    paths = [path for path in mask.split(",") if path]
    if not paths:
        raise _error(400, "invalid ConnectorServiceUpdateRequest.UpdateMask: at least one path is required")
    for path in paths:
        if not _MASK_PATH.match(path) or path not in _WRITABLE:
            raise _error(400, f"invalid ConnectorServiceUpdateRequest.UpdateMask: no writable field {path[:64]!r}")
    return paths


def _expand_paths(mask: Any) -> set[str]:
    if mask is None:
        return set()
    paths: Any = (mask.get("paths") or []) if is_object(mask) else None
    if not is_strings(paths):
        raise _error(400, "proto: invalid value for field expandMask")
    return set(paths)


def _page_size(size: str | None) -> int:
    if size is None:
        return _PAGE
    try:
        return min(_MOST, max(_LEAST, int(size)))
    except ValueError as error:
        raise _error(400, "type mismatch, parameter: page_size") from error


async def _body(request: Request) -> JsonObject:
    body: Any = await json_body(request, _error(400, "proto: syntax error"))
    if body is None:
        return {}
    if not is_object(body):
        raise _error(400, "proto: syntax error: unexpected token")
    return body


def _error(status: int, message: str) -> PlatformError:
    text = f"{message} (request-id: {uuid4().hex})"
    return PlatformError(json_response({"code": _GRPC.get(status, 2), "message": text, "details": []}, status))


def _is_authenticated(form: Mapping[str, str], host: str, now: datetime) -> bool:
    """Check a client's proof at the token endpoint: an assertion signed for `host`, or a plain secret.

    The audience may also be the host in the client id, which is the tenant's own.
    """
    if form.get("client_id") != seed.CONDUCTORONE_CLIENT_ID:
        return False
    if "client_assertion" in form:
        hosts = {host, seed.CONDUCTORONE_CLIENT_ID.partition("@")[2].partition("/")[0]}
        return form.get("client_assertion_type") == _ASSERTION_TYPE and _is_signed(form["client_assertion"], hosts, now)
    given = form.get("client_secret", "").encode()
    return any(
        compare_digest(given, each.encode())
        for each in (seed.CONDUCTORONE_CLIENT_SECRET, seed.CONDUCTORONE_PLAIN_SECRET)
    )


def _is_signed(assertion: str, hosts: set[str], now: datetime) -> bool:
    try:
        header = jwt.get_unverified_header(assertion)
        claims: dict[str, Any] = jwt.decode(assertion, _public_key(), algorithms=["EdDSA"], options=_UNCHECKED)
    except jwt.PyJWTError:
        return False
    audience = claims.get("aud")
    named = {audience} if isinstance(audience, str) else set(audience if is_strings(audience) else ())
    return (
        claims.get("iss") == claims.get("sub") == seed.CONDUCTORONE_CLIENT_ID
        and bool(named & hosts)
        and _is_current(claims, now.timestamp())
        # Current clients put the nonce into the header; the older Python one put it into the claims.
        and (_NONCE.match(str(header.get("nonce", ""))) is not None or bool(claims.get("nonce")))
    )


def _is_current(claims: Mapping[str, Any], now: float) -> bool:
    times = [claims.get(name) for name in ("nbf", "iat", "exp")]
    if not all(isinstance(each, int) for each in times):
        return False
    not_before, issued, expires = (int(each or 0) for each in times)
    return max(not_before, issued) - _LEEWAY <= now < expires <= now + _ASSERTION_SECONDS + _LEEWAY


def _public_key() -> jwt.PyJWK:
    encoded = seed.CONDUCTORONE_CLIENT_SECRET.rpartition(":")[2]
    key: dict[str, str] = json.loads(base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)))
    return jwt.PyJWK({name: value for name, value in key.items() if name != "d"}, algorithm="EdDSA")
