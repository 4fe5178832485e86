"""What the hooks of an operation find, in a short form."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from connector_mcp.engine.checks.configs import check_configs
from connector_mcp.errors import InvalidArguments, Issue
from connector_mcp.json_values import JsonObject
from connector_mcp.operations.catalog import catalog
from connector_mcp.operations.operation import LocalOperation, Operation
from connector_mcp.operations.overview import Read, Reads
from connector_mcp.operations.situation import Situation
from connector_mcp.operations.tool import tool_of

_catalog = cache(catalog)


def losses(operation: Operation, situation: Situation) -> list[tuple[str, str, Any]]:
    return [(loss.sentence, loss.field, loss.before) for loss in operation.find_losses(situation)]


def plan(operation: Operation, situation: Situation) -> dict[str, Any]:
    return {".".join(path): value for path, value in operation.plan_changes(situation).items()}


def problems(operation: Operation, situation: Situation) -> list[str]:
    """The paths of the arguments that are refused."""
    return [issue.path for issue in operation.find_problems(situation)]


def issues(operation: Operation, situation: Situation) -> list[Issue]:
    """What is refused of the arguments and of the configs among them, once the target is known."""
    found = list(operation.find_problems(situation))
    try:
        check_configs(tool_of(type(operation)), operation.find_configs(situation))
    except InvalidArguments as invalid:
        found.extend(invalid.issues)
    return found


def describe(described: JsonObject | None = None, **arguments: Any) -> Any:
    """What describe_connector_type answers; `described` is what the platform itself says of the type."""
    made = _catalog()["describe_connector_type"].model_validate(arguments)
    assert isinstance(made, LocalOperation)
    return made.answer_locally(Situation(described=described))


def drive(reads: Reads[Any], answer: Callable[[Read], Any]) -> Any:
    """Answer the reads that a check yields, as the engine does."""
    outcomes: Any = None
    while True:
        try:
            batch = next(reads) if outcomes is None else reads.send(outcomes)
        except StopIteration as end:
            return end.value
        outcomes = [answer(each) for each in batch]


def schemas(schema: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema inside a schema, with the path of properties that leads there."""
    yield path, schema
    for key, member in schema.get("properties", {}).items():
        yield from schemas(member, f"{path}.{key}")
    for word in ("items", "additionalProperties"):
        if isinstance(schema.get(word), dict):
            yield from schemas(schema[word], f"{path}[]")
    for word in ("anyOf", "oneOf", "allOf"):
        for branch in schema.get(word, ()):
            yield from schemas(branch, path)
