"""Describe the problems of arguments: what was given, what is wanted, and an example.

Descriptions never repeat a string that was given, nor a key or number that may be a credential.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, cast

from connector_mcp.errors import Issue
from connector_mcp.operations.connector_types import example
from connector_mcp.suggest import meant, nearest

MAX_ISSUES = 20
"""Problems that one error names."""

_SHOWN_DIGITS = 6
"""Digits of a number that an error repeats; a longer number may be a credential."""

_WORD = re.compile(r"[A-Za-z]{1,32}[0-9]{0,3}")
_SEPARATORS = re.compile(r"[-_. @]+")

_PATTERNS = {
    r"^\S(.*\S)?(?!\s)$": "without white space around it",
    r"^\S+@\S+\.\S+$": "of the form name@example.com",
    "^[0-9]+$": "of digits only",
    "^https?://.*[^/]$": "that begins with http:// or https:// and does not end with /",
}
"""Patterns in words."""

_BOUNDS = {
    "minimum": "at least {}",
    "maximum": "at most {}",
    "minLength": "of at least {} characters",
    "maxLength": "of at most {} characters",
    "minItems": "with at least {} items",
    "minProperties": "with at least {} members",
}

_TYPES = {
    "string": "a string",
    "integer": "an integer",
    "number": "a number",
    "boolean": "true or false",
    "object": "an object",
    "array": "an array",
}


def bounded(issues: Iterable[Issue]) -> list[Issue]:
    """Return the first problems, and say so if there are more. No more of them are computed than that takes."""
    first = list(islice(issues, MAX_ISSUES + 1))
    return (
        first if len(first) <= MAX_ISSUES else [*first[:-1], Issue("arguments", "more problems", "these solved first")]
    )


def describe(value: Any) -> str:
    """Describe a value without revealing a string, or a number that may be a credential."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int():
            return f"the number {value}" if abs(value) < 10**_SHOWN_DIGITS else "a number"
        case float():
            return f"the number {value}" if len(repr(value)) <= _SHOWN_DIGITS else "a number"
        case str():
            return f"a string of {len(value)} characters" if value else "an empty string"
        case list():
            return f"an array of {len(cast('list[Any]', value))}"
        case _:
            return "an object"


def one_of(options: Iterable[str], given: Any) -> str:
    """List the valid options; the one closest to what was given comes first."""
    names = list(options)
    return f"{_suggestion(likely_values(names, given))}one of {', '.join(names)}"


def likely_values(options: Iterable[str], given: Any) -> list[str]:
    """Return the option that was meant: the only one that begins with what was given, or one with a typo."""
    if not isinstance(given, str):
        return []
    names = list(options)
    begun = [name for name in names if len(given) > 2 and name.casefold().startswith(given.casefold())]
    return begun if len(begun) == 1 else nearest(given, names, count=1, cutoff=0.8)


def likely_names(name: str, names: Iterable[str], *, of: str = "", share: float = 0.7) -> list[str]:
    """Return the names that an unknown one may mean: one with a typo, or by words as `meant` finds them."""
    known = list(names)
    typo = nearest(name, known, count=1, cutoff=0.9)
    return typo or meant(name, known, of=of, share=share) or nearest(name, known, count=1, cutoff=0.8)


def _suggestion(near: Sequence[str]) -> str:
    return f"{' or '.join(near)} (closest match); " if near else ""


def known_names(near: Sequence[str], names: Iterable[str], *, holder: str, inside: bool = False) -> str:
    """Say which names there are; `near` are those that may be meant."""
    if near:
        return f"{_suggestion(near)}{holder} takes {', '.join(names)}"
    hint = "; keys of the connector's config go inside config" if inside else ""
    return f"one of {', '.join(names) or 'no arguments'}, or leave it out{hint}"


def safe_key(name: str, known: Collection[str] = ()) -> str:
    """Return a key for use in a path. A key may be a misplaced credential, so only one made of words is repeated."""
    words = _SEPARATORS.split(name.strip("@_"))
    shown = name in known or (len(name) <= 64 and all(map(_WORD.fullmatch, words)))
    return name if shown else "(a key not shown)"


def path_of(parts: Iterable[str | int], known: Collection[str] = ()) -> str:
    """Format a place among the arguments for a person. A key that may be a credential is not repeated."""
    path = ""
    for part in parts:
        path += f"[{part}]" if isinstance(part, int) else f"{'.' if path else ''}{safe_key(part, known)}"
    return path or "arguments"


def value_at(values: Any, location: Sequence[str | int]) -> Any:
    for part in location:
        try:
            values = values[part]
        except (KeyError, IndexError, TypeError):
            return None
    return values


def valid_example(found: Any, schema: Mapping[str, Any]) -> Any:
    """Return an example that the schema accepts: the one found, or a generated one, or None."""
    if found is not None and validator(schema).is_valid(found):
        return found
    if "type" not in schema or "contains" in schema:
        return None
    made = example(dict(schema))
    return made if validator(schema).is_valid(made) else None


def describe_wanted(schema: Mapping[str, Any], value: Any = None) -> str:
    if "enum" in schema:
        return one_of([str(option) for option in schema["enum"]], value)
    limits = " and ".join(text.format(schema[key]) for key, text in _BOUNDS.items() if key in schema)
    form = _PATTERNS.get(schema["pattern"], "of the documented form") if "pattern" in schema else ""
    described = str(schema.get("description", "")).rstrip(".")
    kinds = [each.get("type") for each in (schema, *schema.get("anyOf", ()), *schema.get("oneOf", ()))]
    kind = " or ".join(dict.fromkeys(_TYPES[each] for each in kinds if each in _TYPES))
    if "contains" in schema or not (kind or limits or form):
        return " ".join(part for part in (kind, described) if part) or "another value"
    wanted = " ".join(part for part in (kind or "a value", limits, form) if part)
    return f"{wanted} ({described})" if described else wanted


def wrong_value(path: str, value: Any, schema: Mapping[str, Any], sample: Any, *, unknown: bool = False) -> Issue:
    """Make the issue of a value that its schema does not allow."""
    near = likely_values(map(str, schema.get("enum", ())), value)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    got = "a number" if is_number and schema.get("writeOnly") else describe(value)
    return Issue(path, got, describe_wanted(schema, value), sample, unknown, near)


def validator(schema: Mapping[str, Any]) -> Any:
    """Return jsonschema's validator, which does not declare its types in full."""
    # Slow to import, and only calls with a config need it.
    from jsonschema import Draft202012Validator

    return Draft202012Validator(schema)
