"""From a manifest to what it says: plan, apply, plan again."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest

from connector_mcp.cli.commands.manifests import last_applied
from connector_mcp.sandbox.faults import Fault
from connector_mcp.upstream.client import ClientLimits
from tests.engine.conftest import Bench, BenchMaker
from tests.provisioning.manifests import apply, call, changes, export, plan
from tests.provisioning.plans import CRAWLER, sources

pytestmark = pytest.mark.anyio

QUICK = ClientLimits(attempts=1, requests_per_second=math.inf)


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
    await apply(made, wanted)
    assert (await plan(made, wanted))["changes"] == 0


async def test_under_faults_everything_is_made_once(bench: BenchMaker, monkeypatch: pytest.MonkeyPatch):
    """One request in twenty fails: refused, limited, or hung up after it was carried out."""
    made, chance = bench(limits=QUICK), random.Random(5)
    wanted = manifest(30)
    planned = await plan(made, wanted)
    kinds: list[dict[str, Any]] = [
        {"status": 500}, {"status": 429}, {"kind": "hang_up", "applied": True}, {"kind": "timeout", "applied": True},
    ]  # fmt: skip
    faults = made.sandbox._faults  # pyright: ignore[reportPrivateUsage]

    def next_for(platform: str, method: str, path: str) -> Fault | None:
        return Fault(**chance.choice(kinds)) if chance.random() < 0.05 else None

    monkeypatch.setattr(faults, "next_for", next_for)
    statuses: list[str] = []
    for _ in range(12):
        result = await call(made, "apply_plan", plan_id=planned["plan_id"])
        statuses.append(result.content.get("data", result.content)["status"])
        if statuses[-1] == "done":
            break
    monkeypatch.undo()
    assert statuses[-1] == "done"
    names = [row["name"] for row in await sources(made)]
    assert [names.count(f"Docs {number}") for number in range(30)] == [1] * 30
    assert (await plan(made, wanted))["changes"] == 0


async def test_a_text_that_looks_like_a_reference_stays_text(made: Bench):
    texts = ("${a.b.id}", "of ${a.b.id}", "${sources.s-0.id}", "${x}", "${variables.stage}")
    named = {f"s-{number}": text.replace("${", "$${") for number, text in enumerate(texts)}
    wanted = {"name": "m", "sources": {key: {"name": name, "type": "WEB_CRAWLER", "config": CRAWLER}
                                       for key, name in named.items()}}  # fmt: skip
    await apply(made, wanted)
    assert {*texts} < {row["name"] for row in await sources(made)}
    for manifest in (wanted, await last_applied(made.engine, wanted), await export(made, platform="vectorize")):
        assert changes(await plan(made, manifest)) == []


async def test_what_all_connectors_need_is_read_once(made: Bench):
    crawlers = manifest(6)["sources"]
    for version in range(2):
        for entry in crawlers.values():
            entry["config"] = {"seed-urls": [f"https://{version}.example.com"]}
        before = len(made.requests())
        await plan(made, {"name": "m", "sources": crawlers})
        # A list of the sources, and before a change each source, and once the pipelines that may use it.
        assert len(made.requests()[before:]) == (1, 8)[version]
        await apply(made, {"name": "m", "sources": crawlers})
        checked = made.requests()[-7:]
        assert sum("pipelines" in path for _, path in checked) == 1
