"""An apply with a server that is killed anywhere, and platforms that fail now and then: everything exists once."""

from __future__ import annotations

import random
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from connector_mcp.operations.catalog import PLATFORMS
from connector_mcp.sandbox.app import Sandbox
from connector_mcp.sandbox.faults import Fault
from tests.end_to_end.faces import http_process
from tests.end_to_end.test_kill_points import TRIES, Hit, Scene, call, nothing, scene
from tests.provisioning.manifests import SECRETS, sixty_things

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

POINTS = 20
POINTS_WITH_FAULTS = 5
POINTS_OF_SIXTY = 4
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


async def hit_and_continued(
    made: Scene, stack: AsyncExitStack, wanted: dict[str, Any], left: int, meanwhile: Hit
) -> list[Any]:
    """Apply a manifest, kill the server at its request number `left`, and let the other replica go on to the end.

    Before each request `meanwhile` is awaited. Returns what the agent was told, `"lost"` for a connection that broke.
    """
    if made.victim is None or made.victim.returncode is not None:
        made.victim, made.origin = await stack.enter_async_context(http_process(made.victims))
    planned = await call("plan_connectors", {"manifest": wanted}, made.other)
    plan = {"plan_id": planned["data"]["plan_id"]}
    parked = await call("apply_plan", plan, made.other)
    await made.decide(parked["error"]["approval"]["id"])

    async def kill_at_one() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            await made.kill()
        await meanwhile()

    made.upstream.requested = kill_at_one
    told: list[Any] = []
    try:
        told.append(await call("apply_plan", plan, made.origin))
    except httpx.TransportError:
        told.append("lost")
    made.upstream.requested = meanwhile
    for _ in range(TRIES):
        answer = await call("apply_plan", plan, made.other)
        told.append(answer)
        if answer.get("error", {}).get("code") == "in_progress":
            # What the other process held runs out long after its last request was answered or given up.
            await made.upstream.idle.wait()
            await made.execute("UPDATE plans SET lease_until = 0 WHERE status = 'begun' RETURNING id")
        elif answer.get("data", {}).get("status") == "done":
            break
    made.upstream.requested = nothing
    return told


def failing(made: Scene, points: random.Random, faults: tuple[Fault, ...]) -> Hit:
    """Delay each request, and let one of twenty meet a fault."""

    async def fail_now_and_then() -> None:
        if faults:
            if points.random() < 0.05:
                made.upstream.sandbox.inject(points.choice(faults))
            await anyio.sleep(LATENCY)

    return fail_now_and_then


def state_of(database: str, request: pytest.FixtureRequest) -> dict[str, str]:
    shared = {"CONNECTOR_MCP_STATE": request.getfixturevalue("postgres").url} if database == "postgres" else {}
    return shared | {"CONNECTOR_MCP_TOOLSETS": "all"}


@pytest.mark.parametrize(
    ("database", "faults", "count"),
    [("sqlite", (), POINTS), ("postgres", (), POINTS), ("sqlite", FAULTS, POINTS_WITH_FAULTS)],
    ids=["sqlite", "postgres", "sqlite and platforms that fail"],
)
async def test_an_apply_that_is_killed_anywhere_is_completed_by_another_replica(
    database: str, faults: tuple[Fault, ...], count: int, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    state, points, problems, lost = state_of(database, request), random.Random(database), list[str](), 0
    async with scene(state, state, tmp_path) as (made, stack):
        for number in range(count):
            name = f"killed-{number}"
            hit = failing(made, points, faults)
            told = await hit_and_continued(made, stack, manifest(name), points.randrange(1, 24), hit)
            lost += told[0] == "lost"
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


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
async def test_sixty_things_over_four_platforms_exist_once_though_servers_die_and_platforms_fail(
    database: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    secrets = {f"CONNECTOR_MCP_SECRET_{name}": f"value-of-{name}-0123456789" for name in SECRETS}
    state, points, problems, lost = state_of(database, request) | secrets, random.Random(database), list[str](), 0
    async with scene(state, state, tmp_path, PLATFORMS) as (made, stack):
        for number in range(POINTS_OF_SIXTY):
            sandbox = made.upstream.sandbox = Sandbox()
            stack.callback(sandbox.close)
            wanted = sixty_things() | {"name": f"killed-{number}"}
            hit = failing(made, points, FAULTS)
            told = await hit_and_continued(made, stack, wanted, points.randrange(1, 150), hit)
            lost += told[0] == "lost"
            if "data" not in told[-1] or told[-1]["data"]["status"] != "done":
                problems.append(f"{number}: {told}")
            # Under another name nothing is known by its id: two things of one name would be an error.
            for name in (f"killed-{number}", "another"):
                again = await call("plan_connectors", {"manifest": wanted | {"name": name}}, made.other)
                if again.get("data", {}).get("counts", {}).keys() - {"unchanged", "adopt"} or "error" in again:
                    problems.append(f"{number}: a further plan as {name}: {again}")
        problems += await made.verdict()
        assert problems == []
        assert lost > POINTS_OF_SIXTY / 2
