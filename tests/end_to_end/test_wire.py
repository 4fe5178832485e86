"""Each operation, called through an MCP client, sends what its platform's documents demand.

The calls are in `wire/`, a file for each platform: a tool with its arguments, what the platform answers on the way, and
what the last request must be.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from connector_mcp.operations.catalog import PLATFORMS, catalog, platform_folder
from tests.end_to_end.recording import WireCall, connected, recording_server, wire_file

pytestmark = pytest.mark.anyio

AUTHORIZATION = {
    "vectorize": "Bearer vectorize-key",
    "logto": "Bearer logto-token",
    "versori": "JWT versori-key",
    "conductorone": "Bearer c1-token",
}
WITHHELD = ("one-time-token", "signature", "stored-secret", "secret-token:new")
"""Credentials in the answers, which no result may show."""
SOURCES = "/v1/org/org%2F1/connectors/sources"


@pytest.mark.parametrize("platform", PLATFORMS)
def test_every_operation_of_a_platform_is_called_here(platform: str) -> None:
    _, calls = wire_file(platform)
    assert {call.tool for call in calls} == {each.tool_name() for each in platform_folder(platform).operations}


@pytest.mark.parametrize("era", ["auto", "legacy"])
@pytest.mark.parametrize("platform", PLATFORMS)
async def test_each_operation_sends_what_its_platform_documents(platform: str, era: str, tmp_path: Path) -> None:
    async with recording_server() as recorder, connected(recorder, tmp_path, era) as client:
        always = dict(recorder.answers)
        for call in wire_file(platform)[1]:
            recorder.answers = always | call.answers
            result = await client.call_tool(call.tool, call.arguments)
            assert not result.is_error, (call.tool, result.structured_content)
            assert not [secret for secret in WITHHELD if secret in str(result.structured_content)], call.tool
            sent = recorder.requests[-1]
            assert (sent.method, sent.path, sent.query, sent.body) == call.sent, call.tool
            assert sent.headers["authorization"] == AUTHORIZATION[platform]
            assert (sent.headers.get("content-type") == "application/json") == (call.sent[3] is not None), call.tool


def ids_in_paths(call: WireCall) -> list[str]:
    return [argument for argument in catalog()[call.tool].http.placeholders if argument in call.arguments]


@pytest.mark.parametrize("platform", PLATFORMS)
async def test_an_id_that_changes_the_path_sends_nothing_to_it(platform: str, tmp_path: Path) -> None:
    async with recording_server() as recorder, connected(recorder, tmp_path) as client:
        always = dict(recorder.answers)
        for call in wire_file(platform)[1]:
            recorder.answers = always | call.answers
            # What the id is not a part of may be read before, such as the list that the target is taken from.
            reads = {key for key in call.answers if key[0] == "GET"} - {call.sent[:2]} | {("POST", "/oidc/token")}
            for argument in ids_in_paths(call):
                for identifier in ("..", ".", ""):
                    recorder.requests.clear()
                    result = await client.call_tool(call.tool, {**call.arguments, argument: identifier})
                    assert result.structured_content is not None
                    code = result.structured_content["error"]["code"]
                    assert code == ("not_found" if argument == "key_id" else "invalid_arguments"), (call.tool, argument)
                    assert {(sent.method, sent.path) for sent in recorder.requests} <= reads, (call.tool, argument)


async def test_the_array_form_of_create_sends_the_list_and_reports_each_connector(tmp_path: Path) -> None:
    connectors = [{"name": name, "type": "FILE_UPLOAD"} for name in ("one", "two")]
    array = {"VECTORIZE_CREATE_BODY": "array"}
    async with recording_server() as recorder, connected(recorder, tmp_path, "auto", **array) as client:
        created = [{"name": "one", "id": "1"}, {"name": "two", "id": "2"}]
        recorder.answers["POST", SOURCES] = (200, {"message": "ok", "connectors": created})
        result = await client.call_tool("vectorize_create_source_connector", {"connectors": connectors})
        assert [request.body for request in recorder.requests] == [connectors]
        assert [row["id"] for row in result.structured_content["data"]] == ["1", "2"]


async def test_one_refused_connector_does_not_hide_what_became_of_the_others(tmp_path: Path) -> None:
    async with recording_server() as recorder, connected(recorder, tmp_path) as client:
        recorder.answers["POST", SOURCES] = (400, {"error": "name taken"})
        connectors = [{"name": name, "type": "FILE_UPLOAD"} for name in ("one", "two")]
        refused = await client.call_tool("vectorize_create_source_connector", {"connectors": connectors})
        assert refused.structured_content["error"]["code"] == "rejected"
        assert [request.body["name"] for request in recorder.requests] == ["one", "two"]


async def test_logto_asks_for_its_token_once_with_credentials_in_the_form(tmp_path: Path) -> None:
    async with recording_server() as recorder, connected(recorder, tmp_path) as client:
        recorder.answers["GET", "/api/connectors"] = (200, [])
        for _ in range(3):
            await client.call_tool("logto_list_connectors", {})
        asked = [request for request in recorder.requests if request.path == "/oidc/token"]
        assert len(asked) == 1
        assert asked[0].form == {
            "grant_type": ["client_credentials"],
            "client_id": ["logto-app"],
            "client_secret": ["logto-secret"],
            "resource": ["https://default.logto.app/api"],
            "scope": ["all"],
        }


async def test_another_root_for_versoris_platform_api_is_used_where_one_is_set(tmp_path: Path) -> None:
    answers: dict[tuple[str, str], tuple[int, Any]] = {
        ("GET", "/gate/v2/o/org%202/systems"): (200, {"totalCount": 0, "items": []}),
        ("GET", "/gate/v1/o/org%202/connectors"): (200, {"totalCount": 0, "connectors": []}),
    }
    async with recording_server() as recorder:
        roots = {"VERSORI_BASE_URL": f"{recorder.origin}/gate/v1", "VERSORI_PLATFORM_URL": f"{recorder.origin}/gate/v2"}
        async with connected(recorder, tmp_path, **roots) as client:
            recorder.answers |= answers
            for tool in ("versori_list_systems", "versori_list_connectors"):
                assert not (await client.call_tool(tool, {})).is_error
        assert [request.path for request in recorder.requests] == [path for _, path in answers]


async def test_the_rows_of_a_search_by_post_come_a_page_at_a_time(tmp_path: Path) -> None:
    async with recording_server() as recorder, connected(recorder, tmp_path) as client:
        app = wire_file("conductorone")[0]["app"]
        recorder.answers["POST", "/api/v1/search/apps"] = (200, {"list": [app], "nextPageToken": "next"})
        first = await client.call_tool("conductorone_search_apps", {"query": "a"})
        cursor = first.structured_content["meta"]["cursor"]
        await client.call_tool("conductorone_search_apps", {"query": "a", "cursor": cursor})
        assert recorder.requests[-1].body == {"query": "a", "pageToken": "next"}
