"""For any arguments that fit its published schema, a tool returns a result or a declared error."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from mcp.client import Client
from mcp_types import CallToolResult, ElicitRequestFormParams, ElicitRequestParams, ElicitResult, Tool

from connector_mcp.config.settings import Settings
from connector_mcp.json_values import JsonObject
from connector_mcp.operations.catalog import catalog
from tests.end_to_end.faces import attached
from tests.seeded import add_to_sandbox, confirmation, seeded_arguments

ASK = "create=ask,update=ask,destroy=ask,disclose=ask"
OPERATIONS = catalog()
EXAMPLES = 40 if os.environ.get("CI") else 4
TEXTS = st.sampled_from(
    ["", "a", "0", "-1", "..", "a/b?c#d%2e", "secret://NONE", "[redacted]", "ü\u202e\x00", "x" * 300]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 2**70) | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS | st.just("id"), inner, max_size=3),
    max_leaves=6,
)


def values(schema: Mapping[str, Any], example: Any = None) -> st.SearchStrategy[Any]:
    """Values that a schema accepts. Where there is an example, many of them are like it."""
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    match schema.get("type"):
        case "boolean":
            made: st.SearchStrategy[Any] = st.booleans()
        case "integer":
            made = st.integers(schema.get("minimum", -(2**70)), schema.get("maximum", 2**70))
        case "number":
            made = st.floats(allow_nan=False, allow_infinity=False)
        case "array":
            known = example[0] if isinstance(example, list) and example else None
            made = st.lists(values(schema.get("items", {}), known), min_size=schema.get("minItems", 0), max_size=3)
        case "object":
            made = objects(schema, example if isinstance(example, dict) else {})
        case "string":
            made = st.from_regex(schema["pattern"]) if "pattern" in schema else TEXTS
            least, most = schema.get("minLength", 0), schema.get("maxLength", 10**6)
            made = made.filter(lambda text: least <= len(text) <= most)
        case _:
            made = JSON
    return made if example is None else st.one_of(st.just(example), st.just(example), made)


def objects(schema: Mapping[str, Any], example: Mapping[str, Any]) -> st.SearchStrategy[JsonObject]:
    """Objects with the properties of a schema, of which some of those that are not required are left out."""
    parts = {key: values(part, example.get(key)) for key, part in schema.get("properties", {}).items()}
    required = {key: parts.pop(key) for key in schema.get("required", ())}
    likely = {key: parts.pop(key) for key in example if key in parts}
    fixed = st.fixed_dictionaries(required, optional=likely)
    found = (
        st.builds(lambda one, more: {**more, **one}, fixed, st.fixed_dictionaries({}, optional=parts))
        if parts
        else fixed
    )
    if schema.get("additionalProperties", True) is False:
        return found
    others = st.dictionaries(TEXTS, JSON, max_size=2)
    kept = {key: value for key, value in example.items() if key not in schema.get("properties", {})}
    return st.builds(lambda one, more: {**kept, **more, **one}, found, st.just({}) | others) | st.builds(
        lambda one, more: {**more, **one}, found, others
    )


class Person:
    """Answers every question in the same way."""

    agrees = True

    async def __call__(self, context: Any, params: ElicitRequestParams) -> ElicitResult:
        if not self.agrees or not isinstance(params, ElicitRequestFormParams):
            return ElicitResult(action="decline")
        return ElicitResult(action="accept", content={"confirm": confirmation(params.message, params.requested_schema)})


@dataclass
class Served:
    """A client of a server over a sandbox."""

    portal: BlockingPortal
    client: Client
    person: Person
    tools: Mapping[str, Tool]
    added: Mapping[str, JsonObject]

    def call(self, name: str, arguments: JsonObject) -> CallToolResult:
        return self.portal.call(self.client.call_tool, name, arguments)


@asynccontextmanager
async def connected(
    state: Path, person: Person
) -> AsyncIterator[tuple[Client, dict[str, Tool], dict[str, JsonObject]]]:
    chosen = Settings.load({}, sandbox=True, state_dir=state, toolsets=("all",), policy=ASK, ask_reading_time=0.0)
    async with attached(chosen, elicitation_callback=person) as client:

        async def call(tool: str, arguments: JsonObject) -> Any:
            result = await client.call_tool(tool, arguments)
            assert result.structured_content is not None
            assert not result.is_error, result.structured_content
            return result.structured_content["data"]

        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        yield client, tools, await add_to_sandbox(call)


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    person = Person()
    with start_blocking_portal() as portal:
        context = portal.wrap_async_context_manager(connected(tmp_path_factory.mktemp("state"), person))
        with context as (client, tools, added):
            yield Served(portal, client, person, tools, added)


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_tool_ends_in_a_result_or_an_error(name: str, serving: Served) -> None:
    tool = serving.tools[name]
    example = seeded_arguments(OPERATIONS[name], serving.added)

    @settings(max_examples=EXAMPLES, deadline=None, phases=[Phase.generate], suppress_health_check=[*HealthCheck])
    @given(objects(tool.input_schema, example), st.booleans())
    def holds(arguments: JsonObject, agrees: bool) -> None:
        serving.person.agrees = agrees
        result = serving.call(name, deepcopy(arguments))
        content = result.structured_content
        assert content is not None
        if result.is_error:
            assert content["error"]["code"] != "internal", content
        else:
            assert tool.output_schema is not None
            Draft202012Validator(tool.output_schema).validate(content)

    holds()
