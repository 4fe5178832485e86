"""Calls as large as a client can send them: refused soon, with a small answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from connector_mcp.engine.checks import issues
from connector_mcp.operations.operation import Operation
from tests.engine.conftest import BenchMaker, FakeCaller
from tests.transport.wires import WIRES, connected

pytestmark = pytest.mark.anyio

COUNT = 150_000
SITE = {"name": "a", "type": "WEB_CRAWLER", "config": {"seed-urls": ["https://a.example"]}}
CREATE, UPDATE = "vectorize_create_source_connector", "logto_update_connector"
# Made when a test needs them: every worker imports this module.
LARGEST: dict[str, Callable[[], tuple[str, dict[str, Any]]]] = {
    "arguments": lambda: ("vectorize_get_source_connectors", {f"limits{n}": 1 for n in range(COUNT)}),
    "keys of a config": lambda: (
        UPDATE,
        {"id": "github-signin", "config": {f"clientId{n}": "x" for n in range(COUNT)}},
    ),
    "a config as text": lambda: (UPDATE, {"id": "x", "config": json.dumps({f"clientId{n}": 1 for n in range(COUNT)})}),
    "items": lambda: (CREATE, {"connectors": [{"nme": 1}] * COUNT}),
    "strings": lambda: ("vectorize_get_source_connectors", {"fields": ["x"] * COUNT}),
    "keys within the limit": lambda: (
        UPDATE,
        {"id": "github-signin", "config": {f"clientId{n}": 1 for n in range(Operation.most_values - 9)}},
    ),
    "items within the limit": lambda: (CREATE, {"connectors": [{"nme": 1}] * (Operation.most_values // 3)}),
    "one long name": lambda: ("vectorize_get_source_connectors", {"limit" * 800_000: 1}),
    "one long text": lambda: (CREATE, {"connectors": [SITE | {"type": "WEB" * 1_000_000}]}),
    "sections of a manifest": lambda: (
        "plan_connectors",
        {"manifest": {"name": "m"} | {f"sorces{n}": 1 for n in range(9_000)}},
    ),
    "variables of a manifest": lambda: (
        "plan_connectors",
        {
            "manifest": {
                "name": "m",
                "variables": {f"variable{n}": 1 for n in range(5_000)},
                "apps": {f"a{n}": {"name": f"${{variables.varable{n}}}"} for n in range(2_000)},
            }
        },
    ),
    "references in a row": lambda: (
        "plan_connectors",
        {"manifest": {"name": "m", "apps": {f"a{n}": {"name": f"${{apps.a{n + 1}.id}}"} for n in range(3_000)}}},
    ),
    "a long mask": lambda: (
        "conductorone_update_connector",
        {"app_id": "a", "id": "c", "update_mask": "displayNme," * 300_000},
    ),
}  # fmt: skip


@pytest.mark.parametrize("make", LARGEST.values(), ids=LARGEST)
async def test_the_largest_calls_are_refused_with_a_small_answer_and_few_comparisons(
    bench: BenchMaker, monkeypatch: pytest.MonkeyPatch, make: Callable[[], tuple[str, dict[str, Any]]]
) -> None:
    tool, arguments = make()
    compared: list[str] = []

    def counted(compare: Any) -> Any:
        return lambda name, *known, **options: (compared.append(name), compare(name, *known, **options))[1]

    for compare in ("meant", "nearest"):
        monkeypatch.setattr(issues, compare, counted(getattr(issues, compare)))
    made = bench()
    result = await made.engine.call(tool, arguments, FakeCaller())
    error = result.content["error"]
    assert error["code"] == "invalid_arguments"
    if tool != "plan_connectors":
        # Of a manifest all errors are told, as far as a result holds them.
        assert len(error["issues"]) <= issues.MAX_ISSUES + 1
        assert len(json.dumps(result.content)) < 30_000
    assert len(compared) <= 4 * issues.MAX_ISSUES
    assert [method for method, _ in made.requests() if method != "GET"] == []


async def test_what_policy_blocks_is_refused_before_its_arguments_are_looked_at(bench: BenchMaker) -> None:
    made = bench(policy="update=block")
    result = await made.engine.call(UPDATE, {"nonsense": 1}, FakeCaller())
    assert result.content["error"]["code"] == "blocked"


async def test_a_failure_keeps_within_the_size_of_results(bench: BenchMaker) -> None:
    made = bench(max_result_bytes=2_000)
    arguments = {"connectors": [{"nme": 1}] * 20}
    error = (await made.engine.call(CREATE, arguments, FakeCaller())).content["error"]
    assert (error["code"], "Only the first" in error["cut"]) == ("invalid_arguments", True)
    assert len(json.dumps(error)) < 2_600


@pytest.mark.parametrize("wire", [WIRES[1], WIRES[2], WIRES[4]], ids=" ".join)
async def test_the_largest_messages_get_a_small_answer_on_every_wire_and_the_next_call_is_served(
    bench: BenchMaker, wire: tuple[str, str]
) -> None:
    calls = [LARGEST[what]() for what in ("arguments", "a config as text")]
    with anyio.fail_after(60):
        async with connected(bench().engine, wire) as client:
            await client.open()
            for number, (tool, arguments) in enumerate([*calls, ("logto_list_connectors", {})]):
                answer = await client.ask(client.call(number, tool, arguments=arguments))
                assert answer["result"]["isError"] is (number < len(calls))
                # The content is there twice: as text, and as structured content.
                assert len(json.dumps(answer)) < 60_000
