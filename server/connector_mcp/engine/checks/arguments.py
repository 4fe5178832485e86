"""Parse the arguments of a call into an operation, or into an error that says what to correct.

Models often send a value in another form than the schema's. Four such forms are accepted: JSON text for an object or
array, one object for an array of objects, digits for an integer, and the words `true` and `false` for a boolean.
Everything else must have its type.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, cast

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from connector_mcp.engine.checks.issues import (
    MAX_ISSUES,
    bounded,
    describe_wanted,
    known_names,
    likely_names,
    path_of,
    safe_key,
    valid_example,
    value_at,
    wrong_value,
)
from connector_mcp.engine.redaction.redactor import MARKER
from connector_mcp.errors import InvalidArguments, Issue
from connector_mcp.json_values import JsonObject, is_array, is_object, items, members
from connector_mcp.operations.operation import Operation
from connector_mcp.operations.tool import Tool
from connector_mcp.operations.update import keeps_what_is_left_out

MAX_DEPTH = 32
"""Levels of objects and arrays that an argument may have."""

_INTEGER = re.compile(r"-?[0-9]{1,18}")
_LARGEST_INTEGER = 2**63
_CONFIRMATIONS = frozenset({"approve", "approved", "confirm", "confirmation", "confirmed", "force", "yes"})
_CONFIRMED = "no such argument: leave it out. Where policy wants a decision, a person or an operator is asked"
_ANY_OBJECT: JsonObject = {"type": "object"}


def parse_arguments(tool: Tool, raw: Mapping[str, Any], fixed: Mapping[str, str]) -> Operation:
    """Validate arguments against the tool's model. `fixed` are the arguments that the configuration sets.

    A null that the tool's schema does not allow counts as not given: many clients send one for every optional argument.

    Raises:
        InvalidArguments: One issue for each problem, up to a limit. Issues never repeat the value of a string.
    """
    properties = tool.input_schema["properties"]
    own = {name: value for name, value in fixed.items() if name in tool.operation.model_fields}
    given = members(_decode({name: value for name, value in raw.items() if name in properties}, tool.input_schema))
    most = tool.operation.most_values
    if not _is_bounded(raw.keys() - given.keys(), given, most):
        wanted = f"at most {most} in one call; split it into several"
        raise InvalidArguments(tool.name, [Issue("arguments", "too many values", wanted)])
    issues = list(_name_issues(tool, raw, own))
    # Values that cannot be sent, stored or traversed are refused before anything else reads them.
    if flaws := [flaw for name, value in given.items() for flaw in _flaws(value, name, 0, tool.operation)]:
        raise InvalidArguments(tool.name, bounded([*issues, *flaws]))
    values = given | own
    try:
        operation = tool.operation.model_validate(values)
    except ValidationError as error:
        raise InvalidArguments(tool.name, bounded(chain(issues, _issues(tool, error, values)))) from None
    if issues:
        raise InvalidArguments(tool.name, issues)
    return operation


def _name_issues(tool: Tool, raw: Mapping[str, Any], own: Mapping[str, str]) -> Iterator[Issue]:
    properties, unknown = tool.input_schema["properties"], 0
    for name, given in raw.items():
        if name in own:
            if given != own[name]:
                wanted = f"no {name}: the configuration fixes it"
                yield Issue(name, "another value than the configured one", wanted)
        elif name not in properties:
            unknown += 1
            if unknown <= MAX_ISSUES:
                if members(_decode(given, _ANY_OBJECT)).keys() & properties.keys():
                    yield Issue(safe_key(name), "an object of arguments", "its members at the top level, without it")
                    continue
                free = [name for name in properties if raw.get(name) is None]
                due = [name for name in free if name in tool.input_schema.get("required", ())]
                near = likely_names(name, due, of=tool.name, share=0.5) or likely_names(name, free, of=tool.name)
                instead = _CONFIRMED if name.lower() in _CONFIRMATIONS else tool.instead_of(name)
                if not near and not instead and len(due) == 1 and "config" not in properties:
                    near = due
                wanted = instead or known_names(near, properties, holder=tool.name, inside="config" in properties)
                yield Issue(safe_key(name), "an unknown argument", wanted, candidates=near)
    if unknown > MAX_ISSUES:
        yield Issue("arguments", f"{unknown - MAX_ISSUES} more unknown arguments", "none of them")


def _is_bounded(names: Collection[str], given: JsonObject, most: int) -> bool:
    """Check the number of values, nested ones included."""
    left, pending = most - len(names), list[Any]([given])
    while pending and left >= 0:
        value = pending.pop()
        inner = list(value.values()) if is_object(value) else items(value)
        left -= len(inner)
        pending.extend(inner)
    return left >= 0


def _decode(value: Any, schema: JsonObject) -> Any:
    kind = schema.get("type")
    if isinstance(value, str):
        return _decode_text(value, kind, schema)
    if kind == "integer" and isinstance(value, float) and value.is_integer():
        return int(value)
    if kind == "array" and is_object(value) and schema.get("items", {}).get("type") == "object":
        value = [value]
    if kind == "array" and is_array(value) and "items" in schema:
        return [_decode(item, schema["items"]) for item in value]
    if kind == "object" and is_object(value):
        known, rest = schema.get("properties", {}), members(schema.get("additionalProperties"))
        decoded = {key: _decode(item, known.get(key, rest)) for key, item in value.items()}
        optional = known.keys() - schema.get("required", ())
        kept = {key: item for key, item in decoded.items() if item is not None or key not in optional}
        # An object of nothing but such nulls is not given either: as `{}` it could erase what is stored.
        return None if decoded and not kept else kept
    return value


def _decode_text(value: str, kind: Any, schema: JsonObject) -> Any:
    text = value.strip()
    if kind in ("object", "array") and text[:1] in ("{", "["):
        try:
            parsed = json.loads(text)
        except (ValueError, RecursionError):
            return value
        return value if kind == "object" and is_array(parsed) else _decode(parsed, schema)
    if kind == "integer" and _INTEGER.fullmatch(text):
        return int(text)
    if kind == "boolean" and text.lower() in ("true", "false"):
        return text.lower() == "true"
    return value


def _flaws(value: Any, path: str, depth: int, operation: type[Operation]) -> Iterator[Issue]:
    """Find what no argument may contain: redaction markers, and values that JSON or UTF-8 cannot express."""
    match value:
        case str():
            if MARKER in value:
                or_not = ", or leave the argument out to keep what is stored"
                wanted = f"the real value{or_not if keeps_what_is_left_out(operation) else ''}"
                yield Issue(path, "a redaction marker", wanted)
            elif not _is_text(value):
                yield Issue(path, "text with half of a surrogate pair", "text that UTF-8 can express")
        case bool() | None:
            pass
        case int():
            if abs(value) >= _LARGEST_INTEGER:
                yield Issue(path, "a number of more than 64 bits", "a smaller number, or a string of digits")
        case float():
            if not math.isfinite(value):
                yield Issue(path, "a number that JSON cannot express", "a finite number")
        case dict() | list() if depth == MAX_DEPTH:
            yield Issue(path, "values nested too deeply", f"at most {MAX_DEPTH} levels")
        case dict():
            for key, member in cast("JsonObject", value).items():
                if MARKER in key or not _is_text(key):
                    yield Issue(path, "a redaction marker or broken text as a key", "the real key")
                yield from _flaws(member, f"{path}.{safe_key(key)}", depth + 1, operation)
        case list():
            for index, member in enumerate(cast("list[Any]", value)):
                yield from _flaws(member, f"{path}[{index}]", depth + 1, operation)
        case _:
            yield Issue(path, "a value of another kind", "a JSON value")


def _is_text(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


def _issues(tool: Tool, error: ValidationError, values: JsonObject) -> Iterator[Issue]:
    for problem in error.errors(include_url=False, include_context=False, include_input=False):
        yield form_issue(problem, tool.input_schema, values, sample=_sample(tool, problem["loc"]))


def form_issue(
    problem: ErrorDetails,
    schema: JsonObject,
    values: JsonObject,
    *,
    within: Sequence[str] = (),
    sample: Any = None,
    compares: bool = True,
) -> Issue:
    """Make the issue of a member that pydantic refused. `within` is the place of the values, `schema` theirs.

    Without `compares`, an unknown name is not compared with those known, which takes long.
    """
    location = problem["loc"]
    place, member = path_of((*within, *location)), _at(schema, location)
    if problem["type"] == "missing":
        return Issue(place, "nothing", describe_wanted(member), sample)
    if problem["type"] == "extra_forbidden":
        names = list(_at(schema, location[:-1]).get("properties", ()))
        near, holder = likely_names(str(location[-1]), names) if compares else [], path_of((*within, *location[:-1]))
        return Issue(
            place,
            "an unknown member",
            known_names(near, names, holder=holder, inside="config" in names),
            candidates=near,
        )
    return wrong_value(place, value_at(values, location), member, sample)


def _at(schema: JsonObject, location: Sequence[str | int]) -> JsonObject:
    for part in location:
        others = schema.get("additionalProperties")
        inner = schema.get("items") if isinstance(part, int) else schema.get("properties", {}).get(part, others)
        schema = members(inner)
    return schema


def _sample(tool: Tool, location: Sequence[str | int]) -> Any:
    schema = _at(tool.input_schema, location)
    if schema.get("type") == "object" and "properties" not in schema:
        # The declaration's example has one connector type; the caller may mean another.
        return None
    return valid_example(value_at(tool.operation.example, location), schema)
