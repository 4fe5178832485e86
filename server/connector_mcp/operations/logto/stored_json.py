"""How a change meets the JSON that Logto stores (facts: traps 4 and 5).

Logto replaces `config` and `metadata` whole and then drops every member that is empty. So a change is merged with what
is stored before it is sent, and a member given as empty is one that will be gone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

from connector_mcp.json_values import JsonObject


def as_object(value: Any) -> JsonObject | None:
    """The value if it is a JSON object."""
    return cast("JsonObject", value) if isinstance(value, dict) else None


def as_list(value: Any) -> list[Any] | None:
    """The value if it is a JSON array."""
    return cast("list[Any]", value) if isinstance(value, list) else None


def is_vacant(value: Any) -> bool:
    """Whether Logto drops a member with this value: null, empty, or holding nothing but such values."""
    held = as_list(value)
    members = as_object(value)
    if members is not None:
        held = list(members.values())
    return value in (None, "") if held is None else all(is_vacant(item) for item in held)


def merge(stored: Mapping[str, Any], given: Mapping[str, Any]) -> JsonObject:
    """The stored object with the given members over it.

    Objects are merged, lists and all else replaced. A null takes the member away, because the validation that comes
    before Logto's own dropping refuses null for most members. An empty object replaces: it is given to erase.
    """
    merged = dict(stored)
    for key, value in given.items():
        members = as_object(value)
        if value is None:
            merged.pop(key, None)
        elif members:
            merged[key] = merge(as_object(merged.get(key)) or {}, members)
        else:
            merged[key] = value
    return merged


def emptied(stored: Mapping[str, Any], given: Mapping[str, Any], at: str) -> Iterator[tuple[str, Any]]:
    """Dotted path below `at` and present value of each stored member that the given ones erase."""
    for key, value in given.items():
        before, path = stored.get(key), f"{at}.{key}"
        inside, members = as_object(before), as_object(value)
        if is_vacant(before):
            continue
        if inside and members:
            yield from emptied(inside, members, path)
        elif inside or is_vacant(value):
            yield path, before


def planned(given: Mapping[str, Any], at: str) -> Iterator[tuple[str, Any]]:
    """Dotted path below `at` and coming value of each given member, as Logto will show it; None where it is gone."""
    for key, value in given.items():
        members = as_object(value)
        if members:
            yield from planned(members, f"{at}.{key}")
        else:
            yield f"{at}.{key}", _kept(value)


def _kept(value: Any) -> Any:
    """The value as Logto keeps it, without the members that it drops."""
    if is_vacant(value):
        return None
    members, items = as_object(value), as_list(value)
    if members is not None:
        return {key: _kept(member) for key, member in members.items() if not is_vacant(member)}
    return value if items is None else [_kept(item) for item in items]
