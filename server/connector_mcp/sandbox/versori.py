"""Versori's Connect API v1, emulated: list, read and replace connectors (facts: sections 2 to 4 and 6).

Its traps are real here: a PUT unsets every optional field that it does not name, `connectionVariables` rewrites the
variables of every connection, and answers embed connections whose credentials are blanked only in part. What the
documents leave open is decided so: `connectionVariables` left out is kept, because the field's own text says so.
"""

from __future__ import annotations

import base64
import re
from typing import Any
from urllib.parse import urlsplit

from connector_mcp.json_values import JsonObject, is_array, is_object, is_strings
from connector_mcp.sandbox.clock import Clock, timestamp
from connector_mcp.sandbox.seed import VERSORI_API_KEY, VERSORI_JWT, VERSORI_ORGANISATION_ID
from connector_mcp.sandbox.wire import Answer, Call, RefusalError, Route, Routes, json_answer
from connector_mcp.sandbox.world import World

CONNECTORS = "versori.connectors"

_BASE = "/api/connect/v1/o/{organisation}/connectors"
_PAGE = 20
_SORT = re.compile(r"^([^:,]+:[^:,]+)(,[^:,]+:[^:,]+)*$")
_DATASET = re.compile(r"^[^.\s]+\.[^.\s]+$")
_VARIABLE = re.compile(r"{{\s*\w+\s*}}")

# `certificate.key` is missing on purpose: nothing promises that it is blanked (trap 16).
_BLANKED = ("value", "valueBase64", "password", "clientSecret", "accessToken", "refreshToken")


class VersoriEmulator:
    """Answers ListConnectors, GetConnector and UpdateConnector of one organisation."""

    def __init__(self, world: World, clock: Clock) -> None:
        self._world = world
        self._clock = clock
        self._routes = Routes(
            (
                Route("GET", _BASE, self._list),
                Route("GET", f"{_BASE}/{{connector}}", self._get),
                Route("PUT", f"{_BASE}/{{connector}}", self._update),
            )
        )

    def handle(self, call: Call) -> Answer:
        try:
            if call.header("authorization") not in (f"Bearer {VERSORI_API_KEY}", f"JWT {VERSORI_JWT}"):
                raise _refuse(401, "unauthorized")
            found = self._routes.find(call)
            if found is None:
                raise _refuse(404, "not found")
            handler, call = found
            if call.parameters["organisation"] != VERSORI_ORGANISATION_ID:
                raise _refuse(403, "forbidden", details="the key belongs to another organisation")
            with self._world.transaction():
                return handler(call)
        except RefusalError as refusal:
            return refusal.answer

    def failure(self, status: int) -> Answer:
        return _refuse(status, "injected by the sandbox").answer

    def _list(self, call: Call) -> Answer:
        sort = call.query_value("sort")
        if sort is not None and not _SORT.match(sort):
            raise _invalid("sort", "must be field:direction")
        found = [each for each in self._world.all(CONNECTORS) if _fits(call, each)]
        found.sort(key=lambda each: each["updatedAt"], reverse=True)
        size = _page_size(call.query_value("first"))
        after, before = call.query_value("after"), call.query_value("before")
        end = len(found) if before is None else _position(before)
        start = _position(after) if after is not None else (0 if before is None else max(0, end - size))
        page = found[start : min(end, start + size)]
        answer: JsonObject = {"totalCount": len(found), "connectors": [_view(each) for each in page]}
        if start + len(page) < len(found):
            answer["next"] = _cursor(start + len(page))
        if start > 0:
            answer["prev"] = _cursor(start)
        return json_answer(answer)

    def _get(self, call: Call) -> Answer:
        return json_answer(_view(self._connector(call)))

    def _update(self, call: Call) -> Answer:
        connector = self._connector(call)
        body = _body(call)
        problems = [*_identity_problems(body, connector), *_field_problems(body, connector)]
        if problems:
            raise _refuse(400, "validation failed", fields=problems)
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
        connector["updatedAt"] = timestamp(self._clock())
        self._world.put(CONNECTORS, connector["id"], connector)
        return json_answer(_view(connector))

    def _connector(self, call: Call) -> JsonObject:
        found = self._world.get(CONNECTORS, call.parameters["connector"])
        if found is None:
            raise _refuse(404, "connector not found")
        return found


def _view(connector: JsonObject) -> JsonObject:
    """A connector as answers show it: without categories, with the credentials of its connections partly blanked."""
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


def _fits(call: Call, connector: JsonObject) -> bool:
    name, protocol = call.query_value("name"), call.query_value("protocol")
    if name is not None and name.lower() not in connector["name"].lower():
        return False
    if protocol is not None and protocol.lower() not in connector["protocol"].lower():
        return False
    categories = [each for each in call.query_values("categories") if each]
    if categories and not set(categories) & set(connector["categories"]):
        return False
    tags: dict[str, list[str]] = connector.get("tags", {})
    for wanted in filter(None, (call.query_value("tags") or "").split(",")):
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
    if not _is_tags(given.get("tags", {})):
        problems.append(_problem("tags", "must map names to lists of strings"))
    if not _is_variables(given.get("connectionVariables", [])):
        problems.append(_problem("connectionVariables", "must be a list of name and value"))
    ids = given.get("authSchemeConfigIds")
    if ids is not None and not _is_reordering(ids, [each["id"] for each in connector["authSchemeConfigs"]]):
        problems.append(_problem("authSchemeConfigIds", "must name each auth scheme config once"))
    return problems


def _is_tags(value: Any) -> bool:
    return is_object(value) and all(is_strings(each) for each in value.values())


def _is_variables(value: Any) -> bool:
    return is_array(value) and all(
        is_object(each) and all(isinstance(each.get(key), str) for key in ("name", "value")) for each in value
    )


def _is_reordering(value: Any, present: list[str]) -> bool:
    return is_strings(value) and sorted(value) == sorted(present)


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.netloc)


def _page_size(first: str | None) -> int:
    if first is None:
        return _PAGE
    if not first.isascii() or not first.isdigit() or int(first) < 1:
        raise _invalid("first", "must be a positive integer")
    return int(first)


def _cursor(position: int) -> str:
    return base64.urlsafe_b64encode(f"at:{position}".encode()).decode()


def _position(cursor: str) -> int:
    try:
        return max(0, int(base64.urlsafe_b64decode(cursor).decode().removeprefix("at:")))
    except ValueError as error:
        raise _invalid("after", "is not a cursor") from error


def _body(call: Call) -> JsonObject:
    try:
        body = call.json()
    except ValueError as error:
        raise _refuse(400, "malformed JSON body") from error
    if not is_object(body):
        raise _refuse(400, "the body must be an object")
    return body


def _problem(field: str, message: str) -> JsonObject:
    return {"field": field, "message": message}


def _invalid(field: str, message: str) -> RefusalError:
    return _refuse(400, "validation failed", fields=[_problem(field, message)])


def _refuse(
    status: int, message: str, *, fields: list[JsonObject] | None = None, details: str | None = None
) -> RefusalError:
    body: JsonObject = {"code": f"{status}001", "message": message}
    if fields:
        body["fields"] = fields
    if details is not None:
        body["details"] = details
    return RefusalError(json_answer(body, status))
