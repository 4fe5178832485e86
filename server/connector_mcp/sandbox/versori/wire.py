"""What the emulated APIs of Versori share: errors, bodies, pages, ids, and the collections of the Platform API v2."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from connector_mcp.json_values import JsonObject, is_array, is_object
from connector_mcp.sandbox.emulator import (
    PlatformError,
    decode_cursor,
    encode_cursor,
    json_body,
    json_response,
    page_size,
    query_value,
)
from connector_mcp.sandbox.seed import VERSORI_ORGANISATION_ID
from connector_mcp.sandbox.world import World

SYSTEMS = "versori.systems"
TEMPLATES = "versori.templates"
CONNECTIONS = "versori.connections"
PROJECTS = "versori.projects"
USERS = "versori.users"
ACTIVATIONS = "versori.activations"

ORGANISATION = "/api/v2/o/{organisation}"

# `key` of a certificate is left out on purpose: no document promises that it is blanked (trap 16).
BLANKED = ("value", "valueBase64", "password", "clientSecret", "accessToken", "refreshToken")
_PAGE = 20
_ULID = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

Endpoint = Callable[[Request], Awaitable[Response]]


class PlatformPart:
    """Some operations of the Platform API v2 over one world."""

    def __init__(self, world: World) -> None:
        self.world = world

    def find(self, collection: str, identifier: Any) -> JsonObject:
        """The document with this id. Raises a 404 without one."""
        return self.world.find(
            collection, str(identifier), error(404, f"{collection.rpartition('.')[2].removesuffix('s')} not found")
        )

    def named(self, request: Request, name: str, collection: str) -> JsonObject:
        """The document that a path parameter names."""
        return self.find(collection, request.path_params[name])

    def templates_of(self, environment: JsonObject) -> list[JsonObject]:
        """The connection templates of an environment."""
        return [each for each in self.world.all(TEMPLATES) if each["environmentId"] == environment["id"]]

    def save(self, collection: str, document: JsonObject) -> JsonObject:
        """Store the document with its times, and return it."""
        now = self.world.timestamp()
        document = {"createdAt": now, **document, "updatedAt": now}
        self.world.put(collection, document["id"], document)
        return document


def route(method: str, path: str, endpoint: Endpoint) -> Route:
    """A route below the organisation."""
    return Route(f"{ORGANISATION}{path}", endpoint, methods=[method])


def new_id() -> str:
    """A new ULID of the sandbox."""
    return f"01J0SANDB0X{''.join(secrets.choice(_ULID) for _ in range(15))}"


async def read_body(request: Request) -> JsonObject:
    """The JSON object in the body."""
    given = await json_body(request, error(400, "malformed JSON body"))
    if not is_object(given):
        raise error(400, "the body must be an object")
    return given


def require(given: JsonObject, *names: str) -> None:
    """Raise a 400 that names each member that is missing or empty text."""
    missing = [problem(name, "is required") for name in names if given.get(name) in (None, "")]
    if missing:
        raise error(400, "validation failed", fields=missing)


def page(request: Request, rows: Sequence[JsonObject], member: str = "items") -> JsonObject:
    """The page that a request asks for, with the cursors of its neighbors."""
    size = page_size(query_value(request, "first"), _PAGE, 10**9, invalid("first", "must be a positive integer"))
    after, before = (query_value(request, name) for name in ("after", "before"))
    bad_cursor = invalid("after", "is not a cursor")
    end = len(rows) if before is None else decode_cursor("at", before, bad_cursor)
    start = max(0, end - size) if before and not after else decode_cursor("at", after, bad_cursor)
    found = list(rows[start : min(end, start + size)])
    listed: JsonObject = {"totalCount": len(rows), member: found}
    if start + len(found) < len(rows):
        listed["next"] = encode_cursor("at", start + len(found))
    if start > 0:
        listed["prev"] = encode_cursor("at", start)
    return listed


def blanked(value: Any) -> Any:
    """The value with the secrets blanked that Versori says it blanks."""
    if is_array(value):
        return [blanked(item) for item in value]
    if not is_object(value):
        return value
    return {key: "" if key in BLANKED and isinstance(each, str) else blanked(each) for key, each in value.items()}


def store_app(grant: JsonObject, stored: JsonObject) -> None:
    """Give a grant its client credential: the stored one if both of its ids are sent, a new one if neither is."""
    sent = [grant.get(name) for name in ("credentialId", "organisationId")]
    if all(sent):
        grant.setdefault("clientSecret", stored.get("clientSecret", ""))
        grant.setdefault("clientId", stored.get("clientId"))
    elif any(sent):
        raise invalid("grant", "credentialId and organisationId must come together")
    elif grant.get("clientId"):
        grant.update(credentialId=new_id(), organisationId=VERSORI_ORGANISATION_ID)


def problem(field: str, message: str) -> JsonObject:
    """What is wrong with one field."""
    return {"field": field, "message": message}


def invalid(field: str, message: str) -> PlatformError:
    """A 400 that names one field."""
    return error(400, "validation failed", fields=[problem(field, message)])


def error(
    status: int, message: str, *, fields: list[JsonObject] | None = None, details: str | None = None
) -> PlatformError:
    """An error in Versori's form."""
    said: JsonObject = {"code": f"{status}001", "message": message}
    if fields:
        said["fields"] = fields
    if details is not None:
        said["details"] = details
    return PlatformError(json_response(said, status))
