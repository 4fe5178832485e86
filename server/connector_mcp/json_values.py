"""Narrow decoded JSON whose shape is unknown: a platform's response may hold anything."""

from __future__ import annotations

from typing import Any, TypeGuard, cast

JsonObject = dict[str, Any]
"""A decoded JSON object."""


def members(value: Any) -> JsonObject:
    """The members of an object; none where there is something else in its place."""
    return cast("JsonObject", value) if isinstance(value, dict) else {}


def items(value: Any) -> list[Any]:
    """The items of an array; none where there is something else in its place."""
    return cast("list[Any]", value) if isinstance(value, list) else []


def joined(*parts: Any) -> str | None:
    """The parts that there are as one text, or None where there is none."""
    return " ".join(str(part) for part in parts if part) or None


def text(value: Any) -> str | None:
    """A scalar as text, or None for null and for what is no scalar."""
    return str(value) if isinstance(value, str | int | float) else None


def is_object(value: Any) -> TypeGuard[JsonObject]:
    """Whether the decoded JSON value is an object; its keys are strings then."""
    return isinstance(value, dict)


def is_array(value: Any) -> TypeGuard[list[Any]]:
    """Whether the decoded JSON value is an array."""
    return isinstance(value, list)


def is_strings(value: Any) -> TypeGuard[list[str]]:
    """Whether the decoded JSON value is an array of strings."""
    return is_array(value) and all(isinstance(each, str) for each in value)
