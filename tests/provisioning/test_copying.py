"""From one account to another: ids are found by name, and what the other account lacks is told first."""

from __future__ import annotations

from typing import Any

import pytest

from connector_mcp.cli.commands.manifests import last_applied
from tests.engine.conftest import FakeCaller
from tests.engine.test_accounts import Maker, Two, two
from tests.provisioning.manifests import changes

__all__ = ["two"]
pytestmark = pytest.mark.anyio

PRODUCTION = dict.fromkeys(("vectorize", "logto", "versori", "conductorone"), "production")


async def answer(made: Two, tool: str, **arguments: Any) -> Any:
    return (await made.engine.call(tool, arguments, FakeCaller())).content


async def export(made: Two, profile: str) -> dict[str, Any]:
    return (await answer(made, "export_connectors", profile=profile))["data"]["manifest"]


async def test_an_export_of_one_profile_names_it_and_is_nothing_new_to_an_equal_account(two: Maker) -> None:
    made = two()
    manifest = await export(made, "staging")
    assert set(manifest["profiles"].values()) == {"staging"}
    for profiles in (manifest["profiles"], PRODUCTION):
        planned = await answer(made, "plan_connectors", manifest=manifest | {"profiles": profiles})
        assert changes(planned["data"]) == []
        assert {action["profile"] for action in planned["data"]["actions"]} == set(profiles.values())
    assert made.sent("staging", "POST") == []


async def test_what_the_other_account_lacks_is_made_with_ids_of_its_own(two: Maker) -> None:
    made = two()
    site = {"name": "Only staging", "type": "WEB_CRAWLER", "config": {"seed-urls": ["https://a.example"]}}
    created = await answer(made, "vectorize_create_source_connector", connectors=[site], profile="staging")
    parts = {"destination_connector": "destinations", "ai_platform_connector": "aiplatforms"}
    built_in: dict[str, Any] = {
        argument: {"id": each["id"], "type": "VECTORIZE", "config": {}}
        for argument, kind in parts.items()
        for each in made.sandboxes["staging"].world.all(f"vectorize.{kind}")
        if each["type"] == "VECTORIZE"
    }
    source: dict[str, Any] = {"id": created["data"][0]["id"], "type": "WEB_CRAWLER", "config": {}}
    pipeline: dict[str, Any] = {
        "pipeline_name": "Staged",
        "source_connectors": [source],
        "schedule": "manual",
        **built_in,
    }
    await answer(made, "vectorize_create_pipeline", profile="staging", **pipeline)
    manifest = await export(made, "staging") | {"profiles": PRODUCTION}
    planned = await answer(made, "plan_connectors", manifest=manifest)
    assert changes(planned["data"]) == [("create", "sources.only-staging"), ("create", "pipelines.staged")]
    assert created["data"][0]["id"] not in str(planned)


async def test_the_secrets_that_the_other_account_needs_are_listed_first(two: Maker) -> None:
    made = two(secrets={"production": frozenset({"ONE"}), "staging": None})
    config = {"access-key": "secret://ONE", "secret-key": "secret://TWO", "bucket-name": "b", "archiver": False}
    bucket = {"name": "Staged", "type": "AWS_S3", "config": config}
    manifest = {"name": "copy", "profiles": PRODUCTION, "sources": {"staged": bucket}}
    (issue,) = (await answer(made, "plan_connectors", manifest=manifest))["error"]["issues"]
    assert issue["path"] == "sources.staged.config.secret-key"
    assert issue["wanted"] == "a secret of profile production: ONE"


async def test_an_entry_of_one_account_cannot_refer_to_one_of_another(two: Maker) -> None:
    made = two()
    drive = {"name": "Customer drives", "type": "GOOGLE_DRIVE_OAUTH_MULTI", "profile": "staging"}
    user = {"source": "${sources.drive.id}", "user": "u", "profile": "production"}
    manifest = {"name": "x", "sources": {"drive": drive}, "source_users": {"u": user}}
    issues = (await answer(made, "plan_connectors", manifest=manifest))["error"]["issues"]
    assert issues[0]["got"] == "a reference to sources.drive, which is in profile staging"


@pytest.mark.parametrize("default", ["staging", None])
async def test_what_was_last_applied_is_compared_in_the_account_of_the_manifest(
    two: Maker, default: str | None
) -> None:
    made = two(default=default, policy="create=allow")
    site = {"name": "Site", "type": "WEB_CRAWLER", "config": {"seed-urls": ["https://a.example"]}}
    manifest = {"name": "copy", "profiles": PRODUCTION, "sources": {"site": site}}
    planned = await answer(made, "plan_connectors", manifest=manifest)
    applied = await answer(made, "apply_plan", plan_id=planned["data"]["plan_id"])
    assert applied["data"]["status"] == "done"
    again = await answer(made, "plan_connectors", manifest=await last_applied(made.engine, manifest))
    assert again["data"]["counts"] == {"unchanged": 1}


async def test_an_account_that_is_not_named_or_not_there_is_told(two: Maker) -> None:
    made = two(default=None)
    site = {"name": "Docs site", "type": "WEB_CRAWLER"}
    for profile, got in ((None, "nothing"), ("prod", "an unknown profile")):
        entry = site | ({"profile": profile} if profile else {})
        (issue, *_) = (await answer(made, "plan_connectors", manifest={"name": "x", "sources": {"s": entry}}))["error"][
            "issues"
        ]
        assert (issue["path"], issue["got"], issue["wanted"]) == (
            "sources.s.profile", got, "one of production, staging",
        )  # fmt: skip
