"""Every operation of the sandbox, called with its example, answers as its platform's documents say."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mcp.client import Client

from connector_mcp.composition import engine as assemble
from connector_mcp.config.settings import Settings
from connector_mcp.operations.catalog import PLATFORMS, platform_folder
from connector_mcp.operations.operation import Effect, Operation
from connector_mcp.sandbox import seed
from connector_mcp.sandbox.world import Clock, system_time
from connector_mcp.transport.mcp.server import build_server
from tests.sandbox.checked import CheckedSandbox, documented
from tests.sandbox.conftest import Connect

pytestmark = pytest.mark.anyio

Made = dict[str, Any]
"""What the tools answered so far, by tool."""

USER = seed.CONDUCTORONE_USERS[0]["id"]
# Things of the sandbox, instead of those that examples name.
PRESENT: dict[str, dict[str, Any]] = {
    "vectorize": {
        "source_connector_id": seed.VECTORIZE_WEB_CRAWLER, "connector_id": seed.VECTORIZE_FILE_UPLOAD,
        "destination_connector_id": seed.VECTORIZE_PINECONE, "ai_platform_connector_id": seed.VECTORIZE_OPENAI,
        "pipeline_id": seed.VECTORIZE_PIPELINE, "file_name": "vectors.pdf",
        "source_connectors": [{"id": seed.VECTORIZE_WEB_CRAWLER, "type": "WEB_CRAWLER", "config": {}}],
        "destination_connector": {"id": seed.VECTORIZE_BUILT_IN_DESTINATION, "type": "VECTORIZE"},
        "ai_platform_connector": {"id": seed.VECTORIZE_BUILT_IN_AI_PLATFORM, "type": "VECTORIZE", "config": {}},
    },
    "logto": {"id": seed.LOGTO_GITHUB, "connector_id": seed.LOGTO_GITHUB},
    "versori": {
        "connector_id": seed.VERSORI_CRM, "system_id": seed.VERSORI_SHOP, "connection_id": seed.VERSORI_SHOP_CONNECTION,
        "project_id": seed.VERSORI_STOREFRONT, "environment_id": seed.VERSORI_STOREFRONT_PRODUCTION,
        "template_id": seed.VERSORI_SHOP_TEMPLATE, "connection_template_id": seed.VERSORI_SHOP_TEMPLATE,
        "activation_id": seed.VERSORI_ACTIVATION, "external_user_id": "merchant-1",
    },
    "conductorone": {
        "app_id": seed.CONDUCTORONE_APP_ID, "id": seed.CONDUCTORONE_OKTA, "connector_id": seed.CONDUCTORONE_OKTA,
        "user_id": USER, "user_ids": [USER], "owners": [USER],
    },
}  # fmt: skip
DRIVE = {"source_connector_id": seed.VECTORIZE_DRIVE_MULTI_USER}
APP = {"id": seed.CONDUCTORONE_APP_ID}
EMAIL = {"id": "template-en-signin"}


def of(tool: str, **arguments: str) -> Callable[[Made], dict[str, Any]]:
    """Arguments that are members of what a tool made before."""
    return lambda made: {name: made[tool][member] for name, member in arguments.items()}


NEW_SSO = of("logto_create_sso_connector", id="id")
NEW_KEY = of("logto_create_sso_connector_signing_key", key_id="id")
NEW_SYSTEM = of("versori_create_system", system_id="id")
SELF_HOSTED = of("conductorone_create_delegated_connector", connector_id="id")
CREDENTIAL = of("conductorone_rotate_credential", connector_id="connectorId", credential_id="id")


def activation(made: Made) -> dict[str, Any]:
    new = {"existing_connection_id": made["versori_create_connection"]["id"]}
    return {"connections": [new | {"connection_template_id": seed.VERSORI_SHOP_TEMPLATE}]}


OWN: dict[str, dict[str, Any] | Callable[[Made], dict[str, Any]]] = {
    "vectorize_add_user_to_source_connector": DRIVE,
    "vectorize_update_user_in_source_connector": DRIVE,
    "vectorize_delete_user_from_source_connector": DRIVE,
    "vectorize_generate_one_time_connector_token": DRIVE,
    "logto_create_connector": {"connector_id": "facebook-universal"},
    "logto_get_connector_factory": {"id": "http-sms"},
    "logto_get_email_template": EMAIL,
    "logto_update_email_template_details": EMAIL,
    "logto_create_sso_connector_signing_key": NEW_SSO,
    "logto_list_sso_connector_signing_keys": NEW_SSO,
    "logto_update_sso_connector_signing_key": lambda made: NEW_SSO(made) | NEW_KEY(made),
    "logto_get_sso_connector": NEW_SSO,
    "logto_update_sso_connector": NEW_SSO,
    "logto_delete_sso_connector": NEW_SSO,
    "versori_create_connection_template": {"project_id": seed.VERSORI_PROJECT, "environment_id": seed.VERSORI_STAGING},
    "versori_activate_user": activation,
    "versori_deploy_project_version": {"version_id": "01J0SANDB0XVERS10NSH0P0000"},
    "versori_delete_connection": of("versori_update_connection", connection_id="id"),
    "versori_delete_system": NEW_SYSTEM,
    "conductorone_create_delegated_connector": {"catalog_id": "2HErg7BRmNdHgX8sTCWVq4E1fyh"},
    "conductorone_rotate_credential": SELF_HOSTED,
    "conductorone_get_credentials": CREDENTIAL,
    "conductorone_revoke_credential": CREDENTIAL,
    "conductorone_get_app": APP,
    "conductorone_update_app": APP,
}
"""Arguments of single tools that need something else."""


def arguments(operation: type[Operation], made: Made) -> dict[str, Any]:
    present = PRESENT[operation.on.name if operation.on else ""]
    own = OWN.get(operation.tool_name(), {})
    example = operation.example | {name: each for name, each in present.items() if name in operation.example}
    return json.loads(re.sub("<([a-z-]+)>", r"\1", json.dumps(example | (own(made) if callable(own) else own))))


def in_order(platform: str) -> list[type[Operation]]:
    """First what creates, last what deletes, and there the parts before the whole."""
    declared = platform_folder(platform).operations
    ordered = [[each for each in declared if each.effect is effect] for effect in Effect]
    reads, creates, updates, _, deletes = ordered
    return [*creates, *updates, *reads, *reversed(deletes)]


@pytest.fixture
def clock() -> Clock:
    """The real time, in which the server signs its assertions."""
    return system_time


@pytest.mark.parametrize("platform", PLATFORMS)
async def test_each_operation_answers_its_example_as_documented(
    platform: str, sandbox: CheckedSandbox, connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, refused = Made(), Made()
    monkeypatch.setattr(assemble, "_open_sandbox", lambda *_: sandbox)
    settings: dict[str, Any] = {"sandbox": True, "state_dir": tmp_path, "toolsets": "all", "inline_secrets": "allow"}
    settings |= {"policy": "destroy=allow"}
    async with (
        assemble.open_engine(Settings.load({}, **settings), {}, "stdio") as engine,
        Client(build_server(engine, request_state_key=b"k" * 32)) as client,
    ):
        # It has no tool.
        await (await connect("vectorize")).get(f"/org/{seed.VECTORIZE_ORGANIZATION_ID}/workspaces/ws_default")
        for operation in in_order(platform):
            result = await client.call_tool(operation.tool_name(), arguments(operation, made))
            content: Any = result.structured_content
            (refused if result.is_error else made)[operation.tool_name()] = content.get("data", content)
    assert refused == {}
    assert sandbox.flaws == []
    stated = set(documented(platform).operations)
    assert stated - {operation for name, operation in sandbox.succeeded if name == platform} == set()
