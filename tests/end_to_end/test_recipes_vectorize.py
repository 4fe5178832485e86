"""What makes a Vectorize connector work, done with tools until check_connector says that it does, or why not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from connector_mcp.sandbox import seed
from tests.end_to_end.recipes import Recipe, recipe

pytestmark = pytest.mark.anyio

S3 = {"access-key": "s3-access-key", "secret-key": "s3-secret-key", "bucket-name": "docs", "archiver": False}
S3_READ = {"file-extensions": ["pdf", "txt"], "idle-time": 300}
BUILT_IN = {
    "destination_connector": {"id": seed.VECTORIZE_BUILT_IN_DESTINATION, "type": "VECTORIZE"},
    "ai_platform_connector": {"id": seed.VECTORIZE_BUILT_IN_AI_PLATFORM, "type": "VECTORIZE", "config": {}},
}
SOURCE, PIPELINE = "source connector", "pipeline"


async def connector(made: Recipe, kind: str, type_id: str, config: Any = None) -> str:
    """Create a connector of a kind and return its id."""
    new = {"name": type_id.title(), "type": type_id} | ({} if config is None else {"config": config})
    (created,) = await made.call(f"vectorize_create_{kind}_connector", connectors=[new])
    return created["id"]


async def built_in(made: Recipe) -> dict[str, Any]:
    """The parts of a pipeline that every organization has, found as an agent finds them."""
    (target,) = [row for row in await made.call("vectorize_get_destination_connectors") if row["type"] == "VECTORIZE"]
    (model,) = [row for row in await made.call("vectorize_get_ai_platform_connectors") if row["type"] == "VECTORIZE"]
    part = {"type": "VECTORIZE", "config": {}}
    return {"destination_connector": part | {"id": target["id"]}, "ai_platform_connector": part | {"id": model["id"]}}


async def pipeline(made: Recipe, source: str, type_id: str, config: Any, **others: Any) -> str:
    sources = [{"id": source, "type": type_id, "config": config}]
    given = {"pipeline_name": "New", "source_connectors": sources, "schedule": "realtime", **BUILT_IN, **others}
    return (await made.call("vectorize_create_pipeline", **given))["id"]


async def settled(made: Recipe, identifier: str, kind: str) -> dict[str, Any]:
    """The verdict once it can be known: a pipeline takes a while to deploy."""
    first = await made.check("vectorize", identifier, kind)
    if first["works"] != "unknown":
        return first
    assert "check_connector again" in first["next"]
    return await made.check("vectorize", identifier, kind)


@pytest.mark.parametrize("wrong", ["", "credentials", "empty", "quota"])
async def test_a_bucket_goes_into_an_index(wrong: str, tmp_path: Path) -> None:
    bucket = {"empty": "empty-bucket", "quota": "huge-bucket"}.get(wrong, "docs")
    async with recipe(tmp_path) as made:
        source = await connector(made, "source", "AWS_S3", S3 | {"bucket-name": bucket})
        key = "invalid-key" if wrong == "credentials" else "pinecone-key"
        target = await connector(made, "destination", "PINECONE", {"api-key": key})
        model = await connector(made, "ai_platform", "OPENAI", {"key": "openai-key"})
        parts = {
            "destination_connector": {"id": target, "type": "PINECONE", "config": {"index": "docs"}},
            "ai_platform_connector": {
                "id": model, "type": "OPENAI", "config": {"embeddingModel": "OPEN_AI_TEXT_EMBEDDING_3_SMALL"},
            },
        }  # fmt: skip
        running = await pipeline(made, source, "AWS_S3", S3_READ, **parts)
        verdict = await settled(made, source, SOURCE)
        if wrong in ("empty", "quota"):
            verdict = await made.check("vectorize", running, PIPELINE)
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
        made.assert_next_steps_were_taken(
            "vectorize_create_source_connector",
            "vectorize_create_destination_connector",
            "vectorize_create_ai_platform_connector",
            "vectorize_create_pipeline",
        )


@pytest.mark.parametrize("uploads", [True, False])
async def test_files_are_uploaded_by_hand_and_searched_with_what_is_built_in(uploads: bool, tmp_path: Path) -> None:
    async with recipe(tmp_path) as made:
        source = await connector(made, "source", "FILE_UPLOAD")
        if uploads:
            given = {"connector_id": source, "name": "ü plan.pdf", "content_type": "application/pdf"}
            started = await made.call("vectorize_start_file_upload_to_connector", **given, metadata={"team": "sales"})
            address = made.secret(started["uploadUrl"])
            async with httpx.AsyncClient() as storage:
                wrong = await storage.put(address, content=b"%PDF", headers={"content-type": "text/plain"})
                stored = await storage.put(address, content=b"%PDF", headers={"content-type": "application/pdf"})
                again = await storage.put(address, content=b"%PDF", headers={"content-type": "application/pdf"})
            assert [each.status_code for each in (wrong, stored, again)] == [403, 200, 403]
            (file,) = await made.call("vectorize_get_upload_files_from_connector", connector_id=source)
            assert (file["name"], file["size"]) == ("ü plan.pdf", 4)
        running = await pipeline(made, source, "FILE_UPLOAD", {}, schedule="manual", **await built_in(made))
        verdict = await settled(made, running, PIPELINE)
        if uploads:
            assert (verdict["works"], verdict["seen"]["documentCount"]) == ("yes", 1)
            made.assert_next_steps_were_taken(
                "vectorize_create_source_connector",
                "vectorize_start_file_upload_to_connector",
                "vectorize_create_pipeline",
            )
        else:
            verdict = await made.check("vectorize", running, PIPELINE)
            assert verdict["works"] == "no"
            assert f"no file was uploaded to source connector {source}" in verdict["reason"]
            assert "vectorize_start_file_upload_to_connector" in verdict["next"]


@pytest.mark.parametrize("stops", [False, True])
async def test_a_web_site_is_read(stops: bool, tmp_path: Path) -> None:
    async with recipe(tmp_path) as made:
        source = await connector(made, "source", "WEB_CRAWLER", {"seed-urls": ["https://docs.acme.example"]})
        before = await made.check("vectorize", source, SOURCE)
        assert (before["works"], before["next"]) == ("no", "vectorize_create_pipeline joins it with the others.")
        running = await pipeline(made, source, "WEB_CRAWLER", {"max-urls": 100, "forbidden-paths": ["/private"]})
        if stops:
            await made.call("vectorize_stop_pipeline", pipeline_id=running)
        verdict = await settled(made, source, SOURCE)
        assert verdict["works"] == ("no" if stops else "yes")
        assert ("is stopped" in verdict["reason"]) == stops
        made.assert_next_steps_were_taken("vectorize_create_source_connector", "vectorize_create_pipeline")


@pytest.mark.parametrize("authorizes", [True, False])
async def test_users_bring_their_own_drives(authorizes: bool, tmp_path: Path) -> None:
    async with recipe(tmp_path) as made:
        source = await connector(made, "source", "GOOGLE_DRIVE_OAUTH_MULTI")
        minted = await made.call(
            "vectorize_generate_one_time_connector_token", source_connector_id=source, user_id="user_dora"
        )
        assert made.secret(minted["token"]).startswith("sandbox-secret-")
        if authorizes:
            # The user opens the connect page and chooses a file: Vectorize adds the user itself.
            stored = made.sandbox.world.get("vectorize.sources", source)
            assert stored is not None
            files = {"1Ab": {"name": "Plan.docx", "mimeType": "application/pdf"}}
            stored["users"]["user_dora"] = {"selectedFiles": files, "refreshToken": "r"}
            made.sandbox.world.put("vectorize.sources", source, stored)
        await pipeline(made, source, "GOOGLE_DRIVE_OAUTH_MULTI", {"file-extensions": ["pdf"]})
        verdict = await settled(made, source, SOURCE)
        if not authorizes:
            verdict = await made.check("vectorize", source, SOURCE)
            assert "has no documents" in verdict["reason"]
        assert verdict["works"] == ("yes" if authorizes else "no")
        made.assert_next_steps_were_taken(
            "vectorize_create_source_connector",
            "vectorize_generate_one_time_connector_token",
            "vectorize_create_pipeline",
        )


@pytest.mark.parametrize("index", ["products-2", "-products"])
async def test_a_pipeline_is_replaced_because_it_cannot_be_changed(index: str, tmp_path: Path) -> None:
    async with recipe(tmp_path) as made:
        old = await made.call("vectorize_get_pipeline", pipeline_id=seed.VECTORIZE_PIPELINE)
        held = old["configDoc"]
        destination = held["destinationConnector"] | {"config": {"index": index}}
        given = {"pipeline_name": "Product search 2", "schedule": "realtime"}
        given |= {"source_connectors": held["sourceConnectors"], "destination_connector": destination}
        given |= {"ai_platform_connector": held["aiPlatformConnector"]}
        if index == "-products":
            refused = (await made.client.call_tool("vectorize_create_pipeline", given)).structured_content
            assert refused is not None
            (issue,) = refused["error"]["issues"]
            assert issue["path"] == "destination_connector.config.index"
            assert "lower case, digits, hyphens" in issue["wanted"]
            return
        new = (await made.call("vectorize_create_pipeline", **given))["id"]
        assert (await settled(made, new, PIPELINE))["works"] == "yes"
        made.assert_next_steps_were_taken("vectorize_create_pipeline")
        await made.call("vectorize_delete_pipeline", pipeline_id=seed.VECTORIZE_PIPELINE)
        assert [row["id"] for row in await made.call("vectorize_get_pipelines", fields=["id"])].count(old["id"]) == 0


@pytest.mark.parametrize("key", ["rotated-key", "invalid-key"])
async def test_a_credential_is_rotated_and_its_pipelines_started_again(key: str, tmp_path: Path) -> None:
    async with recipe(tmp_path) as made:
        changed = await made.call(
            "vectorize_update_destination_connector",
            destination_connector_id=seed.VECTORIZE_PINECONE,
            config={"api-key": key},
        )
        assert changed["pipelineIds"] == [seed.VECTORIZE_PIPELINE]
        for identifier in changed["pipelineIds"]:
            await made.call("vectorize_stop_pipeline", pipeline_id=identifier)
            await made.call("vectorize_start_pipeline", pipeline_id=identifier)
        verdict = await settled(made, seed.VECTORIZE_PINECONE, "destination connector")
        assert verdict["works"] == ("yes" if key == "rotated-key" else "no")
        made.assert_next_steps_were_taken("vectorize_update_destination_connector", "vectorize_start_pipeline")
        if key == "invalid-key":
            assert verdict["seen"]["errorMessage"] == "Pinecone refused the credentials."
            assert "vectorize_update_destination_connector" in verdict["next"]


@pytest.mark.parametrize("token", ["new-token", "invalid-token"])
async def test_what_keeps_documents_away_is_found_and_mended(token: str, tmp_path: Path) -> None:
    async with recipe(tmp_path) as made:
        found = await made.call("find_connectors", platform="vectorize", status="failing")
        failing = {row["kind"]: row for row in found}
        assert failing["pipeline"]["id"] == seed.VECTORIZE_FAILED_PIPELINE
        verdict = await made.check("vectorize", seed.VECTORIZE_FAILED_PIPELINE, PIPELINE)
        assert (verdict["works"], list(verdict["seen"]["errors"])) == ("no", [seed.VECTORIZE_CONFLUENCE])
        events = await made.call("vectorize_get_pipeline_events", pipeline_id=seed.VECTORIZE_FAILED_PIPELINE)
        assert [each["type"] for each in events] == ["deployment-failed", "pipeline-created"]
        config = {"username": "wiki-reader@acme.example", "api-token": token, "domain": "acme.atlassian.net"}
        await made.call(
            "vectorize_update_source_connector", source_connector_id=seed.VECTORIZE_CONFLUENCE, config=config
        )
        await made.call("vectorize_start_pipeline", pipeline_id=seed.VECTORIZE_FAILED_PIPELINE)
        verdict = await settled(made, seed.VECTORIZE_FAILED_PIPELINE, PIPELINE)
        assert verdict["works"] == ("yes" if token == "new-token" else "no")
        made.assert_next_steps_were_taken("vectorize_update_source_connector", "vectorize_start_pipeline")
