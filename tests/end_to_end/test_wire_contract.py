"""Each documented operation, called through an MCP client, sends what the platform's document demands."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp.client import Client

from connector_mcp.composition.engine import open_engine
from connector_mcp.config.settings import Settings
from connector_mcp.operations.catalog import catalog
from connector_mcp.transport.mcp.server import build_server
from tests.end_to_end.recording import RecordingServer, recording_server

pytestmark = pytest.mark.anyio

ERAS = ["auto", "legacy"]
ODD = "ü /a%b"
ENCODED = "%C3%BC%20%2Fa%25b"
SOURCES = "/v1/org/org%2F1/connectors/sources"


def environment(origin: str) -> dict[str, str]:
    """All four platforms at the recording server."""
    vectorize = {"API_KEY": "vectorize-key", "ORGANIZATION_ID": "org/1", "BASE_URL": f"{origin}/v1"}
    logto = {"ENDPOINT": origin, "APP_ID": "logto-app", "APP_SECRET": "logto-secret"}
    versori = {"API_KEY": "versori-key", "ORGANISATION_ID": "org 2", "AUTH_PREFIX": "JWT"}
    versori["BASE_URL"] = f"{origin}/api/connect/v1"
    conductorone = {"ACCESS_TOKEN": "c1-token", "BASE_URL": origin}
    platforms = {"VECTORIZE": vectorize, "LOGTO": logto, "VERSORI": versori, "CONDUCTORONE": conductorone}
    return {f"{name}_{member}": value for name, members in platforms.items() for member, value in members.items()}


@asynccontextmanager
async def connected(recorder: RecordingServer, state: Path, era: str, **variables: str) -> AsyncIterator[Client]:
    token = {"access_token": "logto-token", "expires_in": 3600, "token_type": "Bearer", "scope": "all"}
    recorder.answers["POST", "/oidc/token"] = (200, token)
    allowed = "destroy=allow,disclose=allow"
    settings = Settings.load({}, state_dir=state, policy=allowed, verify_writes=False, toolsets=("all",))
    async with open_engine(settings, environment(recorder.origin) | variables, "stdio") as engine:
        server = build_server(engine, request_state_key=await engine.request_state_key())
        async with Client(server, mode=era) as client:
            yield client


CONFIG = {"seed-urls": ["https://a.example/ü"]}
VERSORI_NOW = {
    "id": ODD, "organisationId": "org 2", "name": "Acme", "protocol": "http", "baseUrl": "https://a.example",
    "documentationURL": "https://docs.example", "imageURL": "https://img.example", "tags": {"team": ["sales"]},
    "public": True, "authSchemeConfigs": [], "connections": [], "versions": [],
    "connectionVariables": [{"name": "region", "value": "eu"}],
}  # fmt: skip
C1_CONFIG = "type.googleapis.com/c1.api.app.v1.EnvConfig"
OKTA_DOMAIN = {"okta_v2_domain": {"stringValue": "acme.okta.com"}}
OKTA = {"id": ODD, "appId": "app 1", "catalogId": "2kG3aTftCcAvWtHZt2Ywry0dPn7", "displayName": "Okta"}
OKTA_SENT = {"id": ODD, "appId": "app 1", "displayName": "Okta 2"}
OKTA_SENT["config"] = {"@type": C1_CONFIG, "configuration": OKTA_DOMAIN | {
    "okta_v2_api_token": {"stringValue": "okta-token"}, "okta_sync_custom_roles": {"stringValue": "true"},
}}  # fmt: skip
C1_NOW = {"connectorView": {"connector": OKTA | {"config": {"@type": C1_CONFIG, "configuration": OKTA_DOMAIN}}}}
LOGTO_NOW = {
    "id": ODD, "connectorId": "github-universal", "type": "Social", "target": "github",
    "config": {"clientId": "old", "clientSecret": "stored-secret"}, "metadata": {}, "enableTokenStorage": False,
}  # fmt: skip

SOURCE = f"{SOURCES}/{ENCODED}"
LOGTO = f"/api/connectors/{ENCODED}"
VERSORI = f"/api/connect/v1/o/org%202/connectors/{ENCODED}"
VERSORI_SENT = ("id", "organisationId", "protocol", "baseUrl", "documentationURL", "imageURL", "public")
C1 = f"/api/v1/apps/app%201/connectors/{ENCODED}"
FILES = {"f": {"name": "n", "mimeType": "m"}}
CRAWLER = {"id": ODD, "type": "WEB_CRAWLER", "name": "n", "configDoc": {}}
DRIVE = {"id": ODD, "type": "GOOGLE_DRIVE_OAUTH_MULTI", "name": "n"}
DONE = (200, {"message": "ok"})
NOTION = {"id": ODD, "type": "NOTION_OAUTH_MULTI", "name": "n"}
SMS = {"endpoint": "https://sms.example/send", "authorization": "Bearer sms-token"}
ACME = {"target": "acme", "name": {"en": "Acme"}}
OIDC = {
    "authorizationEndpoint": "https://id.example/a", "tokenEndpoint": "https://id.example/t", "clientId": "c",
    "clientSecret": "oidc-client-secret", "scope": "openid",
    "idTokenVerificationConfig": {"jwksUri": "https://id.example/jwks"},
}  # fmt: skip
ACME_SENT = {"connectorId": "oidc", "id": "mine", "config": OIDC, "metadata": ACME | {"logoDark": None}}
ACME_SENT |= {"syncProfile": True, "enableTokenStorage": False}

# tool, arguments, answers needed on the way, then what the last request must be: method, path, query, body.
CALLS: list[tuple[str, dict[str, Any], dict[tuple[str, str], tuple[int, Any]], tuple[str, str, str, Any]]] = [
    (
        "vectorize_get_source_connectors",
        {"workspace_id": "w s&1", "limit": 5, "cursor": "a=b"},
        {("GET", SOURCES): (200, {"sourceConnectors": []})},
        ("GET", SOURCES, "workspaceId=w%20s%261&limit=5&nextToken=a%3Db", None),
    ),
    (
        "vectorize_create_source_connector",
        {"connectors": [{"name": "Nüm", "type": "WEB_CRAWLER", "config": CONFIG}], "workspace_id": "w1"},
        {("POST", SOURCES): (200, {"message": "ok", "connector": {"name": "n", "id": "1"}})},
        ("POST", SOURCES, "workspaceId=w1", {"name": "Nüm", "type": "WEB_CRAWLER", "config": CONFIG}),
    ),
    (
        "vectorize_get_source_connector",
        {"source_connector_id": ODD},
        {("GET", SOURCE): (200, CRAWLER)},
        ("GET", SOURCE, "", None),
    ),
    (
        "vectorize_update_source_connector",
        {"source_connector_id": ODD, "config": CONFIG},
        {
            ("GET", SOURCE): (200, CRAWLER),
            ("PATCH", SOURCE): (200, {"message": "ok", "data": {"updatedConnector": CRAWLER}}),
        },
        ("PATCH", SOURCE, "", {"config": CONFIG}),
    ),
    (
        "vectorize_delete_source_connector",
        {"source_connector_id": ODD},
        {("GET", SOURCE): (200, CRAWLER), ("DELETE", SOURCE): DONE},
        ("DELETE", SOURCE, "", None),
    ),
    (
        "vectorize_add_user_to_source_connector",
        {"source_connector_id": ODD, "user_id": "u/1", "selected_files": FILES, "refresh_token": "user-refresh-token"},
        {("GET", SOURCE): (200, DRIVE), ("POST", f"{SOURCE}/users"): DONE},
        (
            "POST",
            f"{SOURCE}/users",
            "",
            {"userId": "u/1", "selectedFiles": FILES, "refreshToken": "user-refresh-token"},
        ),
    ),
    (
        "vectorize_update_user_in_source_connector",
        {"source_connector_id": ODD, "user_id": "u1", "selected_files": {"pageIds": ["p"]}},
        {("GET", SOURCE): (200, NOTION), ("PATCH", f"{SOURCE}/users"): DONE},
        ("PATCH", f"{SOURCE}/users", "", {"userId": "u1", "selectedFiles": {"pageIds": ["p"]}}),
    ),
    (
        "vectorize_delete_user_from_source_connector",
        {"source_connector_id": ODD, "user_id": "u1"},
        {("GET", SOURCE): (200, NOTION), ("DELETE", f"{SOURCE}/users"): DONE},
        ("DELETE", f"{SOURCE}/users", "", {"userId": "u1"}),
    ),
    (
        "logto_list_connectors",
        {"target": "goo gle"},
        {("GET", "/api/connectors"): (200, [])},
        ("GET", "/api/connectors", "target=goo%20gle", None),
    ),
    (
        "logto_create_connector",
        {"connector_id": "oidc", "id": "mine", "config": OIDC, "metadata": ACME | {"logo_dark": None}}
        | {"sync_profile": True, "enable_token_storage": False},
        {("POST", "/api/connectors"): (200, {"id": "mine", "connectorId": "oidc"})},
        ("POST", "/api/connectors", "", ACME_SENT),
    ),
    ("logto_get_connector", {"id": ODD}, {("GET", LOGTO): (200, LOGTO_NOW)}, ("GET", LOGTO, "", None)),
    (
        "logto_update_connector",
        {"id": ODD, "config": {"clientId": "new"}, "sync_profile": False},
        {("GET", LOGTO): (200, LOGTO_NOW), ("PATCH", LOGTO): (200, LOGTO_NOW)},
        ("PATCH", LOGTO, "", {"config": {"clientId": "new", "clientSecret": "stored-secret"}, "syncProfile": False}),
    ),
    (
        "logto_delete_connector",
        {"id": ODD},
        {("GET", LOGTO): (200, LOGTO_NOW), ("DELETE", LOGTO): (204, None)},
        ("DELETE", LOGTO, "", None),
    ),
    (
        "logto_create_connector_test",
        {"factory_id": "http-sms", "config": SMS, "phone": "491701234567", "locale": "en"},
        {("POST", "/api/connectors/http-sms/test"): (204, None)},
        ("POST", "/api/connectors/http-sms/test", "", {"config": SMS, "phone": "491701234567", "locale": "en"}),
    ),
    (
        "logto_create_connector_authorization_uri",
        {"connector_id": ODD, "state": "s", "redirect_uri": "https://app.example/cb"},
        {("POST", f"{LOGTO}/authorization-uri"): (200, {"redirectTo": "https://p.example"})},
        ("POST", f"{LOGTO}/authorization-uri", "", {"state": "s", "redirectUri": "https://app.example/cb"}),
    ),
    (
        "versori_update_connector",
        {"connector_id": ODD, "name": "Acme 2", "tags": {}, "image_url": None},
        {("GET", VERSORI): (200, VERSORI_NOW), ("PUT", VERSORI): (200, VERSORI_NOW)},
        ("PUT", VERSORI, "", {name: VERSORI_NOW[name] for name in VERSORI_SENT} | {"name": "Acme 2", "tags": {}}),
    ),
    (
        "conductorone_update_connector",
        {
            "app_id": "app 1",
            "id": ODD,
            "display_name": "Okta 2",
            "config": {"okta_v2_api_token": "okta-token", "okta_sync_custom_roles": True},
            "expand_mask": ["app_id"],
        },
        {
            ("GET", C1): (200, C1_NOW),
            ("POST", "/api/v1/connectorcatalog"): (200, {"schema": None, "formSchema": None}),
            ("POST", C1): (200, C1_NOW),
        },
        (
            "POST",
            C1,
            "",
            {"connector": OKTA_SENT, "updateMask": "displayName,config", "expandMask": {"paths": ["app_id"]}},
        ),
    ),
    (
        "conductorone_list_apps",
        {"limit": 50, "cursor": "a=b"},
        {("GET", "/api/v1/apps"): (200, {"list": None, "nextPageToken": ""})},
        ("GET", "/api/v1/apps", "page_size=50&page_token=a%3Db", None),
    ),
]

AUTHORIZATION = {"vectorize": "Bearer vectorize-key", "logto": "Bearer logto-token", "versori": "JWT versori-key"}
AUTHORIZATION["conductorone"] = "Bearer c1-token"


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("call", CALLS, ids=[call[0] for call in CALLS])
async def test_an_operation_sends_what_its_platform_documents(call: Any, era: str, tmp_path: Path) -> None:
    tool, arguments, answers, expected = call
    async with recording_server() as recorder, connected(recorder, tmp_path, era) as client:
        recorder.answers.update(answers)
        result = await client.call_tool(tool, arguments)
        assert not result.is_error, result.structured_content
        sent = recorder.requests[-1]
        assert (sent.method, sent.path, sent.query, sent.body) == expected
        assert sent.headers["authorization"] == AUTHORIZATION[tool.partition("_")[0]]
        assert (sent.headers.get("content-type") == "application/json") == (expected[3] is not None)


def test_all_seventeen_documented_operations_and_the_list_of_apps_are_called_here() -> None:
    assert len({call[0] for call in CALLS}) == 18


IDS_IN_PATHS = [
    (name, argument)
    for name, operation in catalog().items()
    if operation.on is not None
    for argument in operation.http.placeholders
    if argument in next((call[1] for call in CALLS if call[0] == name), {})
]


def test_every_documented_operation_on_one_object_has_an_id_in_its_path() -> None:
    without = {"vectorize_get_source_connectors", "vectorize_create_source_connector"}
    without |= {"logto_list_connectors", "logto_create_connector", "conductorone_list_apps"}
    assert {tool for tool, _ in IDS_IN_PATHS} == {call[0] for call in CALLS} - without


@pytest.mark.parametrize("identifier", ["..", ".", ""])
@pytest.mark.parametrize(("tool", "argument"), IDS_IN_PATHS)
async def test_an_id_that_changes_the_path_sends_nothing(tool: str, argument: str, identifier: str, tmp_path: Path):
    full = next(call[1] for call in CALLS if call[0] == tool)
    async with recording_server() as recorder, connected(recorder, tmp_path, "auto") as client:
        result = await client.call_tool(tool, {**full, argument: identifier})
        assert result.is_error
        assert result.structured_content["error"]["code"] == "invalid_arguments"
        assert recorder.requests == []


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
    async with recording_server() as recorder, connected(recorder, tmp_path, "auto") as client:
        recorder.answers["POST", SOURCES] = (400, {"error": "name taken"})
        connectors = [{"name": name, "type": "FILE_UPLOAD"} for name in ("one", "two")]
        refused = await client.call_tool("vectorize_create_source_connector", {"connectors": connectors})
        assert refused.structured_content["error"]["code"] == "rejected"
        assert [request.body["name"] for request in recorder.requests] == ["one", "two"]


async def test_logto_asks_for_its_token_once_with_credentials_in_the_form(tmp_path: Path) -> None:
    async with recording_server() as recorder, connected(recorder, tmp_path, "auto") as client:
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
