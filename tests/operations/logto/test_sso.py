"""Enterprise SSO connectors and their signing keys: wire forms, losses and refusals."""

from __future__ import annotations

from typing import Any

import pytest

from connector_mcp.engine.redaction.redactor import redact_record
from connector_mcp.errors import NotFound
from connector_mcp.operations.logto.sso_connectors import (
    PUBLIC_DOMAINS,
    CreateSsoConnector,
    GetSsoConnector,
    UpdateSsoConnector,
)
from connector_mcp.operations.logto.sso_signing_keys import (
    CreateSsoConnectorSigningKey,
    GetSigningKey,
    UpdateSsoConnectorSigningKey,
)
from connector_mcp.operations.situation import Situation
from tests.operations import hooks

OKTA: dict[str, Any] = {
    "id": "c", "providerName": "Okta", "connectorName": "Acme", "domains": ["acme.com"], "branding": {"logo": "l"},
    "config": {"clientId": "i", "clientSecret": "stored", "issuer": "https://acme.okta.com", "scope": "groups"},
    "providerConfig": {"clientSecret": "stored", "issuer": "https://acme.okta.com"}, "enableTokenStorage": True,
}  # fmt: skip
SAML: dict[str, Any] = {
    "id": "c", "providerName": "SAML", "connectorName": "Acme", "domains": [], "branding": {},
    "config": {"metadataUrl": "https://idp.acme.com/m", "attributeMapping": {"email": "mail"}},
}  # fmt: skip


def update(**arguments: Any) -> UpdateSsoConnector:
    return UpdateSsoConnector.model_validate({"id": "c", **arguments})


def losses(current: Any, **arguments: Any) -> list[str]:
    return [loss.sentence for loss in update(**arguments).find_losses(Situation(current))]


def test_config_and_branding_are_completed_with_what_is_stored() -> None:
    body = update(config={"clientSecret": "new"}, branding={"displayName": "A"}).make_body(Situation(OKTA))
    assert body["config"] == OKTA["config"] | {"clientSecret": "new"}
    assert body["branding"] == {"logo": "l", "displayName": "A"}
    assert update(config={"scope": None}).make_body(Situation(OKTA))["config"].keys() == {
        "clientId", "clientSecret", "issuer",
    }  # fmt: skip


def test_another_form_of_a_saml_config_replaces_the_stored_one_and_nothing_else() -> None:
    call, now = update(config={"metadata": "<xml/>"}), Situation(SAML)
    assert call.make_body(now)["config"] == {"metadata": "<xml/>", "attributeMapping": {"email": "mail"}}
    assert hooks.issues(call, now) == []


@pytest.mark.parametrize(
    ("config", "paths"),
    [
        ({"metadataUrl": "https://a.example/m", "metadata": "<xml/>"}, ["config.metadata"]),
        ({"entityId": "e"}, ["config.signInEndpoint", "config.x509Certificate"]),
        ({"attributeMapping": {}}, ["config.metadataUrl"]),
        ({"metadataUrl": "https://a.example/m", "signAuthnRequest": True}, ["config.signAuthnRequest"]),
    ],
)
def test_a_new_saml_connector_takes_exactly_one_form(config: Any, paths: list[str]) -> None:
    call = CreateSsoConnector(provider_name="SAML", connector_name="Acme", config=config)
    assert hooks.problems(call, Situation()) == paths


BARE: dict[str, Any] = OKTA | {"config": {}}
MASKED: dict[str, Any] = OKTA | {"config": OKTA["config"] | {"clientSecret": "********"}}
BOTH_FORMS = {"metadataUrl": "https://a.example/m", "metadata": "<xml/>"}


@pytest.mark.parametrize(
    ("current", "arguments", "paths"),
    [
        (SAML, {"config": BOTH_FORMS}, ["config.metadata"]),
        (SAML, {"config": {"metadataUrl": None}}, ["config.metadataUrl"]),
        (SAML, {"enable_token_storage": True}, ["enable_token_storage"]),
        (BARE, {"config": {"clientId": "i"}}, ["config.clientSecret", "config.issuer"]),
        (OKTA, {"config": {"issuer": None}}, ["config.issuer"]),
        (MASKED, {"config": {"scope": "x"}}, ["config.clientSecret"]),
        (OKTA, {"domains": ["a.com", "A.com"]}, ["domains[1]"]),
        (OKTA, {}, ["config"]),
        (OKTA, {"config": {}, "branding": {}}, ["config"]),
    ],
)
def test_an_update_keeps_to_one_form_a_whole_config_and_distinct_domains(
    current: Any, arguments: Any, paths: list[str]
) -> None:
    assert hooks.problems(update(**arguments), Situation(current)) == paths


@pytest.mark.parametrize("domain", [*sorted(PUBLIC_DOMAINS), "GMail.com", "acme", "a@acme.com", "https://acme.com"])
def test_a_domain_that_is_refused_is_named_by_its_place(domain: str) -> None:
    domains = ["globex.com", domain]
    new = CreateSsoConnector(provider_name="OIDC", connector_name="Acme", domains=domains)
    for call in (new, update(domains=domains)):
        assert hooks.problems(call, Situation(OKTA)) == ["domains[1]"]


OTHERWISE_SHUT = "Shuts password, code and social sign-in for e-mail addresses of {} while single sign-on is on"
TOKENS_LOST = "Deletes the provider's tokens stored for users"


@pytest.mark.parametrize(
    ("current", "arguments", "lost"),
    [
        (OKTA, {"domains": ["acme.com", "Globex.com"]}, [OTHERWISE_SHUT.format("globex.com")]),
        (OKTA, {"domains": []}, ["Takes single sign-on away from acme.com"]),
        (OKTA, {"domains": ["ACME.com"]}, []),
        # What cannot be read may be new.
        (None, {"domains": ["acme.com"]}, [OTHERWISE_SHUT.format("acme.com")]),
        (OKTA, {"enable_token_storage": False}, [TOKENS_LOST]),
        (OKTA | {"enableTokenStorage": False}, {"enable_token_storage": False}, []),
        (SAML, {"config": {"metadata": "<xml/>"}}, ["Unsets config.metadataUrl"]),
    ],
)
def test_an_update_tells_which_ways_to_sign_in_and_which_tokens_are_lost(current: Any, arguments: Any, lost: list[str]):
    assert losses(current, **arguments) == lost


def test_domains_are_sent_in_lower_case() -> None:
    assert update(domains=["ACME.com"]).make_body(Situation(OKTA)) == {"domains": ["acme.com"]}


@pytest.mark.parametrize(("is_on", "said"), [(True, "at once"), (False, "as soon as"), (None, "while single")])
def test_a_new_connector_with_a_domain_says_when_it_takes_effect(is_on: bool | None, said: str) -> None:
    new = CreateSsoConnector(provider_name="OIDC", connector_name="Acme", domains=["acme.com"])
    assert new.target_read() is not None
    (loss,) = new.find_losses(Situation({"singleSignOnEnabled": is_on}))
    assert said in loss.sentence
    assert CreateSsoConnector(provider_name="OIDC", connector_name="Acme").target_read() is None


def test_token_storage_is_for_oidc() -> None:
    new = CreateSsoConnector(provider_name="AzureAD", connector_name="Acme", enable_token_storage=True)
    assert hooks.problems(new, Situation()) == ["enable_token_storage"]


def test_a_secret_that_comes_back_twice_is_redacted_twice() -> None:
    shown = redact_record(OKTA, GetSsoConnector.stored_config, GetSsoConnector.on)
    assert "stored" not in str(shown)
    assert shown["config"]["clientId"] == "i"
    other = redact_record(OKTA | {"providerName": "New"}, GetSsoConnector.stored_config, GetSsoConnector.on)
    assert set(other["config"].values()) == {"[redacted]"}, "of an unknown provider nothing is known"


def test_the_next_step_follows_from_what_is_missing() -> None:
    data: dict[str, Any] = {"id": "c", "domains": []}
    new: dict[str, Any] = {"provider_name": "GoogleWorkspace", "connector_name": "Acme"}
    config = {"clientId": "i", "clientSecret": "s"}
    bare, complete = CreateSsoConnector(**new), CreateSsoConnector(**new, config=config)
    assert "callback/c" in bare.find_next_step(data, Situation())
    assert "the domains, last" in complete.find_next_step(data, Situation())
    assert CreateSsoConnector(**new, config=config, domains=["a.com"]).find_next_step(data, Situation()) == ""
    assert "check_connector" in update(domains=["a.com"]).find_next_step({"domains": ["a.com"]}, Situation())


# Signing keys --------------------------------------------------------------------------------------------------------

KEYS = [{"id": "k1", "active": True}, {"id": "k2", "active": False}]


def key_losses(key: str, *, active: bool) -> list[str]:
    call = UpdateSsoConnectorSigningKey(id="c", key_id=key, active=active)
    current = GetSigningKey(id="c", key_id=key).shape_result([KEYS], Situation())
    return [loss.sentence for loss in call.find_losses(Situation(current))]


def test_activating_a_key_says_which_one_stops_signing() -> None:
    (said,) = key_losses("k2", active=True)
    assert said.startswith("Deactivates signing key k1")
    assert key_losses("k1", active=True) == []
    assert key_losses("k2", active=False) == []
    assert key_losses("k1", active=False) == ["Leaves the connector without a key to sign its requests with"]


def test_a_new_key_that_is_active_at_once_replaces_the_active_one() -> None:
    now = Situation(KEYS)
    (loss,) = CreateSsoConnectorSigningKey(id="c", active=True).find_losses(now)
    assert loss.sentence.startswith("Deactivates signing key k1")
    assert hooks.losses(CreateSsoConnectorSigningKey(id="c"), now) == []


def test_a_key_that_is_not_in_the_list_is_not_found() -> None:
    reader = GetSigningKey(id="c", key_id="k9")
    with pytest.raises(NotFound) as refused:
        reader.shape_result([KEYS], Situation())
    assert "logto_list_sso_connector_signing_keys" in refused.value.fix
