"""What the emulated parts of ConductorOne share: errors, bodies, pages, masks, users, and values that show late."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from starlette.requests import Request

from connector_mcp.json_values import JsonObject, is_object, is_strings
from connector_mcp.sandbox import seed
from connector_mcp.sandbox.emulator import PlatformError, decode_cursor, encode_cursor, json_body, json_response
from connector_mcp.sandbox.world import World

LATE_SECONDS = 45
"""How long a change of owners takes to show."""

# gRPC number and its name for the HTTP statuses that the gateway gives.
_GRPC = {400: 3, 401: 16, 403: 7, 404: 5, 409: 6, 429: 8, 500: 13, 501: 12, 503: 14, 504: 4}
_FAILED_PRECONDITION = 9
_PAGE, _LEAST, _MOST = 25, 10, 100
_TEXTS = ("delegatedUserId", "department", "employmentStatus", "employmentType", "jobTitle", "username")
_SOURCES = ("directoryStatus", "email", "employeeId", "manager", *_TEXTS[1:])
_USER: JsonObject = {
    **dict.fromkeys(_TEXTS, ""),
    **{f"{name}s": [] for name in ("directoryId", "email", "employeeId", "managerId", "roleId", "username")},
    **{f"{name}Sources": [] for name in _SOURCES},
    "directoryStatus": "ENABLED",
    "status": "ENABLED",
    "origin": "USER_ORIGIN_LOCAL",
    "type": "USER_TYPE_HUMAN",
    "profile": None,
    "createdAt": "2026-03-02T09:00:00Z",
    "updatedAt": "2026-03-02T09:00:00Z",
    "deletedAt": None,
}
"""What a user has beside id, name and e-mail address."""
_MASK_PATH = re.compile(r"^[a-z][A-Za-z0-9]*$")


def error(status: int, message: str, code: int | None = None) -> PlatformError:
    """An error in the JSON form of a gRPC status."""
    text = f"{message} (request-id: {uuid4().hex})"
    document: JsonObject = {"code": code or _GRPC.get(status, 2), "message": text, "details": []}
    return PlatformError(json_response(document, status))


def refused(message: str) -> PlatformError:
    """The error of a request that the state of a thing does not allow."""
    return error(400, message, _FAILED_PRECONDITION)


async def object_body(request: Request) -> JsonObject:
    body: Any = await json_body(request, error(400, "proto: syntax error"))
    if body is None:
        return {}
    if not is_object(body):
        raise error(400, "proto: syntax error: unexpected token")
    return body


def page_of(rows: Sequence[JsonObject], size: Any, token: Any) -> JsonObject:
    """One page of a list, of a size from 10 to 100. More rows follow if it has a token."""
    try:
        wanted = min(_MOST, max(_LEAST, int(size))) if size else _PAGE
    except (TypeError, ValueError) as failure:
        raise error(400, "type mismatch, parameter: page_size") from failure
    start = decode_cursor("from", token or None, error(400, "invalid page_token"))
    following = start + wanted
    more = encode_cursor("from", following) if following < len(rows) else ""
    return {"list": list(rows[start:following]), "nextPageToken": more}


def mask_paths(mask: Any, writable: Collection[str], message: str) -> list[str]:
    """The members that a mask names."""
    if not isinstance(mask, str):
        raise error(400, f"invalid {message}.UpdateMask: a string of paths is required")
    paths = [path for path in mask.split(",") if path]
    if not paths:
        raise error(400, f"invalid {message}.UpdateMask: at least one path is required")
    for path in paths:
        if not _MASK_PATH.match(path) or path not in writable:
            raise error(400, f"invalid {message}.UpdateMask: no writable field {path[:64]!r}")
    return paths


def expand_paths(mask: Any) -> set[str]:
    """The related objects that an expand mask asks for."""
    if mask is None:
        return set()
    paths: Any = (mask.get("paths") or []) if is_object(mask) else None
    if not is_strings(paths):
        raise error(400, "proto: invalid value for field expandMask")
    return set(paths)


def known_users(identifiers: Any) -> list[str]:
    """The ids of users, all of whom must exist."""
    given: Any = identifiers or []
    if not is_strings(given):
        raise error(400, "proto: invalid value for a list of user ids")
    unknown = [each for each in given if user(each) is None]
    if unknown:
        raise error(404, f"user not found: {unknown[0][:64]}")
    return list(given)


def user(identifier: str) -> JsonObject | None:
    """The user with an id."""
    return next((_USER | each for each in seed.CONDUCTORONE_USERS if each["id"] == identifier), None)


def new_id(kind: str) -> str:
    """An id of 27 characters that begins with a kind."""
    return f"2{kind}{uuid4().hex}"[:27]


def time_of(stamp: str) -> datetime:
    return datetime.fromisoformat(stamp)


def stamp_after(stamp: str, seconds: float) -> str:
    later = time_of(stamp) + timedelta(seconds=seconds)
    return later.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def has_passed(world: World, stamp: str, seconds: float) -> bool:
    """Whether so many seconds have passed since a time."""
    return world.now() >= time_of(stamp) + timedelta(seconds=seconds)


def settled(value: Any) -> JsonObject:
    """A value that shows at once."""
    return {"now": value, "before": value, "since": "2026-01-01T00:00:00Z"}


def changed(world: World, late: JsonObject, value: Any) -> JsonObject:
    """A value that shows after a while; until then, the value that shows now does."""
    return {"now": value, "before": shown(world, late), "since": world.timestamp()}


def shown(world: World, late: JsonObject) -> Any:
    """What shows of a value by now."""
    return late["now"] if has_passed(world, late["since"], LATE_SECONDS) else late["before"]
