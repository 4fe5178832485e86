"""ConductorOne's apps and the owners of apps and connectors, emulated (facts: section 3; works, sections 2 to 4).

Changes of owners show late, as on the platform. Where the documents are silent: a search finds names that contain the
text, and a connector's owners of role `owner` are at first those of its `userIds`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from connector_mcp.json_values import JsonObject, is_object, is_strings, items, members
from connector_mcp.sandbox.conductorone import wire
from connector_mcp.sandbox.emulator import json_response, query_value
from connector_mcp.sandbox.world import World

APPS = "conductorone.apps"
OWNERS = "conductorone.connector_owners"
FIRST_ROLE = "owner"

_TEXTS = ("description", "instructions", "grantPolicyId", "revokePolicyId", "certifyPolicyId")
_MATCHING = "APP_USER_IDENTITY_MATCHING_"
_MATCHINGS = [f"{_MATCHING}{each}" for each in ("UNSPECIFIED", "STRICT", "DISPLAY_NAME", "CUSTOM")]
_WRITABLE: dict[str, tuple[Any, Callable[[Any], bool]]] = {
    "displayName": ("", lambda value: isinstance(value, str) and value != ""),
    **{name: ("", lambda value: isinstance(value, str)) for name in _TEXTS},
    "monthlyCostUsd": (0, lambda value: type(value) is int and value >= 0),
    "identityMatching": (_MATCHINGS[0], lambda value: value in _MATCHINGS),
    "strictAccessEntitlementProvisioning": (False, lambda value: isinstance(value, bool)),
    "annotations": ({}, lambda value: is_object(value) and is_strings([*value.values()])),
}
"""The writable members of an app: what each reads as when it is empty, and which values it takes."""
_UNSET: JsonObject = {
    **dict.fromkeys(("appAccountId", "appAccountName", "defaultRequestCatalogId", "iconUrl", "logoUri"), ""),
    **dict.fromkeys(("appUserMapper", "fieldMask", "matchBatonRef"), None),
    **dict.fromkeys(("enableConnectorSourcedOwnership", "revokeGrantSources"), False),
    "accessModel": "APP_ACCESS_MODEL_UNSPECIFIED",
    "connectorVersion": 0,
}
"""Further members, which nothing here sets."""


class ConductorOneApps:
    """The emulated operations on apps and owners. `user_count` counts the users that syncs brought to an app."""

    def __init__(self, world: World, user_count: Callable[[JsonObject], str]) -> None:
        self._world = world
        self._user_count = user_count
        owners = "/api/v2/apps/{app}/connectors/{connector}/owners"
        self.routes = (
            Route("/api/v1/apps", self._list, methods=["GET"]),
            Route("/api/v1/apps", self._create, methods=["POST"]),
            Route("/api/v1/search/apps", self._search, methods=["POST"]),
            Route("/api/v1/apps/{app}", self._get, methods=["GET"]),
            Route("/api/v1/apps/{app}", self._update, methods=["POST"]),
            Route("/api/v1/apps/{app}/ownerids", self._owner_ids, methods=["GET"]),
            Route("/api/v1/apps/{app}/owners/{user}", self._add_owner, methods=["POST"]),
            Route(owners, self._set_owners, methods=["PUT"]),
            Route(f"{owners}/users", self._search_owners, methods=["GET"]),
            Route(f"{owners}/users/{{role}}/{{user}}", self._create_owner, methods=["POST"]),
        )

    def view(self, app: JsonObject) -> JsonObject:
        """An app as it is shown."""
        owners = [wire.user(each) for each in wire.shown(self._world, app["owners"])]
        visible = {key: value for key, value in app.items() if key != "owners"}
        return _UNSET | visible | {"appOwners": owners, "userCount": self._user_count(app)}

    async def _list(self, request: Request) -> Response:
        apps = [self.view(each) for each in self._world.all(APPS)]
        return json_response(wire.page_of(apps, query_value(request, "page_size"), query_value(request, "page_token")))

    async def _search(self, request: Request) -> Response:
        body = await wire.object_body(request)
        name, words = str(body.get("displayName") or "").lower(), str(body.get("query") or "").lower().split()

        def fits(app: JsonObject) -> bool:
            text = f"{app['displayName']} {app['description']}".lower()
            return (
                name in app["displayName"].lower()
                and all(word in text for word in words)
                and app["id"] in (body.get("appIds") or [app["id"]])
                and app["id"] not in (body.get("excludeAppIds") or [])
                and (app["isDirectory"] or not body.get("onlyDirectories"))
            )

        found = [self.view(each) for each in self._world.all(APPS) if fits(each)]
        return json_response(wire.page_of(found, body.get("pageSize"), body.get("pageToken")))

    async def _get(self, request: Request) -> Response:
        return json_response({"app": self.view(self._app(request))})

    async def _create(self, request: Request) -> Response:
        body, now = await wire.object_body(request), self._world.timestamp()
        if not body.get("displayName"):
            raise wire.error(400, "invalid CreateAppRequest.DisplayName: value length must be at least 1")
        app: JsonObject = {name: empty for name, (empty, _) in _WRITABLE.items()} | {
            "id": wire.new_id("sandboxApp"),
            "isDirectory": False,
            "isManuallyManaged": False,
            "parentAppId": "",
            "userCount": "0",
            "createdAt": now,
            "updatedAt": now,
            "deletedAt": None,
            "owners": wire.settled(wire.known_users(body.get("owners"))),
        }
        for name in body.keys() & _WRITABLE.keys():
            _set(app, name, body[name])
        self._world.put(APPS, app["id"], app)
        return json_response({"app": self.view(app)})

    async def _update(self, request: Request) -> Response:
        app, body = self._app(request), await wire.object_body(request)
        message = body.get("app")
        if not is_object(message):
            raise wire.error(400, "invalid UpdateAppRequest.App: value is required")
        for name in wire.mask_paths(body.get("updateMask"), _WRITABLE, "UpdateAppRequest"):
            _set(app, name, message.get(name))
        app["updatedAt"] = self._world.timestamp()
        self._world.put(APPS, app["id"], app)
        return json_response({"app": self.view(app)})

    async def _owner_ids(self, request: Request) -> Response:
        return json_response({"userIds": wire.shown(self._world, self._app(request)["owners"])})

    async def _add_owner(self, request: Request) -> Response:
        app, owner = self._app(request), wire.known_users([request.path_params["user"]])
        owners = app["owners"]["now"]
        app["owners"] = wire.changed(
            self._world, app["owners"], [*owners, *(each for each in owner if each not in owners)]
        )
        self._world.put(APPS, app["id"], app)
        return json_response({})

    # Owners of connectors --------------------------------------------------------------------------------------------

    async def _search_owners(self, request: Request) -> Response:
        connector, wanted = self._connector(request), query_value(request, "role_slug")
        rows = [
            self._owner(connector, each["role"], identifier)
            for each in self._owners(connector)
            if wanted in (None, each["role"])
            for identifier in wire.shown(self._world, each["users"])
        ]
        return json_response(wire.page_of(rows, query_value(request, "page_size"), query_value(request, "page_token")))

    async def _create_owner(self, request: Request) -> Response:
        connector, role = self._connector(request), request.path_params["role"]
        (identifier,) = wire.known_users([request.path_params["user"]])
        if members((await wire.object_body(request)).get("userRef")).get("id") != identifier:
            raise wire.error(400, "invalid CreateConnectorUserOwnerRequest.UserRef: not the user of the path")
        present = next((each for each in self._owners(connector) if each["role"] == role), None)
        users = present["users"] if present else wire.settled([])
        self._put_owners(connector, role, [*(each for each in users["now"] if each != identifier), identifier], present)
        return json_response({"connectorOwnerUser": self._owner(connector, role, identifier)})

    async def _set_owners(self, request: Request) -> Response:
        connector, body = self._connector(request), await wire.object_body(request)
        role = body.get("roleSlug")
        if not isinstance(role, str) or not role:
            raise wire.error(400, "invalid SetConnectorOwnersV2Request.RoleSlug: value length must be at least 1")
        users = wire.known_users([str(members(each).get("id")) for each in items(body.get("userRefs") or [])])
        present = next((each for each in self._owners(connector) if each["role"] == role), None)
        self._put_owners(connector, role, users, present)
        return json_response({})

    def _owners(self, connector: JsonObject) -> list[JsonObject]:
        stored = [each for each in self._world.all(OWNERS) if each["connectorId"] == connector["id"]]
        if any(each["role"] == FIRST_ROLE for each in stored):
            return stored
        return [{"role": FIRST_ROLE, "users": wire.settled(connector["userIds"] or [])}, *stored]

    def _put_owners(self, connector: JsonObject, role: str, users: list[str], present: JsonObject | None) -> None:
        late = wire.changed(self._world, present["users"] if present else wire.settled([]), users)
        document = {"connectorId": connector["id"], "role": role, "users": late}
        self._world.put(OWNERS, f"{connector['id']}/{role}", document)

    def _owner(self, connector: JsonObject, role: str, identifier: str) -> JsonObject:
        ids = {"appId": connector["appId"], "connectorId": connector["id"]}
        return {**ids, "roleSlug": role, "createdAt": connector["createdAt"], "user": wire.user(identifier)}

    def _app(self, request: Request) -> JsonObject:
        return self._world.find(APPS, request.path_params["app"], wire.error(404, "not found"))

    def _connector(self, request: Request) -> JsonObject:
        found = self._world.get("conductorone.connectors", request.path_params["connector"])
        if found is None or found["appId"] != request.path_params["app"] or found["deletedAt"]:
            raise wire.error(404, "not found")
        return found


def _set(app: JsonObject, name: str, value: Any) -> None:
    """Set a member of an app. Annotations are merged; an empty value deletes one."""
    empty, is_valid = _WRITABLE[name]
    if value in (None, "") and name != "displayName":
        value = empty
    if not is_valid(value):
        raise wire.error(400, f"proto: invalid value for field {name}")
    if name == "annotations":
        value = {key: each for key, each in (app[name] | value).items() if each}
    app[name] = value
