"""The emulated Vectorize keeps the platform's wire contract."""

from __future__ import annotations

import json

import httpx
import pytest

from connector_mcp.sandbox import seed
from connector_mcp.sandbox.app import Sandbox
from connector_mcp.sandbox.vectorize.emulator import SOURCES
from tests.sandbox.test_app import vectorize

pytestmark = pytest.mark.anyio

PLATFORM = "vectorize"
LIST = f"/org/{seed.VECTORIZE_ORGANIZATION_ID}/connectors/sources"
S3 = f"{LIST}/{seed.VECTORIZE_S3}"
DRIVE = f"{LIST}/{seed.VECTORIZE_DRIVE_MULTI_USER}"
SELECTION = {"1AbC": {"name": "Plan.docx", "mimeType": "application/pdf"}}
DONE = {"message": "Operation completed successfully"}
ERROR_MEMBERS = {"error", "details", "failedUpdates", "successfulUpdates"}


async def delete_user(client: httpx.AsyncClient, body: object) -> httpx.Response:
    return await client.request("DELETE", f"{DRIVE}/users", json=body)


@pytest.mark.parametrize("header", [None, "Bearer wrong", f"Basic {seed.VECTORIZE_API_KEY}", seed.VECTORIZE_API_KEY])
async def test_a_missing_or_wrong_token_is_401_with_the_error_body(anonymous, header):
    answer = await anonymous.get(LIST, headers={} if header is None else {"authorization": header})
    assert answer.status_code == 401
    assert set(answer.json()) == ERROR_MEMBERS


async def test_the_organization_of_another_is_forbidden(client):
    assert (await client.get("/org/org_other/connectors/sources")).status_code == 403


async def test_secrets_are_withheld_from_reads_and_other_config_is_shown(client):
    shown = (await client.get(S3)).json()
    assert shown["configDoc"] == {"bucket-name": "acme-product-docs", "region": "eu-central-1", "archiver": False}
    assert shown["type"] == "AWS_S3"
    assert {"id", "name", "createdAt", "verificationStatus", "lastUpdatedByEmail"} <= set(shown)
    assert "sandbox-secret" not in (await client.get(LIST)).text


async def test_the_list_pages_by_a_string_limit_and_an_opaque_token_until_none_is_left(client):
    whole = (await client.get(LIST)).json()
    assert "nextToken" not in whole
    found, query = [], {"limit": "4"}
    while True:
        page = (await client.get(LIST, params=query)).json()
        found += page["sourceConnectors"]
        if "nextToken" not in page:
            break
        query = {"limit": "4", "nextToken": page["nextToken"]}
    assert found == whole["sourceConnectors"]
    assert len(found) == 6


@pytest.mark.parametrize("query", [{"limit": "0"}, {"limit": "101"}, {"limit": "ten"}, {"nextToken": "%%%"}])
async def test_an_invalid_page_is_400(client, query):
    assert (await client.get(LIST, params=query)).status_code == 400


async def test_the_list_can_be_held_to_a_workspace(client):
    shown = (await client.get(LIST, params={"workspaceId": "ws_research"})).json()["sourceConnectors"]
    assert {each["id"] for each in shown} == {seed.VECTORIZE_CONFLUENCE, seed.VECTORIZE_FILE_UPLOAD}


async def test_create_takes_one_object_and_answers_200_with_name_and_id(client):
    body = {"name": "Büro docs", "type": "GCS", "config": {"service-account-json": "{}", "bucket-name": "b", "odd": 1}}
    answer = await client.post(LIST, json=body, params={"workspaceId": "ws_research"})
    assert answer.status_code == 200
    created = answer.json()["connector"]
    assert set(created) == {"name", "id"}
    shown = (await client.get(f"{LIST}/{created['id']}")).json()
    assert shown["name"] == "Büro docs"
    assert shown["configDoc"] == {"bucket-name": "b", "odd": 1}
    in_workspace = (await client.get(LIST, params={"workspaceId": "ws_research"})).json()["sourceConnectors"]
    assert created["id"] in {each["id"] for each in in_workspace}


@pytest.mark.parametrize(
    "body",
    [
        [{"name": "a", "type": "FILE_UPLOAD"}],
        {"type": "FILE_UPLOAD"},
        {"name": "a", "type": "VECTORIZE"},
        {"name": "a", "type": "NO_SUCH_TYPE"},
        {"name": "a", "type": "NOTION", "config": {"access-token": "t"}},
        {"name": "a", "type": "WEB_CRAWLER"},
        {"name": "a", "type": "WEB_CRAWLER", "config": {}},
        {"name": "a", "type": "WEB_CRAWLER", "config": "{}"},
    ],
)
async def test_an_invalid_create_is_400_and_creates_nothing(client, sandbox: Sandbox, body):
    before = sandbox.world.all(SOURCES)
    answer = await client.post(LIST, json=body)
    assert answer.status_code == 400
    assert set(answer.json()) == ERROR_MEMBERS
    assert sandbox.world.all(SOURCES) == before


@pytest.mark.parametrize("type_id", ["FILE_UPLOAD", "GOOGLE_DRIVE_OAUTH_MULTI"])
async def test_types_without_config_are_created_without_one(client, type_id):
    assert (await client.post(LIST, json={"name": "a", "type": type_id})).status_code == 200


async def test_an_older_server_takes_an_array_only():
    sandbox = Sandbox(create_body="array")
    async with vectorize(sandbox) as client:
        two = [{"name": name, "type": "FILE_UPLOAD"} for name in ("a", "b")]
        created = (await client.post(LIST, json=two)).json()["connectors"]
        assert [each["name"] for each in created] == ["a", "b"]
        assert (await client.post(LIST, json=two[0])).status_code == 400
        assert (await client.post(LIST, json=[])).status_code == 400
    assert sandbox.variables("vectorize")["VECTORIZE_CREATE_BODY"] == "array"
    sandbox.close()


async def test_patch_replaces_the_whole_config_and_checks_no_key(client, sandbox: Sandbox):
    answer = (await client.patch(S3, json={"config": {"bucket-name": "other", "apiKey": "sk"}})).json()
    assert answer["message"] == DONE["message"]
    assert answer["data"]["updatedConnector"]["configDoc"] == {"bucket-name": "other", "apiKey": "sk"}
    assert answer["data"]["pipelineIds"] == ["c0a8012e-7b1f-4d3a-9f61-0f2f8f3f9a11"]
    assert sandbox.world.get(SOURCES, seed.VECTORIZE_S3)["config"] == {"bucket-name": "other", "apiKey": "sk"}


async def test_patch_without_config_changes_no_config_and_cannot_rename(client, sandbox: Sandbox):
    before = sandbox.world.get(SOURCES, seed.VECTORIZE_S3)
    assert (await client.patch(S3, json={"name": "renamed"})).status_code == 200
    assert sandbox.world.get(SOURCES, seed.VECTORIZE_S3) == before


async def test_delete_removes_and_a_second_one_is_404(client):
    first = await client.delete(S3)
    assert (first.status_code, first.json()) == (200, DONE)
    assert (await client.delete(S3)).status_code == 404
    assert (await client.get(S3)).status_code == 404


async def test_the_built_in_connector_can_be_read_but_neither_changed_nor_deleted(client):
    built_in = f"{LIST}/{seed.VECTORIZE_BUILT_IN}"
    assert (await client.get(built_in)).json()["type"] == "VECTORIZE"
    assert (await client.patch(built_in, json={"config": {}})).status_code == 400
    answer = await client.delete(built_in)
    assert (answer.status_code, answer.json()["error"]) == (400, "Cannot delete system connector")


async def test_a_user_is_added_changed_and_removed(client, sandbox: Sandbox):
    carla = {"userId": "user_carla", "selectedFiles": SELECTION, "refreshToken": "1//r"}
    added = await client.post(f"{DRIVE}/users", json=carla)
    assert (added.status_code, added.json()) == (200, DONE)
    assert "user_carla" in (await client.get(DRIVE)).json()["configDoc"]["authorized-users"]
    await client.patch(f"{DRIVE}/users", json={"userId": "user_carla", "selectedFiles": {}})
    stored = sandbox.world.get(SOURCES, seed.VECTORIZE_DRIVE_MULTI_USER)["users"]["user_carla"]
    assert stored == {"selectedFiles": {}, "refreshToken": "1//r"}
    assert (await delete_user(client, {"userId": "user_carla"})).json() == DONE
    assert (await delete_user(client, {"userId": "user_carla"})).status_code == 404
    assert (await client.get(DRIVE)).json()["configDoc"]["authorized-users"] == list(seed.VECTORIZE_USERS)


@pytest.mark.parametrize(
    "body",
    [
        {"selectedFiles": SELECTION, "refreshToken": "r"},
        {"userId": "u", "refreshToken": "r"},
        {"userId": "u", "selectedFiles": SELECTION},
        {"userId": "u", "selectedFiles": SELECTION, "accessToken": "a"},
        {"userId": "u", "selectedFiles": {"1": {"name": "n"}}, "refreshToken": "r"},
        {"userId": seed.VECTORIZE_USERS[0], "selectedFiles": SELECTION, "refreshToken": "r"},
    ],
)
async def test_an_invalid_user_is_400(client, body):
    assert (await client.post(f"{DRIVE}/users", json=body)).status_code == 400


async def test_notion_users_bring_an_access_token_and_pages(client):
    made = await client.post(LIST, json={"name": "n", "type": "NOTION_OAUTH_MULTI"})
    users = f"{LIST}/{made.json()['connector']['id']}/users"
    wrong = {"userId": "u", "selectedFiles": {"pageIds": "one"}, "accessToken": "a"}
    assert (await client.post(users, json=wrong)).status_code == 400
    right = {"userId": "u", "selectedFiles": {"pageIds": ["p"], "databaseIds": []}, "accessToken": "a"}
    assert (await client.post(users, json=right)).status_code == 200


@pytest.mark.parametrize("body", [None, {}, {"userId": ""}, []])
async def test_removing_a_user_needs_the_json_body(client, sandbox: Sandbox, body):
    assert (await delete_user(client, body)).status_code == 400
    assert list(sandbox.world.get(SOURCES, seed.VECTORIZE_DRIVE_MULTI_USER)["users"]) == list(seed.VECTORIZE_USERS)


async def test_connectors_of_single_user_types_have_no_users(client):
    body = {"userId": "u", "selectedFiles": SELECTION, "refreshToken": "r"}
    answer = await client.post(f"{S3}/users", json=body)
    assert answer.status_code == 400
    assert "AWS_S3" in answer.json()["details"]


async def test_a_body_that_is_not_json_is_400(client):
    answer = await client.post(LIST, content=b"{", headers={"content-type": "application/json"})
    assert answer.status_code == 400


async def test_text_that_utf8_cannot_carry_is_stored_and_answered(client):
    answer = await client.post(LIST, content=b'{"name": "a\\ud800", "type": "FILE_UPLOAD"}')
    assert (answer.status_code, answer.json()["connector"]["name"]) == (200, "a?")


async def test_an_encoded_slash_is_part_of_the_id_and_not_a_path(client, sandbox: Sandbox):
    sandbox.world.put(SOURCES, "a/users", sandbox.world.get(SOURCES, seed.VECTORIZE_S3) | {"id": "a/users"})
    assert (await client.get(f"{LIST}/a%2Fusers")).json()["id"] == "a/users"
    assert sandbox.requests[-1].raw_path.endswith("/a%2Fusers")


async def test_requests_are_recorded_and_no_repr_shows_them(client, sandbox: Sandbox):
    await client.patch(S3, json={"config": {"secret-key": "sandbox-secret-new"}}, params={"a": "b c"})
    seen = sandbox.requests[-1]
    assert (seen.platform, seen.method, seen.raw_path, seen.query) == ("vectorize", "PATCH", f"/v1{S3}", "a=b+c")
    assert json.loads(seen.body) == {"config": {"secret-key": "sandbox-secret-new"}}
    assert seen.headers["authorization"] == f"Bearer {seed.VECTORIZE_API_KEY}"
    assert "sandbox-secret" not in repr(seen)
