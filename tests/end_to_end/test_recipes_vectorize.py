"""What makes a Vectorize connector work, done with tools until check_connector says that it does, or why not."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from connector_mcp.sandbox import seed
from tests.end_to_end.recipes import Agent

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("platform", ["vectorize"])]

S3 = {"access-key": "s3-access-key", "secret-key": "s3-secret-key", "bucket-name": "docs", "archiver": False}
S3_READ = {"file-extensions": ["pdf", "txt"], "idle-time": 300}
BUILT_IN = {
    "destination_connector": {"id": seed.VECTORIZE_BUILT_IN_DESTINATION, "type": "VECTORIZE"},
    "ai_platform_connector": {"id": seed.VECTORIZE_BUILT_IN_AI_PLATFORM, "type": "VECTORIZE", "config": {}},
}
SOURCE, PIPELINE = "source connector", "pipeline"


async def connector(agent: Agent, kind: str, type_id: str, config: Any = None) -> str:
    """Create a connector of a kind and return its id."""
    new = {"name": type_id.title(), "type": type_id} | ({} if config is None else {"config": config})
    (created,) = await agent.call(f"vectorize_create_{kind}_connector", connectors=[new])
    return created["id"]


async def built_in(agent: Agent) -> dict[str, Any]:
    """The parts of a pipeline that every organization has, found as an agent finds them."""
    (target,) = [row for row in await agent.call("vectorize_get_destination_connectors") if row["type"] == "VECTORIZE"]
    (model,) = [row for row in await agent.call("vectorize_get_ai_platform_connectors") if row["type"] == "VECTORIZE"]
    part = {"type": "VECTORIZE", "config": {}}
    return {"destination_connector": part | {"id": target["id"]}, "ai_platform_connector": part | {"id": model["id"]}}


async def pipeline(agent: Agent, source: str, type_id: str, config: Any, **others: Any) -> str:
    sources = [{"id": source, "type": type_id, "config": config}]
    given = {"pipeline_name": "New", "source_connectors": sources, "schedule": "realtime", **BUILT_IN, **others}
    return (await agent.call("vectorize_create_pipeline", **given))["id"]


@pytest.mark.parametrize("wrong", ["", "credentials", "empty", "quota"])
async def test_a_bucket_goes_into_an_index(wrong: str, agent: Agent) -> None:
    bucket = {"empty": "empty-bucket", "quota": "huge-bucket"}.get(wrong, "docs")
    source = await connector(agent, "source", "AWS_S3", S3 | {"bucket-name": bucket})
    key = "invalid-key" if wrong == "credentials" else "pinecone-key"
    target = await connector(agent, "destination", "PINECONE", {"api-key": key})
    model = await connector(agent, "ai_platform", "OPENAI", {"key": "openai-key"})
    parts = {
        "destination_connector": {"id": target, "type": "PINECONE", "config": {"index": "docs"}},
        "ai_platform_connector": {
            "id": model, "type": "OPENAI", "config": {"embeddingModel": "OPEN_AI_TEXT_EMBEDDING_3_SMALL"},
        },
    }  # fmt: skip
    running = await pipeline(agent, source, "AWS_S3", S3_READ, **parts)
    verdict = await agent.settled(source, SOURCE)
    if wrong in ("empty", "quota"):
        verdict = await agent.check(running, PIPELINE)
    assert verdict["seen"]["pipeline"] == running
    assert (verdict["works"], verdict["reason"]) == {
        "": ("yes", f"Pipeline {running} runs and has ingested documents."),
        "credentials": (
            "no",
            f"Pipeline {running} could not be deployed: connector {target} reports an error; see errors in seen.",
        ),
        "empty": ("no", f"Pipeline {running} has no documents: prefix, file extensions or an empty source."),
        "quota": ("no", f"Pipeline {running} reached the plan's monthly limit of documents."),
    }[wrong]  # fmt: skip
    if wrong == "credentials":
        assert verdict["seen"]["errors"] == {target: "Pinecone refused the credentials."}
        assert "vectorize_update_destination_connector" in verdict["next"]
    agent.assert_next_steps_were_taken(
        "vectorize_create_source_connector",
        "vectorize_create_destination_connector",
        "vectorize_create_ai_platform_connector",
        "vectorize_create_pipeline",
    )


@pytest.mark.parametrize("uploads", [True, False])
async def test_files_are_uploaded_by_hand_and_searched_with_what_is_built_in(uploads: bool, agent: Agent) -> None:
    source = await connector(agent, "source", "FILE_UPLOAD")
    if uploads:
        given = {"connector_id": source, "name": "ü plan.pdf", "content_type": "application/pdf"}
        started = await agent.call("vectorize_start_file_upload_to_connector", **given, metadata={"team": "sales"})
        address = agent.secret(started["uploadUrl"])
        async with httpx.AsyncClient() as storage:
            wrong = await storage.put(address, content=b"%PDF", headers={"content-type": "text/plain"})
            stored = await storage.put(address, content=b"%PDF", headers={"content-type": "application/pdf"})
            again = await storage.put(address, content=b"%PDF", headers={"content-type": "application/pdf"})
        assert [each.status_code for each in (wrong, stored, again)] == [403, 200, 403]
        (file,) = await agent.call("vectorize_get_upload_files_from_connector", connector_id=source)
        assert (file["name"], file["size"]) == ("ü plan.pdf", 4)
    running = await pipeline(agent, source, "FILE_UPLOAD", {}, schedule="manual", **await built_in(agent))
    verdict = await agent.settled(running, PIPELINE)
    if uploads:
        assert (verdict["works"], verdict["seen"]["documentCount"]) == ("yes", 1)
        agent.assert_next_steps_were_taken(
            "vectorize_create_source_connector",
            "vectorize_start_file_upload_to_connector",
            "vectorize_create_pipeline",
        )
    else:
        verdict = await agent.check(running, PIPELINE)
        assert verdict["works"] == "no"
        assert f"no file was uploaded to source connector {source}" in verdict["reason"]
        assert "vectorize_start_file_upload_to_connector" in verdict["next"]


@pytest.mark.parametrize("stops", [False, True])
async def test_a_web_site_is_read(stops: bool, agent: Agent) -> None:
    source = await connector(agent, "source", "WEB_CRAWLER", {"seed-urls": ["https://docs.acme.example"]})
    before = await agent.check(source, SOURCE)
    assert (before["works"], before["next"]) == ("no", "vectorize_create_pipeline joins it with the others.")
    running = await pipeline(agent, source, "WEB_CRAWLER", {"max-urls": 100, "forbidden-paths": ["/private"]})
    if stops:
        await agent.call("vectorize_stop_pipeline", pipeline_id=running)
    verdict = await agent.settled(source, SOURCE)
    assert verdict["works"] == ("no" if stops else "yes")
    assert ("is stopped" in verdict["reason"]) == stops
    agent.assert_next_steps_were_taken("vectorize_create_source_connector", "vectorize_create_pipeline")


@pytest.mark.parametrize("authorizes", [True, False])
async def test_users_bring_their_own_drives(authorizes: bool, agent: Agent) -> None:
    source = await connector(agent, "source", "GOOGLE_DRIVE_OAUTH_MULTI")
    minted = await agent.call(
        "vectorize_generate_one_time_connector_token", source_connector_id=source, user_id="user_dora"
    )
    assert agent.secret(minted["token"]).startswith("sandbox-secret-")
    if authorizes:
        # The user opens the connect page and chooses a file: Vectorize adds the user itself.
        stored = agent.sandbox.world.get("vectorize.sources", source)
        assert stored is not None
        files = {"1Ab": {"name": "Plan.docx", "mimeType": "application/pdf"}}
        stored["users"]["user_dora"] = {"selectedFiles": files, "refreshToken": "r"}
        agent.sandbox.world.put("vectorize.sources", source, stored)
    await pipeline(agent, source, "GOOGLE_DRIVE_OAUTH_MULTI", {"file-extensions": ["pdf"]})
    verdict = await agent.settled(source, SOURCE)
    if not authorizes:
        verdict = await agent.check(source, SOURCE)
        assert "has no documents" in verdict["reason"]
    assert verdict["works"] == ("yes" if authorizes else "no")
    agent.assert_next_steps_were_taken(
        "vectorize_create_source_connector",
        "vectorize_generate_one_time_connector_token",
        "vectorize_create_pipeline",
    )


@pytest.mark.parametrize("index", ["products-2", "-products"])
async def test_a_pipeline_is_replaced_because_it_cannot_be_changed(index: str, agent: Agent) -> None:
    old = await agent.call("vectorize_get_pipeline", pipeline_id=seed.VECTORIZE_PIPELINE)
    held = old["configDoc"]
    destination = held["destinationConnector"] | {"config": {"index": index}}
    given = {"pipeline_name": "Product search 2", "schedule": "realtime"}
    given |= {"source_connectors": held["sourceConnectors"], "destination_connector": destination}
    given |= {"ai_platform_connector": held["aiPlatformConnector"]}
    if index == "-products":
        refused = (await agent.client.call_tool("vectorize_create_pipeline", given)).structured_content
        assert refused is not None
        (issue,) = refused["error"]["issues"]
        assert issue["path"] == "destination_connector.config.index"
        assert "lower case, digits, hyphens" in issue["wanted"]
        return
    new = (await agent.call("vectorize_create_pipeline", **given))["id"]
    assert (await agent.settled(new, PIPELINE))["works"] == "yes"
    agent.assert_next_steps_were_taken("vectorize_create_pipeline")
    await agent.call("vectorize_delete_pipeline", pipeline_id=seed.VECTORIZE_PIPELINE)
    assert [row["id"] for row in await agent.call("vectorize_get_pipelines", fields=["id"])].count(old["id"]) == 0


@pytest.mark.parametrize("key", ["rotated-key", "invalid-key"])
async def test_a_credential_is_rotated_and_its_pipelines_started_again(key: str, agent: Agent) -> None:
    changed = await agent.call(
        "vectorize_update_destination_connector",
        destination_connector_id=seed.VECTORIZE_PINECONE,
        config={"api-key": key},
    )
    assert changed["pipelineIds"] == [seed.VECTORIZE_PIPELINE]
    for identifier in changed["pipelineIds"]:
        await agent.call("vectorize_stop_pipeline", pipeline_id=identifier)
        await agent.call("vectorize_start_pipeline", pipeline_id=identifier)
    verdict = await agent.settled(seed.VECTORIZE_PINECONE, "destination connector")
    assert verdict["works"] == ("yes" if key == "rotated-key" else "no")
    agent.assert_next_steps_were_taken("vectorize_update_destination_connector", "vectorize_start_pipeline")
    if key == "invalid-key":
        assert verdict["seen"]["errorMessage"] == "Pinecone refused the credentials."
        assert "vectorize_update_destination_connector" in verdict["next"]


@pytest.mark.parametrize("token", ["new-token", "invalid-token"])
async def test_what_keeps_documents_away_is_found_and_mended(token: str, agent: Agent) -> None:
    found = await agent.call("find_connectors", platform="vectorize", status="failing")
    failing = {row["kind"]: row for row in found}
    assert failing["pipeline"]["id"] == seed.VECTORIZE_FAILED_PIPELINE
    verdict = await agent.check(seed.VECTORIZE_FAILED_PIPELINE, PIPELINE)
    assert (verdict["works"], list(verdict["seen"]["errors"])) == ("no", [seed.VECTORIZE_CONFLUENCE])
    events = await agent.call("vectorize_get_pipeline_events", pipeline_id=seed.VECTORIZE_FAILED_PIPELINE)
    assert [each["type"] for each in events] == ["deployment-failed", "pipeline-created"]
    config = {"username": "wiki-reader@acme.example", "api-token": token, "domain": "acme.atlassian.net"}
    await agent.call("vectorize_update_source_connector", source_connector_id=seed.VECTORIZE_CONFLUENCE, config=config)
    await agent.call("vectorize_start_pipeline", pipeline_id=seed.VECTORIZE_FAILED_PIPELINE)
    verdict = await agent.settled(seed.VECTORIZE_FAILED_PIPELINE, PIPELINE)
    assert verdict["works"] == ("yes" if token == "new-token" else "no")
    agent.assert_next_steps_were_taken("vectorize_update_source_connector", "vectorize_start_pipeline")
