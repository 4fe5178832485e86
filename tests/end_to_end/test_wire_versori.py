"""Each further operation of Versori, called through an MCP client, sends what the documents of its API demand."""

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

pytestmark = pytest.mark.anyio

ODD = "ü /a%b"
ENCODED = "%C3%BC%20%2Fa%25b"
ORGANISATION = "org 2"
V1 = "/api/connect/v1"
V1_ORG = f"{V1}/o/org%202"
V2 = "/api/v2/o/org%202"
NO_ID = "0" * 26

KEY = {"type": "api-key", "apiKey": {"id": "k", "description": "Kü", "name": "X-Key", "in": "header"}}
V1_KEY = {"schemeType": "api-key", "id": "k", "description": "Kü", "name": "X-Key", "in": "header"}
APP = {"credentialId": "cred", "organisationId": "org 2", "clientId": "app", "clientSecret": ""}
OAUTH = {
    "id": "oauth", "description": "OAuth", "authorizeUrl": "https://a.example/authorize", "scopes": [{"name": "r"}],
    "tokenUrl": "https://a.example/token", "defaultScopes": ["r"],
}  # fmt: skip


def oauth(app: dict[str, Any]) -> dict[str, Any]:
    return {"type": "oauth2", "oauth2": {**OAUTH, "grant": {"type": "authorizationCode", "authorizationCode": app}}}


GIVEN = [{"auth_scheme_config": KEY, "type": "string", "data": {"value": "sk-1"}}]
CLIENT = {"clientId": "c", "clientSecret": "sk-2", "tokenUrl": "https://a.example/token"}


def sent(identifier: str, credential: str) -> list[dict[str, Any]]:
    """The credentials of `GIVEN` on the wire."""
    held = {"id": credential, "organisationId": ORGANISATION, "type": "string", "data": {"string": {"value": "sk-1"}}}
    return [{"id": identifier, "authSchemeConfig": KEY, "credential": held}]


STORED = {
    "id": ODD, "name": "Ä", "baseUrl": "https://own.example",
    "credentials": [{"id": "1", "authSchemeConfig": KEY, "credential": {"id": "2", "data": {"string": {"value": ""}}}}],
}  # fmt: skip
SYSTEM = {
    "id": ODD, "name": "S", "domain": "https://a.example", "templateBaseUrl": "https://a.example/api",
    "authSchemeConfigs": [KEY, oauth(APP)],
}  # fmt: skip
CONNECTOR = {"id": ODD, "name": "C", "protocol": "http", "authSchemeConfigs": [V1_KEY], "connections": []}
TEMPLATE = {"id": "s", "connectionTemplateId": ODD, "name": "t", "dynamic": False, "authSchemeConfigs": [KEY]}
ACTIVATION = {"id": ODD, "user": {"id": "u", "externalId": "m-1"}, "dynamicVariables": {"kept": 1}}
ENVIRONMENT = {"id": "e", "name": "pröd", "status": "running", "deployedVersion": {"id": "v0", "name": "0"}}
PROJECT = {"id": ODD, "name": "P", "environments": [ENVIRONMENT]}
SCHEMA = {"type": "object", "properties": {"ü": {"type": "string"}}, "required": ["ü"]}

C = f"{V1_ORG}/connectors/{ENCODED}"
S = f"{V2}/systems/{ENCODED}"
N = f"{V2}/connections/{ENCODED}"
P = f"{V2}/projects/{ENCODED}"
T = f"{P}/connection-templates/{ENCODED}"
E = f"{V2}/environments/{ENCODED}"
A = f"{E}/activations/{ENCODED}"
EMPTY_PAGE: tuple[int, Any] = (200, {"totalCount": 0, "items": []})
DONE: tuple[int, Any] = (204, None)
IN_PROJECT: dict[str, Any] = {"project_id": ODD}
IN_TEMPLATE: dict[str, Any] = {"project_id": ODD, "template_id": ODD}
IN_ACTIVATION: dict[str, Any] = {"environment_id": ODD, "activation_id": ODD}
Answers = dict[tuple[str, str], tuple[int, Any]]
TEMPLATES: Answers = {("GET", f"{P}/connection-templates"): (200, {"totalCount": 1, "items": [TEMPLATE]})}
ACTIVE: Answers = {("GET", A): (200, ACTIVATION)}
NEW_SYSTEM = {"name": "Ü", "domain": "https://a.example", "template_base_url": "https://a.example/api"}

# tool, arguments, answers needed on the way, then what the last request must be: method, path, query, body.
CALLS: list[tuple[str, dict[str, Any], Answers, tuple[str, str, str, Any]]] = [
    (
        "versori_v1_list_public_connectors",
        {"name": "ü", "categories": ["ERP", "CRM"], "limit": 5},
        {("GET", f"{V1}/connectors"): (200, {"totalCount": 0, "connectors": []})},
        ("GET", f"{V1}/connectors", "name=%C3%BC&categories=ERP&categories=CRM&first=5", None),
    ),
    (
        "versori_v1_create_http_connector",
        {"name": "Ü", "base_url": "https://a.example", "auth_scheme_configs": [V1_KEY], "tags": None},
        {("POST", f"{V1_ORG}/protocols/http/connectors"): (201, CONNECTOR)},
        (
            "POST",
            f"{V1_ORG}/protocols/http/connectors",
            "",
            {"name": "Ü", "baseUrl": "https://a.example", "authSchemeConfigs": [V1_KEY], "connections": []},
        ),
    ),
    (
        "versori_v1_delete_connector",
        {"connector_id": ODD, "force": False},
        {("GET", C): (200, CONNECTOR), ("DELETE", C): DONE},
        ("DELETE", C, "force=false", None),
    ),
    (
        "versori_v1_upsert_auth_scheme_config",
        {"connector_id": ODD, "auth_scheme_config_id": "k", "config": V1_KEY},
        {("GET", C): (200, CONNECTOR), ("PUT", f"{C}/auth-scheme-configs/k"): (200, CONNECTOR)},
        ("PUT", f"{C}/auth-scheme-configs/k", "", V1_KEY),
    ),
    (
        "versori_list_systems",
        {"search": "ü&", "limit": 5, "cursor": "a=b"},
        {("GET", f"{V2}/systems"): EMPTY_PAGE},
        ("GET", f"{V2}/systems", "search=%C3%BC%26&first=5&after=a%3Db", None),
    ),
    ("versori_get_system", {"system_id": ODD}, {("GET", S): (200, SYSTEM)}, ("GET", S, "", None)),
    (
        "versori_create_system",
        NEW_SYSTEM | {"labels": {"team": "sales"}, "auth_scheme_configs": None},
        {("POST", f"{V2}/systems"): (201, SYSTEM)},
        (
            "POST",
            f"{V2}/systems",
            "",
            {
                "name": "Ü",
                "domain": "https://a.example",
                "templateBaseUrl": "https://a.example/api",
                "labels": {"team": "sales"},
                "authSchemeConfigs": [],
            },
        ),
    ),
    (
        "versori_update_system",
        {"system_id": ODD, "name": "Ü", "domain": None},
        {("GET", S): (200, SYSTEM), ("PUT", S): (201, SYSTEM)},
        ("PUT", S, "", {"name": "Ü"}),
    ),
    (
        "versori_delete_system",
        {"system_id": ODD},
        {("GET", S): (200, SYSTEM), ("DELETE", S): DONE},
        ("DELETE", S, "", None),
    ),
    (
        # The stored client credential is sent again, so that Versori keeps its secret.
        "versori_upsert_auth_scheme_config",
        {"system_id": ODD, "auth_scheme_config_id": "oauth", "config": oauth({"clientId": "app 2"})},
        {("GET", S): (200, SYSTEM), ("PUT", f"{S}/auth-scheme-configs/oauth"): (201, oauth(APP))},
        (
            "PUT",
            f"{S}/auth-scheme-configs/oauth",
            "",
            oauth({"clientId": "app 2", "credentialId": "cred", "organisationId": "org 2"}),
        ),
    ),
    (
        "versori_initialise_oauth2_connection",
        {"system_id": ODD, "auth_scheme_config_id": "oauth", "scopes": ["r"], "disable_offline_access": True},
        {("GET", S): (200, SYSTEM), ("POST", f"{S}/oauth2/initialise"): (200, {"url": "https://a.example/x"})},
        (
            "POST",
            f"{S}/oauth2/initialise",
            "",
            {
                "scopes": ["r"],
                "disableOfflineAccess": True,
                "credential": {"id": "cred", "organisationId": "org 2"},
                "authorizeUrl": "https://a.example/authorize",
                "clientId": "app",
            },
        ),
    ),
    (
        "versori_list_connections",
        {"system_id": "s 1", "end_user_id": "u/1"},
        {("GET", f"{V2}/connections"): EMPTY_PAGE},
        ("GET", f"{V2}/connections", "system_id=s%201&end_user_id=u%2F1", None),
    ),
    (
        "versori_list_environment_connections",
        IN_PROJECT | {"environment_id": "e 1"},
        {("GET", f"{P}/connections"): EMPTY_PAGE},
        ("GET", f"{P}/connections", "env_id=e%201", None),
    ),
    ("versori_get_connection", {"connection_id": ODD}, {("GET", N): (200, STORED)}, ("GET", N, "", None)),
    (
        "versori_create_connection",
        {"connection_template_id": "t", "name": "Ü", "credentials": GIVEN, "external_id": "m-1", "base_url": None},
        {("POST", f"{V2}/connections"): (201, STORED)},
        (
            "POST",
            f"{V2}/connections",
            "",
            {
                "connectionTemplateId": "t",
                "connection": {"name": "Ü", "credentials": sent(NO_ID, NO_ID)},
                "externalId": "m-1",
            },
        ),
    ),
    (
        "versori_update_connection",
        {"connection_id": ODD, "credentials": GIVEN},
        {("GET", N): (200, STORED), ("PUT", N): (200, STORED)},
        ("PUT", N, "", {"name": "Ä", "baseUrl": "https://own.example", "credentials": sent("1", "2")}),
    ),
    (
        "versori_delete_connection",
        {"connection_id": ODD},
        {("GET", N): (200, STORED), ("DELETE", N): DONE},
        ("DELETE", N, "", None),
    ),
    (
        "versori_link_connection_to_environment",
        {"connection_id": ODD, "connection_template_id": "t"},
        {("GET", N): (200, STORED), ("POST", f"{N}/link"): (201, None)},
        ("POST", f"{N}/link", "", {"connectionTemplateId": "t"}),
    ),
    (
        "versori_list_project_connection_templates",
        IN_PROJECT | {"environment_id": "e 1"},
        TEMPLATES,
        ("GET", f"{P}/connection-templates", "env_id=e%201", None),
    ),
    (
        "versori_create_connection_template",
        IN_PROJECT | {"system_id": "s", "name": "ü", "environment_id": "e", "dynamic": False},
        {("POST", f"{P}/connection-templates"): (200, TEMPLATE)},
        (
            "POST",
            f"{P}/connection-templates",
            "",
            {"systemId": "s", "name": "ü", "environmentId": "e", "dynamic": False},
        ),
    ),
    (
        "versori_update_connection_template",
        IN_TEMPLATE | {"dynamic": True, "auth_scheme_config_ids": ["k"]},
        TEMPLATES | {("PUT", T): (200, TEMPLATE)},
        ("PUT", T, "", {"dynamic": True, "authSchemeConfigIds": ["k"]}),
    ),
    (
        "versori_delete_connection_template",
        IN_TEMPLATE,
        TEMPLATES | {("DELETE", T): DONE},
        ("DELETE", T, "", None),
    ),
    (
        "versori_list_end_users",
        {"search": "m ü", "activated": False, "environment_id": "e"},
        {("GET", f"{V2}/users"): (200, {"totalCount": 0, "users": []})},
        ("GET", f"{V2}/users", "search=m%20%C3%BC&activated=false&environment_id=e", None),
    ),
    (
        "versori_create_end_user",
        {"external_id": ODD, "display_name": "Ü"},
        {("POST", f"{V2}/users"): (201, {"id": "u"})},
        ("POST", f"{V2}/users", "", {"externalId": ODD, "displayName": "Ü"}),
    ),
    (
        "versori_list_activations",
        {"environment_id": ODD},
        {("GET", f"{E}/activations"): (200, [])},
        ("GET", f"{E}/activations", "", None),
    ),
    (
        # The document has `environment` in the singular here.
        "versori_list_user_activations",
        {"environment_id": ODD, "external_user_id": "m/1"},
        {("GET", f"{V2}/environment/{ENCODED}/users/m%2F1/activations"): (200, [])},
        ("GET", f"{V2}/environment/{ENCODED}/users/m%2F1/activations", "", None),
    ),
    ("versori_get_activation", IN_ACTIVATION, ACTIVE, ("GET", A, "", None)),
    (
        "versori_activate_user",
        {
            "user_id": "m-2",
            "environment_id": ODD,
            "connections": [
                {"connection_template_id": "t", "existing_connection_id": "c", "connection": None},
                {"connection_template_id": "t2", "connection": {"name": "n", "credentials": GIVEN}},
            ],
            "dynamic_variables": {"ü": "x"},
        },
        {
            ("GET", f"{E}/activations"): (200, [ACTIVATION]),
            ("POST", f"{V2}/activations"): (200, ACTIVATION),
        },
        (
            "POST",
            f"{V2}/activations",
            "",
            {
                "userId": "m-2",
                "environmentId": ODD,
                "connections": [
                    {"connectionTemplateId": "t", "existingConnectionId": "c"},
                    {"connectionTemplateId": "t2", "connection": {"name": "n", "credentials": sent(NO_ID, NO_ID)}},
                ],
                "dynamicVariables": {"ü": "x"},
            },
        ),
    ),
    ("versori_delete_activation", IN_ACTIVATION, ACTIVE | {("DELETE", A): DONE}, ("DELETE", A, "", None)),
    (
        "versori_get_project_variables_schema",
        IN_PROJECT,
        {("GET", f"{P}/variables"): (200, None)},
        ("GET", f"{P}/variables", "", None),
    ),
    (
        "versori_set_project_variables_schema",
        IN_PROJECT | {"variables": SCHEMA},
        {("GET", f"{P}/variables"): (200, None), ("PUT", f"{P}/variables"): (200, SCHEMA)},
        ("PUT", f"{P}/variables", "", SCHEMA),
    ),
    (
        "versori_set_dynamic_variables",
        IN_ACTIVATION | {"variables": {"ü": {"a": [1, None]}}},
        ACTIVE | {("PATCH", f"{A}/variables"): (200, {"ü": 1})},
        ("PATCH", f"{A}/variables", "", {"ü": {"a": [1, None]}}),
    ),
    (
        "versori_set_dynamic_variable",
        IN_ACTIVATION | {"variable_name": "ü/x", "value": {"value": False}},
        ACTIVE | {("PUT", f"{A}/variables/%C3%BC%2Fx"): (200, {"ü/x": False})},
        ("PUT", f"{A}/variables/%C3%BC%2Fx", "", {"value": False}),
    ),
    (
        "versori_set_static_user_variables",
        {"environment_id": ODD, "variables": {"ü": 1}},
        {("PATCH", f"{E}/variables"): (200, {"ü": 1})},
        ("PATCH", f"{E}/variables", "", {"ü": 1}),
    ),
    (
        "versori_list_projects",
        {"starred": True},
        {("GET", f"{V2}/projects"): (200, {"projects": [PROJECT]})},
        ("GET", f"{V2}/projects", "starred=true", None),
    ),
    (
        "versori_create_project",
        {"name": "Ü", "execution_pool": "eu"},
        {("POST", f"{V2}/projects"): (200, PROJECT)},
        ("POST", f"{V2}/projects", "", {"name": "Ü", "executionPool": "eu"}),
    ),
    (
        "versori_list_project_versions",
        IN_PROJECT | {"limit": 3},
        {("GET", f"{P}/versions"): EMPTY_PAGE},
        ("GET", f"{P}/versions", "first=3", None),
    ),
    (
        "versori_get_project_logs",
        IN_PROJECT | {"project_env": "pröd", "order": "desc", "limit": 50, "latest": True, "cursor": "x="},
        {("GET", f"{P}/logs"): (200, {"logs": []})},
        ("GET", f"{P}/logs", "project_env=pr%C3%B6d&latest=true&order=desc&first=50&next_token=x%3D", None),
    ),
    (
        "versori_deploy_project_version",
        IN_PROJECT | {"version_id": "v/1", "project_env": "pröd"},
        {
            ("GET", f"{V2}/projects"): (200, {"projects": [PROJECT]}),
            ("PUT", f"{P}/versions/v%2F1/deploy"): (200, PROJECT),
        },
        ("PUT", f"{P}/versions/v%2F1/deploy", "project_env=pr%C3%B6d", {}),
    ),
]


@asynccontextmanager
async def connected(recorder: RecordingServer, state: Path, **variables: str) -> AsyncIterator[Client]:
    environ = {"VERSORI_API_KEY": "versori-key", "VERSORI_ORGANISATION_ID": ORGANISATION, "VERSORI_AUTH_PREFIX": "JWT"}
    environ["VERSORI_BASE_URL"] = f"{recorder.origin}{V1}"
    settings = Settings.load(
        {}, state_dir=state, toolsets="all", policy="destroy=allow,disclose=allow", verify_writes=False
    )
    async with open_engine(settings, environ | variables, "stdio") as engine:
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
            assert (last.headers.get("content-type") == "application/json") == (expected[3] is not None), tool
        assert {request.headers["authorization"] for request in recorder.requests} == {"JWT versori-key"}


def test_every_further_operation_is_called_here() -> None:
    documented_elsewhere = {"versori_update_connector", "versori_list_connectors", "versori_get_connector"}
    tools = {operation.tool_name() for operation in platform_folder("versori").operations}
    assert {call[0] for call in CALLS} == tools - documented_elsewhere


async def test_another_root_for_the_platform_api_is_used_where_one_is_set(tmp_path: Path) -> None:
    async with recording_server() as recorder:
        roots = {"VERSORI_BASE_URL": f"{recorder.origin}/gate/v1", "VERSORI_PLATFORM_URL": f"{recorder.origin}/gate/v2"}
        async with connected(recorder, tmp_path, **roots) as client:
            recorder.answers = {
                ("GET", "/gate/v2/o/org%202/systems"): EMPTY_PAGE,
                ("GET", "/gate/v1/o/org%202/connectors"): (200, {"totalCount": 0, "connectors": []}),
            }
            for tool in ("versori_list_systems", "versori_list_connectors"):
                assert not (await client.call_tool(tool, {})).is_error
        assert [request.path for request in recorder.requests] == [path for _, path in recorder.answers]
