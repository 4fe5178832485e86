"""An apply with a server that is killed anywhere, and platforms that fail now and then: everything exists once."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from connector_mcp.sandbox.faults import Fault
from tests.end_to_end.test_kill_points import TRIES, call, nothing, scene

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

POINTS = 20
POINTS_WITH_FAULTS = 5
SOURCES = 4
LATENCY = 0.2
FAULTS = (
    Fault(status=500),
    Fault(status=500, applied=True),
    Fault(status=429, headers={"Retry-After": "1"}),
    Fault(kind="hang_up", applied=True),
)
"""Of 20 requests one meets one of these."""


def manifest(name: str) -> dict[str, Any]:
    """Sources, each of which needs a decision, and a pipeline that needs all of them."""
    sources = {
        f"docs-{number}": {
            "name": f"{name}-docs-{number}",
            "type": "WEB_CRAWLER",
            "config": {"seed-urls": ["https://docs.example.com"]},
        }
        for number in range(SOURCES)
    }
    built_in = {"built-in": {"name": "Built-in", "type": "VECTORIZE"}}
    pipeline = {
        "name": f"{name}-pipeline",
        "sources": [{"id": f"${{sources.{key}.id}}"} for key in sources],
        "destination": {"id": "${destinations.built-in.id}"},
        "ai_platform": {"id": "${ai_platforms.built-in.id}"},
        "schedule": "manual",
    }
    return {"name": name, "sources": sources, "destinations": built_in, "ai_platforms": built_in,
            "pipelines": {"all": pipeline}}  # fmt: skip


@pytest.mark.parametrize(
    ("database", "faults", "count"),
    [("sqlite", (), POINTS), ("postgres", (), POINTS), ("sqlite", FAULTS, POINTS_WITH_FAULTS)],
    ids=["sqlite", "postgres", "sqlite and platforms that fail"],
)
async def test_an_apply_that_is_killed_anywhere_is_completed_by_another_replica(
    database: str, faults: tuple[Fault, ...], count: int, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    state = {"CONNECTOR_MCP_STATE": request.getfixturevalue("postgres").url} if database == "postgres" else {}
    state |= {"CONNECTOR_MCP_TOOLSETS": "all"}
    points, problems, lost = random.Random(database), list[str](), 0
    async with scene(state, state, tmp_path) as (made, stack):

        async def fail_now_and_then() -> None:
            if faults:
                if points.random() < 0.05:
                    made.upstream.sandbox.inject(points.choice(faults))
                await anyio.sleep(LATENCY)

        for number in range(count):
            if made.victim is None or made.victim.returncode is not None:
                made.victim, made.origin = await made.start(stack, made.victims)
            name, left = f"killed-{number}", points.randrange(1, 24)
            planned = await call("plan_connectors", {"manifest": manifest(name)}, made.other)
            plan = {"plan_id": planned["data"]["plan_id"]}
            parked = await call("apply_plan", plan, made.other)
            await made.decide(parked["error"]["approval"]["id"])

            async def kill_at_one() -> None:
                nonlocal left
                left -= 1
                if left == 0:
                    await made.kill()
                await fail_now_and_then()

            made.upstream.requested = kill_at_one
            told: list[Any] = []
            try:
                told.append(await call("apply_plan", plan, made.origin))
            except httpx.TransportError:
                told.append("lost")
                lost += 1
            made.upstream.requested = fail_now_and_then
            for _ in range(TRIES):
                answer = await call("apply_plan", plan, made.other)
                told.append(answer)
                if answer.get("error", {}).get("code") == "in_progress":
                    # What the other process held runs out some time after its death.
                    await made.execute("UPDATE plans SET lease_until = 0 WHERE status = 'begun' RETURNING id")
                elif answer.get("data", {}).get("status") == "done":
                    break
            made.upstream.requested = nothing
            found = await call("find_connectors", {"name": f"{name}-"}, made.other)
            names = sorted(row["name"] for row in found["data"])
            wanted = sorted([f"{name}-pipeline", *(f"{name}-docs-{each}" for each in range(SOURCES))])
            if names != wanted or "data" not in told[-1] or told[-1]["data"]["status"] != "done":
                problems.append(f"{number}: {names}, {told}")
            again = await call("plan_connectors", {"manifest": manifest(name)}, made.other)
            if again["data"]["changes"]:
                problems.append(f"{number}: a further plan has changes: {again['data']['actions']}")
        problems += await made.verdict()
        assert problems == []
        assert lost > count / 2
