"""Check connector configs against the exact schema of their connector type."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError as SchemaError

from connector_mcp.engine.checks.issues import (
    bounded,
    describe,
    describe_wanted,
    known_names,
    likely_names,
    path_of,
    safe_key,
    valid_example,
    validator,
    value_at,
    wrong_value,
)
from connector_mcp.engine.results import Meta
from connector_mcp.errors import InvalidArguments, Issue
from connector_mcp.json_values import is_object, members
from connector_mcp.operations.connector_types import ConnectorType, closest_errors, example
from connector_mcp.operations.situation import ConfigUse
from connector_mcp.operations.tool import Tool
from connector_mcp.operations.update import without_vacant


def check_configs(tool: Tool, uses: Iterable[ConfigUse], tolerates: Callable[[Issue], bool] = lambda _: False) -> None:
    """Validate each connector config against the schema of its connector type, except for what `tolerates` accepts.

    Raises:
        InvalidArguments: Each issue has the path inside the config, what was given, what is wanted, and an example.
    """
    for use in uses:
        kind = use.check_as or use.type
        issues = bounded(issue for issue in _config_issues(use, kind) if not tolerates(issue)) if kind else []
        if kind and issues:
            raise InvalidArguments(
                tool.name,
                issues,
                fix=f"Correct the config and call again. describe_connector_type with platform={kind.platform!r} and "
                f"type={kind.type!r} gives its keys.",
            )


def tolerate(unknown_config: str, meta: Meta, issue: Issue) -> bool:
    """Warn about what is only unknown to this server, where the setting leaves it to the platform."""
    if not issue.unknown or unknown_config == "refuse":
        return False
    meta.warn(f"Not checked: {issue.path} is {issue.got} to this server. The platform decides about it.")
    return True


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
    schema = validator(kind.config)
    # In a merge a null removes a member, and members left out are stored already.
    given, stored = (use.value, use.value) if use.complete else (_without_nulls(use.value), use.merged)
    found = [(error, use.complete) for error in schema.iter_errors(given)]
    if stored is not None:
        kept = members(without_vacant(stored)) if use.empty_is_missing else stored
        found += [(error, True) for error in schema.iter_errors(kept)] if not use.complete or kept != given else []
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
    inner = path_of(location, kind.keys) if location else ""
    path = f"{use.path}.{inner}" if inner and not inner.startswith("[") else use.path + inner
    schema, instance = members(error.schema), cast("Any", error.instance)
    if error.validator == "additionalProperties" and is_object(instance):
        names = list(schema.get("properties", ()))
        for key in instance:
            if key in names:
                continue
            near = likely_names(key, names)
            wanted = known_names(near, names, holder=path if location else f"the config of {kind.type}")
            is_misplaced = key in kind.traits.get("pipeline_config", {}).get("properties", ())
            if is_misplaced:
                near, wanted = [], f"no {safe_key(key)} here: it belongs to the pipeline that uses the connector"
            found, sample_of_it = f"{path}.{safe_key(key)}", valid_example(value_at(sample, location), schema)
            yield (
                (*location, key),
                Issue(found, "an unknown key", wanted, sample_of_it, unknown=not is_misplaced, candidates=near),
            )
    elif error.validator == "required" and is_object(instance):
        for name in schema["required"]:
            if name not in instance:
                member = schema.get("properties", {}).get(name, {})
                example_of_it = valid_example(value_at(sample, (*location, name)), member)
                given = value_at(use.value, (*location, name))
                got = "nothing" if given is None else f"{describe(given)}, which counts as nothing"
                # An inner object that the call touches must be whole.
                yield location or (name,), Issue(f"{path}.{name}", got, describe_wanted(member), example_of_it)
    else:
        sample_of_it = valid_example(value_at(sample, location), schema)
        yield location, wrong_value(path, instance, schema, sample_of_it, unknown=error.validator == "enum")
