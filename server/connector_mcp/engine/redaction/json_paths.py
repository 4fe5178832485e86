"""Places in a JSON value: what stands in them, and putting something else there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from connector_mcp.json_values import JsonObject


def strings(value: Any) -> Iterator[str]:
    """Every string in a JSON value, keys apart."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for member in cast("Mapping[str, Any]", value).values():
            yield from strings(member)
    elif isinstance(value, list):
        for member in cast("list[Any]", value):
            yield from strings(member)


def all_strings(value: Any) -> Iterator[str]:
    """`strings`, and those inside strings that are JSON themselves."""
    for text in strings(value):
        yield text
        try:
            inner = json.loads(text) if text.lstrip()[:1] in ("{", "[") else None
            yield from list(strings(inner))
        except (ValueError, RecursionError):
            continue


def places(value: Any, steps: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Every string and object in a JSON value with the steps that lead to it."""
    if isinstance(value, Mapping):
        yield steps, value
        for key, member in cast("Mapping[str, Any]", value).items():
            yield from places(member, (*steps, key))
    elif isinstance(value, list):
        for index, member in enumerate(cast("list[Any]", value)):
            yield from places(member, (*steps, index))
    elif isinstance(value, str):
        yield steps, value


def steps_of(path: str) -> tuple[str | int, ...]:
    """The steps of a path as `ConfigUse` writes it."""
    return tuple(int(step) if step.isdigit() else step for step in re.findall(r"[^.\[\]]+", path))


def replaced(value: Any, steps: Sequence[str | int], other: Any) -> Any:
    """The value with another one at the end of the steps; what is on the way is copied, and the value left alone."""
    if not steps:
        return other
    step, *rest = steps
    copied: Any = cast("list[Any]", value).copy() if isinstance(value, list) else dict(cast("JsonObject", value))
    copied[step] = replaced(copied[step], rest, other) if rest else other
    return copied
