"""The emulated Vectorize makes connectors work, and fails to, as the platform does: pipelines, uploads, credentials."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from connector_mcp.operations.connector_types import connector_types, example
from connector_mcp.sandbox import seed
from connector_mcp.sandbox.app import Sandbox
from connector_mcp.sandbox.vectorize.wire import KINDS
from tests.operations.configs import filled
from tests.sandbox.conftest import MovableClock

pytestmark = pytest.mark.anyio

PLATFORM = "vectorize"
ORGANIZATION = f"/org/{seed.VECTORIZE_ORGANIZATION_ID}"
PIPELINES = f"{ORGANIZATION}/pipelines"
SOURCES, DESTINATIONS = f"{ORGANIZATION}/connectors/sources", f"{ORGANIZATION}/connectors/destinations"
FILES = f"{ORGANIZATION}/uploads/{seed.VECTORIZE_FILE_UPLOAD}/files"
BODY: dict[str, Any] = {
    "pipelineName": "Site",
    "sourceConnectors": [{"id": seed.VECTORIZE_WEB_CRAWLER, "type": "WEB_CRAWLER", "config": {}}],
    "destinationConnector": {"id": seed.VECTORIZE_BUILT_IN_DESTINATION, "type": "VECTORIZE"},
    "aiPlatformConnector": {"id": seed.VECTORIZE_BUILT_IN_AI_PLATFORM, "type": "VECTORIZE", "config": {}},
    "schedule": {"type": "realtime"},
}


async def created(client: httpx.AsyncClient, **changes: Any) -> str:
    answer = await client.post(PIPELINES, json=BODY | changes)
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]["id"]


async def states(client: httpx.AsyncClient, pipeline: str, reads: int) -> list[tuple[str, int]]:
    shown = [(await client.get(f"{PIPELINES}/{pipeline}")).json()["data"] for _ in range(reads)]
    return [(each["status"], each["documentCount"]) for each in shown]


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
    await client.delete(f"{SOURCES}/{seed.VECTORIZE_WEB_CRAWLER}")
    asleep = seed.VECTORIZE_ASLEEP_PIPELINE
    assert await states(client, asleep, 1) == [("HIBERNATING", 3)]
    await client.post(f"{PIPELINES}/{asleep}/start")
    assert (await states(client, asleep, 2))[-1] == ("ERROR_DEPLOYING", 3)
    assert (await client.get(f"{PIPELINES}/{asleep}")).json()["data"]["sourceConnectors"] == []


def changed(path: str, value: Any) -> dict[str, Any]:
    member, _, key = path.partition(".")
    return {member: value} if not key else {member: BODY[member] | {key: value}}


@pytest.mark.parametrize(
    ("path", "value", "status"),
    [
        ("aiPlatform", {}, 400), ("pipelineName", "", 400), ("sourceConnectors", [], 400),
        ("schedule.type", "daily", 400),
        ("destinationConnector.id", "gone", 404), ("destinationConnector.type", "PINECONE", 400),
        ("aiPlatformConnector.config", {"chunks": 1}, 400), ("aiPlatformConnector.key", "k", 400),
        ("sourceConnectors", [{"id": seed.VECTORIZE_WEB_CRAWLER, "type": "WEB_CRAWLER"}], 400),
        ("sourceConnectors", [{"id": seed.VECTORIZE_PINECONE, "type": "PINECONE", "config": {}}], 404),
    ],
)  # fmt: skip
async def test_a_pipeline_that_the_documents_refuse_is_not_created(client, path: str, value: Any, status: int):
    before = len((await client.get(PIPELINES)).json()["data"])
    answer = await client.post(PIPELINES, json=BODY | changed(path, value))
    assert answer.status_code == status
    assert "error" in answer.json()
    assert len((await client.get(PIPELINES)).json()["data"]) == before


@pytest.mark.parametrize("part", ["sourceConnectors", "destinationConnector", "aiPlatformConnector"])
async def test_a_pipeline_needs_all_three_parts(client, part: str):
    answer = await client.post(PIPELINES, json={key: each for key, each in BODY.items() if key != part})
    assert (answer.status_code, answer.json()["details"]) == (400, f"{part}: required.")


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
    assert (await client.get(f"{ORGANIZATION}/connectors/others")).status_code == 404
    built_in = f"{DESTINATIONS}/{seed.VECTORIZE_BUILT_IN_DESTINATION}"
    assert (await client.delete(built_in)).status_code == 400
    workspaces = (await client.get(f"{ORGANIZATION}/workspaces")).json()["workspaces"]
    assert [each["id"] for each in workspaces] == list(seed.VECTORIZE_WORKSPACES)
    assert (await client.get(f"{ORGANIZATION}/workspaces/{workspaces[0]['id']}")).json() == workspaces[0]
    assert (await client.get(f"{ORGANIZATION}/workspaces/gone")).status_code == 404


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


@pytest.mark.parametrize("body", [{"name": "a"}, {"name": "a", "contentType": "b", "metadata": {"a": 1}}])
async def test_an_upload_that_is_not_announced_in_full_is_400(client, body: Any):
    assert (await client.put(FILES, json=body)).status_code == 400


async def test_only_a_file_upload_connector_takes_files(client):
    other = FILES.replace(seed.VECTORIZE_FILE_UPLOAD, seed.VECTORIZE_S3)
    assert (await client.get(other)).status_code == 400
    assert (await client.get(FILES.replace(seed.VECTORIZE_FILE_UPLOAD, "gone"))).status_code == 404


@pytest.mark.parametrize(
    ("connector", "user", "status"),
    [
        (seed.VECTORIZE_DRIVE_MULTI_USER, "u", 200), (seed.VECTORIZE_DRIVE_MULTI_USER, "", 400),
        (seed.VECTORIZE_S3, "u", 400), ("gone", "u", 404),
    ],
)  # fmt: skip
async def test_a_one_time_token_is_for_a_user_of_a_managed_connector(client, connector: str, user: str, status: int):
    body = {"user_id": user, "connector_id": connector}
    answer = await client.post(f"{ORGANIZATION}/generateOneTimeConnectorToken", json=body)
    assert answer.status_code == status
    if status == 200:
        assert set(answer.json()) == {"token", "expires_at", "ttl"}
