"""Export writes what exists; a plan of it changes nothing, whatever exists."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from connector_mcp.operations.catalog import PLATFORMS
from connector_mcp.operations.connector_types import connector_types, example
from connector_mcp.provisioning.manifest import all_kinds
from connector_mcp.sandbox import seed
from tests.engine.conftest import Bench
from tests.provisioning.manifests import Applied, call, changes, export, plan

pytestmark = pytest.mark.anyio

DELETABLE = (
    "vectorize.sources",
    "vectorize.destinations",
    "vectorize.pipelines",
    "logto.connectors",
    "logto.sso_connectors",
    "versori.activations",
    "conductorone.connectors",
)
COLLECTIONS = {
    "source": "vectorize.sources",
    "destination": "vectorize.destinations",
    "AI platform": "vectorize.aiplatforms",
}


def disturb(made: Bench, random: Random) -> None:
    """Bring the sandbox into another state: things gone, doubled, new, and of any type."""
    world = made.sandbox.world
    for collection in DELETABLE:
        for each in list(world.all(collection)):
            if random.random() < 0.3:
                world.delete(collection, each["id"])
            elif collection.startswith("vectorize") and random.random() < 0.3:
                world.put(collection, f"copy-{each['id']}", each | {"id": f"copy-{each['id']}"})
    kinds = [each for each in connector_types("vectorize").values() if each.kind in COLLECTIONS]
    for number, known in enumerate(random.sample(kinds, 12)):
        record: dict[str, Any] = dict(
            world.all("vectorize.sources")[0] if world.all("vectorize.sources") else {"workspaceId": "ws_default"}
        )
        record |= {
            "id": f"new-{number}",
            "type": known.type,
            "name": random.choice(["Döcs ${x}", f"N {number}", "docs"]),
        }
        record |= {"config": example(known.config), "users": {}, "createdAt": "2026-03-02T09:00:00.000Z"}
        world.put(COLLECTIONS[known.kind], record["id"], record)
    (experience,) = world.all("logto.sign_in_exp")
    experience |= {"singleSignOnEnabled": random.random() < 0.5, "forgotPasswordMethods": random.choice([[], None])}
    world.put("logto.sign_in_exp", "default", experience)
    for each in world.all("conductorone.connectors"):
        if random.random() < 0.5:
            world.put("conductorone.connectors", each["id"], each | {"displayName": "Okta v2", "config": None})


@pytest.mark.parametrize("number", range(6))
async def test_export_then_plan_is_empty_in_any_state(made: Bench, number: int) -> None:
    disturb(made, Random(number))
    manifest = await export(made)
    planned = await plan(made, manifest)
    assert changes(planned) == []
    assert set(planned["counts"]) <= {"adopt"}


async def test_export_then_plan_is_empty_for_what_was_applied(sixty: Applied) -> None:
    made, _ = sixty
    assert changes(await plan(made, await export(made))) == []


@pytest.mark.parametrize("platform", PLATFORMS)
async def test_no_secret_of_a_platform_is_exported(made: Bench, platform: str) -> None:
    manifest = await export(made, platform=platform)
    assert "sandbox-secret" not in str(manifest)
    assert "[redacted]" not in str(manifest)
    if platform != "conductorone":
        assert "secret://" in str(manifest)


async def test_ids_become_references_and_only_doubled_names_need_ids(made: Bench) -> None:
    manifest = await export(made, platform="vectorize")
    search = manifest["pipelines"]["product-search"]
    assert search["sources"][0]["id"] == "${sources.product-documents.id}"
    assert seed.VECTORIZE_S3 not in str(manifest)
    await call(made, "vectorize_create_source_connector", connectors=[
        {"name": "Docs site", "type": "WEB_CRAWLER", "config": {"seed-urls": ["https://a.example"]}}
    ])  # fmt: skip
    sources = (await export(made, sections=["sources"]))["sources"]
    assert {key for key, entry in sources.items() if "id" in entry} == {"docs-site", "docs-site-2"}


async def test_only_the_sections_that_are_asked_for_are_exported(made: Bench) -> None:
    manifest = await export(made, sections=["app_connectors"])
    assert manifest.keys() == {"name", "app_connectors"}
    assert manifest["app_connectors"]["okta-v2"]["app"] == seed.CONDUCTORONE_APP_ID
    result = await call(made, "export_connectors", sections=["app_conectors"])
    (issue,) = result.content["error"]["issues"]
    assert issue["candidates"] == ["app_connectors"]


@pytest.mark.parametrize("platform", PLATFORMS)
async def test_a_section_that_the_platform_does_not_have_is_an_error_with_those_that_it_has(
    made: Bench, platform: str
) -> None:
    own = [section for section, kind in all_kinds().items() if kind.platform == platform]
    for section in all_kinds().keys() - {*own}:
        result = await call(made, "export_connectors", platform=platform, sections=[section])
        (issue,) = result.content["error"]["issues"]
        assert (issue["path"], issue["wanted"]) == ("sections", f"one of {', '.join(own)}")
        assert issue["got"].startswith(f"{section}, which ")
    assert made.requests() == []


async def test_an_export_names_its_secrets(made: Bench) -> None:
    data = (await call(made, "export_connectors", platform="logto")).content["data"]
    assert "globex-clientSecret" in data["secrets"]
    assert all(f"secret://{name}" in str(data["manifest"]) for name in data["secrets"])
