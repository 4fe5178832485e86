"""Plans: what they find, what they leave alone, and that they change nothing."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from connector_mcp.sandbox import seed
from connector_mcp.sandbox.faults import Fault
from connector_mcp.secrets.collection import Secrets
from tests.engine.conftest import Bench, BenchMaker, FakeCaller
from tests.provisioning.manifests import (
    Applied,
    Manifest,
    Store,
    apply,
    call,
    changes,
    count_of,
    issues,
    plan,
    secrets,
    sixty_things,
)

pytestmark = pytest.mark.anyio

SITE: dict[str, Any] = {
    "name": "Docs site",
    "type": "WEB_CRAWLER",
    "config": {"seed-urls": ["https://docs.acme.example"]},
}
OTHER: dict[str, Any] = {
    "name": "Other site",
    "type": "WEB_CRAWLER",
    "config": {"seed-urls": ["https://b.example", "https://a.example"]},
}
BUCKET: dict[str, Any] = {
    "name": "Product documents",
    "type": "AWS_S3",
    "config": {"access-key": "secret://s3_key", "secret-key": "secret://s3_secret", "bucket-name": "acme-product-docs"}
    | {"archiver": False, "region": "eu-central-1"},
}


def manifest(name: str = "ingestion", **sections: Any) -> Manifest:
    return {"name": name, **sections}


def world_of(made: Bench) -> dict[str, Any]:
    """All that the sandbox holds."""
    collections = ("vectorize.sources", "vectorize.pipelines", "logto.connectors", "logto.sign_in_exp")
    collections += ("versori.systems", "versori.connections", "conductorone.apps", "conductorone.connectors")
    return {name: deepcopy(made.sandbox.world.all(name)) for name in collections}


async def test_sixty_things_over_four_platforms_are_planned_made_and_then_there(bench: BenchMaker) -> None:
    made, wanted = bench(secrets=secrets()), sixty_things()
    assert count_of(wanted) == 60
    before = world_of(made)
    planned = await plan(made, wanted)
    assert world_of(made) == before
    assert {method for method, _ in made.requests()} == {"GET"}
    assert planned["counts"] == {"create": 57, "update": 2, "adopt": 2}
    numbers = {action["number"]: action for action in planned["actions"]}
    assert all(needed < number for number, action in numbers.items() for needed in action.get("needs", ()))
    assert "value-of-" not in str(planned)
    await apply(made, wanted)
    # Secrets, which no read shows, are no difference for ever.
    for _ in range(2):
        again = await plan(made, wanted)
        assert (again["changes"], again["counts"]) == (0, {"unchanged": 60})


async def test_exactly_what_was_changed_and_removed_is_planned(sixty: Applied) -> None:
    made, wanted = sixty
    wanted["sources"]["site-3"]["config"]["seed-urls"] = ["https://new.example"]
    wanted["apps"]["crm"]["description"] = "Customers and partners"
    wanted["systems"]["billing"]["base_url"] = "https://api.billing.example/v2"
    del wanted["sources"]["site-4"]
    del wanted["app_connectors"]["later-3"]
    kept = await plan(made, wanted)
    assert sorted(changes(kept)) == [
        ("update", "apps.crm"),
        ("update", "sources.site-3"),
        ("update", "systems.billing"),
    ]
    result = await call(made, "plan_connectors", manifest=wanted)
    (warning,) = result.content["meta"]["warnings"]
    assert "sources.site-4 (Site 4)" in warning
    assert "app_connectors.later-3 (Later 3)" in warning
    pruned = await plan(made, wanted, prune=True)
    deleted = [("delete", "app_connectors.later-3"), ("delete", "sources.site-4")]
    assert sorted(changes(pruned)) == [*deleted, *sorted(changes(kept))]
    assert all(action["effect"] == "destroy" for action in pruned["actions"] if action["verb"] == "delete")


async def test_an_update_shows_what_changes_member_by_member_and_no_secret(bench: BenchMaker) -> None:
    made = bench(secrets=secrets())
    bucket = {**BUCKET, "config": BUCKET["config"] | {"bucket-name": "other"}}
    (action,) = (await plan(made, manifest(sources={"docs": bucket})))["actions"]
    assert action["verb"] == "update"
    assert {"field": "configDoc.bucket-name", "before": "acme-product-docs", "after": "other"} in action["diff"]
    assert action["because"] == "It is there already and is adopted."
    assert "value-of-" not in str(action)
    assert "sandbox-secret" not in str(action)


DRIVES = {"name": "Customer drives", "type": "GOOGLE_DRIVE_OAUTH_MULTI"}
GLOBEX: dict[str, Any] = {"name": "Globex", "type": "Okta", "domains": ["GLOBEX.example"]} | {
    "config": {"clientId": "0oa1globex", "clientSecret": "secret://sso", "issuer": "https://globex.okta.example"}
}
PRODUCTION = {"name": "production", "project": "${projects.orders.id}"}
UNCHANGED: dict[str, Manifest] = {
    "a set in another order": {"sources": {"other": OTHER}},
    "defaults and computed members left out": {"sources": {"drives": DRIVES}},
    "domains in capitals": {"sso_connectors": {"globex": GLOBEX}},
    "members that are not given": {"sign_in": {"default": {"sign_in_mode": "SignInAndRegister"}}},
    "what is only named": {"projects": {"orders": {"name": "Orders"}}, "environments": {"production": PRODUCTION}},
    "an unset member that is shown as empty": {"apps": {"it": {"name": "Acme workforce", "monthly_cost_usd": 0}}},
}


@pytest.mark.parametrize("sections", UNCHANGED.values(), ids=UNCHANGED)
async def test_what_counts_as_the_same_is_no_change(made: Bench, sections: Manifest) -> None:
    urls = {"seed-urls": ["https://a.example", "https://b.example"]}
    await call(made, "vectorize_create_source_connector", connectors=[{**OTHER, "config": urls}])
    planned = await plan(made, manifest(**sections))
    assert changes(planned) == []
    assert set(planned["counts"]) == {"adopt"}


async def test_items_that_are_known_by_a_member_are_the_same_in_any_order(made: Bench) -> None:
    stored = next(each for each in made.sandbox.world.all("logto.connectors") if each["id"] == seed.LOGTO_TWILIO)
    config = stored["config"] | {"authToken": "secret://sms", "templates": stored["config"]["templates"][::-1]}
    entry = {"type": stored["connectorId"], "config": config, "sync_profile": False}
    assert changes(await plan(made, manifest(sign_in_connectors={"sms": entry}))) == []
    config["templates"] = [{**config["templates"][0], "content": "Code: {{code}}"}, *config["templates"][1:]]
    planned = await plan(made, manifest(sign_in_connectors={"sms": entry}))
    assert changes(planned) == [("update", "sign_in_connectors.sms")]


async def test_a_list_in_order_changes_with_its_order(made: Bench) -> None:
    targets = {"social_sign_in_connector_targets": ["github", "google"]}
    planned = await plan(made, manifest(sign_in={"default": targets}))
    assert changes(planned) == [("update", "sign_in.default")]


async def test_a_key_that_was_set_outside_is_seen(made: Bench) -> None:
    entry = {"name": "Research papers", "type": "FILE_UPLOAD"}
    stored = next(each for each in made.sandbox.world.all("vectorize.sources") if each["name"] == "Research papers")
    assert changes(await plan(made, manifest(sources={"papers": entry}))) == []
    stored["config"] = {"path-prefix": "2026/"}
    made.sandbox.world.put("vectorize.sources", stored["id"], stored)
    (action,) = (await plan(made, manifest(sources={"papers": entry})))["actions"]
    assert action["verb"] == "update"
    assert "2026/" in str(action["diff"])
    assert action["effect"] == "destroy"


async def test_a_name_that_several_things_have_is_an_error_that_lists_them_and_an_id_tells_which(made: Bench) -> None:
    created = await call(made, "vectorize_create_source_connector", connectors=[SITE])
    ids = [seed.VECTORIZE_WEB_CRAWLER, created.content["data"][0]["id"]]
    result = await call(made, "plan_connectors", manifest=manifest(sources={"docs": SITE}))
    (issue,) = result.content["error"]["issues"]
    assert issue["path"] == "sources.docs"
    assert all(each in issue["wanted"] for each in ids)
    (action,) = (await plan(made, manifest(sources={"docs": {**SITE, "id": ids[1]}})))["actions"]
    assert (action["verb"], action["id"]) == ("adopt", ids[1])


async def test_what_is_there_is_adopted_and_never_pruned(made: Bench) -> None:
    mine = manifest(sources={"docs": SITE, "new": OTHER})
    planned = await plan(made, mine)
    assert [(each["verb"], each["entry"]) for each in planned["actions"]] == [
        ("adopt", "sources.docs"), ("create", "sources.new"),
    ]  # fmt: skip
    await apply(made, mine)
    changed = manifest(sources={"docs": {**SITE, "config": {"seed-urls": ["https://c.example"]}}, "new": OTHER})
    await apply(made, changed)
    pruned = await plan(made, manifest(), prune=True)
    assert changes(pruned) == [("delete", "sources.new")]
    assert changes(await plan(made, manifest("another"), prune=True)) == []


async def test_what_was_renamed_in_the_manifest_is_not_pruned(made: Bench) -> None:
    await apply(made, manifest(sources={"new": OTHER}))
    planned = await plan(made, manifest(sources={"renamed": OTHER}), prune=True)
    assert changes(planned) == []


async def test_things_that_went_with_what_they_belonged_to_do_not_stop_a_plan(sixty: Applied) -> None:
    made, wanted = sixty
    world, gone = made.sandbox.world, {"vectorize.sources": "Drives", "conductorone.apps": "Acme CRM"}
    for collection, name in gone.items():
        (record,) = [each for each in world.all(collection) if name in (each.get("name"), each.get("displayName"))]
        world.delete(collection, record["id"])
    for section in ("source_users", "app_connectors", "apps"):
        del wanted[section]
    del wanted["sources"]["drive"]
    for prune in (False, True):
        assert changes(await plan(made, wanted, prune=prune)) == []


async def test_a_member_that_cannot_change_replaces_the_thing_and_says_why(sixty: Applied) -> None:
    made, wanted = sixty
    wanted["sources"]["site-0"]["name"] = "Renamed"
    planned = await plan(made, wanted)
    verbs = changes(planned)
    assert sorted(verbs) == [
        ("delete", "pipelines.web"), ("delete", "sources.site-0"),
        ("replace", "pipelines.web"), ("replace", "sources.site-0"),
    ]  # fmt: skip
    by = {(each["verb"], each["entry"]): each for each in planned["actions"] if "tool" in each}
    assert by["replace", "sources.site-0"]["because"] == "name cannot be changed."
    # The new source, then the new pipeline, then the old pipeline, then the old source.
    order = [verbs.index(each) for each in (
        ("replace", "sources.site-0"), ("replace", "pipelines.web"),
        ("delete", "pipelines.web"), ("delete", "sources.site-0"),
    )]  # fmt: skip
    assert order == sorted(order)
    await apply(made, wanted)
    assert (await plan(made, wanted))["changes"] == 0


async def test_what_is_to_be_absent_is_deleted_after_what_needs_it(sixty: Applied) -> None:
    made, wanted = sixty
    for address in ("sources.bucket-0", "pipelines.files"):
        section, key = address.split(".")
        wanted[section][key]["state"] = "absent"
    assert changes(await plan(made, wanted)) == [("delete", "pipelines.files"), ("delete", "sources.bucket-0")]
    await apply(made, wanted)
    assert (await plan(made, wanted))["changes"] == 0


async def test_secrets_are_compared_by_what_was_last_written(bench: BenchMaker) -> None:
    store = Store()
    made, wanted = bench(secrets=Secrets([store])), manifest(sources={"docs": BUCKET})
    (adopted,) = (await plan(made, wanted))["actions"]
    assert adopted["verb"] == "adopt"
    assert set(adopted["secrets"].values()) == {"unknown"}
    rotated = await plan(made, wanted, rotate=["sources.docs"])
    assert changes(rotated) == [("rotate", "sources.docs")]
    await apply(made, wanted, rotate=["sources.docs"])
    assert (await plan(made, wanted))["counts"] == {"unchanged": 1}
    store.set("s3_secret", "another-value-0123456789")
    (action,) = (await plan(made, wanted))["actions"]
    assert (action["verb"], action["secrets"]) == (
        "rotate", {"config.access-key": "unchanged", "config.secret-key": "rotated"},
    )  # fmt: skip
    await apply(made, wanted)
    assert (await plan(made, wanted))["changes"] == 0


async def test_only_an_entry_with_secrets_is_rotated(made: Bench) -> None:
    sources = {"site": SITE, "gone": {**BUCKET, "name": "Gone", "state": "absent"}}
    for docs, told in ({"docs": BUCKET}, "one of sources.docs"), ({}, "none: no entry has secrets"):
        wanted = manifest(sources=sources | docs)
        result = await call(made, "plan_connectors", manifest=wanted, rotate=[f"sources.{each}" for each in sources])
        found = [(each["got"], each["wanted"]) for each in result.content["error"]["issues"]]
        assert found == [(f"sources.{each}, which has no secrets to write", told) for each in sources]
    assert made.requests() == []


async def test_all_missing_secrets_are_listed_before_anything_is_done(made: Bench) -> None:
    new = {**BUCKET, "name": "New bucket"}
    found = await issues(made, manifest(sources={"docs": new, "site": {**OTHER, "name": "New"}}))
    assert set(found) == {"sources.docs.config.access-key", "sources.docs.config.secret-key"}
    # What is there and stays needs none.
    assert changes(await plan(made, manifest(sources={"docs": BUCKET}))) == []


@pytest.mark.parametrize("platform", ["vectorize", "logto", "versori", "conductorone"])
async def test_a_platform_that_cannot_be_read_ends_the_plan(bench: BenchMaker, platform: str) -> None:
    made = bench(secrets=secrets())
    made.sandbox.inject(Fault(platform=platform, method="GET", status=403, times=99))
    result = await call(made, "plan_connectors", manifest=sixty_things())
    assert result.is_error
    assert result.content["error"]["code"] == "forbidden"


async def test_a_list_that_needs_a_decision_is_not_read(bench: BenchMaker) -> None:
    made, caller = bench(policy="vectorize_get_source_connectors=ask"), FakeCaller()
    result = await call(made, "plan_connectors", caller, manifest=manifest(sources={"docs": SITE}))
    assert result.content["error"]["code"] == "blocked"
    assert caller.questions == []


async def test_what_policy_or_the_toolsets_keep_an_apply_from_is_said(bench: BenchMaker) -> None:
    made = bench(policy="create=block", toolsets=("vectorize.sources",))
    result = await call(made, "plan_connectors", manifest=manifest(sources={"new": OTHER}))
    assert any("cannot be applied" in each for each in result.content["meta"]["warnings"])
    gone = {"name": "Globex", "type": "Okta", "state": "absent"}
    result = await call(made, "plan_connectors", manifest=manifest(sso_connectors={"globex": gone}))
    assert any("logto_delete_sso_connector is not served" in each for each in result.content["meta"]["warnings"])


async def test_what_is_deleted_by_its_id_has_the_name_that_the_platform_shows(made: Bench) -> None:
    doomed = {"sign_in_connectors": {"gh": {"id": seed.LOGTO_GITHUB, "state": "absent"}}}
    doomed |= {"sso_connectors": {"sso": {"id": "globex-sso", "state": "absent"}}}
    planned = await plan(made, manifest(**doomed))
    assert {action["entry"]: action["name"] for action in planned["actions"]} == {
        "sign_in_connectors.gh": "GitHub", "sso_connectors.sso": "Globex"
    }  # fmt: skip


async def test_what_gives_way_to_a_new_thing_is_named_as_a_loss(bench: BenchMaker) -> None:
    entry = {"type": "http-sms", "config": {"endpoint": "https://sms.example.com"}}
    planned = await plan(bench(), manifest(sign_in_connectors={"sms": entry}))
    (action,) = planned["actions"]
    assert (action["verb"], action["effect"]) == ("create", "destroy")
    assert "twilio-short-message-service" in action["losses"][0]


async def test_a_plan_is_recorded_without_the_manifest(made: Bench) -> None:
    await plan(made, manifest(sources={"docs": SITE}))
    lines = [line for line in made.audit_lines if "plan_connectors" in line]
    assert len(lines) == 1
    assert "docs.acme.example" not in lines[0]


async def test_a_list_of_which_the_platform_gives_only_a_part_is_no_list_of_what_there_is(made: Bench) -> None:
    part: dict[str, Any] = {"items": [], "totalCount": 50}
    made.sandbox.inject(Fault("versori", "GET", "*/connection-templates*", times=99, status=200, body=part))
    result = await call(made, "export_connectors", platform="versori")
    assert (result.content["error"]["code"], "all are needed" in result.content["error"]["message"]) == (
        "answer_too_large",
        True,
    )
