"""From a manifest to what it says: plan, apply, plan again."""

from __future__ import annotations

from typing import Any

import pytest

from connector_mcp.json_values import JsonObject
from tests.engine.conftest import Bench, FakeCaller, yes

pytestmark = pytest.mark.anyio

CRAWLER = {"seed-urls": ["https://docs.example.com"]}


async def call(made: Bench, tool: str, arguments: JsonObject, caller: FakeCaller | None = None) -> Any:
    result = await made.engine.call(tool, arguments, caller or FakeCaller())
    assert not result.is_error, result.content
    return result.content["data"]


def manifest(count: int = 3) -> dict[str, Any]:
    """Sources, and a pipeline over them."""
    crawler = {"type": "WEB_CRAWLER", "config": CRAWLER}
    sources = {f"docs-{number}": {"name": f"Docs {number}", **crawler} for number in range(count)}
    return {
        "name": "ingestion",
        "sources": sources,
        "destinations": {"built-in": {"name": "Built-in", "type": "VECTORIZE"}},
        "ai_platforms": {"built-in": {"name": "Built-in", "type": "VECTORIZE"}},
        "pipelines": {
            "all": {
                "name": "All docs",
                "sources": [{"id": f"${{sources.{key}.id}}"} for key in sources],
                "destination": {"id": "${destinations.built-in.id}"},
                "ai_platform": {"id": "${ai_platforms.built-in.id}"},
                "schedule": "manual",
            }
        },
    }


async def test_what_is_applied_needs_no_further_plan(made: Bench):
    wanted = manifest()
    plan = await call(made, "plan_connectors", {"manifest": wanted})
    caller = FakeCaller(yes("ingestion"))
    answer = await call(made, "apply_plan", {"plan_id": plan["plan_id"]}, caller)
    assert answer["status"] == "done"
    again = await call(made, "plan_connectors", {"manifest": wanted})
    assert again["changes"] == 0
