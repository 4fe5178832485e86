"""Versori's projects, end users, activations and variables, emulated (facts: works, sections 3 to 5).

A deployment takes `DEPLOY_SECONDS` of the world's time. Until then the environment is a draft; then it runs, or is in
error if the version had failed.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from connector_mcp.json_values import JsonObject, is_object, items, members
from connector_mcp.sandbox.emulator import decode_cursor, encode_cursor, json_response, page_size, query_value
from connector_mcp.sandbox.versori import wire
from connector_mcp.sandbox.versori.systems import ConnectionsPart, connection_view, is_refused
from connector_mcp.sandbox.world import World

DEPLOY_SECONDS: Final = 5
_SOURCE: Final[JsonObject] = {"filename": "index.ts", "content": "// source code"}
_TYPES: dict[str, type | tuple[type, ...]] = {
    "string": str, "integer": int, "number": (int, float), "boolean": bool, "object": dict, "array": list,
}  # fmt: skip


class ProjectsPart(wire.PlatformPart):
    """Projects with their environments, versions, logs and declarations of variables."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.routes = (
            wire.route("GET", "/projects", self._list),
            wire.route("POST", "/projects", self._create),
            wire.route("GET", "/projects/{project}/versions", self._versions),
            wire.route("PUT", "/projects/{project}/versions/{version}/deploy", self._deploy),
            wire.route("GET", "/projects/{project}/logs", self._logs),
            wire.route("GET", "/projects/{project}/variables", self._schema),
            wire.route("PUT", "/projects/{project}/variables", self._set_schema),
        )

    async def _list(self, request: Request) -> Response:
        starred = query_value(request, "starred")
        rows = [each for each in self.world.all(wire.PROJECTS) if starred in (None, str(each["starred"]).lower())]
        keys = ("id", "name", "createdAt", "updatedAt", "environments", "starred")
        return json_response({"projects": [{key: self._view(each)[key] for key in keys} for each in rows]})

    async def _create(self, request: Request) -> Response:
        given = await wire.read_body(request)
        wire.require(given, "name")
        now = self.world.timestamp()
        environment: JsonObject = {"id": wire.new_id(), "name": "production", "status": "draft", "publicUrl": ""}
        environment |= {"config": {}, "createdAt": now, "updatedAt": now}
        project: JsonObject = {"id": wire.new_id(), "name": given["name"], "starred": False}
        project |= {"environments": [environment], "versions": [], "logs": [], "schema": None}
        return json_response(self._view(self.save(wire.PROJECTS, project)))

    async def _versions(self, request: Request) -> Response:
        return json_response(wire.page(request, self.named(request, "project", wire.PROJECTS)["versions"]))

    async def _deploy(self, request: Request) -> Response:
        project = self.named(request, "project", wire.PROJECTS)
        environment = _environment(project, query_value(request, "project_env"))
        found = [each for each in project["versions"] if each["id"] == request.path_params["version"]]
        if not found:
            raise wire.error(404, "version not found")
        templates = [each for each in self.templates_of(environment) if not each["dynamic"]]
        if missing := [each["name"] for each in templates if each["connectionId"] is None]:
            raise wire.error(400, "missing connections for the following systems", details=", ".join(missing))
        ready = self.world.now() + timedelta(seconds=DEPLOY_SECONDS)
        environment.update(status="draft", deployedVersion=found[0], readyAt=ready.isoformat())
        return json_response(self._view(self.save(wire.PROJECTS, project)))

    async def _logs(self, request: Request) -> Response:
        project = self.named(request, "project", wire.PROJECTS)
        environment = _environment(project, query_value(request, "project_env"))
        size = page_size(query_value(request, "first"), 20, 1000, wire.error(400, "invalid page size"))
        wanted, start = query_value(request, "search") or "", query_value(request, "next_token")
        lines = [each["line"] for each in project["logs"] if each["environment"] == environment["id"]]
        if _environment_view(self.world, environment)["status"] == "running":
            lines += self._calls(environment)
        if query_value(request, "order") == "desc":
            lines.reverse()
        lines = [each for each in lines if wanted in each["message"]]
        first = decode_cursor("log", start, wire.error(400, "invalid token"))
        answer: JsonObject = {"logs": lines[first : first + size]}
        if first + size < len(lines):
            answer["nextToken"] = encode_cursor("log", first + size)
        return json_response(answer)

    async def _schema(self, request: Request) -> Response:
        return json_response(self.named(request, "project", wire.PROJECTS)["schema"])

    async def _set_schema(self, request: Request) -> Response:
        project = self.named(request, "project", wire.PROJECTS)
        project["schema"] = await wire.read_body(request)
        self.save(wire.PROJECTS, project)
        return json_response(project["schema"])

    def _calls(self, environment: JsonObject) -> list[JsonObject]:
        """A line for each system that the environment calls with a static connection."""
        lines: list[JsonObject] = []
        for template in self.templates_of(environment):
            connection = self.world.get(wire.CONNECTIONS, str(template["connectionId"]))
            if connection is None:
                continue
            system, refused = self.find(wire.SYSTEMS, template["systemId"]), is_refused(connection)
            url = connection["baseUrl"] or system["templateBaseUrl"]
            line = {"timestamp": self.world.timestamp(), "severity": "ERROR" if refused else "INFO"}
            lines.append(line | {"message": f"{template['name']}: {401 if refused else 200} from {url}"})
        return lines

    def _view(self, project: JsonObject) -> JsonObject:
        """A project with its source code, as the reads and changes of one project show it (trap 12)."""
        hidden = ("versions", "logs", "schema")
        shown = {key: value for key, value in project.items() if key not in hidden}
        shown["environments"] = [_environment_view(self.world, each) for each in project["environments"]]
        files: JsonObject = {"files": [_SOURCE], "labels": {}}
        return shown | {"currentFiles": files, "metadata": {}, "settings": {}}


class UsersPart(wire.PlatformPart):
    """End users, their activations, and the values of variables."""

    def __init__(self, world: World, connections: ConnectionsPart) -> None:
        super().__init__(world)
        self._connections = connections
        activation = "/environments/{environment}/activations/{activation}"
        self.routes = (
            wire.route("GET", "/users", self._list_users),
            wire.route("POST", "/users", self._create_user),
            wire.route("POST", "/activations", self._activate),
            wire.route("GET", "/environments/{environment}/activations", self._list),
            wire.route("GET", "/environment/{environment}/users/{user}/activations", self._list_of_user),
            wire.route("GET", activation, self._get),
            wire.route("DELETE", activation, self._delete),
            wire.route("PATCH", f"{activation}/variables", self._set_variables),
            wire.route("PUT", f"{activation}/variables/{{variable}}", self._set_variable),
            wire.route("PATCH", "/environments/{environment}/variables", self._set_static),
        )

    async def _list_users(self, request: Request) -> Response:
        wanted, environment = query_value(request, "search") or "", query_value(request, "environment_id")
        users = [
            each
            for each in self.world.all(wire.USERS)
            if wanted.lower() in f"{each['id']} {each['externalId']} {each['displayName']}".lower()
        ]
        if environment is not None:
            active = {each["userId"] for each in self._of(environment)}
            is_wanted = query_value(request, "activated") == "true"
            users = [each for each in users if (each["id"] in active) == is_wanted]
        return json_response({"totalCount": len(users), "users": users})

    async def _create_user(self, request: Request) -> Response:
        given = await wire.read_body(request)
        wire.require(given, "externalId")
        if self._user(given["externalId"]) is not None:
            raise wire.invalid("externalId", "is taken")
        user: JsonObject = {"id": wire.new_id(), "externalId": given["externalId"]}
        user |= {"organisationId": request.path_params["organisation"], "displayName": given.get("displayName") or ""}
        return json_response(self.save(wire.USERS, user), 201)

    async def _activate(self, request: Request) -> Response:
        given = await wire.read_body(request)
        wire.require(given, "userId", "environmentId")
        user, (project, environment) = self._known_user(given["userId"]), self._place(given["environmentId"])
        if any(each["userId"] == user["id"] for each in self._of(environment["id"])):
            raise wire.error(409, "the end user is active in this environment")
        templates = {each["id"] for each in self.templates_of(environment)}
        parts = [members(each) for each in items(given.get("connections"))]
        if {each.get("connectionTemplateId") for each in parts} != templates or len(parts) != len(templates):
            raise wire.invalid("connections", "must have one for each connection template of the environment")
        values = members(given.get("dynamicVariables"))
        _check_values(project["schema"], values, whole=True)
        made = [self._connection(part, user)["id"] for part in parts]
        activation = {"id": wire.new_id(), "userId": user["id"], "environmentId": environment["id"]}
        activation |= {"connectionIds": made, "values": values}
        return json_response(self._view(self.save(wire.ACTIVATIONS, activation)))

    async def _list(self, request: Request) -> Response:
        _, environment = self._place(request.path_params["environment"])
        return json_response([self._view(each) for each in self._of(environment["id"])])

    async def _list_of_user(self, request: Request) -> Response:
        user = self._known_user(request.path_params["user"])
        found = [each for each in self._of(request.path_params["environment"]) if each["userId"] == user["id"]]
        return json_response([self._view(each) for each in found])

    async def _get(self, request: Request) -> Response:
        return json_response(self._view(self._activation(request)))

    async def _delete(self, request: Request) -> Response:
        self.world.delete(wire.ACTIVATIONS, self._activation(request)["id"])
        return Response(status_code=204)

    async def _set_variables(self, request: Request) -> Response:
        return self._set(request, await wire.read_body(request))

    async def _set_variable(self, request: Request) -> Response:
        given = await wire.read_body(request)
        if "value" not in given:
            raise wire.invalid("value", "is required")
        return self._set(request, {request.path_params["variable"]: given["value"]})

    async def _set_static(self, request: Request) -> Response:
        (project, environment), given = self._place(request.path_params["environment"]), await wire.read_body(request)
        _check_values(project["schema"], given, whole=False)
        environment["staticVariables"] = {**environment.get("staticVariables", {}), **given}
        self.save(wire.PROJECTS, project)
        return json_response(environment["staticVariables"])

    def _set(self, request: Request, values: JsonObject) -> Response:
        activation = self._activation(request)
        project, _ = self._place(activation["environmentId"])
        _check_values(project["schema"], values, whole=False)
        activation["values"] = {**activation["values"], **values}
        self.save(wire.ACTIVATIONS, activation)
        return json_response(activation["values"])

    def _connection(self, part: JsonObject, user: JsonObject) -> JsonObject:
        if part.get("connection") is not None:
            return self._connections.make(part["connectionTemplateId"], members(part["connection"]), user)
        found = self.find(wire.CONNECTIONS, part.get("existingConnectionId"))
        if found["connectionTemplateId"] != part["connectionTemplateId"]:
            raise wire.invalid("existingConnectionId", "belongs to another connection template")
        return found

    def _activation(self, request: Request) -> JsonObject:
        found = self.named(request, "activation", wire.ACTIVATIONS)
        if found["environmentId"] != request.path_params["environment"]:
            raise wire.error(404, "activation not found")
        return found

    def _of(self, environment: str) -> list[JsonObject]:
        return [each for each in self.world.all(wire.ACTIVATIONS) if each["environmentId"] == environment]

    def _user(self, identifier: str) -> JsonObject | None:
        users = self.world.all(wire.USERS)
        return next((each for each in users if identifier in (each["id"], each["externalId"])), None)

    def _known_user(self, identifier: str) -> JsonObject:
        user = self._user(identifier)
        if user is None:
            raise wire.error(404, "end user not found")
        return user

    def _place(self, identifier: str) -> tuple[JsonObject, JsonObject]:
        """The environment with this id, after its project."""
        for project in self.world.all(wire.PROJECTS):
            for environment in project["environments"]:
                if environment["id"] == identifier:
                    return project, environment
        raise wire.error(404, "environment not found")

    def _view(self, activation: JsonObject) -> JsonObject:
        _, environment = self._place(activation["environmentId"])
        found = [self.world.get(wire.CONNECTIONS, each) for each in activation["connectionIds"]]
        shown: JsonObject = {"id": activation["id"], "user": self.find(wire.USERS, activation["userId"])}
        shown |= {"environment": _environment_view(self.world, environment)}
        shown |= {"connections": [connection_view(each) for each in found if each]}
        return shown | {"dynamicVariables": activation["values"]}


def _environment_view(world: World, environment: JsonObject) -> JsonObject:
    shown = {key: value for key, value in environment.items() if key not in ("readyAt", "staticVariables")}
    ready = environment.get("readyAt")
    if ready is not None and world.now() >= datetime.fromisoformat(ready):
        shown["status"] = "error" if environment["deployedVersion"]["state"] == "failed" else "running"
    return shown | {"files": [_SOURCE]}


def _environment(project: JsonObject, name: str | None) -> JsonObject:
    found = next((each for each in project["environments"] if each["name"] == name), None)
    if found is None:
        raise wire.error(404, "environment not found")
    return found


def _check_values(schema: Any, values: JsonObject, *, whole: bool) -> None:
    """Refuse variables that are not declared, of another type, or missing though they are required."""
    declared = members(members(schema).get("properties"))
    for name, value in values.items():
        if name not in declared:
            raise wire.invalid(name, "is not declared by the project")
        kind = declared[name].get("type") if is_object(declared[name]) else None
        is_wrong = kind in _TYPES and (
            not isinstance(value, _TYPES[kind]) or (isinstance(value, bool) != (kind == "boolean"))
        )
        if is_wrong:
            raise wire.invalid(name, f"must be of type {kind}")
    missing = [name for name in items(members(schema).get("required")) if name not in values] if whole else []
    if missing:
        raise wire.invalid(str(missing[0]), "is required")
