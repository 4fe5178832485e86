"""ConductorOne's syncs and the credentials of self-hosted connectors, emulated (facts: section 6, traps 10 to 14).

A sync is only queued: for a while the last status stays, then it runs, then it is done, or failed where a secret of the
config begins with `invalid-`. A self-hosted connector syncs once it has signed in with its credential. Where the
documents are silent: no first sync starts by itself, and an older credential stays valid until it is revoked.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from secrets import compare_digest, token_urlsafe
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from connector_mcp.json_values import JsonObject, members
from connector_mcp.operations.connector_types import connector_types
from connector_mcp.sandbox.conductorone.wire import error, has_passed, new_id, object_body, refused, stamp_after
from connector_mcp.sandbox.emulator import json_response
from connector_mcp.sandbox.world import World

CONNECTORS = "conductorone.connectors"
CREDENTIALS = "conductorone.credentials"
QUEUE_SECONDS = 5
"""How long a sync is queued, while the last status stays."""
SYNC_SECONDS = 60
"""How long it takes from its order until it has ended."""
NEVER_SYNCED: JsonObject = {
    "status": "SYNC_STATUS_UNSPECIFIED", "startedAt": None, "completedAt": None, "updatedAt": None, "lastError": "",
}  # fmt: skip
_ORDER = "_sync"
"""Member of a stored connector: when a sync was ordered, and the error with which it will end."""
_USERS = "12"
_TOO_OFTEN = re.compile(r"\*(/([1-9]|[12]\d))?\s")
_TOP_LEVEL = re.compile(r"([A-Za-z_]+):")
_KNOWN_KEYS = frozenset({"version", "app_name", "app_description", "connect", "resource_types", "auth", "actions"})


def present(world: World, connector: JsonObject) -> JsonObject:
    """A connector with the status that its sync has by now."""
    order = connector.get(_ORDER)
    if order is None or not has_passed(world, order["at"], QUEUE_SECONDS):
        return connector
    started = stamp_after(order["at"], QUEUE_SECONDS)
    if not has_passed(world, order["at"], SYNC_SECONDS):
        running = {"status": "SYNC_STATUS_RUNNING", "startedAt": started, "completedAt": None, "updatedAt": started}
        return connector | {"status": running | {"lastError": ""}}
    ended = stamp_after(order["at"], SYNC_SECONDS)
    status = "SYNC_STATUS_ERROR" if order["error"] else "SYNC_STATUS_DONE"
    times = {"startedAt": started, "completedAt": ended, "updatedAt": ended}
    finished = connector | {"status": {"status": status, **times, "lastError": order["error"]}}
    return without_order(finished)


def without_order(connector: JsonObject) -> JsonObject:
    """A connector as it is shown."""
    return {key: value for key, value in connector.items() if key != _ORDER}


def is_self_hosted(connector: JsonObject) -> bool:
    known = connector_types("conductorone").get(connector["catalogId"])
    return known is not None and not known.config["properties"]


def user_count(world: World, app: JsonObject) -> str:
    """How many users the syncs brought to an app: none from a place that is called `empty`."""
    if app["userCount"] != "0":
        return app["userCount"]
    for each in (present(world, connector) for connector in world.all(CONNECTORS)):
        texts = _texts(each)
        done = each["status"]["status"] == "SYNC_STATUS_DONE" and not each["deletedAt"]
        if each["appId"] == app["id"] and done and not any(text.startswith("empty") for text in texts.values()):
            return _USERS
    return "0"


def _texts(connector: JsonObject) -> dict[str, str]:
    values = members(members(connector["config"]).get("configuration"))
    return {key: str(members(each).get("stringValue") or "") for key, each in values.items()}


class ConductorOneSync:
    """The emulated operations that start, stop and schedule syncs, on credentials, and the check of a config."""

    def __init__(self, world: World) -> None:
        self._world = world
        at = "/api/v1/apps/{app}/connectors/{id}"
        self.routes = (
            Route("/api/v1/apps/connectors/credentials", self._rotate, methods=["POST"]),
            Route("/api/v1/apps/connectors/validate_config/http", self._validate, methods=["POST"]),
            Route(f"{at}/force_sync", self._force, methods=["POST"]),
            Route(f"{at}/pause", self._pause, methods=["POST"]),
            Route(f"{at}/resume", self._resume, methods=["POST"]),
            Route(f"{at}/schedule", self._schedule, methods=["POST"]),
            Route(f"{at}/credentials/{{credential}}", self._get_credential, methods=["GET"]),
            Route(f"{at}/credentials/{{credential}}", self._revoke, methods=["POST"]),
        )

    def signs_in(self, form: Mapping[str, str]) -> bool:
        """Whether a self-hosted connector signs in with its credential. If so, its first sync starts."""
        for credential in self._world.all(CREDENTIALS):
            same = compare_digest(form.get("client_secret", "").encode(), credential["clientSecret"].encode())
            if credential["deletedAt"] is None and form.get("client_id") == credential["clientId"] and same:
                credential["lastUsedAt"] = self._world.timestamp()
                self._world.put(CREDENTIALS, credential["id"], credential)
                connector = self._world.get(CONNECTORS, credential["connectorId"])
                if connector and connector["deletedAt"] is None and connector["syncDisabledAt"] is None:
                    self._order(connector)
                return True
        return False

    async def _force(self, request: Request) -> Response:
        connector = self._connector(request)
        if connector["syncDisabledAt"] is not None:
            raise refused("sync is disabled for this connector")
        if is_self_hosted(connector) and not self._has_signed_in(connector):
            raise refused("the connector has not connected yet")
        if not is_self_hosted(connector) and connector["config"] is None:
            raise refused("the connector is not configured")
        if _ORDER not in connector:
            self._order(connector)
        return json_response({})

    async def _pause(self, request: Request) -> Response:
        connector = self._connector(request)
        if connector["syncDisabledAt"] is None:
            stopped = {"syncDisabledAt": self._world.timestamp(), "syncDisabledReason": "Paused by a user."}
            stopped |= {"syncDisabledCategory": "SYNC_DISABLED_CATEGORY_MANUAL", "canResumeSync": True}
            self._put(without_order(connector) | stopped)
        return json_response({})

    async def _resume(self, request: Request) -> Response:
        enabled = {"syncDisabledAt": None, "syncDisabledReason": "", "syncDisabledCategory": "", "canResumeSync": False}
        connector = self._connector(request) | enabled
        self._put(connector)
        if connector["config"] is not None or is_self_hosted(connector):
            self._order(connector)
        return json_response({})

    async def _schedule(self, request: Request) -> Response:
        connector, cron = self._connector(request), members((await object_body(request)).get("cron"))
        spec = cron.get("cronSpec")
        if not isinstance(spec, str) or len(spec.split()) != 5:
            raise error(400, "invalid ConnectorScheduleCron.CronSpec: not a cron expression")
        if _TOO_OFTEN.match(spec):
            raise error(400, "invalid ConnectorScheduleCron.CronSpec: the minimum interval is 30 minutes")
        schedule = {"cronSpec": spec, "timezone": cron.get("timezone") or "UTC", "start": None}
        self._put(connector | {"connectorSyncCronSchedule": schedule})
        return json_response({})

    async def _rotate(self, request: Request) -> Response:
        body, now = await object_body(request), self._world.timestamp()
        connector = self._find(str(body.get("connectorId")), body.get("appId"))
        if not is_self_hosted(connector):
            raise refused("the connector is not self-hosted: it has no credential")
        identifier, number = new_id("sandboxCredential"), len(self._world.all(CREDENTIALS)) + 1
        credential: JsonObject = {
            "id": identifier,
            "appId": connector["appId"],
            "connectorId": connector["id"],
            "displayName": "",
            "clientId": f"sandbox-owl-{number:05}@conductorone.sandbox.invalid/c1c",
            "clientSecret": f"sandbox-secret-{token_urlsafe(24)}",
            "createdAt": now,
            "updatedAt": now,
            "deletedAt": None,
            "expiresTime": None,
            "lastUsedAt": None,
        }
        self._world.put(CREDENTIALS, identifier, credential)
        return json_response({"credential": credential})

    async def _get_credential(self, request: Request) -> Response:
        return json_response({"credential": self._credential(request) | {"clientSecret": ""}})

    async def _revoke(self, request: Request) -> Response:
        credential = self._credential(request)
        self._world.put(CREDENTIALS, credential["id"], credential | {"deletedAt": self._world.timestamp()})
        return json_response({})

    async def _validate(self, request: Request) -> Response:
        text = (await object_body(request)).get("text")
        if not isinstance(text, str) or not text:
            raise error(400, "invalid EditorValidateRequest.Text: value length must be at least 1")
        markers: list[JsonObject] = []
        for number, line in enumerate(text.splitlines(), 1):
            if "\t" in line:
                markers.append(_marker("ERROR", "a tab cannot be used for indentation", number, line))
            elif (found := _TOP_LEVEL.match(line)) and found[1] not in _KNOWN_KEYS:
                markers.append(_marker("ERROR", f"unknown field {found[1]!r}", number, line))
        if "version:" not in text:
            markers.append(_marker("WARNING", "no version is given", 1, ""))
        return json_response({"markers": markers})

    def _order(self, connector: JsonObject) -> None:
        """Queue a sync. Its outcome is that of the config as it is now."""
        known = connector_types("conductorone").get(connector["catalogId"])
        secret, texts = known.secret_paths if known else (), _texts(connector)
        wrong = any(text.startswith("invalid-") for key, text in texts.items() if known is None or key in secret)
        failure = "401 Unauthorized: the app refused the credentials" if wrong else ""
        self._put(connector | {_ORDER: {"at": self._world.timestamp(), "error": failure}})

    def _has_signed_in(self, connector: JsonObject) -> bool:
        return any(
            each["connectorId"] == connector["id"] and each["lastUsedAt"] for each in self._world.all(CREDENTIALS)
        )

    def _put(self, connector: JsonObject) -> None:
        self._world.put(CONNECTORS, connector["id"], connector)

    def _connector(self, request: Request) -> JsonObject:
        return self._find(request.path_params["id"], request.path_params["app"])

    def _find(self, identifier: str, app_id: Any) -> JsonObject:
        found = self._world.get(CONNECTORS, identifier)
        if found is None or found["appId"] != app_id or found["deletedAt"] is not None:
            raise error(404, "not found")
        return present(self._world, found)

    def _credential(self, request: Request) -> JsonObject:
        found = self._world.get(CREDENTIALS, request.path_params["credential"])
        if found is None or found["connectorId"] != request.path_params["id"] or found["deletedAt"] is not None:
            raise error(404, "not found")
        return found


def _marker(severity: str, message: str, line: int, text: str) -> JsonObject:
    place = {"startLineNumber": line, "startColumn": 1, "endLineNumber": line, "endColumn": len(text) + 1}
    return {"severity": severity, "message": message, **place}
