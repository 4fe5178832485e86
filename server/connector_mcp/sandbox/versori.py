"""Versori's Connect API v1, emulated: list, read and replace connectors (facts: sections 2 to 4 and 6).

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
from connector_mcp.sandbox.emulator import (
    Emulator,
    PlatformError,
    decode_cursor,
    encode_cursor,
    json_body,
    json_response,
    page_size,
    query_value,
)
from connector_mcp.sandbox.seed import VERSORI_API_KEY, VERSORI_JWT, VERSORI_ORGANISATION_ID
from connector_mcp.sandbox.world import World

CONNECTORS = "versori.connectors"

_BASE = "/api/connect/v1/o/{organisation}/connectors"
_PAGE = 20
_SORT = re.compile(r"^([^:,]+:[^:,]+)(,[^:,]+:[^:,]+)*$")
_DATASET = re.compile(r"^[^.\s]+\.[^.\s]+$")
_VARIABLE = re.compile(r"{{\s*\w+\s*}}")

# `certificate.key` is left out on purpose: no document promises that it is blanked (trap 16).
_BLANKED = ("value", "valueBase64", "password", "clientSecret", "accessToken", "refreshToken")


class VersoriEmulator(Emulator):
    """ListConnectors, GetConnector and UpdateConnector of one organisation."""

    def __init__(self, world: World) -> None:
        routes = (
            Route(_BASE, self._list, methods=["GET"]),
            Route(f"{_BASE}/{{connector}}", self._get, methods=["GET"]),
            Route(f"{_BASE}/{{connector}}", self._update, methods=["PUT"]),
        )
        super().__init__(world, routes)

    def authorize(self, request: Request) -> None:
        if request.headers.get("authorization") not in (f"Bearer {VERSORI_API_KEY}", f"JWT {VERSORI_JWT}"):
            raise _error(401, "unauthorized")
        if request.path_params.get("organisation", VERSORI_ORGANISATION_ID) != VERSORI_ORGANISATION_ID:
            raise _error(403, "forbidden", details="the key belongs to another organisation")

    def error_response(self, status: int) -> Response:
        return _error(status, f"the sandbox answers {status}").response

    async def _list(self, request: Request) -> Response:
        sort = query_value(request, "sort")
        if sort is not None and not _SORT.match(sort):
            raise _invalid("sort", "must be field:direction")
        found = [each for each in self._world.all(CONNECTORS) if _fits(request, each)]
        found.sort(key=lambda each: each["updatedAt"], reverse=True)
        size = page_size(query_value(request, "first"), _PAGE, 10**9, _invalid("first", "must be a positive integer"))
        after, before = (query_value(request, name) for name in ("after", "before"))
        bad_cursor = _invalid("after", "is not a cursor")
        end = len(found) if before is None else decode_cursor("at", before, bad_cursor)
        start = max(0, end - size) if before and not after else decode_cursor("at", after, bad_cursor)
        page = found[start : min(end, start + size)]
        listed: JsonObject = {"totalCount": len(found), "connectors": [_view(each) for each in page]}
        if start + len(page) < len(found):
            listed["next"] = encode_cursor("at", start + len(page))
        if start > 0:
            listed["prev"] = encode_cursor("at", start)
        return json_response(listed)

    async def _get(self, request: Request) -> Response:
        return json_response(_view(self._connector(request)))

    async def _update(self, request: Request) -> Response:
        connector = self._connector(request)
        body = await _body(request)
        problems = [*_identity_problems(body, connector), *_field_problems(body, connector)]
        if problems:
            raise _error(400, "validation failed", fields=problems)
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
        connector["updatedAt"] = self._world.timestamp()
        self._world.put(CONNECTORS, connector["id"], connector)
        return json_response(_view(connector))

    def _connector(self, request: Request) -> JsonObject:
        found = self._world.get(CONNECTORS, request.path_params["connector"])
        if found is None:
            raise _error(404, "connector not found")
        return found


def _view(connector: JsonObject) -> JsonObject:
    """A connector in a response: without categories, with the credentials of its connections partly blanked."""
    shown = {key: value for key, value in connector.items() if key != "categories"}
    shown["connections"] = [
        {**connection, "credentials": _blanked(connection["credentials"])} for connection in connector["connections"]
    ]
    return shown


def _blanked(credentials: JsonObject) -> JsonObject:
    def blank(each: JsonObject) -> JsonObject:
        data = {key: "" if key in _BLANKED else value for key, value in each["credential"]["data"].items()}
        return {**each, "credential": {**each["credential"], "data": data}}

    return {side: [blank(each) for each in entries] for side, entries in credentials.items()}


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
            problems.append(_problem(key, "is required"))
        elif body[key] != connector[key]:
            problems.append(_problem(key, "is read-only and must not change"))
    if not isinstance(body.get("name"), str) or not body["name"]:
        problems.append(_problem("name", "is required"))
    return problems


def _field_problems(body: JsonObject, connector: JsonObject) -> list[JsonObject]:
    given = {key: value for key, value in body.items() if value is not None}
    problems: list[JsonObject] = []
    if connector["protocol"] == "http" and not _is_url(_VARIABLE.sub("x", str(given.get("baseUrl", "")))):
        problems.append(_problem("baseUrl", "must be a valid URL"))
    if connector["protocol"] == "bigquery":
        if not _DATASET.match(str(given.get("datasetId", ""))):
            problems.append(_problem("datasetId", "must be <project_id>.<dataset_name>"))
        if "connectionVariables" in given:
            problems.append(_problem("connectionVariables", "is not a field of this protocol"))
    problems += [
        _problem(key, "must be a valid URL")
        for key in ("documentationURL", "imageURL")
        if key in given and not (isinstance(given[key], str) and _is_url(given[key]))
    ]
    if not isinstance(given.get("public", False), bool):
        problems.append(_problem("public", "must be a boolean"))
    tags: Any = given.get("tags", {})
    if not is_object(tags) or not all(is_strings(each) for each in tags.values()):
        problems.append(_problem("tags", "must map names to lists of strings"))
    if not _is_variables(given.get("connectionVariables", [])):
        problems.append(_problem("connectionVariables", "must be a list of name and value"))
    present = sorted(each["id"] for each in connector["authSchemeConfigs"])
    ids: Any = given.get("authSchemeConfigIds", present)
    if not is_strings(ids) or sorted(ids) != present:
        problems.append(_problem("authSchemeConfigIds", "must name each auth scheme config once"))
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


async def _body(request: Request) -> JsonObject:
    body = await json_body(request, _error(400, "malformed JSON body"))
    if not is_object(body):
        raise _error(400, "the body must be an object")
    return body


def _problem(field: str, message: str) -> JsonObject:
    return {"field": field, "message": message}


def _invalid(field: str, message: str) -> PlatformError:
    return _error(400, "validation failed", fields=[_problem(field, message)])


def _error(
    status: int, message: str, *, fields: list[JsonObject] | None = None, details: str | None = None
) -> PlatformError:
    body: JsonObject = {"code": f"{status}001", "message": message}
    if fields:
        body["fields"] = fields
    if details is not None:
        body["details"] = details
    return PlatformError(json_response(body, status))
