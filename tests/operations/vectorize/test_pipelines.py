"""Vectorize's pipelines: what is refused before it costs, what a person reads, and what a result never shows."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any

import pytest
from pydantic import ValidationError

from connector_mcp.operations.situation import Situation
from connector_mcp.operations.vectorize.ai_platform_connectors import DeleteAiPlatformConnector
from connector_mcp.operations.vectorize.connectors import ConnectorOperation
from connector_mcp.operations.vectorize.destination_connectors import (
    CreateDestinationConnector,
    DeleteDestinationConnector,
    UpdateDestinationConnector,
)
from connector_mcp.operations.vectorize.pipelines import CreatePipeline, DeletePipeline, GetPipeline, GetPipelines
from connector_mcp.operations.vectorize.source_connectors import CreateSourceConnector, DeleteSourceConnector
from tests.operations.hooks import issues, losses

ORGANIZATION = {"organization_id": "org"}
ONE: dict[str, Any] = {**ORGANIZATION, "pipeline_id": "p"}


def create(**changes: Any) -> CreatePipeline:
    return CreatePipeline.model_validate({**ORGANIZATION, **deepcopy(CreatePipeline.example), **changes})


def source(type_id: str, config: Any) -> dict[str, Any]:
    return {"source_connectors": [{"id": "s", "type": type_id, "config": config}]}


def refused(**changes: Any) -> list[tuple[str, str]]:
    return [(issue.path, issue.wanted) for issue in issues(create(**changes), Situation())]


def test_the_example_is_taken_and_the_schedule_is_sent_in_its_own_form() -> None:
    assert issues(create(), Situation()) == []
    body = create().make_body(Situation())
    assert body["schedule"] == {"type": "manual"}
    assert body["destinationConnector"] == CreatePipeline.example["destination_connector"]
    assert "workspaceId" not in body


def into(type_id: str, config: Any = None) -> dict[str, Any]:
    return {"destination_connector": {"id": "d", "type": type_id} | ({} if config is None else {"config": config})}


def model(type_id: str, config: Any) -> dict[str, Any]:
    return {"ai_platform_connector": {"id": "a", "type": type_id, "config": config}}


PDF = {"file-extensions": ["pdf"], "idle-time": 9}
SITE = {"id": "s", "type": "WEB_CRAWLER", "config": {}}


@pytest.mark.parametrize(
    ("changes", "path", "wanted"),
    [
        (source("AWS_S3", {}), "source.config.file-extensions", "with at least 1 items"),
        (source("AWS_S3", PDF | {"file-extensions": ["exe"]}), "source.config.file-extensions[0]", "one of pdf"),
        (source("AWS_S3", PDF | {"idle-time": 0}), "source.config.idle-time", "at least 1"),
        (source("AWS_S3", PDF | {"secret-key": "k"}), "source.config.secret-key", "belongs to the connector"),
        (source("FILE_UPLOAD", {"path-prefix": "x"}), "source.config.path-prefix", "belongs to the connector"),
        (source("PINECONE", {}), "source.type", "one of"),
        (source("S3", {}), "source.type", "perhaps AWS_S3"),
        (source("VECTORIZE", {}), "source.type", "one of"),
        (source("ZOOM", {"start-date": "1 May"}), "source.config.start-date", "documented form"),
        (source("GITHUB", {"repositories": []}), "source.config.repositories", "at least 1 items"),
        (into("PINECONE"), "destination.config", "the pipeline_config of PINECONE: index"),
        (into("VECTORIZE", {"dimensions": 3}), "destination.config.dimensions", "no arguments"),
        (into("POSTGRESQL", {"table": "select"}), "destination.config.table", "no word of SQL"),
        (into("OPENAI"), "destination.type", "one of"),
        (model("OPENAI", {"embeddingModel": "VOYAGE_AI_3"}), "ai_platform.config.embeddingModel", "one of OPEN_AI"),
        (model("VECTORIZE", {"chunkOverlap": -1}), "ai_platform.config.chunkOverlap", "at least 0"),
        (model("GROQ", {"embeddingModel": "X"}), "ai_platform.config.embeddingModel", "one of chunkingStrategy"),
        ({"source_connectors": [SITE, SITE]}, "source_connectors[1].id", "each source once"),
    ],
)
def test_what_would_fail_after_it_was_deployed_is_refused_before(changes: Any, path: str, wanted: str) -> None:
    kind, _, rest = path.partition(".")
    place = {"source": "source_connectors[0]", "source_connectors[1]": kind}.get(kind, f"{kind}_connector")
    told = next(text for at, text in refused(**changes) if at == f"{place}.{rest}")
    assert wanted in told


@pytest.mark.parametrize("changes", [{"schedule": "custom"}, {"source_connectors": []}, {"pipeline_name": ""}])
def test_a_pipeline_that_no_schema_allows_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        create(**changes)


def test_a_creation_says_what_it_joins_and_what_it_costs() -> None:
    told = create(pipeline_name="{name} x", schedule="realtime").describe_effect(Situation()).format(name="?")
    assert told == (
        "Creates and deploys pipeline “{name} x” from Web Crawler into Built-in: it ingests at once and uses quota, "
        "until it is stopped. It cannot be changed later, only replaced."
    )
    assert not create().repeatable


def test_a_created_pipeline_is_read_back_and_is_not_yet_proven() -> None:
    assert create().read_back({"id": "p"}) == GetPipeline(**ONE)
    assert create().read_back({}) is None
    assert "deploys" in create().find_unproven({"id": "p"})
    assert "check_connector" in create().find_next_step({"id": "p"}, Situation())


def test_a_deletion_says_how_much_goes_and_what_is_not_known() -> None:
    told = DeletePipeline(**ONE).describe_effect(Situation({"documentCount": 1234567.0}))
    assert "which holds 1234567 documents," in told
    assert "not documented" in told
    assert "holds" not in DeletePipeline(**ONE).describe_effect(Situation({"documentCount": 0}))


def test_neither_list_nor_read_shows_a_credential_of_a_connector() -> None:
    part = {"id": "a", "type": "OPENAI", "name": "n", "configDoc": {"key": "leak-1"}, "createdByEmail": "leak-2"}
    stored = {
        "id": "p", "status": "LISTENING", "aiPlatforms": [part | {"errorMessage": "e"}],
        "configDoc": {"schedule": {"type": "manual"}, "parts": [{"config": {"key": "leak-3", "chunkSize": 5}}]},
    }  # fmt: skip
    shown = GetPipeline(**ONE).shape_result([{"data": stored}], Situation())
    assert shown["aiPlatforms"] == [{"id": "a", "type": "OPENAI", "name": "n", "errorMessage": "e"}]
    assert shown["configDoc"] == {"schedule": {"type": "manual"}, "parts": [{"config": {"chunkSize": 5}}]}
    listed = GetPipelines(**ORGANIZATION).shape_result([{"data": [stored]}], Situation())
    assert listed == [shown]
    assert "leak" not in json.dumps(shown)


ROWS = (
    {"id": "p1", "name": "First {x}", "sourceConnectorAuthIds": ["c"], "destinationConnectorAuthIds": ["d"]},
    {"id": "p2", "name": "Second", "sourceConnectorAuthIds": ["c", "e"], "aiPlatformAuthIds": ["m"]},
)


@pytest.mark.parametrize(
    ("call", "names"),
    [
        (DeleteSourceConnector(**ORGANIZATION, source_connector_id="c"), ["First {x}", "Second"]),
        (DeleteSourceConnector(**ORGANIZATION, source_connector_id="d"), []),
        (DeleteDestinationConnector(**ORGANIZATION, destination_connector_id="d"), ["First {x}"]),
        (UpdateDestinationConnector(**ORGANIZATION, destination_connector_id="d", config={}), ["First {x}"]),
        (DeleteAiPlatformConnector(**ORGANIZATION, ai_platform_connector_id="m"), ["Second"]),
    ],
)
def test_a_change_names_the_pipelines_that_use_the_connector(call: ConnectorOperation, names: list[str]) -> None:
    told = call.describe_effect(Situation({"type": "X"}, dependents=ROWS)).format(name="?")
    for row in ROWS:
        assert (f"“{row['name']}”" in told) == (row["name"] in names)
    assert ("no pipeline that uses it is listed" in told) == (not names)
    unknown = call.describe_effect(Situation({"type": "X"})).format(name="?")
    assert "pipelines that" in unknown
    assert "listed" not in unknown


@pytest.mark.parametrize(
    ("creation", "type_id", "got"),
    [
        (CreateDestinationConnector, "AWS_S3", "AWS_S3, a type of source that cannot be chosen here"),
        (CreateSourceConnector, "PINECONE", "PINECONE, a type of destination that cannot be chosen here"),
    ],
)
def test_a_type_of_another_kind_is_refused_with_its_kind(creation: Any, type_id: str, got: str) -> None:
    new = {"name": "n", "type": type_id, "config": {}}
    call = creation.model_validate({**ORGANIZATION, "connectors": [new]})
    [issue] = call.find_problems(Situation())
    assert (issue.path, issue.got, issue.unknown) == ("connectors[0].type", got, False)


def test_a_destination_config_is_replaced_whole() -> None:
    stored = Situation({"id": "d", "type": "MILVUS", "name": "n", "configDoc": {"url": "u", "username": "me"}})
    call = UpdateDestinationConnector(**ORGANIZATION, destination_connector_id="d", config={"url": "v"})
    assert [told for told, _, _ in losses(call, stored)] == [
        "Unsets username of the config",
        "Unsets password of the config if it is stored, which no read shows",
        "Unsets token of the config if it is stored, which no read shows",
    ]
