"""The emulated Logto keeps the platform's wire contract."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from connector_mcp.sandbox import seed
from connector_mcp.sandbox.app import Sandbox
from connector_mcp.sandbox.logto.emulator import CONNECTORS, SENT_MESSAGES, STORED_TOKENS

pytestmark = pytest.mark.anyio

PLATFORM = "logto"
LIST = "/api/connectors"
GITHUB_CONFIG = {"clientId": "Iv1.abc", "clientSecret": "s3cr3t"}
GITHUB = {"connectorId": "github-universal", "config": GITHUB_CONFIG}
ACME = {"target": "acme-idp"}
NO_METADATA = "connector.cannot_overwrite_metadata_for_non_standard_connector"
SMS = {"endpoint": "https://sms.acme.example/send", "authorization": "Bearer abc"}
OIDC = {
    "authorizationEndpoint": "https://id.acme.example/authorize",
    "tokenEndpoint": "https://id.acme.example/token",
    "clientId": "logto",
    "clientSecret": "s3cr3t",
    "scope": "openid",
    "idTokenVerificationConfig": {"jwksUri": "https://id.acme.example/jwks"},
}


def token_form(**changes: str | None) -> dict[str, str]:
    form: dict[str, str | None] = {"grant_type": "client_credentials", "resource": seed.LOGTO_RESOURCE, "scope": "all"}
    form |= {"client_id": seed.LOGTO_APP_ID, "client_secret": seed.LOGTO_APP_SECRET}
    return {key: value for key, value in (form | changes).items() if value is not None}


async def test_the_token_endpoint_answers_as_oauth_does(anonymous):
    answer = (await anonymous.post("/oidc/token", data=token_form())).json()
    assert (answer["expires_in"], answer["token_type"], answer["scope"]) == (3600, "Bearer", "all")


async def test_the_client_may_authenticate_by_basic_instead_but_not_both(anonymous):
    basic = base64.b64encode(f"{seed.LOGTO_APP_ID}:{seed.LOGTO_APP_SECRET}".encode()).decode()
    headers = {"authorization": f"Basic {basic}"}
    alone = await anonymous.post("/oidc/token", data=token_form(client_id=None, client_secret=None), headers=headers)
    assert alone.status_code == 200
    both = await anonymous.post("/oidc/token", data=token_form(), headers=headers)
    assert (both.status_code, both.json()["error"]) == (400, "invalid_request")


@pytest.mark.parametrize(
    ("changes", "status", "error"),
    [
        ({"client_secret": "wrong"}, 401, "invalid_client"),
        ({"client_id": None}, 401, "invalid_client"),
        ({"resource": "https://logto.sandbox.invalid/api"}, 400, "invalid_target"),
        ({"grant_type": "password"}, 400, "unsupported_grant_type"),
    ],
)
async def test_a_refused_token_request_says_why(anonymous, changes, status, error):
    answer = await anonymous.post("/oidc/token", data=token_form(**changes))
    assert (answer.status_code, answer.json()["error"]) == (status, error)


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [({"resource": None}, 401, "auth.unauthorized"), ({"scope": None}, 403, "auth.forbidden")],
)
async def test_a_token_without_resource_or_scope_opens_nothing(anonymous, changes, status, code):
    token = (await anonymous.post("/oidc/token", data=token_form(**changes))).json()["access_token"]
    answer = await anonymous.get(LIST, headers={"authorization": f"Bearer {token}"})
    assert (answer.status_code, answer.json()["code"]) == (status, code)


@pytest.mark.parametrize(
    ("header", "code"),
    [
        (None, "auth.authorization_header_missing"),
        ("Basic abc", "auth.authorization_token_type_not_supported"),
        ("Bearer abc", "auth.unauthorized"),
    ],
)
async def test_token_trouble_is_401_with_its_own_code(anonymous, header, code):
    answer = await anonymous.get(LIST, headers={} if header is None else {"authorization": header})
    assert (answer.status_code, answer.json()["code"]) == (401, code)


async def test_a_token_expires_after_an_hour(client, clock):
    clock.forward(3599)
    assert (await client.get(LIST)).status_code == 200
    clock.forward(1)
    assert (await client.get(LIST)).status_code == 401


async def test_reads_show_secrets_in_clear_and_carry_the_noise(client):
    shown = (await client.get(LIST)).json()
    smtp = next(each for each in shown if each["id"] == seed.LOGTO_SMTP)
    assert smtp["config"]["auth"]["pass"] == "sandbox-secret-smtp-password"
    for each in shown:
        assert each["logo"].startswith(("data:image/svg+xml;base64,", "https://"))
        assert len(each["readme"]) > 2_000
        assert each["formItems"][0]["key"]
        assert each["name"]["en"]
    oidc = (await client.get(f"{LIST}/{seed.LOGTO_OIDC}")).json()
    assert (oidc["connectorId"], oidc["target"], oidc["name"]) == ("oidc", "acme-idp", {"en": "Acme ID"})


@pytest.mark.parametrize(
    ("target", "ids"), [("google", [seed.LOGTO_GOOGLE]), ("acme-idp", [seed.LOGTO_OIDC]), ("none", [])]
)
async def test_the_list_filters_by_exact_target(client, target, ids):
    shown = (await client.get(LIST, params={"target": target})).json()
    assert [each["id"] for each in shown] == ids


async def test_an_empty_target_filters_nothing_and_a_repeated_one_is_400(client):
    assert len((await client.get(f"{LIST}?target=")).json()) == 5
    answer = await client.get(f"{LIST}?target=google&target=github")
    assert (answer.status_code, answer.json()["code"]) == (400, "guard.invalid_input")


async def test_creating_an_sms_connector_deletes_every_other_sms_connector_and_no_more(client, sandbox: Sandbox):
    answer = await client.post(LIST, json={"connectorId": "http-sms", "config": SMS, "id": "sms-2"})
    assert (answer.status_code, answer.json()["id"]) == (200, "sms-2")
    ids = [each["id"] for each in sandbox.world.all(CONNECTORS)]
    assert ids == [seed.LOGTO_SMTP, seed.LOGTO_GOOGLE, seed.LOGTO_GITHUB, seed.LOGTO_OIDC, "sms-2"]


async def test_config_may_be_left_out_and_unknown_members_are_dropped(client):
    answer = (await client.post(LIST, json={"connectorId": "discord-universal", "sync_profile": True})).json()
    assert (answer["config"], answer["syncProfile"], answer["metadata"]) == ({}, False, {})
    assert "sync_profile" not in answer


REFUSED_CREATIONS: list[tuple[Any, int, str]] = [
    ({}, 400, "guard.invalid_input"),
    ({"connectorId": ""}, 400, "guard.invalid_input"),
    ({"connectorId": "http-sms", "config": "{}"}, 400, "guard.invalid_input"),
    ({"connectorId": "no-such"}, 422, "connector.not_found_with_connector_id"),
    ({"connectorId": "logto-social-demo"}, 422, "connector.not_found_with_connector_id"),
    ({"connectorId": "oidc", "config": OIDC}, 400, "connector.should_specify_target"),
    ({"connectorId": "oidc", "metadata": {"target": ""}}, 400, "connector.should_specify_target"),
    ({"connectorId": "discord-universal", "metadata": {}}, 400, NO_METADATA),
    (GITHUB, 422, "connector.multiple_instances_not_supported"),
    ({"connectorId": "oidc", "metadata": ACME}, 422, "connector.multiple_target_with_same_platform"),
    ({"connectorId": "http-sms", "enableTokenStorage": True}, 422, "connector.token_storage_not_supported"),
    ({"connectorId": "http-sms", "config": {"endpoint": 1}}, 400, "connector.invalid_config"),
]
REFUSED_UPDATES: list[tuple[str, Any, int, str]] = [
    (seed.LOGTO_OIDC, {"metadata": {"name": {"en": "x"}}}, 400, "connector.can_not_modify_target"),
    (seed.LOGTO_OIDC, {"metadata": {"target": "other"}}, 400, "connector.can_not_modify_target"),
    (seed.LOGTO_SMTP, {"metadata": {}}, 400, NO_METADATA),
    (seed.LOGTO_SMTP, {"syncProfile": True}, 422, "connector.invalid_type_for_syncing_profile"),
    (seed.LOGTO_SMTP, {"enableTokenStorage": True}, 422, "connector.token_storage_not_supported"),
    (seed.LOGTO_SMTP, {}, 422, "entity.invalid_input"),
    ("no-such", {"syncProfile": True}, 404, "entity.not_found"),
]
REFUSED_TESTS: list[tuple[str, Any, str]] = [
    ("http-sms", {"config": SMS}, "guard.invalid_input"),
    ("http-sms", {"phone": "+49170", "config": SMS}, "guard.invalid_input"),
    ("http-sms", {"email": "a@b.example", "config": SMS}, "connector.unexpected_type"),
    ("http-sms", {"phone": "49170", "config": {}}, "connector.invalid_config"),
    ("google-universal", {"phone": "49170", "config": GITHUB_CONFIG}, "connector.not_found"),
    (seed.LOGTO_TWILIO, {"phone": "49170", "config": SMS}, "connector.not_found"),
]
REFUSED_STARTS: list[tuple[str, Any, int, str]] = [
    (seed.LOGTO_OIDC, "s", 501, "connector.not_implemented"),
    (seed.LOGTO_SMTP, "s", 400, "connector.unexpected_type"),
    (seed.LOGTO_GOOGLE, "", 400, "session.insufficient_info"),
    (seed.LOGTO_GOOGLE, 5, 400, "guard.invalid_input"),
    ("google-universal", "s", 404, "entity.not_found"),
]
CALLBACK = "https://app.acme.example/cb"


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        *(("POST", "", *row) for row in REFUSED_CREATIONS),
        *(("PATCH", f"/{instance}", *row) for instance, *row in REFUSED_UPDATES),
        *(("POST", f"/{factory}/test", body, 400, code) for factory, body, code in REFUSED_TESTS),
        *(
            ("POST", f"/{instance}/authorization-uri", {"state": state, "redirectUri": CALLBACK}, *row)
            for instance, state, *row in REFUSED_STARTS
        ),
    ],
)
async def test_a_refused_call_says_why_and_changes_nothing(client, sandbox: Sandbox, method, path, body, status, code):
    before = sandbox.world.all(CONNECTORS)
    answer = await client.request(method, f"{LIST}{path}", json=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert (sandbox.world.all(CONNECTORS), sandbox.world.all(SENT_MESSAGES)) == (before, [])


async def test_a_taken_id_is_a_bare_500(client):
    answer = await client.post(LIST, json={"connectorId": "discord-universal", "id": seed.LOGTO_GOOGLE})
    assert (answer.status_code, answer.json()) == (500, {"message": "Internal server error."})


async def test_a_wrong_body_is_reported_as_zod_does(client):
    answer = (await client.post(LIST, json={"config": {}})).json()
    issue = {"code": "invalid_type", "expected": "string", "received": "undefined", "path": ["connectorId"]}
    assert answer["data"] == {"name": "ZodError", "issues": [issue | {"message": "Required"}]}
    told = 'Error in key path "connectorId": (invalid_type) Expected string but received undefined.'
    assert answer["details"] == told


async def test_a_wrong_config_is_reported_by_its_path(client):
    body = {"config": {"clientId": 5, "clientSecret": "s"}}
    answer = (await client.patch(f"{LIST}/{seed.LOGTO_GITHUB}", json=body)).json()
    assert answer["code"] == "connector.invalid_config"
    issue = answer["data"]["issues"][0]
    assert (issue["path"], issue["expected"], issue["received"]) == (["clientId"], "string", "number")


async def test_malformed_json_is_400_without_a_code(client):
    answer = await client.post(LIST, content=b"{", headers={"content-type": "application/json"})
    assert (answer.status_code, set(answer.json())) == (400, {"message"})


async def test_patch_replaces_config_whole_and_keeps_what_it_does_not_name(client):
    answer = (await client.patch(f"{LIST}/{seed.LOGTO_GOOGLE}", json={"config": GITHUB_CONFIG})).json()
    assert answer["config"] == GITHUB_CONFIG
    assert (answer["syncProfile"], answer["enableTokenStorage"]) == (True, True)


async def test_empty_values_vanish_after_validation_even_required_ones(client):
    config = {"clientId": "", "clientSecret": "s", "scope": "", "oneTap": {"autoSelect": True, "x": {"y": []}}}
    answer = await client.patch(f"{LIST}/{seed.LOGTO_GOOGLE}", json={"config": config})
    assert answer.json()["config"] == {"clientSecret": "s", "oneTap": {"autoSelect": True}}


async def test_unknown_config_keys_are_stored_as_given(client):
    config = GITHUB_CONFIG | {"scpoe": "user"}
    assert (await client.patch(f"{LIST}/{seed.LOGTO_GITHUB}", json={"config": config})).json()["config"] == config


async def test_metadata_of_a_standard_connector_is_replaced_when_the_target_is_repeated(client):
    answer = (await client.patch(f"{LIST}/{seed.LOGTO_OIDC}", json={"metadata": ACME})).json()
    assert (answer["metadata"], answer["name"]) == ({"target": "acme-idp"}, {"en": "OIDC"})


async def test_turning_token_storage_off_drops_the_stored_tokens(client, sandbox: Sandbox):
    assert len(sandbox.world.all(STORED_TOKENS)) == 2
    await client.patch(f"{LIST}/{seed.LOGTO_GOOGLE}", json={"syncProfile": False})
    assert len(sandbox.world.all(STORED_TOKENS)) == 2
    await client.patch(f"{LIST}/{seed.LOGTO_GOOGLE}", json={"enableTokenStorage": False})
    assert sandbox.world.all(STORED_TOKENS) == []


async def test_delete_is_204_without_a_body_then_404_and_takes_stored_tokens_along(client, sandbox: Sandbox):
    first = await client.delete(f"{LIST}/{seed.LOGTO_GOOGLE}")
    assert (first.status_code, first.content) == (204, b"")
    assert (await client.delete(f"{LIST}/{seed.LOGTO_GOOGLE}")).status_code == 404
    assert sandbox.world.all(STORED_TOKENS) == []


async def test_a_demo_connector_is_listed_and_occupies_a_target_and_can_only_be_deleted(client, sandbox: Sandbox):
    connector = {"id": "demo1", "connectorId": "logto-social-demo", "config": {"provider": "discord"}, "metadata": {}}
    sandbox.world.put(CONNECTORS, "demo1", {**connector, "syncProfile": False, "enableTokenStorage": False})
    (shown,) = (await client.get(LIST, params={"target": "discord"})).json()
    assert (shown["id"], shown["isDemo"], shown["config"]) == ("demo1", True, {})
    demo, discord = f"{LIST}/demo1", {"connectorId": "discord-universal", "config": GITHUB_CONFIG}
    for refused in (await client.get(demo), await client.patch(demo, json={"syncProfile": True})):
        assert (refused.status_code, refused.json()["code"]) == (400, "connector.not_found")
    occupied = await client.post(LIST, json=discord)
    assert occupied.json()["code"] == "connector.multiple_target_with_same_platform"
    assert (await client.delete(demo)).status_code == 204
    assert (await client.post(LIST, json=discord)).status_code == 200


async def test_unknown_keys_and_two_alternatives_at_once_are_stored_as_given_without_their_empty_members(client):
    mixed = {"html": "<p>{{code}}</p>", "template": "otp", "subject": "", "htlm": "x"}
    config = {"domain": "mg.example.com", "apiKey": "k", "from": "a@example.com", "deliveries": {"Generic": mixed}}
    created = (await client.post(LIST, json={"connectorId": "mailgun-email", "config": config})).json()
    assert created["config"]["deliveries"]["Generic"] == {key: value for key, value in mixed.items() if value}


async def test_test_delivers_by_the_config_of_the_body_and_answers_204(client, sandbox: Sandbox):
    answer = await client.post(f"{LIST}/http-sms/test", json={"phone": "491701234567", "config": SMS, "locale": "en"})
    assert (answer.status_code, answer.content) == (204, b"")
    sent = sandbox.world.all(SENT_MESSAGES)
    assert [(each["factoryId"], each["to"]) for each in sent] == [("http-sms", "491701234567")]


async def test_a_test_needs_every_template(client):
    stored = (await client.get(f"{LIST}/{seed.LOGTO_TWILIO}")).json()["config"]
    path = f"{LIST}/twilio-short-message-service/test"
    assert (await client.post(path, json={"phone": "49170", "config": stored})).status_code == 204
    stored["templates"].pop()
    assert (await client.post(path, json={"phone": "49170", "config": stored})).status_code == 400


async def test_an_authorization_uri_carries_state_and_redirect(client):
    body = {"state": "f3b1", "redirectUri": CALLBACK}
    answer = (await client.post(f"{LIST}/{seed.LOGTO_GOOGLE}/authorization-uri", json=body)).json()
    assert set(answer) == {"redirectTo"}
    assert answer["redirectTo"].startswith("https://accounts.google.com/o/oauth2/v2/auth?client_id=123.apps")
    assert "state=f3b1" in answer["redirectTo"]
    assert "sandbox-secret" not in answer["redirectTo"]


async def test_factories_are_listed_and_read_by_factory_id(client):
    listed = (await client.get("/api/connector-factories")).json()
    assert len(listed) == 51
    assert {"config", "connectorId", "metadata"}.isdisjoint(listed[0])
    one = (await client.get("/api/connector-factories/oidc")).json()
    assert one in listed
    assert (one["isStandard"], one["platform"]) == (True, "Universal")
    assert (await client.get(f"/api/connector-factories/{seed.LOGTO_GOOGLE}")).status_code == 404


async def test_every_seeded_connector_passes_its_own_guard(client):
    for each in (await client.get(LIST)).json():
        answer = await client.patch(f"{LIST}/{each['id']}", json={"config": each["config"]})
        assert (answer.status_code, answer.json()["config"]) == (200, each["config"])
