"""What each further operation of Vectorize sends, called through an MCP client, is what its documents demand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from connector_mcp.operations.catalog import platform_folder
from tests.end_to_end.recording import recording_server
from tests.end_to_end.test_wire_contract import CALLS as WITH_SOURCES
from tests.end_to_end.test_wire_contract import DONE, ENCODED, ODD, connected
from tools.operations_page import documented, request

pytestmark = pytest.mark.anyio

ORGANIZATION = "/v1/org/org%2F1"
PIPELINES = f"{ORGANIZATION}/pipelines"
PIPELINE = f"{PIPELINES}/{ENCODED}"
FILES = f"{ORGANIZATION}/uploads/{ENCODED}/files"
STORED = {"id": ODD, "name": "n", "documentCount": 3, "status": "LISTENING"}
NOW = {("GET", PIPELINE): (200, {"message": "ok", "data": STORED})}
DRIVE = {"id": ODD, "type": "GOOGLE_DRIVE_OAUTH_MULTI", "name": "n"}
FILE = {"key": "k", "name": "ü/1#?.pdf", "size": 1, "lastModified": None, "metadata": {}}
TOKEN = {"token": "one-time-token", "expires_at": 1767225600, "ttl": 600}

Call = tuple[str, dict[str, Any], dict[tuple[str, str], tuple[int, Any]], tuple[str, str, str, Any]]


def connector_calls(name: str, path: str, rows: str, type_id: str, config: Any) -> list[Call]:
    """The five calls of a kind of connector. A null is not sent, and neither is the name of an argument."""
    all_of = f"{ORGANIZATION}/connectors/{path}"
    one, argument, record = f"{all_of}/{ENCODED}", f"{name}_connector_id", {"id": ODD, "type": type_id, "name": "n"}
    new = {"name": "Nüm", "type": type_id, "config": config}
    created = {"message": "ok", "connector": {"name": "n", "id": "1"}}
    updated = {"message": "ok", "data": {"updatedConnector": record}}
    read: dict[tuple[str, str], tuple[int, Any]] = {("GET", one): (200, record)}
    return [
        (
            f"vectorize_get_{name}_connectors",
            {"workspace_id": "w s&1", "limit": 5, "cursor": "a=b"},
            {("GET", all_of): (200, {rows: []})},
            ("GET", all_of, "workspaceId=w%20s%261&limit=5&nextToken=a%3Db", None),
        ),
        (
            f"vectorize_create_{name}_connector",
            {"connectors": [new], "workspace_id": None},
            {("POST", all_of): (200, created)},
            ("POST", all_of, "", new),
        ),
        (f"vectorize_get_{name}_connector", {argument: ODD}, read, ("GET", one, "", None)),
        (
            f"vectorize_update_{name}_connector",
            {argument: ODD, "config": config},
            read | {("PATCH", one): (200, updated)},
            ("PATCH", one, "", {"config": config}),
        ),
        (
            f"vectorize_delete_{name}_connector",
            {argument: ODD},
            read | {("DELETE", one): DONE},
            ("DELETE", one, "", None),
        ),
    ]


SOURCE_PART = {"id": "s", "type": "AWS_S3", "config": {"file-extensions": ["pdf"], "idle-time": 300}}
CREATED = {
    "pipeline_name": "Nüm {x}",
    "source_connectors": [SOURCE_PART, {"id": "t", "type": "WEB_CRAWLER", "config": {}}],
    "destination_connector": {"id": "d", "type": "VECTORIZE", "config": None},
    "ai_platform_connector": {"id": "a", "type": "OPENAI", "config": {"chunkSize": 500}},
    "schedule": "realtime",
    "workspace_id": "w 1",
}
CREATED_BODY = {
    "pipelineName": "Nüm {x}",
    "sourceConnectors": CREATED["source_connectors"],
    "destinationConnector": {"id": "d", "type": "VECTORIZE"},
    "aiPlatformConnector": CREATED["ai_platform_connector"],
    "schedule": {"type": "realtime"},
}

CALLS: list[Call] = [
    *connector_calls("destination", "destinations", "destinationConnectors", "PINECONE", {"api-key": "pinecone-key"}),
    *connector_calls("ai_platform", "aiplatforms", "aiPlatformConnectors", "OPENAI", {"key": "openai-key"}),
    (
        "vectorize_get_pipelines",
        {"limit": 100, "cursor": "a=b"},
        {("GET", PIPELINES): (200, {"message": "ok", "data": []})},
        ("GET", PIPELINES, "limit=100&nextToken=a%3Db", None),
    ),
    (
        "vectorize_create_pipeline",
        CREATED,
        {("POST", PIPELINES): (200, {"message": "ok", "data": {"id": "p"}})},
        ("POST", PIPELINES, "workspaceId=w%201", CREATED_BODY),
    ),
    ("vectorize_get_pipeline", {"pipeline_id": ODD}, NOW, ("GET", PIPELINE, "", None)),
    (
        "vectorize_start_pipeline",
        {"pipeline_id": ODD},
        NOW | {("POST", f"{PIPELINE}/start"): DONE},
        ("POST", f"{PIPELINE}/start", "", None),
    ),
    (
        "vectorize_stop_pipeline",
        {"pipeline_id": ODD},
        NOW | {("POST", f"{PIPELINE}/stop"): DONE},
        ("POST", f"{PIPELINE}/stop", "", None),
    ),
    (
        "vectorize_delete_pipeline",
        {"pipeline_id": ODD},
        NOW | {("DELETE", PIPELINE): DONE},
        ("DELETE", PIPELINE, "", None),
    ),
    (
        "vectorize_get_pipeline_events",
        {"pipeline_id": ODD, "cursor": "a=b"},
        {("GET", f"{PIPELINE}/events"): (200, {"message": "ok", "data": []})},
        ("GET", f"{PIPELINE}/events", "nextToken=a%3Db", None),
    ),
    (
        "vectorize_get_pipeline_metrics",
        {"pipeline_id": ODD, "limit": 5},
        {("GET", f"{PIPELINE}/metrics"): (200, {"message": "ok", "data": []})},
        ("GET", f"{PIPELINE}/metrics", "", None),
    ),
    (
        "vectorize_get_upload_files_from_connector",
        {"connector_id": ODD, "limit": 5},
        {("GET", FILES): (200, {"message": "ok", "files": []})},
        ("GET", FILES, "limit=5", None),
    ),
    (
        "vectorize_start_file_upload_to_connector",
        {"connector_id": ODD, "name": "ü.pdf", "content_type": "application/pdf", "metadata": {"team": "ü"}},
        {("GET", FILES): (200, {"files": []}), ("PUT", FILES): (200, {"uploadUrl": "https://b.example/u?s=signature"})},
        ("PUT", FILES, "", {"name": "ü.pdf", "contentType": "application/pdf", "metadata": '{"team": "ü"}'}),
    ),
    (
        "vectorize_delete_file_from_connector",
        {"connector_id": ODD, "file_name": FILE["name"]},
        {("GET", FILES): (200, {"files": [FILE]}), ("DELETE", f"{FILES}/%C3%BC%2F1%23%3F.pdf"): DONE},
        ("DELETE", f"{FILES}/%C3%BC%2F1%23%3F.pdf", "", None),
    ),
    (
        "vectorize_get_workspaces",
        {"limit": 100},
        {("GET", f"{ORGANIZATION}/workspaces"): (200, {"workspaces": []})},
        ("GET", f"{ORGANIZATION}/workspaces", "limit=100", None),
    ),
    (
        "vectorize_generate_one_time_connector_token",
        {"source_connector_id": ODD, "user_id": "u/1"},
        {
            ("GET", f"{ORGANIZATION}/connectors/sources/{ENCODED}"): (200, DRIVE),
            ("POST", f"{ORGANIZATION}/generateOneTimeConnectorToken"): (200, TOKEN),
        },
        ("POST", f"{ORGANIZATION}/generateOneTimeConnectorToken", "", {"user_id": "u/1", "connector_id": ODD}),
    ),
]


@pytest.mark.parametrize("call", CALLS, ids=[call[0] for call in CALLS])
async def test_an_operation_sends_what_its_platform_documents(call: Call, tmp_path: Path) -> None:
    tool, arguments, answers, expected = call
    async with recording_server() as recorder, connected(recorder, tmp_path, "auto") as client:
        recorder.answers.update(answers)
        result = await client.call_tool(tool, arguments)
        assert not result.is_error, result.structured_content
        sent = recorder.requests[-1]
        assert (sent.method, sent.path, sent.query, sent.body) == expected
        assert sent.headers["authorization"] == "Bearer vectorize-key"
        for secret in ("one-time-token", "signature"):
            assert secret not in str(result)


@pytest.mark.parametrize(
    ("tool", "argument"),
    [
        (call[0], argument)
        for call in CALLS
        for operation in platform_folder("vectorize").operations
        if operation.tool_name() == call[0]
        for argument in operation.http.placeholders
        if argument in call[1]
    ],
)
async def test_an_id_that_changes_the_path_sends_nothing(tool: str, argument: str, tmp_path: Path) -> None:
    _, full, answers, _ = next(call for call in CALLS if call[0] == tool)
    async with recording_server() as recorder, connected(recorder, tmp_path, "auto") as client:
        recorder.answers.update(answers)
        for identifier in ("..", ".", ""):
            result = await client.call_tool(tool, {**full, argument: identifier})
            assert result.structured_content is not None
            assert result.structured_content["error"]["code"] == "invalid_arguments"
        # Of a file its name is in the path, so that the list of files may be read.
        assert [sent.path for sent in recorder.requests if (sent.method, sent.path) != ("GET", FILES)] == []


def test_each_documented_operation_is_a_tool_that_is_called_here_or_says_why_not() -> None:
    declared = {request(each.http.method, each.http.path) for each in platform_folder("vectorize").operations}
    assert declared == {each.request for each in documented("vectorize") if not each.reason}
    called = {call[0] for call in (*CALLS, *WITH_SOURCES) if call[0].startswith("vectorize_")}
    assert called == {each.tool_name() for each in platform_folder("vectorize").operations}
