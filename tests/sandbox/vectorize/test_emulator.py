"""The emulated Vectorize keeps the wire contract, and makes connectors work, and fails to, as the platform does."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from connector_mcp.operations.connector_types import connector_types, example
from connector_mcp.sandbox import seed
from connector_mcp.sandbox.app import Sandbox
from connector_mcp.sandbox.vectorize import pipelines
from connector_mcp.sandbox.vectorize.emulator import SOURCES
from connector_mcp.sandbox.vectorize.wire import KINDS
from tests.operations.configs import filled
from tests.sandbox.conftest import MovableClock
from tests.sandbox.test_app import vectorize

pytestmark = pytest.mark.anyio

PLATFORM = "vectorize"
ORGANIZATION = f"/org/{seed.VECTORIZE_ORGANIZATION_ID}"
PIPELINES = f"{ORGANIZATION}/pipelines"
TOKEN = f"{ORGANIZATION}/generateOneTimeConnectorToken"
LIST, DESTINATIONS = f"{ORGANIZATION}/connectors/sources", f"{ORGANIZATION}/connectors/destinations"
S3, DRIVE, BUILT_IN = (
    f"{LIST}/{each}" for each in (seed.VECTORIZE_S3, seed.VECTORIZE_DRIVE_MULTI_USER, seed.VECTORIZE_BUILT_IN)
)
FILES = f"{ORGANIZATION}/uploads/{seed.VECTORIZE_FILE_UPLOAD}/files"
SELECTION = {"1AbC": {"name": "Plan.docx", "mimeType": "application/pdf"}}
ERROR_MEMBERS = {"error", "details", "failedUpdates", "successfulUpdates"}
DONE = {"message": "Operation completed successfully"}
SITE = {"id": seed.VECTORIZE_WEB_CRAWLER, "type": "WEB_CRAWLER"}
BODY: dict[str, Any] = {
    "pipelineName": "Site",
    "sourceConnectors": [SITE | {"config": {}}],
    "destinationConnector": {"id": seed.VECTORIZE_BUILT_IN_DESTINATION, "type": "VECTORIZE"},
    "aiPlatformConnector": {"id": seed.VECTORIZE_BUILT_IN_AI_PLATFORM, "type": "VECTORIZE", "config": {}},
    "schedule": {"type": "realtime"},
}


async def delete_user(client: httpx.AsyncClient, body: object) -> httpx.Response:
    return await client.request("DELETE", f"{DRIVE}/users", json=body)


async def created(client: httpx.AsyncClient, **changes: Any) -> str:
    answer = await client.post(PIPELINES, json=BODY | changes)
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]["id"]


async def states(client: httpx.AsyncClient, pipeline: str, reads: int) -> list[tuple[str, int]]:
    shown = [(await client.get(f"{PIPELINES}/{pipeline}")).json()["data"] for _ in range(reads)]
    return [(each["status"], each["documentCount"]) for each in shown]


def changed(path: str, value: Any) -> dict[str, Any]:
    """The body of a pipeline with another value in a place."""
    member, _, key = path.partition(".")
    return BODY | {member: BODY[member] | {key: value} if key else value}


# What is refused -----------------------------------------------------------------------------------------------------

USER = {"userId": "u", "selectedFiles": SELECTION, "refreshToken": "r"}
REFUSED: list[tuple[str, str, Any, int, str]] = [
    *(("GET", f"{LIST}?{query}", None, 400, "") for query in ("limit=0", "limit=101", "limit=ten", "nextToken=%%%")),
    *(("POST", LIST, body, 400, "") for body in (
        [{"name": "a", "type": "FILE_UPLOAD"}],
        {"type": "FILE_UPLOAD"},
        {"name": "a", "type": "VECTORIZE"},
        {"name": "a", "type": "NO_SUCH_TYPE"},
        {"name": "a", "type": "NOTION", "config": {"access-token": "t"}},
        {"name": "a", "type": "WEB_CRAWLER"},
        {"name": "a", "type": "WEB_CRAWLER", "config": {}},
        {"name": "a", "type": "WEB_CRAWLER", "config": "{}"},
        b"{",
    )),
    ("GET", "/org/org_other/connectors/sources", None, 403, ""),
    ("PATCH", BUILT_IN, {"config": {}}, 400, ""),
    ("DELETE", BUILT_IN, None, 400, "Cannot delete system connector"),
    ("DELETE", f"{DESTINATIONS}/{seed.VECTORIZE_BUILT_IN_DESTINATION}", None, 400, ""),
    ("GET", f"{ORGANIZATION}/connectors/others", None, 404, ""),
    ("GET", f"{ORGANIZATION}/workspaces/gone", None, 404, ""),
    *(("POST", f"{DRIVE}/users", body, 400, "") for body in (
        {"selectedFiles": SELECTION, "refreshToken": "r"},
        {"userId": "u", "refreshToken": "r"},
        {"userId": "u", "selectedFiles": SELECTION},
        {"userId": "u", "selectedFiles": SELECTION, "accessToken": "a"},
        {"userId": "u", "selectedFiles": {"1": {"name": "n"}}, "refreshToken": "r"},
        {"userId": seed.VECTORIZE_USERS[0], "selectedFiles": SELECTION, "refreshToken": "r"},
    )),
    ("POST", f"{S3}/users", USER, 400, "AWS_S3"),
    *(("DELETE", f"{DRIVE}/users", body, 400, "") for body in (None, {}, {"userId": ""}, [])),
    *(("POST", PIPELINES, changed(path, value), status, "") for path, value, status in (
        ("aiPlatform", {}, 400), ("pipelineName", "", 400), ("sourceConnectors", [], 400),
        ("schedule.type", "daily", 400),
        ("destinationConnector.id", "gone", 404), ("destinationConnector.type", "PINECONE", 400),
        ("destinationConnector", [BODY["destinationConnector"]], 400),
        ("aiPlatformConnector.config", {"chunks": 1}, 400), ("aiPlatformConnector.key", "k", 400),
        ("sourceConnectors", [SITE], 400),
        ("sourceConnectors", [{"id": seed.VECTORIZE_PINECONE, "type": "PINECONE", "config": {}}], 404),
    )),
    *(("POST", PIPELINES, {key: each for key, each in BODY.items() if key != part}, 400, f'"{part}: required."')
      for part in ("sourceConnectors", "destinationConnector", "aiPlatformConnector")),
    ("PUT", FILES, {"name": "a"}, 400, ""),
    ("PUT", FILES, {"name": "a", "contentType": "b", "metadata": {"a": 1}}, 400, ""),
    ("GET", FILES.replace(seed.VECTORIZE_FILE_UPLOAD, seed.VECTORIZE_S3), None, 400, ""),
    ("GET", FILES.replace(seed.VECTORIZE_FILE_UPLOAD, "gone"), None, 404, ""),
    ("POST", TOKEN, {"user_id": "", "connector_id": seed.VECTORIZE_DRIVE_MULTI_USER}, 400, ""),
    ("POST", TOKEN, {"user_id": "u", "connector_id": seed.VECTORIZE_S3}, 400, ""),
    ("POST", TOKEN, {"user_id": "u", "connector_id": "gone"}, 404, ""),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "body", "status", "said"), REFUSED)
async def test_what_the_documents_refuse_gets_the_error_body_and_changes_nothing(
    client, sandbox: Sandbox, method: str, path: str, body: Any, status: int, said: str
):
    def stored() -> list[Any]:
        return [sandbox.world.all(each) for each in (SOURCES, pipelines.PIPELINES, pipelines.FILES)]

    before, given = stored(), {"content" if isinstance(body, bytes) else "json": body}
    answer = await client.request(method, path, **given)
    assert (answer.status_code, said in answer.text) == (status, True)
    assert {"error", "failedUpdates", "successfulUpdates"} <= set(answer.json()) <= ERROR_MEMBERS
    assert stored() == before


# Connectors and users -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("header", [None, "Bearer wrong", f"Basic {seed.VECTORIZE_API_KEY}", seed.VECTORIZE_API_KEY])
async def test_a_missing_or_wrong_token_is_401_with_the_error_body(anonymous, header):
    answer = await anonymous.get(LIST, headers={} if header is None else {"authorization": header})
    assert answer.status_code == 401
    assert set(answer.json()) == ERROR_MEMBERS


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


async def test_notion_users_bring_an_access_token_and_pages(client):
    made = await client.post(LIST, json={"name": "n", "type": "NOTION_OAUTH_MULTI"})
    users = f"{LIST}/{made.json()['connector']['id']}/users"
    wrong = {"userId": "u", "selectedFiles": {"pageIds": "one"}, "accessToken": "a"}
    assert (await client.post(users, json=wrong)).status_code == 400
    right = {"userId": "u", "selectedFiles": {"pageIds": ["p"], "databaseIds": []}, "accessToken": "a"}
    assert (await client.post(users, json=right)).status_code == 200


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


# Pipelines, files and tokens ------------------------------------------------------------------------------------------


async def test_a_pipeline_is_deployed_from_read_to_read_and_then_has_documents(client):
    made = await created(client)
    assert await states(client, made, 5) == [
        ("DEPLOYING", 0), ("DEPLOYED", 0), ("BACKFILLING", 3), ("LISTENING", 3), ("LISTENING", 3),
    ]  # fmt: skip
    metrics = (await client.get(f"{PIPELINES}/{made}/metrics")).json()["data"]
    assert [each["newObjects"] for each in metrics] == [3]
    assert (await client.post(f"{PIPELINES}/{made}/stop")).status_code == 200
    assert await states(client, made, 2) == [("SHUTDOWN", 3), ("SHUTDOWN", 3)]
    assert (await client.post(f"{PIPELINES}/{made}/start")).status_code == 200
    assert await states(client, made, 3) == [("STARTED", 3), ("PROCESSING", 3), ("LISTENING", 3)]
    assert (await client.delete(f"{PIPELINES}/{made}")).status_code == 200
    for path in ("", "/events", "/metrics"):
        assert (await client.get(f"{PIPELINES}/{made}{path}")).status_code == 404


@pytest.mark.parametrize("prefix", ["empty-x", "huge-x"])
async def test_a_bucket_may_have_nothing_or_more_than_the_plan_allows(client, prefix: str):
    config = {"file-extensions": ["pdf"], "idle-time": 30, "path-prefix": prefix}
    made = await created(client, sourceConnectors=[{"id": seed.VECTORIZE_S3, "type": "AWS_S3", "config": config}])
    expected = ("LISTENING", 0) if prefix == "empty-x" else ("OVERQUOTA", 1_000)
    assert (await states(client, made, 4))[-1] == expected


async def test_refused_credentials_show_only_in_the_next_read_and_keep_a_pipeline_from_deploying(client):
    new = {"name": "v", "type": "PINECONE", "config": {"api-key": "invalid-key"}}
    made = (await client.post(DESTINATIONS, json=new)).json()["connector"]
    assert set(made) == {"name", "id"}
    target = f"{DESTINATIONS}/{made['id']}"
    shown = (await client.get(target)).json()
    assert (shown["verificationStatus"], shown["errorMessage"]) == ("failed", "Pinecone refused the credentials.")
    assert shown["configDoc"] == {}
    failing = await created(
        client, destinationConnector={"id": made["id"], "type": "PINECONE", "config": {"index": "i"}}
    )
    assert await states(client, failing, 2) == [("DEPLOYING", 0), ("ERROR_DEPLOYING", 0)]
    events = (await client.get(f"{PIPELINES}/{failing}/events")).json()["data"]
    assert events[0]["summary"]["reasons"] == ["Pinecone refused the credentials."]
    answer = (await client.patch(target, json={"config": {"api-key": "right"}})).json()
    assert answer["data"]["pipelineIds"] == [failing]
    assert "errorMessage" not in answer["data"]["updatedConnector"]
    assert await states(client, failing, 1) == [("ERROR_DEPLOYING", 0)]
    await client.post(f"{PIPELINES}/{failing}/start")
    assert await states(client, failing, 2) == [("STARTED", 0), ("PROCESSING", 3)]


async def test_a_deleted_connector_breaks_its_pipeline_at_the_next_start(client):
    await client.delete(f"{LIST}/{seed.VECTORIZE_WEB_CRAWLER}")
    asleep = seed.VECTORIZE_ASLEEP_PIPELINE
    assert await states(client, asleep, 1) == [("HIBERNATING", 3)]
    await client.post(f"{PIPELINES}/{asleep}/start")
    assert (await states(client, asleep, 2))[-1] == ("ERROR_DEPLOYING", 3)
    assert (await client.get(f"{PIPELINES}/{asleep}")).json()["data"]["sourceConnectors"] == []


@pytest.mark.parametrize("kind", KINDS)
async def test_credentials_of_every_type_are_refused_where_one_begins_with_invalid(client, kind: str):
    path = f"{ORGANIZATION}/connectors/{kind}"
    types = [each for each in connector_types("vectorize").values() if each.kind == KINDS[kind] and each.creatable]
    for each in types:
        right = filled(example(each.config))
        for change in ({}, *({secret: "invalid-x"} for secret in each.secret_paths)):
            body = {"name": "n", "type": each.type, "config": right | change}
            new = (await client.post(path, json=body)).json()["connector"]
            status = (await client.get(f"{path}/{new['id']}")).json()["verificationStatus"]
            assert status == ("failed" if change else "verified"), (each.type, change)


async def test_lists_of_every_kind_page_and_hold_what_is_built_in(client):
    for path, rows in (("destinations", "destinationConnectors"), ("aiplatforms", "aiPlatformConnectors")):
        listed = (await client.get(f"{ORGANIZATION}/connectors/{path}", params={"limit": "1"})).json()
        assert len(listed[rows]) == 1
        rest = await client.get(f"{ORGANIZATION}/connectors/{path}", params={"nextToken": listed["nextToken"]})
        assert [each["type"] for each in rest.json()[rows]] == ["VECTORIZE"]
    assert (await client.get(BUILT_IN)).json()["type"] == "VECTORIZE"
    workspaces = (await client.get(f"{ORGANIZATION}/workspaces")).json()["workspaces"]
    assert [each["id"] for each in workspaces] == list(seed.VECTORIZE_WORKSPACES)
    assert (await client.get(f"{ORGANIZATION}/workspaces/{workspaces[0]['id']}")).json() == workspaces[0]


async def test_a_file_is_put_once_to_an_address_that_needs_no_token_and_expires(
    client, anonymous, sandbox: Sandbox, clock: MovableClock
):
    announced = {"name": "a/ü #1.pdf", "contentType": "application/pdf", "metadata": '{"team": "sales"}'}
    first, late = [(await client.put(FILES, json=announced)).json()["uploadUrl"] for _ in range(2)]
    pdf = {"content-type": "application/pdf"}
    assert (await anonymous.put(first, content=b"%PDF", headers={"content-type": "text/plain"})).status_code == 403
    assert (await client.put(first, content=b"%PDF", headers=pdf)).status_code == 403
    assert (await anonymous.put(first, content=b"%PDF", headers=pdf)).status_code == 200
    assert (await anonymous.put(first, content=b"%PDF", headers=pdf)).status_code == 403
    clock.forward(901)
    assert (await anonymous.put(late, content=b"%PDF", headers=pdf)).status_code == 403
    _, file = (await client.get(FILES)).json()["files"]
    assert "connector" not in file
    assert (file["name"], file["size"], file["metadata"]) == ("a/ü #1.pdf", 4, {"team": "sales"})
    assert {"key", "lastModified"} <= set(file)
    one = f"{FILES}/a%2F%C3%BC%20%231.pdf"
    assert (await client.delete(one)).json()["fileName"] == "a/ü #1.pdf"
    assert (await client.delete(one)).status_code == 404


async def test_a_one_time_token_is_for_a_user_of_a_managed_connector(client):
    answer = await client.post(TOKEN, json={"user_id": "u", "connector_id": seed.VECTORIZE_DRIVE_MULTI_USER})
    assert (answer.status_code, set(answer.json())) == (200, {"token", "expires_at", "ttl"})
