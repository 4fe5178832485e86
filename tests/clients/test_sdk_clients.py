"""The clients of both TypeScript SDKs, in both eras of the protocol, over every transport, against the real process.

The Python SDK's client is what all other tests use.
"""

from __future__ import annotations

import json
from uuid import uuid4

import pytest

from connector_mcp.operations.catalog import catalog
from connector_mcp.sandbox import seed
from tests.clients.attached import Connection, Reply, TypeScriptClient

pytestmark = pytest.mark.anyio

CREATE = "vectorize_create_source_connector"
GET = "vectorize_get_source_connector"
DELETE = "vectorize_delete_source_connector"
CRAWL = {"seed-urls": ["https://docs.acme.example"]}


async def make_connector(client: TypeScriptClient) -> tuple[str, str]:
    """Id and name of a new connector that no other test knows."""
    name = f"Docs {uuid4().hex[:8]}"
    made = await client.call(CREATE, {"connectors": [{"name": name, "type": "WEB_CRAWLER", "config": CRAWL}]})
    assert not made.is_error, made.text
    return made.content["data"][0]["id"], name


async def exists(client: TypeScriptClient, connector_id: str) -> bool:
    read = await client.call(GET, {"source_connector_id": connector_id})
    assert read.error_code in (None, "not_found"), read.text
    return not read.is_error


async def test_client_and_server_agree_on_the_era_of_the_client(
    client: TypeScriptClient, request: pytest.FixtureRequest
):
    connection: Connection = request.node.callspec.params["client"]
    if connection.sdk == 1:
        assert client.protocol is None, "it knows but one era, and does not tell"
    else:
        assert (client.protocol == "2026-07-28") is (connection.era == "2026-07-28")


async def test_every_tool_is_listed(client: TypeScriptClient):
    assert client.tools == list(catalog())


async def test_a_read_gives_the_same_as_content_and_as_text_with_secrets_redacted(client: TypeScriptClient):
    read = await client.call("logto_get_connector", {"id": seed.LOGTO_GITHUB})
    assert not read.is_error
    assert read.content["data"]["config"]["clientSecret"] == "[redacted]"
    assert read.content["meta"]["sandbox"] is True
    assert json.loads(read.text) == read.content


async def test_a_failure_reaches_the_model_as_a_result_and_is_not_raised(client: TypeScriptClient):
    read = await client.call(GET, {"source_connector_id": str(uuid4())})
    assert read.raised is None
    assert read.error_code == "not_found"
    assert json.loads(read.text)["error"]["fix"]


async def test_wrong_arguments_are_a_result_that_names_them(client: TypeScriptClient):
    read = await client.call("logto_get_connector", {"identifier": "x"})
    assert read.error_code == "invalid_arguments"
    assert "identifier" in read.text


async def test_an_unknown_tool_is_the_protocols_own_error(client: TypeScriptClient):
    outcome = await client.call("vectorize_drop_everything", {})
    assert outcome.raised is not None
    assert outcome.raised[0] == -32602


async def test_progress_of_a_call_of_several_requests_arrives(client: TypeScriptClient):
    connectors = [{"name": name, "type": "WEB_CRAWLER", "config": CRAWL} for name in ("One", "Two")]
    made = await client.call(CREATE, {"connectors": connectors})
    assert not made.is_error, made.text
    assert made.progress == ("0 of 2 sent", "1 of 2 sent")


async def test_the_person_is_asked_before_a_deletion_and_accepts_by_typing_the_name(client: TypeScriptClient):
    connector_id, name = await make_connector(client)
    deleted = await client.call(DELETE, {"source_connector_id": connector_id}, Reply("accept", {"confirm": name}))
    assert not deleted.is_error, deleted.text
    (question,) = deleted.questions
    assert f"type the name: {name}" in question
    assert not await exists(client, connector_id)


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (Reply("decline"), "refused"),
        (Reply("cancel"), "approval_required"),
        (Reply("accept", {"confirm": "another name"}), "confirmation_invalid"),
    ],
    ids=["declined", "cancelled and parked", "wrong name"],
)
async def test_without_the_persons_consent_nothing_is_deleted(client: TypeScriptClient, reply: Reply, code: str):
    connector_id, _ = await make_connector(client)
    refused = await client.call(DELETE, {"source_connector_id": connector_id}, reply)
    assert refused.raised is None
    assert refused.error_code == code
    assert len(refused.questions) == 1
    assert await exists(client, connector_id)


async def test_a_deletion_of_a_client_that_cannot_ask_is_parked(client_that_cannot_ask: TypeScriptClient):
    client = client_that_cannot_ask
    connector_id, _ = await make_connector(client)
    parked = await client.call(DELETE, {"source_connector_id": connector_id})
    assert parked.error_code == "approval_required"
    assert parked.content["error"]["approval"]["command"].startswith("connector-mcp approvals approve ")
    assert await exists(client, connector_id)
