"""What makes a Logto connector work, done with tools until check_connector says that it does, or why not."""

from __future__ import annotations

from typing import Any

import pytest

from connector_mcp.sandbox import seed
from connector_mcp.sandbox.logto.sso import UNREACHABLE
from tests.end_to_end.recipes import Agent

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("platform", ["logto"])]

CONNECTOR, SSO = "connector", "SSO connector"
DISCORD = {"clientId": "discord-client", "clientSecret": "discord-secret"}
USES = ("SignIn", "Register", "ForgotPassword", "Generic")
SENDGRID = {
    "apiKey": "sendgrid-key", "fromEmail": "no-reply@acme.example", "templates": [
        {"usageType": use, "type": "text/plain", "subject": "Code", "content": "{{code}}"} for use in USES
    ],
}  # fmt: skip
HTTP_SMS = {"endpoint": "https://sms.acme.example/send", "authorization": "Bearer sms-key"}
CODES: dict[str, tuple[str, Any, dict[str, str], str]] = {
    "email": ("sendgrid-email-service", SENDGRID, {"email": "ops@acme.example"}, "EmailVerificationCode"),
    "phone": ("http-sms", HTTP_SMS, {"phone": "491701234567"}, "PhoneVerificationCode"),
}


@pytest.mark.parametrize("wrong", ["", "not listed", "no config"])
async def test_a_sign_in_button_appears(wrong: str, agent: Agent) -> None:
    config = {} if wrong == "no config" else {"config": DISCORD}
    if wrong == "no config":
        error = await agent.refused("logto_create_connector", connector_id="discord-universal")
        assert "clientId, clientSecret" in error["issues"][0]["wanted"]
        return
    new = await agent.call("logto_create_connector", connector_id="discord-universal", **config)
    hidden = await agent.check(new["id"], CONNECTOR)
    assert (hidden["works"], hidden["seen"]["target"]) == ("no", "discord")
    assert "logto_update_sign_in_exp" in hidden["next"]
    before = (await agent.call("logto_get_sign_in_exp"))["socialSignInConnectorTargets"]
    targets = [*before, "discord" if not wrong else "discrod"]
    after = await agent.call("logto_update_sign_in_exp", social_sign_in_connector_targets=targets)
    assert ("discord" in after["socialSignInConnectorTargets"]) == (not wrong)
    verdict = await agent.settled(new["id"], CONNECTOR)
    assert verdict["works"] == ("no" if wrong else "yes")
    assert ("does not list its target" in verdict["reason"]) == bool(wrong)
    if not wrong:
        assert "People see it" in verdict["reason"]
        assert "only a sign-in does" in verdict["unproven"], "no credential is proven by what people see"
    agent.assert_next_steps_were_taken("logto_create_connector")


@pytest.mark.parametrize("identifier", CODES)
@pytest.mark.parametrize("wrong", ["", "unused", "credentials"])
async def test_people_sign_in_with_codes(identifier: str, wrong: str, agent: Agent) -> None:
    factory, config, to, reset = CODES[identifier]
    if wrong == "credentials":
        secret = "apiKey" if identifier == "email" else "authorization"
        bad = config | {secret: "invalid-key"}
        error = await agent.refused("logto_create_connector_test", factory_id=factory, config=bad, **to)
        assert error["upstream"]["code"] == "connector.authorization_failed"
        return
    await agent.call("logto_list_connectors")
    await agent.call("logto_create_connector_test", factory_id=factory, config=config, **to)
    new = await agent.call("logto_create_connector", connector_id=factory, config=config)
    now = await agent.call("logto_get_sign_in_exp", fields=["signIn", "signUp"])
    if not wrong:
        method = {"identifier": identifier, "password": True, "verificationCode": True, "isPasswordPrimary": False}
        given = {
            "sign_up": {"identifiers": [identifier], "password": True, "verify": True},
            "sign_in": {"methods": [method, *now["signIn"]["methods"]]},
            "forgot_password_methods": [reset],
        }
        await agent.call("logto_update_sign_in_exp", **given)
    verdict = await agent.settled(new["id"], CONNECTOR)
    assert verdict["works"] == ("no" if wrong else "yes")
    if wrong:
        assert verdict["reason"].startswith("Nothing uses it")
        assert identifier in verdict["next"]
    else:
        assert "only a message does" in verdict["unproven"], "the test message had a config of its own"
        assert verdict["seen"]["used_for"] == ["sign-up", "sign-in", "password reset"]
        agent.assert_next_steps_were_taken("logto_create_connector")


@pytest.mark.parametrize("wrong", ["", "certificate", "off", "no domain"])
async def test_a_domain_signs_in_by_saml(wrong: str, agent: Agent) -> None:
    host = "expired-idp.acme.example" if wrong == "certificate" else "idp.acme.example"
    new = await agent.call("logto_create_sso_connector", provider_name="SAML", connector_name="Acme")
    own = new["providerConfig"]["serviceProvider"]
    assert own["assertionConsumerServiceUrl"].endswith(new["id"]), "handed over without a further call"
    with_config = {"config": {"metadataUrl": f"https://{host}/metadata"}, "branding": {"displayName": "Acme"}}
    stored = await agent.call("logto_update_sso_connector", id=new["id"], **with_config)
    assert stored["providerConfig"]["identityProvider"]["isCertificateValid"] == (wrong != "certificate")
    assert not (await agent.call("logto_get_sign_in_exp"))["singleSignOnEnabled"]
    if wrong != "off":
        await agent.call("logto_update_sign_in_exp", single_sign_on_enabled=True)
    if wrong != "no domain":
        await agent.call("logto_update_sso_connector", id=new["id"], domains=["ACME.example"])
    verdict = await agent.settled(new["id"], SSO)
    assert verdict["works"] == ("no" if wrong else "yes")
    if wrong:
        assert (
            verdict["reason"]
            == {
                "certificate": "The identity provider's certificate is not valid any more.",
                "off": "Single sign-on is off in the sign-in experience.",
                "no domain": "It has no domain, so that it is offered to no address.",
            }[wrong]
        )
    else:
        assert verdict["seen"]["domains"] == ["acme.example"]
        agent.assert_next_steps_were_taken("logto_create_sso_connector", "logto_update_sso_connector")


@pytest.mark.parametrize(
    ("provider", "wrong"),
    [
        *((provider, wrong) for provider in ("OIDC", "Okta", "AzureAdOidc") for wrong in ("", "issuer", "down later")),
        *(("GoogleWorkspace", wrong) for wrong in ("", "down later")),
    ],
)
async def test_a_domain_signs_in_by_oidc(provider: str, wrong: str, agent: Agent) -> None:
    host = "invalid-idp.acme.example" if wrong == "issuer" else "idp.acme.example"
    new = await agent.call("logto_create_sso_connector", provider_name=provider, connector_name="Acme")
    config = {"clientId": "acme", "clientSecret": "oidc-client-secret"}
    if provider == "GoogleWorkspace":
        host = "accounts.google.com"
    else:
        config["issuer"] = f"https://{host}"
    if wrong == "issuer":
        error = await agent.refused("logto_update_sso_connector", id=new["id"], config=config)
        assert error["upstream"]["code"] == "connector.invalid_config"
        verdict = await agent.check(new["id"], SSO)
        assert (verdict["works"], verdict["reason"]) == ("no", "Its config is not complete.")
        return
    stored = await agent.call("logto_update_sso_connector", id=new["id"], config=config)
    shown = {stored["config"]["clientSecret"], stored["providerConfig"]["clientSecret"]}
    assert shown == {"[redacted]"}, "Logto shows the secret twice"
    await agent.call("logto_update_sign_in_exp", single_sign_on_enabled=True)
    await agent.call("logto_update_sso_connector", id=new["id"], domains=["acme.example"])
    if wrong:
        agent.sandbox.world.put(UNREACHABLE, host, {"id": host})
    verdict = await agent.settled(new["id"], SSO)
    assert verdict["works"] == ("no" if wrong else "yes")
    assert ("cannot reach the issuer" in verdict["reason"]) == bool(wrong)
    assert ("its client secret" in verdict.get("unproven", "")) != bool(wrong)
    agent.assert_next_steps_were_taken("logto_create_sso_connector", "logto_update_sso_connector")


@pytest.mark.parametrize("wrong", ["", "no code"])
async def test_mails_are_in_the_language_of_the_user(wrong: str, agent: Agent) -> None:
    assert await agent.call("logto_list_email_templates", language_tag="de") == []
    details = {"subject": "Ihr Code", "content": "Code: {{code}}" if not wrong else "Hallo!"}
    templates = [
        {"languageTag": "de", "templateType": kind, "details": details} for kind in ("SignIn", "Generic")
    ]  # fmt: skip
    if wrong:
        error = await agent.refused("logto_replace_email_templates", templates=templates)
        assert error["issues"][0]["path"] == "templates[0].details.content"
        verdict = await agent.check(seed.LOGTO_SMTP, CONNECTOR)
        assert (verdict["works"], verdict["reason"].startswith("Nothing uses it")) == ("no", True)
        return
    first, _ = await agent.call("logto_replace_email_templates", templates=templates)
    await agent.call("logto_update_email_template_details", id=first["id"], subject="Ihr Anmeldecode")
    sent = {"factory_id": "sendgrid-email-service", "config": SENDGRID, "email": "ops@acme.example"}
    await agent.call("logto_create_connector_test", **sent, locale="de")
    (kept,) = await agent.call("logto_list_email_templates", language_tag="de", template_type="SignIn")
    assert kept["details"] == details | {"subject": "Ihr Anmeldecode"}
    await agent.call("logto_update_sign_in_exp", forgot_password_methods=["EmailVerificationCode"])
    verdict = await agent.settled(seed.LOGTO_SMTP, CONNECTOR)
    assert (verdict["works"], verdict["seen"]["used_for"]) == ("yes", ["password reset"])


async def test_a_connector_is_taken_out_of_sight_without_deleting_it(agent: Agent) -> None:
    assert "People see it" in (await agent.check(seed.LOGTO_GITHUB, CONNECTOR))["reason"]
    await agent.call("logto_update_sign_in_exp", social_sign_in_connector_targets=["google"])
    assert (await agent.check(seed.LOGTO_GITHUB, CONNECTOR))["works"] == "no"
    await agent.call("logto_update_sso_connector", id=seed.LOGTO_SSO, domains=[])
    assert (await agent.check(seed.LOGTO_SSO, SSO))["reason"].startswith("It has no domain")


async def test_a_signing_key_is_replaced_without_an_outage(agent: Agent) -> None:
    new = await agent.call("logto_create_sso_connector", provider_name="AzureAD", connector_name="Acme")
    key = await agent.call("logto_create_sso_connector_signing_key", id=new["id"])
    assert (key["active"], "BEGIN CERTIFICATE" in key["certificate"]) == (False, True)
    signed = {"metadataUrl": "https://idp.acme.example/metadata", "signAuthnRequest": True}
    error = await agent.refused("logto_update_sso_connector", id=new["id"], config=signed)
    assert error["upstream"]["code"] == "single_sign_on.active_signing_key_required"
    one = await agent.call("logto_update_sso_connector_signing_key", id=new["id"], key_id=key["id"], active=True)
    assert one["active"]
    await agent.call("logto_update_sso_connector", id=new["id"], config=signed)
    other = await agent.call("logto_create_sso_connector_signing_key", id=new["id"])
    await agent.call("logto_update_sso_connector_signing_key", id=new["id"], key_id=other["id"], active=True)
    keys = await agent.call("logto_list_sso_connector_signing_keys", id=new["id"])
    assert {each["id"]: each["active"] for each in keys} == {key["id"]: False, other["id"]: True}


async def test_what_exists_is_found_with_what_the_sign_in_experience_makes_of_it(agent: Agent) -> None:
    rows = await agent.call("find_connectors", platform="logto")
    assert {row["id"]: (row["kind"], row["status"]) for row in rows} == {
        seed.LOGTO_SMTP: (CONNECTOR, "unknown"),
        seed.LOGTO_TWILIO: (CONNECTOR, "unknown"),
        seed.LOGTO_GOOGLE: (CONNECTOR, "ok"),
        seed.LOGTO_GITHUB: (CONNECTOR, "ok"),
        seed.LOGTO_OIDC: (CONNECTOR, "paused"),
        seed.LOGTO_SSO: (SSO, "paused"),
    }
