"""Narrow decoded JSON whose shape is unknown: a platform's response may hold anything."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeGuard, cast

JsonObject = dict[str, Any]
"""A decoded JSON object."""


def members(value: Any) -> JsonObject:
    """Return the members of an object, or an empty dict for any other value."""
    return cast("JsonObject", value) if isinstance(value, dict) else {}


def items(value: Any) -> list[Any]:
    """Return the items of an array, or an empty list for any other value."""
    return cast("list[Any]", value) if isinstance(value, list) else []


def same_json(one: Any, other: Any) -> bool:
    """Check that two decoded JSON values are the same: `true` is no number, while 1 and 1.0 are the same number."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if is_object(one) and is_object(other):
        return one.keys() == other.keys() and all(same_json(value, other[key]) for key, value in one.items())
    if is_array(one) and is_array(other):
        return len(one) == len(other) and all(map(same_json, one, other))
    return bool(one == other)


def joined(*parts: Any) -> str | None:
    """Return the non-empty parts as one text, or None if there are none."""
    given: Iterator[Any] = filter(None, parts)
    return " ".join(map(str, given)) or None


def text(value: Any) -> str | None:
    """Return a string, number or boolean as text, or None for any other value."""
    return str(value) if isinstance(value, str | int | float) else None


def is_object(value: Any) -> TypeGuard[JsonObject]:
    """Check that the decoded JSON value is an object."""
    return isinstance(value, dict)


def is_array(value: Any) -> TypeGuard[list[Any]]:
    """Check that the decoded JSON value is an array."""
    return isinstance(value, list)


def is_strings(value: Any) -> TypeGuard[list[str]]:
    """Check that the decoded JSON value is an array of strings."""
    return is_array(value) and all(isinstance(each, str) for each in value)
