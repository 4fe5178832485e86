"""Whether connectors work in the emulated ConductorOne: syncs, credentials, apps and owners."""

from __future__ import annotations

from typing import Any

import pytest

from connector_mcp.operations.connector_types import connector_types
from connector_mcp.sandbox import seed
from connector_mcp.sandbox.conductorone.sync import QUEUE_SECONDS, SYNC_SECONDS
from connector_mcp.sandbox.conductorone.wire import LATE_SECONDS

pytestmark = pytest.mark.anyio

PLATFORM = "conductorone"
APP = f"/api/v1/apps/{seed.CONDUCTORONE_APP_ID}"
LIST = f"{APP}/connectors"
OKTA = f"{LIST}/{seed.CONDUCTORONE_OKTA}"
OWNERS = f"/api/v2/apps/{seed.CONDUCTORONE_APP_ID}/connectors/{seed.CONDUCTORONE_OKTA}/owners"
OKTA_TYPE, BATON = "2kG3aTftCcAvWtHZt2Ywry0dPn7", "2HErg7BRmNdHgX8sTCWVq4E1fyh"
ALICE, BRUNO = (user["id"] for user in seed.CONDUCTORONE_USERS)
ENV_CONFIG = "type.googleapis.com/c1.api.app.v1.EnvConfig"


def config(**values: str) -> dict[str, Any]:
    return {"@type": ENV_CONFIG, "configuration": {key: {"stringValue": value} for key, value in values.items()}}


async def shown(client: Any, path: str) -> Any:
    return (await client.get(path)).json()["connectorView"]["connector"]


async def made(client: Any, **body: Any) -> Any:
    """A new connector, delegated unless it has a config."""
    path = f"{LIST}/create" if "config" in body else LIST
    answer = await client.post(path, json={"catalogId": OKTA_TYPE, **body})
    assert answer.status_code == 200, answer.text
    return answer.json()["connectorView"]["connector"]


async def test_a_sync_is_queued_then_runs_then_is_done(client, clock):
    before = (await shown(client, OKTA))["status"]
    assert (await client.post(f"{OKTA}/force_sync", json={})).json() == {}
    assert (await shown(client, OKTA))["status"] == before
    clock.forward(QUEUE_SECONDS)
    assert (await shown(client, OKTA))["status"]["status"] == "SYNC_STATUS_RUNNING"
    clock.forward(SYNC_SECONDS - QUEUE_SECONDS)
    status = (await shown(client, OKTA))["status"]
    assert (status["status"], status["completedAt"] > before["completedAt"]) == ("SYNC_STATUS_DONE", True)
    assert '"_sync"' not in (await client.get(OKTA)).text


async def test_a_sync_fails_where_a_secret_is_wrong_and_its_name_comes_from_the_type(client, clock):
    new = await made(client, config=config(okta_v2_domain="a.okta.com", okta_v2_api_token="invalid-token"))
    assert (new["displayName"], new["status"]["status"], new["userIds"]) == (
        "Okta v2",
        "SYNC_STATUS_UNSPECIFIED",
        [ALICE],
    )
    assert "invalid-token" not in (await client.get(f"{LIST}/{new['id']}")).text
    await client.post(f"{LIST}/{new['id']}/force_sync", json={})
    clock.forward(SYNC_SECONDS)
    status = (await shown(client, f"{LIST}/{new['id']}"))["status"]
    assert (status["status"], "401" in status["lastError"]) == ("SYNC_STATUS_ERROR", True)


async def test_a_sync_of_every_type_fails_where_one_of_its_secrets_begins_with_invalid(client, clock):
    outcomes: dict[str, str] = {}
    # Some of the many types: one after another takes long.
    for kind in [*connector_types("conductorone").values()][::8]:
        for secret in ("", *kind.secret_paths):
            if secret or kind.config["properties"]:
                new = await made(client, catalogId=kind.type, config=config(**{secret or "other": "invalid-x"}))
                await client.post(f"{LIST}/{new['id']}/force_sync", json={})
                outcomes[new["id"]] = "SYNC_STATUS_ERROR" if secret else "SYNC_STATUS_DONE"
    clock.forward(SYNC_SECONDS)
    for identifier, outcome in outcomes.items():
        assert (await shown(client, f"{LIST}/{identifier}"))["status"]["status"] == outcome


@pytest.mark.parametrize(
    "body",
    [
        {"catalogId": OKTA_TYPE},
        {"catalogId": "x", "config": config(a="b")},
        {"catalogId": OKTA_TYPE, "config": {"okta_v2_domain": "a"}},
        {"catalogId": OKTA_TYPE, "config": config(a="b"), "userIds": "u"},
        {"catalogId": OKTA_TYPE, "config": config(a="b"), "expandMask": "app_id"},
    ],
)
async def test_a_creation_that_is_not_documented_creates_nothing(client, body):
    count = len((await client.get(LIST)).json()["list"])
    answer = await client.post(f"{LIST}/create", json=body)
    assert (answer.status_code, answer.json()["code"]) == (400, 3)
    assert len((await client.get(LIST)).json()["list"]) == count


async def test_a_delegated_connector_has_no_config_until_a_person_enters_it(client):
    new = await made(client, displayName="Later")
    assert (new["displayName"], new["config"], new["configUpdatedAt"]) == ("Later", None, None)
    answer = await client.post(f"{LIST}/{new['id']}/force_sync", json={})
    assert (answer.status_code, answer.json()["code"]) == (400, 9)
    body = {"connector": {"displayName": "Now"}, "updateMask": "displayName"}
    assert (await client.post(f"{LIST}/{new['id']}/delegated", json=body)).status_code == 200
    wrong = {"connector": {"config": config(a="b")}, "updateMask": "config"}
    assert (await client.post(f"{LIST}/{new['id']}/delegated", json=wrong)).status_code == 400
    assert (await client.post(f"{LIST}/{new['id']}", json=wrong)).status_code == 200
    assert (await shown(client, f"{LIST}/{new['id']}"))["configUpdatedAt"] is not None


async def test_a_deleted_connector_still_answers_and_takes_no_orders(client):
    assert (await client.request("DELETE", OKTA, json={})).json() == {}
    assert (await shown(client, OKTA))["deletedAt"] is not None
    for order in ("force_sync", "pause", "resume", "schedule"):
        assert (await client.post(f"{OKTA}/{order}", json={})).status_code == 404


async def test_a_paused_connector_does_not_sync_until_it_is_resumed(client, clock):
    await client.post(f"{OKTA}/pause", json={})
    paused = await shown(client, OKTA)
    assert (paused["canResumeSync"], paused["syncDisabledReason"]) == (True, "Paused by a user.")
    assert (await client.post(f"{OKTA}/force_sync", json={})).json()["code"] == 9
    await client.post(f"{OKTA}/resume", json={})
    clock.forward(QUEUE_SECONDS)
    resumed = await shown(client, OKTA)
    assert (resumed["syncDisabledAt"], resumed["status"]["status"]) == (None, "SYNC_STATUS_RUNNING")


@pytest.mark.parametrize(("spec", "status"), [("0 */6 * * *", 200), ("*/5 * * * *", 400), ("daily", 400)])
async def test_a_schedule_is_stored_in_the_form_of_reads(client, spec, status):
    answer = await client.post(f"{OKTA}/schedule", json={"cron": {"cronSpec": spec, "timezone": "Europe/Berlin"}})
    assert answer.status_code == status
    stored = (await shown(client, OKTA))["connectorSyncCronSchedule"]
    assert stored == ({"cronSpec": spec, "timezone": "Europe/Berlin", "start": None} if status == 200 else None)


async def test_a_self_hosted_connector_signs_in_and_its_token_opens_nothing(client, anonymous, clock):
    new = await made(client, catalogId=BATON)
    ids = {"appId": seed.CONDUCTORONE_APP_ID, "connectorId": new["id"]}
    credential = (await client.post("/api/v1/apps/connectors/credentials", json=ids)).json()["credential"]
    path = f"{LIST}/{new['id']}/credentials/{credential['id']}"
    read = (await client.get(path)).json()["credential"]
    assert (read["clientSecret"], read["lastUsedAt"]) == ("", None)
    form = {"grant_type": "client_credentials", "client_id": credential["clientId"]}
    form["client_secret"] = credential["clientSecret"]
    token = (await anonymous.post("/auth/v1/token", data=form)).json()["access_token"]
    assert (await anonymous.get(LIST, headers={"authorization": f"Bearer {token}"})).status_code == 403
    assert (await client.get(path)).json()["credential"]["lastUsedAt"]
    clock.forward(SYNC_SECONDS)
    assert (await shown(client, f"{LIST}/{new['id']}"))["status"]["status"] == "SYNC_STATUS_DONE"
    assert (await client.post(path, json={})).json() == {}
    assert (await client.get(path)).status_code == 404
    assert (await anonymous.post("/auth/v1/token", data=form)).status_code == 401
    cloud = await client.post("/api/v1/apps/connectors/credentials", json=ids | {"connectorId": seed.CONDUCTORONE_OKTA})
    assert cloud.json()["code"] == 9


@pytest.mark.parametrize(
    ("text", "severities"),
    [('version: "1"\n', []), ("versions: 1\n", ["ERROR", "WARNING"]), ("version:\n\tx", ["ERROR"])],
)
async def test_remarks_on_a_configuration_have_lines(client, text, severities):
    answer = await client.post("/api/v1/apps/connectors/validate_config/http", json={"text": text})
    assert [each["severity"] for each in answer.json()["markers"]] == severities
    assert all(each["startLineNumber"] >= 1 for each in answer.json()["markers"])


async def test_a_new_app_has_no_users_until_a_sync_brought_some(client, clock):
    app = (await client.post("/api/v1/apps", json={"displayName": "CRM", "owners": [BRUNO]})).json()["app"]
    assert (app["userCount"], [each["id"] for each in app["appOwners"]]) == ("0", [BRUNO])
    path = f"/api/v1/apps/{app['id']}"
    for domain, count in (("empty.okta.com", "0"), ("a.okta.com", "12")):
        body = {"catalogId": OKTA_TYPE, "config": config(okta_v2_domain=domain)}
        new = (await client.post(f"{path}/connectors/create", json=body)).json()["connectorView"]["connector"]
        await client.post(f"{path}/connectors/{new['id']}/force_sync", json={})
        clock.forward(SYNC_SECONDS)
        assert (await client.get(path)).json()["app"]["userCount"] == count
    assert len((await client.get(f"{path}/connectors")).json()["list"]) == 2
    assert (await client.get(f"{LIST}/{new['id']}")).status_code == 404


async def test_apps_are_searched_by_name_and_words(client):
    for name, description in (("Acme CRM", "customers"), ("Billing", "invoices of Acme")):
        await client.post("/api/v1/apps", json={"displayName": name, "description": description})

    async def found(**body: Any) -> list[str]:
        answer = (await client.post("/api/v1/search/apps", json=body)).json()
        return [each["displayName"] for each in answer["list"]]

    assert await found(displayName="acme") == ["Acme workforce", "Acme CRM"]
    assert await found(query="acme invoices") == ["Billing"]
    assert await found(displayName="crm", excludeAppIds=[seed.CONDUCTORONE_APP_ID]) == ["Acme CRM"]
    assert await found(appIds=[seed.CONDUCTORONE_APP_ID]) == ["Acme workforce"]
    assert await found(onlyDirectories=True) == []


async def test_annotations_of_an_app_are_merged_and_other_masked_members_replaced(client):
    for given, stored in (({"a": "1", "b": "2"}, {"a": "1", "b": "2"}), ({"a": "", "c": "3"}, {"b": "2", "c": "3"})):
        body = {"app": {"annotations": given}, "updateMask": "annotations,description"}
        app = (await client.post(APP, json=body)).json()["app"]
        assert (app["annotations"], app["description"]) == (stored, "")
    for body in ({"app": {"displayName": ""}, "updateMask": "displayName"}, {"app": {}, "updateMask": "owners"}, {}):
        assert (await client.post(APP, json=body)).status_code == 400


async def test_changes_of_owners_show_late(client, clock):
    async def owners() -> tuple[list[str], list[str]]:
        rows = (await client.get(f"{OWNERS}/users", params={"role_slug": "owner"})).json()["list"]
        return (await client.get(f"{APP}/ownerids")).json()["userIds"], [row["user"]["id"] for row in rows]

    await client.post(f"{APP}/owners/{BRUNO}", json={})
    await client.post(f"{OWNERS}/users/owner/{BRUNO}", json={"userRef": {"id": BRUNO}})
    assert await owners() == ([ALICE], [ALICE])
    clock.forward(LATE_SECONDS)
    assert await owners() == ([ALICE, BRUNO], [ALICE, BRUNO])
    await client.put(OWNERS, json={"roleSlug": "owner", "userRefs": [{"id": BRUNO}], "appEntitlementRefs": []})
    clock.forward(LATE_SECONDS)
    assert await owners() == ([ALICE, BRUNO], [BRUNO])
    assert (await client.post(f"{APP}/owners/nobody", json={})).status_code == 404
    assert (await client.put(OWNERS, json={"userRefs": []})).status_code == 400
