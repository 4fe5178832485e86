"""The emulated Logto keeps the traps of sign-in experience, enterprise SSO and e-mail templates."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from connector_mcp.sandbox import seed
from connector_mcp.sandbox.app import Sandbox

pytestmark = pytest.mark.anyio

PLATFORM = "logto"
EXP, PAGE, SSO, MAILS = (
    "/api/sign-in-exp",
    "/api/.well-known/sign-in-exp",
    "/api/sso-connectors",
    "/api/email-templates",
)
EMAIL = {"identifier": "email", "password": True, "verificationCode": True, "isPasswordPrimary": False}
UP = {"identifiers": ["email"], "password": True, "verify": True}
OIDC = {"clientId": "i", "clientSecret": "oidc-secret", "issuer": "https://idp.acme.example"}
METADATA = {"metadataUrl": "https://idp.acme.example/metadata"}


async def created(client: httpx.AsyncClient, provider: str, **more: Any) -> dict[str, Any]:
    answer = await client.post(SSO, json={"providerName": provider, "connectorName": provider, **more})
    assert answer.status_code == 200, answer.json()
    return answer.json()


async def test_unknown_targets_vanish_and_each_property_is_replaced_whole(client: httpx.AsyncClient) -> None:
    changed = await client.patch(EXP, json={"socialSignInConnectorTargets": ["github", "no-such"], "other": 1})
    assert changed.json()["socialSignInConnectorTargets"] == ["github"]
    linking = {"automaticAccountLinking": True}
    await client.patch(EXP, json={"socialSignIn": linking | {"skipRequiredIdentifiers": True}})
    assert (await client.patch(EXP, json={"socialSignIn": linking})).json()["socialSignIn"] == linking


async def test_the_page_needs_no_token_and_lags_behind(client: httpx.AsyncClient, anonymous: httpx.AsyncClient) -> None:
    assert (await anonymous.get(EXP)).status_code == 401
    assert [each["target"] for each in (await anonymous.get(PAGE)).json()["socialConnectors"]] == ["google", "github"]
    await client.patch(EXP, json={"socialSignInConnectorTargets": ["acme-idp"]})
    shown = [(await anonymous.get(PAGE)).json()["socialConnectors"] for _ in range(2)]
    assert [[each["id"] for each in page] for page in shown] == [
        [seed.LOGTO_GOOGLE, seed.LOGTO_GITHUB], [seed.LOGTO_OIDC],
    ]  # fmt: skip
    assert "forgotPasswordMethods" not in (await anonymous.get(PAGE)).json()


async def test_a_new_social_connector_is_invisible_until_its_target_is_listed(
    client: httpx.AsyncClient, anonymous: httpx.AsyncClient
) -> None:
    async def seen() -> list[str]:
        await anonymous.get(PAGE)
        return [each["target"] for each in (await anonymous.get(PAGE)).json()["socialConnectors"]]

    new = {"connectorId": "facebook-universal", "config": {"clientId": "i", "clientSecret": "s"}}
    assert (await client.post("/api/connectors", json=new)).status_code == 200
    listed = (await client.get(EXP)).json()["socialSignInConnectorTargets"]
    assert ("facebook" in listed, await seen()) == (False, listed)
    await client.patch(EXP, json={"socialSignInConnectorTargets": [*listed, "facebook"]})
    assert await seen() == [*listed, "facebook"]


async def test_a_deleted_connector_leaves_the_list(client: httpx.AsyncClient) -> None:
    await client.delete(f"/api/connectors/{seed.LOGTO_GITHUB}")
    assert (await client.get(EXP)).json()["socialSignInConnectorTargets"] == ["google"]


REFUSED: list[tuple[dict[str, Any], int, str]] = [
    ({"signUp": UP | {"verify": False}}, 400, "passwordless_requires_verify"),
    ({"signUp": UP | {"identifiers": ["email", "email"]}}, 400, "duplicated_sign_up_identifiers"),
    (
        {"signUp": UP | {"identifiers": [], "secondaryIdentifiers": [{"identifier": "username"}]}},
        400,
        "missing_sign_up_identifiers",
    ),
    (
        {"signIn": {"methods": [EMAIL | {"password": False, "verificationCode": False}]}},
        400,
        "at_least_one_authentication_factor",
    ),
    (
        {"signUp": UP | {"password": False}, "signIn": {"methods": [EMAIL | {"verificationCode": False}]}},
        400,
        "code_sign_in_must_be_enabled",
    ),
    ({"passwordExpiration": {"enabled": True}}, 422, "password_expiration_invalid_period_days"),
]


@pytest.mark.parametrize(("body", "status", "code"), REFUSED)
async def test_a_sign_in_experience_that_contradicts_itself_is_refused(
    client: httpx.AsyncClient, body: dict[str, Any], status: int, code: str
) -> None:
    answer = await client.patch(EXP, json=body)
    assert (answer.status_code, answer.json()["code"]) == (status, f"sign_in_experiences.{code}")


async def test_codes_need_a_connector_and_stay_when_it_goes(client: httpx.AsyncClient) -> None:
    assert (await client.patch(EXP, json={"signIn": {"methods": [EMAIL]}, "signUp": UP})).status_code == 200
    await client.delete(f"/api/connectors/{seed.LOGTO_SMTP}")
    assert (await client.get(EXP)).json()["signIn"]["methods"] == [EMAIL]
    refused = await client.patch(EXP, json={"signIn": {"methods": [EMAIL]}})
    assert refused.json()["code"] == "sign_in_experiences.enabled_connector_not_found"
    reset = await client.patch(EXP, json={"forgotPasswordMethods": ["EmailVerificationCode"]})
    assert reset.json()["code"] == "sign_in_experiences.forgot_password_method_requires_connector"


async def test_an_sso_connector_has_three_switches(client: httpx.AsyncClient) -> None:
    new = await created(client, "OIDC", domains=["ACME.example"])
    assert new["domains"] == ["acme.example"]
    assert "providerConfig" not in new, "a creation answers without the part of the provider"

    async def offered() -> list[str]:
        pages = [(await client.get(PAGE)).json()["ssoConnectors"] for _ in range(2)]
        return [each["id"] for each in pages[-1]]

    assert await offered() == []
    await client.patch(EXP, json={"singleSignOnEnabled": True})
    assert await offered() == [seed.LOGTO_SSO]
    stored = (await client.patch(f"{SSO}/{new['id']}", json={"config": OIDC})).json()
    assert stored["config"]["clientSecret"] == stored["providerConfig"]["clientSecret"] == "oidc-secret"
    assert await offered() == [seed.LOGTO_SSO, new["id"]]


SSO_REFUSED: list[tuple[str, dict[str, Any], int, str]] = [
    ("Auth0", {}, 422, "connector.not_found"),
    ("OIDC", {"connectorName": "Globex"}, 409, "single_sign_on.duplicate_connector_name"),
    ("OIDC", {"domains": ["gmail.com"]}, 422, "single_sign_on.forbidden_domains"),
    ("OIDC", {"domains": ["a.com", "A.com"]}, 422, "single_sign_on.duplicated_domains"),
    ("OIDC", {"config": {"clientId": "i"}}, 400, "connector.invalid_config"),
    ("OIDC", {"config": OIDC | {"issuer": "https://invalid-idp.example"}}, 400, "connector.invalid_config"),
    ("SAML", {"config": {"entityId": "e"}}, 400, "connector.invalid_config"),
    ("SAML", {"config": METADATA | {"signAuthnRequest": True}}, 400, "single_sign_on.active_signing_key_required"),
    ("SAML", {"enableTokenStorage": True}, 400, "connector.token_storage_not_supported"),
]


@pytest.mark.parametrize(("provider", "body", "status", "code"), SSO_REFUSED)
async def test_an_sso_connector_that_cannot_work_is_refused(
    client: httpx.AsyncClient, provider: str, body: dict[str, Any], status: int, code: str
) -> None:
    answer = await client.post(SSO, json={"providerName": provider, "connectorName": "New", **body})
    assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_of_several_saml_forms_the_first_wins(client: httpx.AsyncClient) -> None:
    new = await created(
        client, "SAML", config=METADATA | {"metadata": "<xml/>", "unknown": 1, "signAuthnRequest": False}
    )
    assert new["config"] == METADATA | {"signAuthnRequest": False}
    provided = (await client.get(f"{SSO}/{new['id']}")).json()["providerConfig"]
    assert provided["identityProvider"]["isCertificateValid"] is True
    assert provided["serviceProvider"]["entityId"].endswith(f"/enterprise-sso/{new['id']}")


async def test_the_list_is_whole_unless_it_is_paged(client: httpx.AsyncClient) -> None:
    for provider in ("SAML", "OIDC"):
        await created(client, provider)
    assert len((await client.get(SSO)).json()) == 3
    page = await client.get(SSO, params={"page": 2, "page_size": 2})
    assert (len(page.json()), page.headers["total-number"]) == (1, "3")
    assert (await client.get(SSO, params={"page_size": 0})).status_code == 400
    assert len((await client.get("/api/sso-connector-providers")).json()) == 6


async def test_one_key_of_a_saml_connector_is_active_and_goes_with_it(
    client: httpx.AsyncClient, sandbox: Sandbox
) -> None:
    keys = f"{SSO}/{(await created(client, 'SAML', config=METADATA))['id']}/signing-keys"
    first = await client.post(keys, json={"active": True})
    second = await client.post(keys, json={})
    assert (first.status_code, first.json()["active"], second.json()["active"]) == (201, True, False)
    await client.patch(f"{keys}/{second.json()['id']}", json={"active": True})
    assert [key["active"] for key in (await client.get(keys)).json()] == [False, True]
    assert (await client.patch(f"{keys}/{second.json()['id']}", json={})).status_code == 400
    assert (await client.patch(f"{keys}/none", json={"active": True})).status_code == 404
    connector = keys.removesuffix("/signing-keys")
    await client.patch(connector, json={"config": METADATA | {"signAuthnRequest": True}})
    in_use = await client.patch(f"{keys}/{second.json()['id']}", json={"active": False})
    assert in_use.json()["code"] == "single_sign_on.can_not_deactivate_signing_key_in_use"
    assert (await client.get(f"{SSO}/{seed.LOGTO_SSO}/signing-keys")).status_code == 404
    assert (await client.delete(connector)).status_code == 204
    assert sandbox.world.all("logto.sso_signing_keys") == []
    assert (await client.delete(connector)).status_code == 404


async def test_templates_are_added_replaced_and_merged(client: httpx.AsyncClient) -> None:
    german: dict[str, Any] = {
        "languageTag": "de",
        "templateType": "SignIn",
        "details": {"subject": "a", "content": "b"},
    }
    (first,) = (await client.put(MAILS, json={"templates": [german]})).json()
    other = german | {"details": {"subject": "c", "content": "d"}}
    (second,) = (await client.put(MAILS, json={"templates": [other]})).json()
    assert (first["id"], second["details"]) == (second["id"], other["details"])
    merged = await client.patch(f"{MAILS}/{first['id']}/details", json={"replyTo": "a@acme.example"})
    assert merged.json()["details"] == other["details"] | {"replyTo": "a@acme.example"}
    assert (await client.get(f"{MAILS}/{first['id']}")).json() == merged.json()
    assert len((await client.get(MAILS)).json()) == 2
    assert (await client.get(MAILS, params={"languageTag": "fr"})).json() == []
    assert (await client.put(MAILS, json={"templates": []})).status_code == 400
    assert (await client.get(f"{MAILS}/none")).status_code == 404
