"""After a session that used credentials everywhere, none of them is found in anything that left the process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from mcp.client import Client

from connector_mcp.sandbox import seed
from tests.end_to_end.faces import stdio, world
from tests.end_to_end.test_nothing_is_destroyed_undecided import SMTP_CONFIG

MARK = "marked-secret"
ACCOUNT = json.dumps({"type": "service_account", "private_key": f'{MARK}-"private"\nkey', "client_email": "a@b.c"})
S3 = {"access-key": f"{MARK}-access", "secret-key": f"{MARK}-secret", "bucket-name": "docs", "archiver": False}
OKTA = {"app_id": seed.CONDUCTORONE_APP_ID, "id": seed.CONDUCTORONE_OKTA}

SESSION: list[tuple[str, dict[str, Any]]] = [
    (
        "vectorize_create_source_connector",
        {
            "connectors": [
                {"name": "s3", "type": "AWS_S3", "config": S3},
                {"name": "gcs", "type": "GCS", "config": {"service-account-json": ACCOUNT, "bucket-name": "b"}},
            ]
        },
    ),
    # A secret under a wrong key, in a wrong place, and in a name.
    (
        "vectorize_create_source_connector",
        {"connectors": [{"name": "s3", "type": "AWS_S3", "config": {"secretkey": f"{MARK}-misspelt"}}]},
    ),
    ("vectorize_create_source_connector", {"connectors": [], "secret-key": f"{MARK}-misplaced"}),
    ("vectorize_get_source_connector", {"source_connector_id": {"token": f"{MARK}-object"}}),
    (
        "vectorize_add_user_to_source_connector",
        {
            "source_connector_id": seed.VECTORIZE_DRIVE_MULTI_USER,
            "user_id": "user_new",
            "selected_files": {"f": {"name": "n", "mimeType": "m"}},
            "refresh_token": f"{MARK}-refresh",
        },
    ),
    ("logto_list_connectors", {"detail": "full"}),
    ("logto_get_connector", {"id": seed.LOGTO_SMTP}),
    ("logto_get_connector", {"id": seed.LOGTO_SMTP, "fields": ["config"]}),
    (
        "logto_create_connector",
        {
            "connector_id": "simple-mail-transfer-protocol",
            "config": SMTP_CONFIG | {"auth": {"type": "login", "user": "u", "pass": f"{MARK}-smtp"}},
        },
    ),
    ("logto_update_connector", {"id": seed.LOGTO_GITHUB, "config": {"clientSecret": f"{MARK}-github"}}),
    ("logto_update_connector", {"id": seed.LOGTO_GITHUB, "config": {"clientSecret": None}}),
    (
        "logto_create_connector_test",
        {
            "factory_id": "http-sms",
            "phone": "491701234567",
            "config": {"endpoint": "https://sms.example", "authorization": f"Bearer {MARK}-sms"},
        },
    ),
    ("versori_list_connectors", {"detail": "full"}),
    ("versori_get_connector", {"connector_id": seed.VERSORI_CRM}),
    (
        "conductorone_update_connector",
        OKTA | {"config": {"okta_v2_api_token": f"{MARK}-okta", "okta_v2_domain": "acme.okta.com"}},
    ),
    ("conductorone_update_connector", OKTA | {"config": {"okta_v2_api_token": ""}}),
    ("conductorone_update_connector", OKTA | {"id": "unknown", "config": {"api_token": f"{MARK}-unknown-target"}}),
    ("conductorone_list_connectors", {"app_id": seed.CONDUCTORONE_APP_ID, "detail": "full"}),
    ("vectorize_delete_source_connector", {"source_connector_id": seed.VECTORIZE_S3}),
]


@pytest.mark.anyio
@pytest.mark.parametrize("era", ["auto", "legacy"])
async def test_no_credential_is_found_in_results_logs_audit_or_state(era: str, tmp_path: Path) -> None:
    log = tmp_path / "stderr.log"
    left: list[str] = []
    succeeded = 0
    async with world(tmp_path / "state") as here:
        environ = here.environ | {"CONNECTOR_MCP_LOG_LEVEL": "DEBUG"}
        with log.open("w") as errors:
            async with Client(stdio(environ, errlog=errors), mode=era) as connected:
                for tool, arguments in SESSION:
                    result = await connected.call_tool(tool, arguments)
                    succeeded += not result.is_error
                    left.append(result.model_dump_json())
        sent = b"".join(request.body for request in here.sandbox.requests).decode()
    assert succeeded >= 11, "the session is worth searching"
    for used in ("access", "secret", "refresh", "github", "sms", "okta"):
        assert f"{MARK}-{used}" in sent, "the platforms did get the credentials"
    left.append(log.read_text())
    assert "POST" in left[-1], "the log is a debug log"
    left += [file.read_bytes().decode("latin-1") for file in (tmp_path / "state").iterdir()]
    assert any("approval_required" in text for text in left)
    for text in left:
        for secret in (MARK, "sandbox-secret", seed.CONDUCTORONE_CLIENT_SECRET[-40:]):
            assert secret not in text, text[max(0, text.find(secret) - 300) :][:600]
