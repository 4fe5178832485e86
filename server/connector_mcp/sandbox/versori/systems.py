"""Versori's systems, connection templates and connections, emulated (facts: section 5; works, traps 3 and 14 to 16).

Credentials with a secret that begins with `invalid-` fail validation. Versori validates after it has answered: the
answer of a creation says nothing, and the first read shows the verdict.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response

from connector_mcp.json_values import JsonObject, is_array, items, members
from connector_mcp.sandbox.emulator import json_response, query_value
from connector_mcp.sandbox.versori import wire
from connector_mcp.sandbox.world import World

_SETTINGS = {
    "none": "none", "api-key": "apiKey", "basic-auth": "basicAuth", "oauth2": "oauth2", "oauth1": "oauth1",
    "hmac": "hmac", "certificate": "certificate",
}  # fmt: skip
_REFUSED = "the system refused the credential"


class SystemsPart(wire.PlatformPart):
    """Systems and connection templates."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        templates = "/projects/{project}/connection-templates"
        self.routes = (
            wire.route("GET", "/systems", self._list),
            wire.route("POST", "/systems", self._create),
            wire.route("GET", "/systems/{system}", self._get),
            wire.route("PUT", "/systems/{system}", self._update),
            wire.route("DELETE", "/systems/{system}", self._delete),
            wire.route("PUT", "/systems/{system}/auth-scheme-configs/{config}", self._set_scheme),
            wire.route("POST", "/systems/{system}/oauth2/initialise", self._initialise),
            wire.route("GET", templates, self._list_templates),
            wire.route("POST", templates, self._create_template),
            wire.route("PUT", f"{templates}/{{template}}", self._update_template),
            wire.route("DELETE", f"{templates}/{{template}}", self._delete_template),
        )

    async def _list(self, request: Request) -> Response:
        wanted = (query_value(request, "search") or "").lower()
        rows = [each for each in self.world.all(wire.SYSTEMS) if wanted in f"{each['name']} {each['domain']}".lower()]
        return json_response(wire.page(request, [_system(each) for each in rows]))

    async def _create(self, request: Request) -> Response:
        given = await wire.read_body(request)
        wire.require(given, "name", "domain", "templateBaseUrl")
        if "authSchemeConfigs" not in given:
            raise wire.invalid("authSchemeConfigs", "is required")
        system: JsonObject = {"id": wire.new_id(), "authSchemeConfigs": []}
        system |= {key: given[key] for key in ("name", "domain", "templateBaseUrl")}
        for config in map(members, items(given["authSchemeConfigs"])):
            _put_scheme(system, config, str(_settings(config).get("id")))
        return json_response(_system(self.save(wire.SYSTEMS, system)), 201)

    async def _get(self, request: Request) -> Response:
        return json_response(_system(self.named(request, "system", wire.SYSTEMS)))

    async def _update(self, request: Request) -> Response:
        system, given = self.named(request, "system", wire.SYSTEMS), await wire.read_body(request)
        system |= {key: given[key] for key in ("name", "domain", "templateBaseUrl") if given.get(key)}
        return json_response(_system(self.save(wire.SYSTEMS, system)), 201)

    async def _delete(self, request: Request) -> Response:
        system = self.named(request, "system", wire.SYSTEMS)
        if any(each["systemId"] == system["id"] for each in self.world.all(wire.TEMPLATES)):
            raise wire.error(409, "the system is used by a project")
        self.world.delete(wire.SYSTEMS, system["id"])
        return Response(status_code=204)

    async def _set_scheme(self, request: Request) -> Response:
        system, given = self.named(request, "system", wire.SYSTEMS), await wire.read_body(request)
        stored = _put_scheme(system, given, request.path_params["config"])
        self.save(wire.SYSTEMS, system)
        return json_response(wire.blanked(stored), 201)

    async def _initialise(self, request: Request) -> Response:
        self.named(request, "system", wire.SYSTEMS)
        given = await wire.read_body(request)
        wire.require(given, "credential", "authorizeUrl", "clientId")
        scopes = [*items(given.get("scopes")), *([] if given.get("disableOfflineAccess") else ["offline_access"])]
        query = {"client_id": given["clientId"], "response_type": "code"}
        query |= {"scope": " ".join(scopes), "state": wire.new_id()}
        return json_response({"url": f"{given['authorizeUrl']}?{urlencode(query)}"})

    async def _list_templates(self, request: Request) -> Response:
        project, environment = self.named(request, "project", wire.PROJECTS), query_value(request, "env_id")
        rows = [
            self._template(each)
            for each in self.world.all(wire.TEMPLATES)
            if each["projectId"] == project["id"] and environment in (None, each["environmentId"])
        ]
        return json_response({"totalCount": len(rows), "items": rows})

    async def _create_template(self, request: Request) -> Response:
        project, given = self.named(request, "project", wire.PROJECTS), await wire.read_body(request)
        wire.require(given, "systemId", "name", "environmentId")
        system = self.find(wire.SYSTEMS, given["systemId"])
        environment = next((each for each in project["environments"] if each["id"] == given["environmentId"]), None)
        if environment is None:
            raise wire.invalid("environmentId", "is not an environment of the project")
        if given["name"] in [each["name"] for each in self.templates_of(environment)]:
            raise wire.invalid("name", "is taken in this environment")
        template = {"id": wire.new_id(), "projectId": project["id"], "systemId": system["id"], "connectionId": None}
        template |= {"environmentId": environment["id"], "name": given["name"]}
        template |= {"dynamic": bool(given.get("dynamic")), "schemeIds": None}
        return json_response(self._template(self.save(wire.TEMPLATES, template)))

    async def _update_template(self, request: Request) -> Response:
        template, given = self.named(request, "template", wire.TEMPLATES), await wire.read_body(request)
        template |= {key: given[key] for key in ("name", "dynamic") if given.get(key) is not None}
        if is_array(given.get("authSchemeConfigIds")):
            template["schemeIds"] = given["authSchemeConfigIds"]
        return json_response(self._template(self.save(wire.TEMPLATES, template)))

    async def _delete_template(self, request: Request) -> Response:
        self.world.delete(wire.TEMPLATES, self.named(request, "template", wire.TEMPLATES)["id"])
        return Response(status_code=204)

    def _template(self, template: JsonObject) -> JsonObject:
        """A template as it is shown: `id` is the system's (trap 3)."""
        system = _system(self.find(wire.SYSTEMS, template["systemId"]))
        schemes, chosen = system["authSchemeConfigs"], template["schemeIds"]
        if chosen is not None:
            schemes = [each for name in chosen for each in schemes if _settings(each).get("id") == name]
        shown: JsonObject = {"id": system["id"], "connectionTemplateId": template["id"], "authSchemeConfigs": schemes}
        shown |= {key: template[key] for key in ("name", "dynamic")}
        return shown | {key: system[key] for key in ("domain", "templateBaseUrl")}


class ConnectionsPart(wire.PlatformPart):
    """Connections, static ones and those of end users."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.routes = (
            wire.route("GET", "/connections", self._list),
            wire.route("POST", "/connections", self._create),
            wire.route("GET", "/connections/{connection}", self._get),
            wire.route("PUT", "/connections/{connection}", self._update),
            wire.route("DELETE", "/connections/{connection}", self._delete),
            wire.route("POST", "/connections/{connection}/link", self._link),
            wire.route("GET", "/projects/{project}/connections", self._list_static),
        )

    def make(self, template_id: Any, given: JsonObject, user: JsonObject | None) -> JsonObject:
        """Make a connection for a template. Without an end user it becomes the template's static one."""
        wire.require(given, "name", "credentials")
        template = self.world.find(
            wire.TEMPLATES, str(template_id), wire.invalid("connectionTemplateId", "is not a connection template")
        )
        if given["name"] in [each["name"] for each in self.world.all(wire.CONNECTIONS)]:
            raise wire.invalid("name", "is taken")
        connection: JsonObject = {"id": wire.new_id(), "name": given["name"], "systemId": template["systemId"]}
        connection |= {"connectionTemplateId": template["id"], "endUserId": user["id"] if user else None}
        connection |= {"baseUrl": given.get("baseUrl", ""), "credentials": _stored(given["credentials"])}
        if user is None:
            self.save(wire.TEMPLATES, template | {"connectionId": connection["id"]})
        return self.save(wire.CONNECTIONS, connection)

    async def _list(self, request: Request) -> Response:
        filters = {"systemId": query_value(request, "system_id"), "endUserId": query_value(request, "end_user_id")}
        if filters["endUserId"] is not None and len(filters["endUserId"]) != 26:
            raise wire.invalid("end_user_id", "not a valid ULID")
        rows = [
            connection_view(each)
            for each in self.world.all(wire.CONNECTIONS)
            if all(wanted in (None, each[key]) for key, wanted in filters.items())
        ]
        return json_response(wire.page(request, rows))

    async def _create(self, request: Request) -> Response:
        given = await wire.read_body(request)
        wire.require(given, "connectionTemplateId", "connection")
        user, external = None, given.get("externalId")
        if external is not None:
            user = next((each for each in self.world.all(wire.USERS) if each["externalId"] == external), None)
            if user is None:
                raise wire.invalid("externalId", "is not an end user")
        made = self.make(given["connectionTemplateId"], members(given["connection"]), user)
        shown = connection_view(made)
        for each in shown["credentials"]:
            # It is validated later.
            each["credential"].pop("errors", None)
        return json_response(shown, 201)

    async def _get(self, request: Request) -> Response:
        return json_response(connection_view(self.named(request, "connection", wire.CONNECTIONS)))

    async def _update(self, request: Request) -> Response:
        connection, given = self.named(request, "connection", wire.CONNECTIONS), await wire.read_body(request)
        wire.require(given, "name", "credentials")
        if "baseUrl" not in given:
            raise wire.invalid("baseUrl", "is required")
        connection |= {"name": given["name"], "baseUrl": given["baseUrl"]}
        connection["credentials"] = _stored(given["credentials"])
        return json_response(connection_view(self.save(wire.CONNECTIONS, connection)))

    async def _delete(self, request: Request) -> Response:
        connection = self.named(request, "connection", wire.CONNECTIONS)
        if any(connection["id"] in each["connectionIds"] for each in self.world.all(wire.ACTIVATIONS)):
            raise wire.error(412, "the connection is used by an end user")
        for template in self.world.all(wire.TEMPLATES):
            if template["connectionId"] == connection["id"]:
                self.save(wire.TEMPLATES, template | {"connectionId": None})
        self.world.delete(wire.CONNECTIONS, connection["id"])
        return Response(status_code=204)

    async def _link(self, request: Request) -> Response:
        connection, given = self.named(request, "connection", wire.CONNECTIONS), await wire.read_body(request)
        template = self.find(wire.TEMPLATES, given.get("connectionTemplateId"))
        self.save(wire.TEMPLATES, template | {"connectionId": connection["id"]})
        return Response(status_code=201)

    async def _list_static(self, request: Request) -> Response:
        project, environment = self.named(request, "project", wire.PROJECTS), query_value(request, "env_id")
        bound = [
            str(each["connectionId"])
            for each in self.world.all(wire.TEMPLATES)
            if each["projectId"] == project["id"] and environment in (None, each["environmentId"])
        ]
        found = [self.world.get(wire.CONNECTIONS, each) for each in bound]
        return json_response(wire.page(request, [connection_view(each) for each in found if each is not None]))


def connection_view(connection: JsonObject) -> JsonObject:
    """A connection as it is shown: its secrets are blanked."""
    return wire.blanked({key: value for key, value in connection.items() if key != "endUserId"})


def is_refused(connection: JsonObject) -> bool:
    """Whether the system refuses the connection's credentials."""
    return any(each["credential"]["errors"] for each in connection["credentials"])


def _stored(credentials: Any) -> list[JsonObject]:
    stored: list[JsonObject] = []
    for each in map(members, items(credentials)):
        credential = members(each.get("credential"))
        wire.require(each, "id", "authSchemeConfig")
        wire.require(credential, "id", "organisationId", "type")
        secrets = [text for data in members(credential.get("data")).values() for text in members(data).values()]
        refused = any(str(text).startswith("invalid-") for text in secrets)
        kept = {**credential, "errors": [_REFUSED] if refused else []}
        ids = [wire.new_id() if set(str(part["id"])) == {"0"} else part["id"] for part in (each, credential)]
        stored.append({**each, "id": ids[0], "credential": kept | {"id": ids[1]}})
    return stored


def _system(system: JsonObject) -> JsonObject:
    keys = ("id", "name", "domain", "templateBaseUrl", "authSchemeConfigs")
    return wire.blanked({key: system[key] for key in keys})


def _settings(config: JsonObject) -> JsonObject:
    return members(config.get(_SETTINGS.get(str(config.get("type")), "")))


def _put_scheme(system: JsonObject, given: JsonObject, identifier: str) -> JsonObject:
    """Add the config to the system, or replace the one with this id."""
    if given.get("type") not in _SETTINGS:
        raise wire.invalid("type", "is not an auth scheme type")
    settings = _settings(given)
    if settings.get("id") != identifier:
        raise wire.invalid("id", "must be the id in the path")
    kept = [each for each in system["authSchemeConfigs"] if _settings(each).get("id") != identifier]
    old = next(
        (_settings(each) for each in system["authSchemeConfigs"] if _settings(each).get("id") == identifier), None
    )
    grant = members(settings.get("grant"))
    app = grant.get(str(grant.get("type")))
    if app is not None:
        wire.store_app(app, members(members(members(old).get("grant")).get(str(grant.get("type")))))
    system["authSchemeConfigs"] = [*kept, given]
    return given
