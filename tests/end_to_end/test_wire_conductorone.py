"""Each further operation of ConductorOne, called through an MCP client, sends what the documents of its API demand."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp.client import Client

from connector_mcp.composition.engine import open_engine
from connector_mcp.config.settings import Settings
from connector_mcp.operations.catalog import platform_folder
from connector_mcp.transport.mcp.server import build_server
from tests.end_to_end.recording import RecordingServer, recording_server
from tools.operations_page import documented, request

pytestmark = pytest.mark.anyio

ODD = "ü /a%b"
ENCODED = "%C3%BC%20%2Fa%25b"
OKTA = "2kG3aTftCcAvWtHZt2Ywry0dPn7"
GITHUB = "2gkeVHQ9u8BtFpouw5jRmbnxjkW"
ENV_CONFIG = "type.googleapis.com/c1.api.app.v1.EnvConfig"

APP: dict[str, Any] = {"id": ODD, "displayName": "Ä", "annotations": {"kept": "1"}, "appOwners": []}
CONNECTOR: dict[str, Any] = {"id": ODD, "appId": ODD, "catalogId": OKTA, "displayName": "Okta", "userIds": ["u1"]}
CREDENTIAL = {"id": ODD, "connectorId": ODD, "clientId": "owl", "clientSecret": ""}
SCHEMA: dict[str, Any] = {"schema": {"displayName": "Okta v2", "fields": []}, "formSchema": None}
PLACE = {"app_id": ODD, "connector_id": ODD}

A = f"/api/v1/apps/{ENCODED}"
C = f"{A}/connectors/{ENCODED}"
OWNERS = f"/api/v2/apps/{ENCODED}/connectors/{ENCODED}/owners"
Answers = dict[tuple[str, str], tuple[int, Any]]
IN_APP: Answers = {
    ("GET", A): (200, {"app": APP}),
    ("POST", "/api/v1/connectorcatalog"): (200, SCHEMA),
}
OF_CONNECTOR: Answers = {("GET", C): (200, {"connectorView": {"connector": CONNECTOR}})}
PAUSED: Answers = {
    ("GET", C): (200, {"connectorView": {"connector": CONNECTOR | {"syncDisabledAt": "2026-08-20T10:00:00Z"}}})
}
EMPTY_PAGE: tuple[int, Any] = (200, {"list": None, "nextPageToken": ""})
CHANGED = (200, {"connectorView": {"connector": CONNECTOR}, "expanded": None})


def wrapped(**values: str) -> dict[str, Any]:
    return {"@type": ENV_CONFIG, "configuration": {key: {"stringValue": value} for key, value in values.items()}}


# tool, arguments, answers needed on the way, then what the last request must be: method, path, query, body.
CALLS: list[tuple[str, dict[str, Any], Answers, tuple[str, str, str, Any]]] = [
    (
        "conductorone_search_apps",
        {"display_name": "Ökta", "only_directories": True, "app_ids": None, "limit": 5, "cursor": "a=b"},
        {("POST", "/api/v1/search/apps"): EMPTY_PAGE},
        (
            "POST",
            "/api/v1/search/apps",
            "",
            {"displayName": "Ökta", "onlyDirectories": True, "pageSize": 10, "pageToken": "a=b"},
        ),
    ),
    ("conductorone_get_app", {"id": ODD}, {("GET", A): (200, {"app": APP})}, ("GET", A, "", None)),
    (
        "conductorone_create_app",
        {"display_name": "Ü", "owners": ["u1"], "monthly_cost_usd": 0, "annotations": {"a": "b"}, "description": None},
        {("POST", "/api/v1/apps"): (200, {"app": APP})},
        (
            "POST",
            "/api/v1/apps",
            "",
            {"displayName": "Ü", "owners": ["u1"], "monthlyCostUsd": 0, "annotations": {"a": "b"}},
        ),
    ),
    (
        "conductorone_update_app",
        {"id": ODD, "description": "", "annotations": {"new": "u=1", "kept": ""}},
        IN_APP | {("POST", A): (200, {"app": APP})},
        (
            "POST",
            A,
            "",
            {
                "app": {"id": ODD, "description": "", "annotations": {"new": "u=1", "kept": ""}},
                "updateMask": "description,annotations",
            },
        ),
    ),
    (
        "conductorone_create_connector",
        {
            "app_id": ODD,
            "catalog_id": OKTA,
            "config": {"okta_v2_domain": "a.okta.com", "okta_v2_api_token": "t", "okta_sync_secrets": False},
            "description": "Ü",
            "user_ids": ["u1"],
            "expand_mask": ["app_id"],
        },
        IN_APP | {("POST", f"{A}/connectors/create"): CHANGED},
        (
            "POST",
            f"{A}/connectors/create",
            "",
            {
                "catalogId": OKTA,
                "config": wrapped(okta_v2_domain="a.okta.com", okta_v2_api_token="t", okta_sync_secrets="false"),
                "description": "Ü",
                "userIds": ["u1"],
                "expandMask": {"paths": ["app_id"]},
            },
        ),
    ),
    (
        "conductorone_create_connector",
        {
            "app_id": ODD,
            "catalog_id": GITHUB,
            "config": {
                "C1_selected_field_group_name": "github_personal_access_token_group",
                "github_access_token": "t",
                "github_org_list": ["a", "b"],
            },
        },
        IN_APP | {("POST", f"{A}/connectors/create"): CHANGED},
        (
            "POST",
            f"{A}/connectors/create",
            "",
            {
                "catalogId": GITHUB,
                "config": wrapped(
                    C1_selected_field_group_name="github_personal_access_token_group",
                    github_access_token="t",
                    github_org_list="a,b",
                ),
            },
        ),
    ),
    (
        "conductorone_create_delegated_connector",
        {
            "app_id": ODD,
            "catalog_id": OKTA,
            "display_name": "Ökta",
            "user_ids": None,
            "app_entitlement_owner_refs": [{"app_id": "a", "id": "e"}],
        },
        IN_APP | {("POST", f"{A}/connectors"): CHANGED},
        (
            "POST",
            f"{A}/connectors",
            "",
            {"catalogId": OKTA, "displayName": "Ökta", "appEntitlementOwnerRefs": [{"appId": "a", "id": "e"}]},
        ),
    ),
    (
        "conductorone_update_delegated_connector",
        {**PLACE, "display_name": "Ü", "user_ids": ["u1", "u2"], "expand_mask": ["*"]},
        OF_CONNECTOR | {("POST", f"{C}/delegated"): CHANGED},
        (
            "POST",
            f"{C}/delegated",
            "",
            {
                "connector": {"id": ODD, "appId": ODD, "displayName": "Ü", "userIds": ["u1", "u2"]},
                "updateMask": "displayName,userIds",
                "expandMask": {"paths": ["*"]},
            },
        ),
    ),
    ("conductorone_delete_connector", {"app_id": ODD, "id": ODD}, OF_CONNECTOR, ("DELETE", C, "", {})),
    (
        "conductorone_validate_http_connector_config",
        {"text": 'version: "1"\nü: 1'},
        {("POST", "/api/v1/apps/connectors/validate_config/http"): (200, {"markers": None})},
        ("POST", "/api/v1/apps/connectors/validate_config/http", "", {"text": 'version: "1"\nü: 1'}),
    ),
    ("conductorone_force_sync", PLACE, OF_CONNECTOR, ("POST", f"{C}/force_sync", "", {})),
    ("conductorone_pause_sync", PLACE, OF_CONNECTOR, ("POST", f"{C}/pause", "", {})),
    ("conductorone_resume_sync", PLACE, PAUSED, ("POST", f"{C}/resume", "", {})),
    (
        "conductorone_update_connector_schedule",
        {**PLACE, "cron_spec": "0 */6 * * *", "timezone": "Europe/Berlin"},
        OF_CONNECTOR,
        ("POST", f"{C}/schedule", "", {"cron": {"cronSpec": "0 */6 * * *", "timezone": "Europe/Berlin"}}),
    ),
    (
        "conductorone_rotate_credential",
        PLACE,
        OF_CONNECTOR
        | {
            ("POST", "/api/v1/apps/connectors/credentials"): (
                200,
                {"credential": CREDENTIAL | {"clientSecret": "secret-token:new"}},
            )
        },
        ("POST", "/api/v1/apps/connectors/credentials", "", {"appId": ODD, "connectorId": ODD}),
    ),
    (
        "conductorone_get_credentials",
        {**PLACE, "credential_id": ODD},
        {("GET", f"{C}/credentials/{ENCODED}"): (200, {"credential": CREDENTIAL})},
        ("GET", f"{C}/credentials/{ENCODED}", "", None),
    ),
    (
        "conductorone_revoke_credential",
        {**PLACE, "credential_id": ODD},
        {("GET", f"{C}/credentials/{ENCODED}"): (200, {"credential": CREDENTIAL})},
        ("POST", f"{C}/credentials/{ENCODED}", "", {}),
    ),
    (
        "conductorone_list_app_owner_ids",
        {"app_id": ODD},
        {("GET", f"{A}/ownerids"): (200, {"userIds": None})},
        ("GET", f"{A}/ownerids", "", None),
    ),
    (
        "conductorone_add_app_owner",
        {"app_id": ODD, "user_id": ODD},
        IN_APP,
        ("POST", f"{A}/owners/{ENCODED}", "", {}),
    ),
    (
        "conductorone_search_connector_user_owners",
        {**PLACE, "role_slug": "ü&", "limit": 50},
        {("GET", f"{OWNERS}/users"): EMPTY_PAGE},
        ("GET", f"{OWNERS}/users", "role_slug=%C3%BC%26&page_size=50", None),
    ),
    (
        "conductorone_create_connector_user_owner",
        {**PLACE, "role_slug": ODD, "user_id": ODD},
        OF_CONNECTOR
        | {
            ("POST", f"{OWNERS}/users/{ENCODED}/{ENCODED}"): (
                200,
                {"connectorOwnerUser": {"roleSlug": ODD, "user": {"id": ODD}}},
            )
        },
        ("POST", f"{OWNERS}/users/{ENCODED}/{ENCODED}", "", {"userRef": {"id": ODD}}),
    ),
    (
        "conductorone_set_connector_owners",
        {**PLACE, "role_slug": "owner", "user_ids": ["ü"], "app_entitlement_refs": [{"app_id": "a", "id": "e"}]},
        {("GET", f"{OWNERS}/users"): EMPTY_PAGE},
        (
            "PUT",
            OWNERS,
            "",
            {"roleSlug": "owner", "userRefs": [{"id": "ü"}], "appEntitlementRefs": [{"appId": "a", "id": "e"}]},
        ),
    ),
]


@asynccontextmanager
async def connected(recorder: RecordingServer, state: Path) -> AsyncIterator[Client]:
    environ = {"CONDUCTORONE_ACCESS_TOKEN": "c1-token", "CONDUCTORONE_BASE_URL": recorder.origin}
    settings = Settings.load(
        {}, state_dir=state, toolsets="all", policy="destroy=allow,disclose=allow", verify_writes=False
    )
    async with open_engine(settings, environ, "stdio") as engine:
        server = build_server(engine, request_state_key=await engine.request_state_key())
        async with Client(server) as client:
            yield client


async def test_each_operation_sends_what_its_api_documents(tmp_path: Path) -> None:
    async with recording_server() as recorder, connected(recorder, tmp_path) as client:
        for tool, arguments, answers, expected in CALLS:
            recorder.answers = dict(answers)
            result = await client.call_tool(tool, arguments)
            assert not result.is_error, (tool, result.structured_content)
            last = recorder.requests[-1]
            assert (last.method, last.path, last.query, last.body) == expected, tool
            assert "secret-token:new" not in str(result.structured_content)
        assert {request.headers["authorization"] for request in recorder.requests} == {"Bearer c1-token"}


def test_every_further_operation_is_called_here() -> None:
    elsewhere = ("update_connector", "list_connectors", "get_connector", "list_apps")
    tools = {operation.tool_name() for operation in platform_folder("conductorone").operations}
    assert {call[0] for call in CALLS} == tools - {f"conductorone_{name}" for name in elsewhere}


def test_every_documented_operation_is_a_tool_or_says_why_not() -> None:
    operations = platform_folder("conductorone").operations
    tools = {request(each.http.method, each.http.path): each for each in operations}
    entries = documented("conductorone")
    assert {each.request for each in entries} >= tools.keys()
    for each in entries:
        assert bool(each.reason) == (each.request not in tools), each.operation
        assert each.rank != "A" or each.request in tools or "describe_connector_type" in each.reason
    by_request = {each.request: each.rank for each in entries}
    assert {by_request[key] for key, each in tools.items() if each.by_default} == {"A"}


async def test_the_rows_of_a_search_come_a_page_at_a_time(tmp_path: Path) -> None:
    async with recording_server() as recorder, connected(recorder, tmp_path) as client:
        recorder.answers["POST", "/api/v1/search/apps"] = (200, {"list": [APP], "nextPageToken": "next"})
        first = await client.call_tool("conductorone_search_apps", {"query": "a"})
        cursor = first.structured_content["meta"]["cursor"]
        await client.call_tool("conductorone_search_apps", {"query": "a", "cursor": cursor})
        assert recorder.requests[-1].body == {"query": "a", "pageToken": "next"}
