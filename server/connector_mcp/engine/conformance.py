"""Whether a platform's record is of its documented types, told without making a model of it that nobody wants."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import NoneType
from typing import Any, Final, get_args

from connector_mcp.json_values import JsonObject
from connector_mcp.operations.operation import Record


class _Undecided:
    """The type of a member of which only validation can tell: no value is of it."""


_EXACT: Final[Mapping[Any, type]] = {str: str, bool: bool, JsonObject: dict}
"""What is taken if it is of exactly this type."""


def surely_conforms(values: Mapping[str, Any], model: type[Record]) -> bool:
    """Whether the model takes these members; where it is not said, validation may still take them.

    It is said of nearly every record, in a quarter of the time that validation takes.
    """
    types = _types(model)
    return not [key for key, value in values.items() if key in types and type(value) is not types[key]]


@cache
def _types(model: type[Record]) -> Mapping[str, type]:
    """The type of each documented member by every name that it goes by."""
    types: dict[str, type] = {}
    for name, info in model.model_fields.items():
        kinds = [kind for kind in get_args(info.annotation) or (info.annotation,) if kind is not NoneType]
        plain = len(kinds) == 1 and not info.metadata
        types[name] = types[info.alias or name] = _EXACT.get(kinds[0], _Undecided) if plain else _Undecided
    return types
