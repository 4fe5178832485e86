"""ConductorOne, emulated: apps, their connectors and the catalog of connector types (facts: sections 2 to 6).

It reproduces the platform's traps: update is a POST with a mask, a masked field that the message lacks is cleared,
config values are wrapped and secret ones never shown, an empty secret erases the stored one, deleted connectors still
answer, and paths that end in an empty or dot segment are redirected. Where the documents are silent: an update without
a mask is refused, a secret key that an update of `config` leaves out is kept, lists contain deleted connectors.
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

import jwt
from jwt.types import Options
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from connector_mcp.json_values import JsonObject, is_object, is_strings
from connector_mcp.operations.connector_types import ConnectorType, connector_types
from connector_mcp.sandbox import seed
from connector_mcp.sandbox.conductorone import wire
from connector_mcp.sandbox.conductorone.apps import APPS, ConductorOneApps
from connector_mcp.sandbox.conductorone.sync import (
    CONNECTORS,
    NEVER_SYNCED,
    ConductorOneSync,
    present,
    user_count,
    without_order,
)
from connector_mcp.sandbox.emulator import Emulator, TokenIssuer, form_fields, json_response, query_value
from connector_mcp.sandbox.world import World

CATALOG = "conductorone.catalog"
"""Configuration schemas of catalog entries that differ from those that are shipped, or are not."""
ENV_CONFIG = "type.googleapis.com/c1.api.app.v1.EnvConfig"

_BASE = "/api/v1/apps/{app}/connectors"
_TOKEN_SECONDS = 600
_OF_CONNECTOR = "connector"
"""Scope of the token of a self-hosted connector, which cannot use this API."""
_GROUP = "C1_selected_field_group_name"

_Rule = tuple[Any, Callable[[Any], bool]]
_WRITABLE: dict[str, _Rule] = {
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

_UNSET: JsonObject = {
    **dict.fromkeys(("syncDisabledCategory", "syncDisabledReason", "downloadUrl"), ""),
    **dict.fromkeys(("oauthAuthorizedAs", "connectorSyncCronSchedule", "syncDisabledAt", "configUpdatedAt")),
    "status": NEVER_SYNCED, "canResumeSync": False, "connectorApiVersion": 1,
}  # fmt: skip
"""Members of a new connector that later calls set."""

_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_ASSERTION_SECONDS = 300
_LEEWAY = 60
_NONCE = re.compile(r"^[0-9a-f]{32}$")
# Times are checked against the sandbox's clock; the library only knows the real one.
_UNCHECKED: Options = {"verify_exp": False, "verify_nbf": False, "verify_iat": False}


class ConductorOneEmulator(Emulator):
    """The emulated operations and the token endpoint of one tenant."""

    def __init__(self, world: World) -> None:
        self._sync = ConductorOneSync(world)
        self._app_api = ConductorOneApps(world, lambda app: user_count(world, app))
        routes = (
            *self._app_api.routes,
            *self._sync.routes,
            Route("/api/v1/connectorcatalog", self._schema, methods=["POST"]),
            Route(_BASE, self._list, methods=["GET"]),
            Route(_BASE, self._create_delegated, methods=["POST"]),
            Route(f"{_BASE}/create", self._create, methods=["POST"]),
            Route(f"{_BASE}/{{id}}", self._get, methods=["GET"]),
            Route(f"{_BASE}/{{id}}", self._update, methods=["POST"]),
            Route(f"{_BASE}/{{id}}", self._delete, methods=["DELETE"]),
            Route(f"{_BASE}/{{id}}/delegated", self._update_delegated, methods=["POST"]),
        )
        super().__init__(world, routes)
        self.tokens = TokenIssuer(world)

    async def respond_outside_api(self, request: Request) -> Response | None:
        path: str = request.scope["path"]
        if (request.method, path) == ("POST", "/auth/v1/token"):
            return await self._token(request)
        if (request.method, path) == ("GET", "/api/v1/auth/introspect"):
            self.authorize(request)
            return json_response({"features": [], "permissions": [], "roles": ["Super Administrator"]})
        if not path.startswith("/api/"):
            return Response("<!doctype html><title>ConductorOne</title>", headers={"content-type": "text/html"})
        collection, _, last = path.rpartition("/")
        if last in ("", ".", "%2E", "%2e", "%2F", "%2f"):
            return Response(status_code=301, headers={"location": collection})
        return None

    def authorize(self, request: Request) -> None:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        grant = self.tokens.grant(token)
        if scheme.lower() != "bearer" or grant is None:
            raise wire.error(401, "unauthenticated")
        if grant.scope == _OF_CONNECTOR:
            raise wire.error(403, "permission denied")
        if "app" in request.path_params and self._world.get(APPS, request.path_params["app"]) is None:
            raise wire.error(404, "not found")

    def error_response(self, status: int) -> Response:
        return wire.error(status, f"the sandbox answers {status}").response

    async def _token(self, request: Request) -> Response:
        form = await form_fields(request)
        host = urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
        is_grant = form.get("grant_type") == "client_credentials"
        scope = "" if _is_authenticated(form, host, self._world.now()) else _OF_CONNECTOR
        if not is_grant or (scope and not self._sync.signs_in(form)):
            return json_response({"error": "invalid_client", "error_description": "client authentication failed"}, 401)
        token = self.tokens.issue(seconds=_TOKEN_SECONDS, scope=scope)
        return json_response({"access_token": token, "token_type": "Bearer", "expires_in": _TOKEN_SECONDS})

    async def _list(self, request: Request) -> Response:
        connectors = [each for each in self._world.all(CONNECTORS) if each["appId"] == request.path_params["app"]]
        rows = [_view(_shown(present(self._world, each))) for each in connectors]
        page = wire.page_of(rows, query_value(request, "page_size"), query_value(request, "page_token"))
        return json_response({"expanded": [], **page})

    async def _schema(self, request: Request) -> Response:
        catalog_id = str((await wire.object_body(request)).get("catalogId") or "")
        described = self._description(catalog_id)
        if described is None:
            raise wire.error(404, "not found")
        return json_response({"schema": described, "formSchema": None})

    async def _get(self, request: Request) -> Response:
        return json_response({"connectorView": _view(_shown(self._connector(request))), "expanded": []})

    async def _create(self, request: Request) -> Response:
        body = await wire.object_body(request)
        if body.get("config") is None:
            raise wire.error(400, "invalid ConnectorServiceCreateRequest.Config: value is required")
        connector = self._new(request, body)
        connector["config"] = _merged_config(connector, body["config"])
        connector["configUpdatedAt"] = connector["createdAt"]
        return self._changed(connector, wire.expand_paths(body.get("expandMask")))

    async def _create_delegated(self, request: Request) -> Response:
        body = await wire.object_body(request)
        connector = self._new(request, body)
        connector["displayName"] = body.get("displayName") or connector["displayName"]
        return self._changed(connector, wire.expand_paths(body.get("expandMask")))

    def _new(self, request: Request, body: JsonObject) -> JsonObject:
        """A connector without config, of the type and with the owners that a body names."""
        catalog_id, now = str(body.get("catalogId") or ""), self._world.timestamp()
        described = self._description(catalog_id)
        if described is None:
            raise wire.error(400, "invalid CatalogId: no such catalog entry")
        return {
            "id": wire.new_id("sandboxConnector"),
            "appId": request.path_params["app"],
            "catalogId": catalog_id,
            "displayName": described["displayName"],
            **{name: empty for name, (empty, _) in _WRITABLE.items() if name != "displayName"},
            "description": body.get("description") or "",
            "userIds": wire.known_users(body.get("userIds")) or [seed.CONDUCTORONE_USERS[0]["id"]],
            **_UNSET,
            "createdAt": now,
            "updatedAt": now,
            "deletedAt": None,
        }

    async def _update(self, request: Request) -> Response:
        return await self._set(request, _WRITABLE, "ConnectorServiceUpdateRequest")

    async def _update_delegated(self, request: Request) -> Response:
        writable = {name: rule for name, rule in _WRITABLE.items() if name != "config"}
        return await self._set(request, writable, "ConnectorServiceUpdateDelegatedRequest")

    async def _set(self, request: Request, writable: Mapping[str, _Rule], kind: str) -> Response:
        """Set the members that a mask names, and clear those of them that the message lacks."""
        connector = self._connector(request)
        if connector["deletedAt"] is not None:
            raise wire.error(404, "connector was deleted")
        body = await wire.object_body(request)
        message = body.get("connector")
        if not is_object(message):
            raise wire.error(400, f"invalid {kind}.Connector: value is required")
        expand = wire.expand_paths(body.get("expandMask"))
        now = self._world.timestamp()
        for path in wire.mask_paths(body.get("updateMask"), writable, kind):
            value = message.get(path)
            if path == "config":
                connector["config"] = None if value is None else _merged_config(connector, value)
                connector["configUpdatedAt"] = now
                continue
            empty, is_valid = writable[path]
            if value is not None and not is_valid(value):
                raise wire.error(400, f"proto: invalid value for field {path}")
            connector[path] = empty if value is None else value
        connector["updatedAt"] = now
        return self._changed(connector, expand)

    async def _delete(self, request: Request) -> Response:
        connector = self._connector(request)
        if connector["deletedAt"] is None:
            deleted = without_order(connector) | {"deletedAt": self._world.timestamp()}
            self._world.put(CONNECTORS, connector["id"], deleted)
        return json_response({})

    def _changed(self, connector: JsonObject, expand: set[str]) -> Response:
        """Store a connector, and answer with it and what is to be expanded."""
        self._world.put(CONNECTORS, connector["id"], connector)
        app = self._world.get(APPS, connector["appId"]) or {}
        view, expanded = _expanded(_view(_shown(connector)), connector, self._app_api.view(app), expand)
        return json_response({"connectorView": view, "expanded": expanded})

    def _connector(self, request: Request) -> JsonObject:
        found = self._world.get(CONNECTORS, request.path_params["id"])
        if found is None or found["appId"] != request.path_params["app"]:
            raise wire.error(404, "not found")
        return present(self._world, found)

    def _description(self, catalog_id: str) -> JsonObject | None:
        described = self._world.get(CATALOG, catalog_id)
        if described is None and (known := connector_types("conductorone").get(catalog_id)) is not None:
            return _described(known)
        return described


def _described(known: ConnectorType) -> JsonObject:
    """The configuration schema of a catalog entry."""
    groups: JsonObject = known.traits.get("fieldGroups", {})
    fields = [_field(key, member) for key, member in known.config["properties"].items() if key != _GROUP]
    return {
        "displayName": known.name,
        "helpUrl": "",
        "iconUrl": "",
        "isOauth2": False,
        "requiresExternalConnector": not fields,
        "supportsExternalResources": False,
        "fields": fields,
        "fieldGroups": [
            {"name": name, "displayName": name, "helpText": "", "default": False, "fieldNames": keys}
            for name, keys in groups.items()
        ],
    }


def _field(key: str, member: JsonObject) -> JsonObject:
    secret = {"secret": member.get("writeOnly", False)}
    kinds: JsonObject = {
        "boolean": {"checkbox": {"checked": False}},
        "array": {"strList": {"valueValidator": None}},
        "object": {"keyValue": {**secret, "supportsFileUpload": False}},
        "string": {"str": {**secret, "valueValidator": None}},
    }
    unset: JsonObject = {"placeholder": "", "additionalPlaceholder": "", "helpUrl": "", "dependsOnFields": []}
    named = {"name": key, "displayName": member["description"].rstrip("."), "postCreate": False}
    return named | unset | kinds[member["type"]]


def _secret_keys(catalog_id: str) -> set[str] | None:
    known = connector_types("conductorone").get(catalog_id)
    return None if known is None else {path.partition(".")[0] for path in known.secret_paths}


def _shown(connector: JsonObject) -> JsonObject:
    """The connector without secret config values. Of an unknown catalog entry, no config value is shown."""
    connector = without_order(connector)
    config = connector["config"]
    if config is None:
        return connector
    secret = _secret_keys(connector["catalogId"])
    values: JsonObject = config["configuration"]
    visible = {} if secret is None else {key: value for key, value in values.items() if key not in secret}
    return {**connector, "config": {**config, "configuration": visible}}


def _view(connector: JsonObject) -> JsonObject:
    return {"connector": connector, "appPath": "", "usersPath": "", "capabilitiesPath": ""}


def _expanded(
    view: JsonObject, connector: JsonObject, app: JsonObject, paths: set[str]
) -> tuple[JsonObject, list[JsonObject]]:
    expanded: list[JsonObject] = []
    if paths & {"app_id", "*"}:
        view["appPath"] = f"$.expanded[{len(expanded)}]"
        expanded.append({"@type": "type.googleapis.com/c1.api.app.v1.App", **app})
    owners: list[str] = connector["userIds"] or []
    users = [found for each in owners if (found := wire.user(each))]
    if paths & {"user_ids", "*"} and users:
        positions = ",".join(str(len(expanded) + n) for n in range(len(users)))
        view["usersPath"] = f"$.expanded[{positions}]"
        expanded += [{"@type": "type.googleapis.com/c1.api.user.v1.User", **each} for each in users]
    return view, expanded


def _merged_config(connector: JsonObject, config: Any) -> JsonObject:
    """The config as it is stored: replaced, but for secrets left out; an empty secret is erased."""
    if not is_object(config) or config.get("@type") != ENV_CONFIG:
        raise wire.error(400, f'proto: google.protobuf.Any: "@type" must be {ENV_CONFIG}')
    values: Any = config.get("configuration") or {}
    if not is_object(values) or not all(_is_wrapped(each) for each in values.values()):
        raise wire.error(400, "proto: invalid value for c1.api.app.v1.EnvConfig.configuration: each must be an object")
    reserved = [key for key in values if key.startswith("C1_") and key != _GROUP]
    if reserved:
        raise wire.error(400, f"config keys beginning with C1_ are reserved: {', '.join(reserved)}")
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
        claims: dict[str, Any] = jwt.decode(
            assertion, _public_key(), ["EdDSA"], _UNCHECKED, audience=hosts, issuer=seed.CONDUCTORONE_CLIENT_ID
        )
    except jwt.PyJWTError:
        return False
    return (
        claims.get("sub") == seed.CONDUCTORONE_CLIENT_ID
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
