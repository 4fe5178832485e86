"""What people complain about in tools that work from manifests, and what must not happen here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from connector_mcp.secrets.collection import Secrets
from tests.engine.conftest import Bench, BenchMaker
from tests.provisioning.manifests import Applied, Store, apply, changes, export, issues, plan, secrets, sixty_things

pytestmark = pytest.mark.anyio


OUTSIDE: list[tuple[str, str, dict[str, Any], str]] = [
    ("vectorize.sources", "Site 1", {"config": {"seed-urls": ["https://evil.example"]}}, "sources.site-1"),
    ("vectorize.sources", "Bucket 1", {"config": {"bucket-name": "bucket-1", "archiver": True}}, "sources.bucket-1"),
    ("versori.systems", "Billing", {"templateBaseUrl": "https://evil.example"}, "systems.billing"),
    ("conductorone.apps", "Acme CRM", {"description": "Changed"}, "apps.crm"),
    (
        "logto.sso_connectors",
        "Initech",
        {"domains": ["initech.example"], "syncProfile": True},
        "sso_connectors.initech",
    ),
]


async def test_a_change_made_elsewhere_is_seen(bench: BenchMaker) -> None:
    made, wanted = bench(secrets=secrets()), sixty_things()
    wanted["sso_connectors"]["initech"]["sync_profile"] = False
    await apply(made, wanted)
    world = made.sandbox.world
    for collection, name, changed, _ in OUTSIDE:
        (record,) = [each for each in world.all(collection)
                     if name in (each.get("name"), each.get("displayName"), each.get("connectorName"))]  # fmt: skip
        world.put(collection, record["id"], record | changed)
    gone = next(each for each in world.all("vectorize.sources") if each["name"] == "Site 2")
    world.delete("vectorize.sources", gone["id"])
    planned = await plan(made, wanted)
    assert {entry for _, entry in changes(planned)} == {*(entry for *_, entry in OUTSIDE), "sources.site-2"}
    assert ("create", "sources.site-2") in changes(planned)


async def test_what_is_taken_over_is_not_replaced(made: Bench) -> None:
    manifest = await export(made)
    await apply(made, manifest)
    assert (await plan(made, manifest))["counts"] == {"unchanged": 39}
    # The files of these users are only needed to add them, and no read shows them.
    assert await issues(made, manifest, rotate=["sources.x"]) == {"rotate[0]": "an entry that is not there"}
    manifest["end_users"]["merchant-1"]["display_name"] = "Another"
    fixed = "another display_name, which cannot be changed, and this end user cannot be replaced here"
    assert await issues(made, manifest) == {"end_users.merchant-1": fixed}
    assert "DELETE" not in {method for method, _ in made.requests()}


async def test_no_secret_is_in_what_is_stored(bench: BenchMaker, tmp_path: Path) -> None:
    store = Store()
    made, wanted = bench(secrets=Secrets([store])), sixty_things()
    await apply(made, wanted)
    stored = b"".join(path.read_bytes() for path in tmp_path.glob("records.db*"))
    assert b"site-1" in stored
    assert not [name for name in store.names() if str(store.read(name)).encode() in stored]


async def test_the_order_of_a_set_is_no_difference(sixty: Applied) -> None:
    made, wanted = sixty
    for site in range(6):
        wanted["sources"][f"site-{site}"]["config"]["seed-urls"].reverse()
    wanted["pipelines"]["web"]["sources"].reverse()
    assert (await plan(made, wanted))["changes"] == 0
