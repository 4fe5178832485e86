"""Parse the arguments of a call into an operation, or into an error that says what to correct.

Models often send a value in another form than the schema's. Three such forms are accepted: JSON text for an object or
array, digits for an integer, and the words `true` and `false` for a boolean. Everything else must have its type.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast

from pydantic import ValidationError

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError as SchemaError

from connector_mcp.engine.redaction.redactor import MARKER
from connector_mcp.errors import InvalidArguments, Issue
from connector_mcp.json_values import JsonObject, is_array, is_object, members
from connector_mcp.operations.connector_types import ConnectorType, closest_errors, example
from connector_mcp.operations.fields import LOCAL_ONLY
from connector_mcp.operations.operation import ConfigUse, Operation
from connector_mcp.operations.tool import Tool
from connector_mcp.operations.update import without_vacant
from connector_mcp.suggest import closest

MAX_DEPTH = 32
"""Levels of objects and arrays that an argument may have."""

_INTEGER = re.compile(r"-?[0-9]{1,18}")
_LARGEST_INTEGER = 2**63
_SHOWN_DIGITS = 6
"""Digits of a number that an error repeats; a longer number may be a credential."""

_WORD = re.compile(r"[A-Za-z]{1,32}[0-9]{0,3}")
_SEPARATORS = re.compile(r"[-_. @]+")

_PATTERNS = {
    r"^\S(.*\S)?(?!\s)$": "without white space around it",
    r"^\S+@\S+\.\S+$": "of the form name@example.com",
    "^[0-9]+$": "of digits only",
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


def parse_arguments(tool: Tool, raw: Mapping[str, Any], fixed: Mapping[str, str]) -> Operation:
    """Validate arguments against the tool's model. `fixed` are the arguments that the configuration sets.

    Raises:
        InvalidArguments: One issue for each problem. Issues never repeat the value of a string.
    """
    fields, properties = tool.operation.model_fields, tool.input_schema["properties"]
    own = {name: value for name, value in fixed.items() if name in fields}
    issues, flaws, values = list[Issue](), list[Issue](), dict[str, Any]()
    for name, given in raw.items():
        if name in own:
            if given != own[name]:
                wanted = f"no {name}: the configuration fixes it"
                issues.append(Issue(name, "another value than the configured one", wanted))
        elif name not in properties:
            wanted = _known_names(name, list(properties), holder=tool.name, inside="config" in properties)
            issues.append(Issue(_safe(name), "an unknown argument", wanted))
        if name in properties:
            value = _decode(given, properties[name])
            # Values that cannot be sent, stored or traversed are refused before anything else reads them.
            flaws.extend(_flaws(value, name, 0))
            if value is not None or name not in fields or LOCAL_ONLY not in fields[name].metadata:
                values[name] = value
    if flaws:
        raise InvalidArguments(tool.name, [*issues, *flaws])
    values.update(own)
    try:
        operation = tool.operation.model_validate(values)
    except ValidationError as error:
        issues.extend(_issues(tool, error, values))
        raise InvalidArguments(tool.name, issues) from None
    if issues:
        raise InvalidArguments(tool.name, issues)
    return operation


def check_configs(tool: Tool, uses: Iterable[ConfigUse]) -> None:
    """Validate each connector config against the schema of its connector type.

    Raises:
        InvalidArguments: Each issue has the path inside the config, what was given, what is wanted, and an example.
    """
    for use in uses:
        kind = use.check_as or use.type
        issues = list(_config_issues(use, kind)) if kind else []
        if kind and issues:
            raise InvalidArguments(
                tool.name,
                issues,
                fix=f"Call describe_connector_type with platform={kind.platform!r} and type={kind.type!r} for "
                "the exact schema, correct the config and call again.",
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
    near = closest(given, names, cutoff=0.5) if isinstance(given, str) else None
    return f"{_suggestion(near)}one of {', '.join(names)}"


def _suggestion(near: str | None) -> str:
    return f"{near} (closest match); " if near else ""


def _decode(value: Any, schema: JsonObject) -> Any:
    kind = schema.get("type")
    if isinstance(value, str):
        return _decode_text(value, kind, schema)
    if kind == "integer" and isinstance(value, float) and value.is_integer():
        return int(value)
    if kind == "array" and is_array(value) and "items" in schema:
        return [_decode(item, schema["items"]) for item in value]
    if kind == "object" and is_object(value):
        known, rest = schema.get("properties", {}), members(schema.get("additionalProperties"))
        return {key: _decode(item, known.get(key, rest)) for key, item in value.items()}
    return value


def _decode_text(value: str, kind: Any, schema: JsonObject) -> Any:
    text = value.strip()
    if kind in ("object", "array") and text[:1] in ("{", "["):
        try:
            parsed = json.loads(text)
        except (ValueError, RecursionError):
            return value
        return _decode(parsed, schema) if isinstance(parsed, dict if kind == "object" else list) else value
    if kind == "integer" and _INTEGER.fullmatch(text):
        return int(text)
    if kind == "boolean" and text.lower() in ("true", "false"):
        return text.lower() == "true"
    return value


def _flaws(value: Any, path: str, depth: int) -> Iterator[Issue]:
    """Find what no argument may contain: redaction markers, and values that JSON or UTF-8 cannot express."""
    match value:
        case str():
            if MARKER in value:
                yield Issue(
                    path, "a redaction marker", "the real value, or leave the argument out to keep what is stored"
                )
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
                yield from _flaws(member, f"{path}.{_safe(key)}", depth + 1)
        case list():
            for index, member in enumerate(cast("list[Any]", value)):
                yield from _flaws(member, f"{path}[{index}]", depth + 1)
        case _:
            yield Issue(path, "a value of another kind", "a JSON value")


def _is_text(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


def _known_names(name: str, names: list[str], *, holder: str, inside: bool = False) -> str:
    near = closest(name, names)
    if near:
        return f"{_suggestion(near)}{holder} takes {', '.join(names)}"
    hint = "; keys of the connector's config go inside config" if inside else ""
    return f"one of {', '.join(names) or 'no arguments'}{hint}"


def _safe(name: str, known: Collection[str] = ()) -> str:
    """Return a key for use in a path. A key may be a misplaced credential, so only one made of words is repeated."""
    words = _SEPARATORS.split(name.strip("@_"))
    shown = name in known or (len(name) <= 64 and all(map(_WORD.fullmatch, words)))
    return name if shown else "(a key not shown)"


def path_of(parts: Iterable[str | int], known: Collection[str] = ()) -> str:
    """Format a place among the arguments for a person. A key that may be a credential is not repeated."""
    path = ""
    for part in parts:
        path += f"[{part}]" if isinstance(part, int) else f"{'.' if path else ''}{_safe(part, known)}"
    return path or "arguments"


def _issues(tool: Tool, error: ValidationError, values: JsonObject) -> Iterator[Issue]:
    for problem in error.errors(include_url=False, include_context=False, include_input=False):
        location = problem["loc"]
        schema, sample, value = _at(tool.input_schema, location), _sample(tool, location), _value(values, location)
        if problem["type"] == "missing":
            yield Issue(path_of(location), "nothing", _wanted(schema), sample)
        elif problem["type"] == "extra_forbidden":
            holder = _at(tool.input_schema, location[:-1])
            names = list(holder.get("properties", ()))
            inside = "config" in names
            wanted = _known_names(str(location[-1]), names, holder=path_of(location[:-1]), inside=inside)
            yield Issue(path_of(location), "an unknown member", wanted)
        else:
            yield Issue(path_of(location), _got(value, schema), _wanted(schema, value), sample)


def _got(value: Any, schema: Mapping[str, Any]) -> str:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return "a number" if is_number and schema.get("writeOnly") else describe(value)


def _at(schema: JsonObject, location: Sequence[str | int]) -> JsonObject:
    for part in location:
        others = schema.get("additionalProperties")
        inner = schema.get("items") if isinstance(part, int) else schema.get("properties", {}).get(part, others)
        schema = members(inner)
    return schema


def _value(values: Any, location: Sequence[str | int]) -> Any:
    for part in location:
        try:
            values = values[part]
        except (KeyError, IndexError, TypeError):
            return None
    return values


def _sample(tool: Tool, location: Sequence[str | int]) -> Any:
    schema = _at(tool.input_schema, location)
    return _valid(_value(tool.operation.example, location), schema)


def _valid(found: Any, schema: Mapping[str, Any]) -> Any:
    """Return an example that the schema accepts: the one found, or a generated one, or None."""
    if found is not None and _accepts(schema, found):
        return found
    if "type" not in schema or "contains" in schema:
        return None
    made = example(dict(schema))
    return made if _accepts(schema, made) else None


def _wanted(schema: Mapping[str, Any], value: Any = None) -> str:
    if "enum" in schema:
        return one_of([str(option) for option in schema["enum"]], value)
    limits = " and ".join(text.format(schema[key]) for key, text in _BOUNDS.items() if key in schema)
    form = _PATTERNS.get(schema["pattern"], "of the documented form") if "pattern" in schema else ""
    described = str(schema.get("description", "")).rstrip(".")
    if "contains" in schema or not ("type" in schema or limits or form):
        return " ".join(part for part in (_TYPES.get(schema.get("type", "")), described) if part) or "another value"
    wanted = " ".join(part for part in (_TYPES.get(str(schema.get("type")), "a value"), limits, form) if part)
    return f"{wanted} ({described})" if described else wanted


class _Validator(Protocol):
    """The part of jsonschema's validators used here. They do not declare their types in full."""

    def iter_errors(self, instance: Any) -> Iterator[SchemaError]: ...

    def is_valid(self, instance: Any) -> bool: ...


def _validator(schema: Mapping[str, Any]) -> _Validator:
    # Slow to import, and only calls with a config need it.
    from jsonschema import Draft202012Validator

    return Draft202012Validator(schema)


def _accepts(schema: Mapping[str, Any], value: Any) -> bool:
    return _validator(schema).is_valid(value)


def _config_issues(use: ConfigUse, kind: ConnectorType) -> Iterator[Issue]:
    sample = example(kind.config)
    seen: set[tuple[str, str]] = set()
    for error in sorted(_config_errors(use, kind), key=lambda found: list(map(str, found.absolute_path))):
        for place, issue in _config_issue(use, kind, error, sample):
            # What the call does not touch is not the caller's mistake.
            is_new = use.merged is None or _touches(use.value, place)
            if is_new and (issue.path, issue.wanted) not in seen:
                seen.add((issue.path, issue.wanted))
                yield issue


def _config_errors(use: ConfigUse, kind: ConnectorType) -> Iterator[SchemaError]:
    """Yield the errors of the config as it is given, and as it will be stored."""
    validator = _validator(kind.config)
    # In a merge a null removes a member, and members left out are stored already.
    given, stored = (use.value, use.value) if use.complete else (_without_nulls(use.value), use.merged)
    found = [(error, use.complete) for error in validator.iter_errors(given)]
    if stored is not None:
        kept = members(without_vacant(stored)) if use.empty_is_missing else stored
        found += [(error, True) for error in validator.iter_errors(kept)]
    for error, counts in found:
        if counts or _matters(error):
            yield from (inner for inner in closest_errors(error) if counts or _matters(inner))


def _touches(given: Any, place: Sequence[str | int]) -> bool:
    """Check whether a merge with the given value can change what is at a place. Lists and `{}` replace everything."""
    for step in place:
        if not is_object(given) or not given:
            return True
        if step not in given:
            return False
        given = given[str(step)]
    return True


def _without_nulls(value: Any) -> Any:
    if not is_object(value):
        return value
    return {key: _without_nulls(member) for key, member in value.items() if member is not None}


def _matters(error: SchemaError) -> bool:
    """Check whether an error remains after the merge with the stored members. Lists are not merged."""
    if error.validator == "required":
        return any(isinstance(step, int) for step in error.absolute_path)
    if error.validator in ("anyOf", "oneOf") and error.context:
        branches: dict[Any, bool] = {}
        for inner in error.context:
            branch = inner.relative_schema_path[0]
            branches[branch] = branches.get(branch, False) or _matters(inner)
        return all(branches.values())
    return True


def _config_issue(
    use: ConfigUse, kind: ConnectorType, error: SchemaError, sample: Any
) -> Iterator[tuple[Sequence[str | int], Issue]]:
    """Yield the issues of an error with their places inside the config."""
    location = tuple(error.absolute_path)
    inner = path_of(location, kind.config.get("properties", ())) if location else ""
    path = f"{use.path}.{inner}" if inner and not inner.startswith("[") else use.path + inner
    schema, instance = members(error.schema), cast("Any", error.instance)
    if error.validator == "additionalProperties" and is_object(instance):
        names = list(schema.get("properties", ()))
        for key in instance:
            if key in names:
                continue
            wanted = _known_names(key, names, holder=path if location else f"the config of {kind.type}")
            if key in kind.traits.get("pipeline_keys", ()):
                wanted = f"no {_safe(key)} here: it belongs to the pipeline that uses the connector"
            issue = Issue(f"{path}.{_safe(key)}", "an unknown key", wanted, _valid(_value(sample, location), schema))
            yield (*location, key), issue
    elif error.validator == "required" and is_object(instance):
        for name in schema["required"]:
            if name not in instance:
                member = schema.get("properties", {}).get(name, {})
                example_of_it = _valid(_value(sample, (*location, name)), member)
                given = _value(use.value, (*location, name))
                got = "nothing" if given is None else f"{describe(given)}, which counts as nothing"
                # An inner object that the call touches must be whole.
                yield location or (name,), Issue(f"{path}.{name}", got, _wanted(member), example_of_it)
    else:
        wanted = _wanted(schema, instance)
        yield location, Issue(path, _got(instance, schema), wanted, _valid(_value(sample, location), schema))
