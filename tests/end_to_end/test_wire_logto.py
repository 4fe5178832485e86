"""What each further operation of Logto sends, called through an MCP client, is what its documents demand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from connector_mcp.operations.catalog import platform_folder
from tests.end_to_end.recording import recording_server
from tests.end_to_end.test_wire_contract import CALLS as OF_CONNECTORS
from tests.end_to_end.test_wire_contract import ENCODED, ODD, connected

pytestmark = pytest.mark.anyio

EXP = "/api/sign-in-exp"
SSO = "/api/sso-connectors"
ONE = f"{SSO}/{ENCODED}"
KEYS = f"{ONE}/signing-keys"
TEMPLATES = "/api/email-templates"
METHOD = {"identifier": "email", "password": True, "verificationCode": True, "isPasswordPrimary": False}
NOW: dict[str, Any] = {
    "id": "default", "signInMode": "SignIn", "signUp": {"identifiers": [], "password": True, "verify": False},
    "signIn": {"methods": []}, "socialSignInConnectorTargets": ["github"], "singleSignOnEnabled": False,
}  # fmt: skip
OIDC = {"clientId": "i", "clientSecret": "stored-secret", "issuer": "https://idp.example"}
STORED: dict[str, Any] = {
    "id": ODD, "providerName": "OIDC", "connectorName": "Acme", "config": OIDC, "branding": {"logo": "l"},
    "domains": [], "enableTokenStorage": False,
}  # fmt: skip
KEY = {"id": "k 1", "active": False, "certificate": "c"}
DETAILS = {"subject": "Ihr Cöde", "content": "{{code}}", "contentType": "text/plain"}
TEMPLATE = {"id": ODD, "languageTag": "de", "templateType": "SignIn", "details": DETAILS}
SENT_TEMPLATE = {key: TEMPLATE[key] for key in ("languageTag", "templateType", "details")}

Answers = dict[tuple[str, str], tuple[int, Any]]
Call = tuple[str, dict[str, Any], Answers, tuple[str, str, str, Any]]
WITH_EXP: Answers = {("GET", EXP): (200, NOW), ("PATCH", EXP): (200, NOW)}
WITH_SSO: Answers = {("GET", ONE): (200, STORED), ("PATCH", ONE): (200, STORED), ("DELETE", ONE): (204, None)}
NEW_SSO: Answers = {("POST", SSO): (200, STORED), **WITH_EXP}

# tool, arguments, answers needed on the way, then what the last request must be: method, path, query, body.
CALLS: list[Call] = [
    ("logto_get_sign_in_exp", {"fields": ["signIn"]}, WITH_EXP, ("GET", EXP, "", None)),
    (
        "logto_update_sign_in_exp",
        {
            "social_sign_in_connector_targets": ["github", "gööd"], "sign_in": {"methods": [METHOD]},
            "sign_up": {"identifiers": ["email"], "password": True, "verify": True, "secondaryIdentifiers": None},
            "social_sign_in": {"automaticAccountLinking": False}, "forgot_password_methods": [],
            "single_sign_on_enabled": True, "sign_in_mode": None,
        },
        WITH_EXP,
        ("PATCH", EXP, "", {
            "socialSignInConnectorTargets": ["github", "gööd"], "signIn": {"methods": [METHOD]},
            "signUp": {"identifiers": ["email"], "password": True, "verify": True},
            "socialSignIn": {"automaticAccountLinking": False}, "forgotPasswordMethods": [],
            "singleSignOnEnabled": True,
        }),
    ),
    (
        "logto_get_sign_in_experience_config",
        {"organization": "o ü&1", "app": None},
        {("GET", "/api/.well-known/sign-in-exp"): (200, NOW)},
        ("GET", "/api/.well-known/sign-in-exp", "organizationId=o%20%C3%BC%261", None),
    ),
    ("logto_list_sso_connectors", {"limit": 5}, {("GET", SSO): (200, [STORED])}, ("GET", SSO, "", None)),
    (
        "logto_create_sso_connector",
        {"provider_name": "SAML", "connector_name": "Äcme", "config": None, "branding": {"displayName": "Ä"}},
        NEW_SSO,
        ("POST", SSO, "", {"providerName": "SAML", "connectorName": "Äcme", "branding": {"displayName": "Ä"}}),
    ),
    (
        "logto_create_sso_connector",
        {
            "provider_name": "OIDC", "connector_name": "Acme", "config": OIDC | {"trustUnverifiedEmail": False},
            "domains": ["acme.com"], "sync_profile": True, "enable_token_storage": False,
        },
        NEW_SSO,
        ("POST", SSO, "", {
            "providerName": "OIDC", "connectorName": "Acme", "config": OIDC | {"trustUnverifiedEmail": False},
            "domains": ["acme.com"], "syncProfile": True, "enableTokenStorage": False,
        }),
    ),
    ("logto_get_sso_connector", {"id": ODD}, WITH_SSO, ("GET", ONE, "", None)),
    (
        "logto_update_sso_connector",
        {"id": ODD, "config": {"scope": "groups"}, "branding": {"displayName": "A"}, "domains": ["ACME.com"]},
        WITH_SSO,
        ("PATCH", ONE, "", {
            "config": OIDC | {"scope": "groups"}, "branding": {"logo": "l", "displayName": "A"},
            "domains": ["acme.com"],
        }),
    ),
    ("logto_delete_sso_connector", {"id": ODD}, WITH_SSO, ("DELETE", ONE, "", None)),
    (
        "logto_list_sso_connector_providers",
        {},
        {("GET", "/api/sso-connector-providers"): (200, [{"providerName": "OIDC"}])},
        ("GET", "/api/sso-connector-providers", "", None),
    ),
    ("logto_list_sso_connector_signing_keys", {"id": ODD}, {("GET", KEYS): (200, [KEY])}, ("GET", KEYS, "", None)),
    (
        "logto_create_sso_connector_signing_key",
        {"id": ODD},
        {("GET", KEYS): (200, [KEY]), ("POST", KEYS): (201, KEY)},
        ("POST", KEYS, "", {}),
    ),
    (
        "logto_create_sso_connector_signing_key",
        {"id": ODD, "active": True},
        {("GET", KEYS): (200, [KEY | {"active": True}]), ("POST", KEYS): (201, KEY)},
        ("POST", KEYS, "", {"active": True}),
    ),
    (
        "logto_update_sso_connector_signing_key",
        {"id": ODD, "key_id": "k 1", "active": True},
        {("GET", KEYS): (200, [KEY]), ("PATCH", f"{KEYS}/k%201"): (200, KEY)},
        ("PATCH", f"{KEYS}/k%201", "", {"active": True}),
    ),
    (
        "logto_list_email_templates",
        {"language_tag": "de", "template_type": "SignIn"},
        {("GET", TEMPLATES): (200, [TEMPLATE])},
        ("GET", TEMPLATES, "languageTag=de&templateType=SignIn", None),
    ),
    (
        "logto_get_email_template",
        {"id": ODD},
        {("GET", f"{TEMPLATES}/{ENCODED}"): (200, TEMPLATE)},
        ("GET", f"{TEMPLATES}/{ENCODED}", "", None),
    ),
    (
        "logto_replace_email_templates",
        {"templates": [SENT_TEMPLATE]},
        {("GET", TEMPLATES): (200, [TEMPLATE]), ("PUT", TEMPLATES): (200, [TEMPLATE])},
        ("PUT", TEMPLATES, "", {"templates": [SENT_TEMPLATE]}),
    ),
    (
        "logto_update_email_template_details",
        {"id": ODD, "subject": "Nöch einer", "reply_to": None},
        {
            ("GET", f"{TEMPLATES}/{ENCODED}"): (200, TEMPLATE),
            ("PATCH", f"{TEMPLATES}/{ENCODED}/details"): (200, TEMPLATE),
        },
        ("PATCH", f"{TEMPLATES}/{ENCODED}/details", "", {"subject": "Nöch einer"}),
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("tool", "arguments", "answers", "expected"), CALLS, ids=[f"{call[0]}-{index}" for index, call in enumerate(CALLS)]
)
async def test_the_request_is_the_documented_one(
    tool: str, arguments: dict[str, Any], answers: Answers, expected: tuple[str, str, str, Any], tmp_path: Path
) -> None:
    async with recording_server() as recorder, connected(recorder, tmp_path, "auto") as client:
        recorder.answers.update(answers)
        result = await client.call_tool(tool, arguments)
        assert not result.is_error, result.structured_content
        assert "stored-secret" not in json.dumps(result.structured_content)
        method, path, query, body = expected
        sent = recorder.requests[-1]
        assert (sent.method, sent.path, sent.query) == (method, path, query)
        assert sent.body == body
        assert sent.headers["authorization"] == "Bearer logto-token"


def test_each_documented_operation_is_a_tool_that_is_called_here_or_says_why_not() -> None:
    file = Path(__file__).parents[2] / "tools" / "documented" / "logto.json"
    documented = json.loads(file.read_text("utf-8"))
    assert len(documented) == 31
    declared = {each.__name__: each for each in platform_folder("logto").operations}
    assert {each["operation"] for each in documented if "reason" not in each} == declared.keys()
    for each in documented:
        operation = declared.get(each["operation"])
        if operation is not None:
            path = operation.http.path.replace("{key_id}", "{keyId}").replace("{factory_id}", "{factoryId}")
            path = path.replace("{connector_id}", "{connectorId}")
            assert (operation.http.method, path) == (each["method"], each["path"])
    factories = {"logto_list_connector_factories", "logto_get_connector_factory"}
    called = factories | {call[0] for call in (*CALLS, *OF_CONNECTORS) if call[0].startswith("logto_")}
    assert called == {each.tool_name() for each in declared.values()}
