"""From a manifest to what it says: plan, apply, plan again."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest

from connector_mcp.json_values import JsonObject
from connector_mcp.sandbox.faults import Fault
from connector_mcp.upstream.client import ClientLimits
from tests.engine.conftest import Bench, BenchMaker, FakeCaller, yes
from tests.provisioning.plans import sources

pytestmark = pytest.mark.anyio

QUICK = ClientLimits(attempts=1, requests_per_second=math.inf)
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


async def test_under_faults_everything_is_made_once(bench: BenchMaker, monkeypatch: pytest.MonkeyPatch):
    """One request in twenty fails: refused, limited, or hung up after it was carried out."""
    made, chance = bench(limits=QUICK), random.Random(5)
    wanted = manifest(30)
    plan = await call(made, "plan_connectors", {"manifest": wanted})
    kinds: list[dict[str, Any]] = [
        {"status": 500}, {"status": 429}, {"kind": "hang_up", "applied": True}, {"kind": "timeout", "applied": True},
    ]  # fmt: skip
    faults = made.sandbox._faults  # pyright: ignore[reportPrivateUsage]

    def next_for(platform: str, method: str, path: str) -> Fault | None:
        return Fault(**chance.choice(kinds)) if chance.random() < 0.05 else None

    monkeypatch.setattr(faults, "next_for", next_for)
    statuses: list[str] = []
    for _ in range(12):
        result = await made.engine.call("apply_plan", {"plan_id": plan["plan_id"]}, FakeCaller())
        statuses.append(result.content.get("data", result.content)["status"])
        if statuses[-1] == "done":
            break
    monkeypatch.undo()
    assert statuses[-1] == "done"
    names = [row["name"] for row in await sources(made)]
    assert [names.count(f"Docs {number}") for number in range(30)] == [1] * 30
    assert (await call(made, "plan_connectors", {"manifest": wanted}))["changes"] == 0


async def test_what_all_connectors_need_is_read_once(made: Bench):
    crawlers = manifest(6)["sources"]
    for version in range(2):
        for entry in crawlers.values():
            entry["config"] = {"seed-urls": [f"https://{version}.example.com"]}
        before = len(made.requests())
        plan = await call(made, "plan_connectors", {"manifest": {"name": "m", "sources": crawlers}})
        planned = made.requests()[before:]
        # A list of the sources, and before a change each source, and once the pipelines that may use it.
        assert len(planned) == (1, 8)[version]
        await call(made, "apply_plan", {"plan_id": plan["plan_id"]}, FakeCaller(yes("m")))
        checked = made.requests()[-7:]
        assert sum("pipelines" in path for _, path in checked) == 1
