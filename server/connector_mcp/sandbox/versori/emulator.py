"""Versori, emulated: the Connect API v1 here (facts: sections 2 to 4 and 6), the Platform API v2 in its parts.

It reproduces the platform's traps: a PUT unsets every optional field that it leaves out, `connectionVariables`
rewrites the variables of every connection, and responses embed connections with credentials that are only partly
blanked. Where the documents are silent: `connectionVariables` is kept when left out, as the field's own text says.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from connector_mcp.json_values import JsonObject, is_array, is_object, is_strings
from connector_mcp.sandbox.emulator import Emulator, json_response, query_value
from connector_mcp.sandbox.seed import VERSORI_API_KEY, VERSORI_JWT, VERSORI_ORGANISATION_ID
from connector_mcp.sandbox.versori import wire
from connector_mcp.sandbox.versori.projects import ProjectsPart, UsersPart
from connector_mcp.sandbox.versori.systems import ConnectionsPart, SystemsPart
from connector_mcp.sandbox.world import World

CONNECTORS = "versori.connectors"

_API = "/api/connect/v1"
_BASE = f"{_API}/o/{{organisation}}/connectors"
_SORT = re.compile(r"^([^:,]+:[^:,]+)(,[^:,]+:[^:,]+)*$")
_DATASET = re.compile(r"^[^.\s]+\.[^.\s]+$")
_VARIABLE = re.compile(r"{{\s*\w+\s*}}")


class VersoriEmulator(Emulator):
    """The connectors of one organisation, and its systems, connections, projects and end users."""

    def __init__(self, world: World) -> None:
        connections = ConnectionsPart(world)
        parts = (SystemsPart(world), connections, ProjectsPart(world), UsersPart(world, connections))
        routes = (
            Route(f"{_API}/connectors", self._list_public, methods=["GET"]),
            Route(_BASE, self._list, methods=["GET"]),
            Route(f"{_BASE}/{{connector}}", self._get, methods=["GET"]),
            Route(f"{_BASE}/{{connector}}", self._update, methods=["PUT"]),
            Route(f"{_BASE}/{{connector}}", self._delete, methods=["DELETE"]),
            Route(f"{_BASE}/{{connector}}/auth-scheme-configs/{{config}}", self._set_scheme, methods=["PUT"]),
            Route(f"{_API}/o/{{organisation}}/protocols/http/connectors", self._create, methods=["POST"]),
            *(route for part in parts for route in part.routes),
        )
        super().__init__(world, routes)

    def authorize(self, request: Request) -> None:
        if request.headers.get("authorization") not in (f"Bearer {VERSORI_API_KEY}", f"JWT {VERSORI_JWT}"):
            raise wire.error(401, "unauthorized")
        if request.path_params.get("organisation", VERSORI_ORGANISATION_ID) != VERSORI_ORGANISATION_ID:
            raise wire.error(403, "forbidden", details="the key belongs to another organisation")

    def error_response(self, status: int) -> Response:
        return wire.error(status, f"the sandbox answers {status}").response

    async def _list(self, request: Request) -> Response:
        return self._page(request, self._world.all(CONNECTORS))

    async def _list_public(self, request: Request) -> Response:
        return self._page(request, [each for each in self._world.all(CONNECTORS) if each["public"]])

    def _page(self, request: Request, connectors: list[JsonObject]) -> Response:
        sort = query_value(request, "sort")
        if sort is not None and not _SORT.match(sort):
            raise wire.invalid("sort", "must be field:direction")
        found = [each for each in connectors if _fits(request, each)]
        found.sort(key=lambda each: each["updatedAt"], reverse=True)
        return json_response(wire.page(request, [_view(each) for each in found], "connectors"))

    async def _get(self, request: Request) -> Response:
        return json_response(_view(self._connector(request)))

    async def _update(self, request: Request) -> Response:
        connector = self._connector(request)
        body = await wire.read_body(request)
        if problems := [*_identity_problems(body, connector), *_field_problems(body, connector)]:
            raise wire.error(400, "validation failed", fields=problems)
        address = "baseUrl" if connector["protocol"] == "http" else "datasetId"
        connector |= {"name": body["name"], address: body[address], "public": bool(body.get("public"))}
        for key in ("documentationURL", "imageURL", "tags"):
            if body.get(key) is None:
                connector.pop(key, None)
            else:
                connector[key] = body[key]
        if body.get("authSchemeConfigIds") is not None:
            by_id = {each["id"]: each for each in connector["authSchemeConfigs"]}
            connector["authSchemeConfigs"] = [by_id[each] for each in body["authSchemeConfigIds"]]
        if body.get("connectionVariables") is not None:
            connector["connectionVariables"] = body["connectionVariables"]
            for connection in connector["connections"]:
                connection["variables"] = body["connectionVariables"]
        return self._saved(connector)

    async def _create(self, request: Request) -> Response:
        given = await wire.read_body(request)
        wire.require(given, "name", "baseUrl", "authSchemeConfigs")
        if not is_array(given.get("connections")):
            raise wire.invalid("connections", "is required")
        connector: JsonObject = {"id": wire.new_id(), "organisationId": VERSORI_ORGANISATION_ID, "protocol": "http"}
        connector |= {key: given[key] for key in ("name", "baseUrl", "authSchemeConfigs")}
        connector |= {key: given[key] for key in ("tags", "connectionVariables") if given.get(key) is not None}
        connector |= {"public": bool(given.get("public")), "categories": [], "connections": [], "versions": []}
        return self._saved(connector | {"createdAt": self._world.timestamp()}, 201)

    async def _delete(self, request: Request) -> Response:
        connector = self._connector(request)
        if connector.get("inUse") and query_value(request, "force") != "true":
            raise wire.error(409, "the connector is used by an integration")
        self._world.delete(CONNECTORS, connector["id"])
        return Response(status_code=204)

    async def _set_scheme(self, request: Request) -> Response:
        connector, given = self._connector(request), await wire.read_body(request)
        identifier = request.path_params["config"]
        wire.require(given, "id", "description", "schemeType")
        if given["id"] != identifier:
            raise wire.invalid("id", "must be the id in the path")
        stored = {each["id"]: each for each in connector["authSchemeConfigs"]}
        if is_object(given.get("grant")) and given["grant"].get("grantType") != "client_credentials":
            wire.store_app(given["grant"], stored.get(identifier, {}).get("grant", {}))
        connector["authSchemeConfigs"] = [*(stored | {identifier: given}).values()]
        return self._saved(connector)

    def _saved(self, connector: JsonObject, status: int = 200) -> Response:
        """Store the connector with the time of this change, and answer with it."""
        connector["updatedAt"] = self._world.timestamp()
        self._world.put(CONNECTORS, connector["id"], connector)
        return json_response(_view(connector), status)

    def _connector(self, request: Request) -> JsonObject:
        return self._world.find(CONNECTORS, request.path_params["connector"], wire.error(404, "connector not found"))


def _view(connector: JsonObject) -> JsonObject:
    """A connector in a response: without categories, with the credentials of its connections partly blanked."""
    shown = {key: value for key, value in connector.items() if key not in ("categories", "inUse")}
    shown["authSchemeConfigs"] = wire.blanked(connector["authSchemeConfigs"])
    shown["connections"] = [
        {**connection, "credentials": wire.blanked(connection["credentials"])}
        for connection in connector["connections"]
    ]
    return shown


def _fits(request: Request, connector: JsonObject) -> bool:
    name, protocol = query_value(request, "name"), query_value(request, "protocol")
    if name is not None and name.lower() not in connector["name"].lower():
        return False
    if protocol is not None and protocol.lower() not in connector["protocol"].lower():
        return False
    categories = [each for each in request.query_params.getlist("categories") if each]
    if categories and not set(categories) & set(connector["categories"]):
        return False
    tags: dict[str, list[str]] = connector.get("tags", {})
    for wanted in filter(None, (query_value(request, "tags") or "").split(",")):
        key, colon, value = wanted.partition(":")
        if key not in tags or (colon and value not in tags[key]):
            return False
    return True


def _identity_problems(body: JsonObject, connector: JsonObject) -> list[JsonObject]:
    problems: list[JsonObject] = []
    for key in ("id", "organisationId", "protocol"):
        if body.get(key) is None:
            problems.append(wire.problem(key, "is required"))
        elif body[key] != connector[key]:
            problems.append(wire.problem(key, "is read-only and must not change"))
    if not isinstance(body.get("name"), str) or not body["name"]:
        problems.append(wire.problem("name", "is required"))
    return problems


def _field_problems(body: JsonObject, connector: JsonObject) -> list[JsonObject]:
    given = {key: value for key, value in body.items() if value is not None}
    problems: list[JsonObject] = []
    if connector["protocol"] == "http" and not _is_url(_VARIABLE.sub("x", str(given.get("baseUrl", "")))):
        problems.append(wire.problem("baseUrl", "must be a valid URL"))
    if connector["protocol"] == "bigquery":
        if not _DATASET.match(str(given.get("datasetId", ""))):
            problems.append(wire.problem("datasetId", "must be <project_id>.<dataset_name>"))
        if "connectionVariables" in given:
            problems.append(wire.problem("connectionVariables", "is not a field of this protocol"))
    problems += [
        wire.problem(key, "must be a valid URL")
        for key in ("documentationURL", "imageURL")
        if key in given and not (isinstance(given[key], str) and _is_url(given[key]))
    ]
    if not isinstance(given.get("public", False), bool):
        problems.append(wire.problem("public", "must be a boolean"))
    tags: Any = given.get("tags", {})
    if not is_object(tags) or not all(is_strings(each) for each in tags.values()):
        problems.append(wire.problem("tags", "must map names to lists of strings"))
    if not _is_variables(given.get("connectionVariables", [])):
        problems.append(wire.problem("connectionVariables", "must be a list of name and value"))
    present = sorted(each["id"] for each in connector["authSchemeConfigs"])
    ids: Any = given.get("authSchemeConfigIds", present)
    if not is_strings(ids) or sorted(ids) != present:
        problems.append(wire.problem("authSchemeConfigIds", "must name each auth scheme config once"))
    return problems


def _is_variables(value: Any) -> bool:
    return is_array(value) and all(
        is_object(each) and all(isinstance(each.get(key), str) for key in ("name", "value")) for each in value
    )


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.netloc)
