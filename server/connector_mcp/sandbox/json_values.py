"""Narrows decoded JSON, whose type says nothing, to objects and arrays."""

from __future__ import annotations

from typing import Any, TypeGuard

from connector_mcp.operations.platform import JsonObject


def is_object(value: Any) -> TypeGuard[JsonObject]:
    """Whether the decoded JSON value is an object; its keys are strings then."""
    return isinstance(value, dict)


def is_array(value: Any) -> TypeGuard[list[Any]]:
    """Whether the decoded JSON value is an array."""
    return isinstance(value, list)


def is_strings(value: Any) -> TypeGuard[list[str]]:
    """Whether the decoded JSON value is an array of strings."""
    return is_array(value) and all(isinstance(each, str) for each in value)
