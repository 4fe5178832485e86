"""The emulated ConductorOne keeps the platform's wire contract."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from connector_mcp.operations.conductorone.catalog_schema import GetConfigurationSchema, described_type
from connector_mcp.operations.connector_types import connector_types
from connector_mcp.operations.situation import Situation
from connector_mcp.sandbox import seed
from connector_mcp.sandbox.app import Sandbox
from connector_mcp.sandbox.conductorone.emulator import CONNECTORS, ENV_CONFIG
from tests.sandbox.conftest import CONDUCTORONE_HOST as HOST
from tests.sandbox.conftest import assertion_form

pytestmark = pytest.mark.anyio

PLATFORM = "conductorone"
LIST = f"/api/v1/apps/{seed.CONDUCTORONE_APP_ID}/connectors"
OKTA = f"{LIST}/{seed.CONDUCTORONE_OKTA}"


def config(**values: str) -> dict[str, Any]:
    return {"@type": ENV_CONFIG, "configuration": {key: {"stringValue": value} for key, value in values.items()}}


def stored_keys(sandbox: Sandbox) -> dict[str, str]:
    values = sandbox.world.get(CONNECTORS, seed.CONDUCTORONE_OKTA)["config"]["configuration"]
    return {key: each["stringValue"] for key, each in values.items()}


@pytest.mark.parametrize(
    ("claims", "header"), [({}, None), ({"aud": HOST}, None), ({"nonce": "AAECAwQFBgcICQoLDA0ODw"}, {})]
)
async def test_a_signed_assertion_gets_a_token_that_opens_the_api(anonymous, clock, claims, header):
    form = assertion_form(int(clock.now.timestamp()), claims, header)
    answer = await anonymous.post("/auth/v1/token", data=form)
    assert answer.status_code == 200
    assert (answer.json()["token_type"], answer.json()["expires_in"]) == ("Bearer", 600)
    headers = {"authorization": f"Bearer {answer.json()['access_token']}"}
    assert (await anonymous.get(LIST, headers=headers)).status_code == 200
    clock.forward(600)
    assert (await anonymous.get(LIST, headers=headers)).status_code == 401


@pytest.mark.parametrize(
    ("claims", "header", "more"),
    [
        ({"aud": ["acme.conductor.one"]}, None, {}),
        ({"aud": 5}, None, {}),
        ({"iss": "someone@else"}, None, {}),
        ({"exp": 1_700_000_000}, None, {}),
        ({"exp": 4_000_000_000}, None, {}),
        ({"nbf": "now"}, None, {}),
        ({}, {}, {}),
        ({}, None, {"client_id": "someone@else"}),
        ({}, None, {"client_assertion_type": "other"}),
        ({}, None, {"client_assertion": "e30.e30.AA"}),
        ({}, None, {"grant_type": "password"}),
    ],
)
async def test_an_assertion_that_proves_nothing_gets_no_token(anonymous, clock, claims, header, more):
    form = assertion_form(int(clock.now.timestamp()), claims, header, **more)
    assert (await anonymous.post("/auth/v1/token", data=form)).status_code == 401


async def test_an_assertion_of_another_key_gets_no_token(anonymous, clock):
    form = assertion_form(int(clock.now.timestamp()))
    head, _, _ = form["client_assertion"].rpartition(".")
    other = base64.urlsafe_b64encode(bytes(64)).decode().rstrip("=")
    answer = await anonymous.post("/auth/v1/token", data=form | {"client_assertion": f"{head}.{other}"})
    assert answer.status_code == 401


@pytest.mark.parametrize(
    ("secret", "status"),
    [(seed.CONDUCTORONE_PLAIN_SECRET, 200), (seed.CONDUCTORONE_CLIENT_SECRET, 200), ("wrong", 401), ("", 401)],
)
async def test_a_plain_secret_is_compared_whole(anonymous, secret, status):
    form = {"grant_type": "client_credentials", "client_id": seed.CONDUCTORONE_CLIENT_ID, "client_secret": secret}
    assert (await anonymous.post("/auth/v1/token", data=form)).status_code == status


async def test_token_requests_must_be_forms(anonymous):
    body = {"grant_type": "client_credentials", "client_id": seed.CONDUCTORONE_CLIENT_ID}
    body |= {"client_secret": seed.CONDUCTORONE_PLAIN_SECRET}
    assert (await anonymous.post("/auth/v1/token", json=body)).status_code == 401


@pytest.mark.parametrize("header", [None, "Bearer wrong"])
async def test_a_missing_or_wrong_token_is_a_grpc_status_16(anonymous, header):
    answer = await anonymous.get(LIST, headers={} if header is None else {"authorization": header})
    assert (answer.status_code, answer.json()["code"]) == (401, 16)
    assert "(request-id: " in answer.json()["message"]


async def test_lists_hold_deleted_connectors_and_withhold_secrets(client):
    page = (await client.get(LIST)).json()
    assert (page["expanded"], page["nextPageToken"]) == ([], "")
    rows = {each["connector"]["id"]: each["connector"] for each in page["list"]}
    assert len(rows) == 4
    assert [key for key, row in rows.items() if row["deletedAt"]] == [seed.CONDUCTORONE_DELETED]
    assert "sandbox-secret" not in json.dumps(page)
    github = rows[seed.CONDUCTORONE_GITHUB]["config"]["configuration"]
    assert set(github) == {"C1_selected_field_group_name", "github_org_list"}


async def test_page_sizes_are_clamped_and_the_token_leads_to_the_end(client, sandbox: Sandbox):
    model = sandbox.world.get(CONNECTORS, seed.CONDUCTORONE_SLACK)
    for number in range(20):
        sandbox.world.put(CONNECTORS, f"more-{number}", model | {"id": f"more-{number}"})
    first = (await client.get(LIST, params={"page_size": "1"})).json()
    assert len(first["list"]) == 10
    second = (await client.get(LIST, params={"page_size": "500", "page_token": first["nextPageToken"]})).json()
    assert (len(second["list"]), second["nextPageToken"]) == (14, "")
    assert (await client.get(LIST, params={"page_token": "%%"})).status_code == 400


async def test_get_emits_unpopulated_fields_and_expands_nothing(client):
    answer = (await client.get(OKTA)).json()
    view = answer["connectorView"]
    assert (view["appPath"], view["usersPath"], view["capabilitiesPath"], answer["expanded"]) == ("", "", "", [])
    shown = view["connector"]
    assert (shown["syncConfig"], shown["downloadUrl"], shown["canResumeSync"]) == (None, "", False)
    assert shown["config"] == config(okta_v2_domain="acme.okta.com", okta_sync_custom_roles="true")


async def test_a_deleted_connector_answers_200_with_deleted_at_but_takes_no_update(client):
    path = f"{LIST}/{seed.CONDUCTORONE_DELETED}"
    answer = await client.get(path)
    assert answer.status_code == 200
    assert answer.json()["connectorView"]["connector"]["deletedAt"]
    body = {"connector": {"displayName": "x"}, "updateMask": "displayName"}
    assert (await client.post(path, json=body)).status_code == 404


@pytest.mark.parametrize("path", [f"{LIST}/no-such", "/api/v1/apps/no-such/connectors"])
async def test_an_unknown_path_is_a_grpc_status_5(client, path):
    answer = await client.get(path)
    assert (answer.status_code, answer.json()["code"]) == (404, 5)


async def test_update_sets_masked_fields_only_and_clears_those_the_message_lacks(client):
    message = {"id": seed.CONDUCTORONE_OKTA, "displayName": "Okta prod", "userIds": ["ignored"]}
    body = {"connector": message, "updateMask": "displayName,description,profileIgnoreList,config"}
    shown = (await client.post(OKTA, json=body)).json()["connectorView"]["connector"]
    assert (shown["displayName"], shown["description"], shown["profileIgnoreList"]) == ("Okta prod", "", [])
    assert shown["config"] is None
    assert shown["userIds"] == [seed.CONDUCTORONE_USERS[0]["id"]]
    assert shown["configUpdatedAt"] == shown["updatedAt"]


async def test_an_update_of_config_replaces_it_but_for_secrets_left_out(client, sandbox: Sandbox):
    body = {"connector": {"config": config(okta_v2_domain="new.okta.com")}, "updateMask": "config"}
    shown = (await client.post(OKTA, json=body)).json()["connectorView"]["connector"]
    assert shown["config"] == config(okta_v2_domain="new.okta.com")
    kept = {"okta_v2_api_token": "sandbox-secret-okta-api-token"}
    assert stored_keys(sandbox) == kept | {"okta_v2_domain": "new.okta.com"}


async def test_a_new_secret_is_stored_and_not_shown_and_an_empty_one_erases_it(client, sandbox: Sandbox):
    for token, stored in (("sandbox-secret-new", {"okta_v2_api_token": "sandbox-secret-new"}), ("", {})):
        body = {"connector": {"config": config(okta_v2_api_token=token)}, "updateMask": "config"}
        answer = await client.post(OKTA, json=body)
        assert (answer.status_code, "sandbox-secret-new" in answer.text) == (200, False)
        assert stored_keys(sandbox) == stored


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"connector": None, "updateMask": "displayName"},
        {"connector": {"displayName": "x"}},
        {"connector": {"displayName": "x"}, "updateMask": ""},
        {"connector": {"displayName": "x"}, "updateMask": {"paths": ["displayName"]}},
        {"connector": {"displayName": "x"}, "updateMask": "display_name"},
        {"connector": {"catalogId": "x"}, "updateMask": "catalogId"},
        {"connector": {"displayName": 5}, "updateMask": "displayName"},
        {"connector": {"userIds": "u"}, "updateMask": "userIds"},
        {"connector": {"disableCheckBadSync": "true"}, "updateMask": "disableCheckBadSync"},
        {"connector": {"parallelSyncWorkerCount": 5}, "updateMask": "parallelSyncWorkerCount"},
        {"connector": {"config": {"configuration": {}}}, "updateMask": "config"},
        {"connector": {"config": {"@type": ENV_CONFIG, "configuration": {"a": "b"}}}, "updateMask": "config"},
        {"connector": {"config": config(C1_other="b")}, "updateMask": "config"},
        {"connector": {"displayName": "x"}, "updateMask": "displayName", "expandMask": "app_id"},
    ],
)
async def test_an_invalid_update_is_a_grpc_status_3_and_changes_nothing(client, sandbox: Sandbox, body):
    before = sandbox.world.get(CONNECTORS, seed.CONDUCTORONE_OKTA)
    answer = await client.post(OKTA, json=body)
    assert (answer.status_code, answer.json()["code"]) == (400, 3)
    assert sandbox.world.get(CONNECTORS, seed.CONDUCTORONE_OKTA) == before


async def test_update_answers_can_be_expanded(client):
    body = {"connector": {"displayName": "x"}, "updateMask": "displayName", "expandMask": {"paths": ["*"]}}
    answer = (await client.post(OKTA, json=body)).json()
    assert answer["connectorView"]["appPath"] == "$.expanded[0]"
    assert answer["connectorView"]["usersPath"] == "$.expanded[1]"
    assert [each["displayName"] for each in answer["expanded"]] == ["Acme workforce", "Alice Adams"]


async def test_a_connector_called_create_cannot_be_updated(client):
    answer = await client.post(f"{LIST}/create", json={"connector": {}, "updateMask": "displayName"})
    assert (answer.status_code, answer.json()["code"]) == (400, 3)


@pytest.mark.parametrize("odd", ["", "%2E", "%2F"])
async def test_an_odd_id_is_redirected_to_the_collection(client, odd):
    answer = await client.get(f"{LIST}/{odd}")
    assert (answer.status_code, answer.headers["location"]) == (301, LIST)


async def test_a_path_outside_the_api_is_a_page_with_200(client):
    answer = await client.get("/somewhere")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html")


async def test_every_type_is_described_as_it_is_shipped_and_apps_are_listed(client):
    for kind in connector_types(PLATFORM).values():
        answer = await client.post("/api/v1/connectorcatalog", json={"catalogId": kind.type})
        shown = GetConfigurationSchema(catalog_id=kind.type).shape_result([answer.json()], Situation())
        assert described_type(kind.type, shown) == kind
    assert (await client.post("/api/v1/connectorcatalog", json={"catalogId": "x"})).status_code == 404
    apps = (await client.get("/api/v1/apps")).json()
    assert [app["id"] for app in apps["list"]] == [seed.CONDUCTORONE_APP_ID]
