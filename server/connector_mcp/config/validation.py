"""Turn pydantic's validation errors into messages that name the place, the key and the closest valid key."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from pydantic import BaseModel, SecretStr, ValidationError

from connector_mcp.errors import Misconfigured
from connector_mcp.input_text import check_expanded, decode, trim
from connector_mcp.suggest import nearest

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_Model = TypeVar("_Model", bound=BaseModel)


def validate(
    model: type[_Model],
    values: Mapping[str, Any],
    *,
    unknown: Callable[[str], Misconfigured],
    place: Callable[[str], object],
    shown: Callable[[str], bool],
) -> tuple[_Model, list[Misconfigured]]:
    """Return the model and a problem for each invalid key; an invalid key is left at its default.

    `unknown` makes the problem of a key that the model does not have. `place` names a key as its author wrote it.
    A value is repeated only if it is `shown`.
    """
    try:
        return model.model_validate(values), []
    except ValidationError as invalid:
        faults = {str(fault["loc"][0]): fault for fault in invalid.errors(include_url=False, include_context=False)}
    problems = [
        unknown(key) if fault["type"] == "extra_forbidden" else _invalid_value(place(key), fault, shown(key))
        for key in values
        if (fault := faults.get(key))
    ]
    valid = {key: value for key, value in values.items() if key not in faults}
    return model.model_validate(valid), problems


def drop_unexpanded(values: dict[str, Any], place: Callable[[str], str]) -> list[Misconfigured]:
    """Remove the values that a launcher did not expand or unquote, and return a problem for each."""
    problems: list[Misconfigured] = []
    for key in list(values):
        try:
            check_expanded(place(key), str(values[key]))
        except Misconfigured as problem:
            problems.append(problem)
            del values[key]
    return problems


def unknown_name(
    place: object, name: str, known: Collection[str], noun: str, *, fix: str = "", spell: Callable[[str], str] = str
) -> Misconfigured:
    """Return the error for a name that does not exist, with the nearest ones.

    `place` says where it is written. `spell` writes a known name as it is written there. `fix` says where all names
    are listed; without it, they are named if none is near.
    """
    near = [spell(each) for each in nearest(name, known)]
    guess = f" Did you mean {near[0]!r}?" if near else ""
    valid = near or ([] if fix else [*map(spell, known)])
    use = f"Use {either(valid)}, or remove it." if valid else "Remove it."
    return Misconfigured(f"{place} is not a known {noun}.{guess}", fix=f"{use} {fix}".rstrip())


def _invalid_value(place: object, fault: ErrorDetails, shown: bool) -> Misconfigured:
    value: object = fault["input"]
    printable = shown and isinstance(value, str | int | float | list | tuple | Path)
    got = repr(str(cast("object", value))) if printable else "invalid (its value is not shown)"
    expected = re.sub(r"^(Value error, |Input should be )|, unable to .*$", "", fault["msg"])
    return Misconfigured(f"{place} is {got}; expected: {expected}.", fix="Correct or remove it.")


def either(names: Collection[str]) -> str:
    """Return the names as a choice in words: `a, b or c`."""
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last


def is_token(text: str) -> bool:
    """Check that an HTTP header can carry the text: visible ASCII characters without spaces."""
    return re.fullmatch(r"[!-~]+", text) is not None


def read_secret_file(file: Path, setting: str, command: str) -> SecretStr:
    """Return the secret in the file that a setting names; `command` is an example of how to generate one.

    Raises:
        Misconfigured: The file cannot be read, or its content is not one secret.
    """
    where = f"{setting} names {file}"
    try:
        word = trim(decode(file.read_bytes()))
    except (OSError, UnicodeDecodeError) as failure:
        raise Misconfigured(
            f"{where}, which cannot be read: {type(failure).__name__}.",
            fix="Name a file that this process can read and that contains only the secret.",
        ) from None
    if not is_token(word):
        raise Misconfigured(
            f"{where}, which does not contain a secret; expected: visible ASCII characters on one line, no spaces.",
            fix=f"Write the secret to the file, for example with `{command}`.",
        )
    check_expanded(str(file), word)
    return SecretStr(word)
