"""Reading JSON whose shape is not known: a platform's answer may hold anything."""

from __future__ import annotations

from typing import Any, cast

from connector_mcp.operations.platform import JsonObject


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
