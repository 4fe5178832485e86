"""Changing Logto connectors: merging, and what is lost by it."""

from typing import Any

import pytest

from connector_mcp.errors import Internal
from connector_mcp.operations.logto.connectors import GetConnector, UpdateConnector
from connector_mcp.operations.situation import Situation
from tests.operations import hooks

USES = ("SignIn", "Register", "ForgotPassword", "Generic", "BindMfa")
GOOGLE: dict[str, Any] = {
    "id": "x7k2m9q4", "connectorId": "google-universal", "type": "Social", "target": "google",
    "name": {"en": "Google"}, "config": {"clientId": "123", "clientSecret": "GOCSPX-stored", "scope": "openid email"},
    "metadata": {}, "syncProfile": False, "enableTokenStorage": True, "isStandard": False,
    "isTokenStorageSupported": True,
}  # fmt: skip
OIDC: dict[str, Any] = {
    "id": "acme", "connectorId": "oidc", "type": "Social", "target": "acme-idp",
    "config": {
        "clientId": "logto", "clientSecret": "stored",
        "idTokenVerificationConfig": {"jwksUri": "https://id.example.com/jwks", "issuer": "https://id.example.com"},
    },
    "metadata": {"target": "acme-idp", "name": {"en": "Acme", "de": "Akme"}, "logo": "https://a.example/l.svg"},
    "enableTokenStorage": False, "isStandard": True, "isTokenStorageSupported": True,
}  # fmt: skip
TWILIO: dict[str, Any] = {
    "id": "sms1", "connectorId": "twilio-short-message-service", "type": "Sms",
    "config": {"accountSID": "AC1", "authToken": "stored", "fromMessagingServiceSID": "MG1",
               "templates": [{"usageType": use, "content": use} for use in USES]},
    "metadata": {}, "enableTokenStorage": False,
}  # fmt: skip


def update(**arguments: Any) -> UpdateConnector:
    return UpdateConnector.model_validate({"id": "x7k2m9q4", **arguments})


def body(current: Any, **arguments: Any) -> Any:
    return update(**arguments).make_body(Situation(current=current))


def losses(current: Any, **arguments: Any) -> list[tuple[str, str, Any]]:
    return hooks.losses(update(**arguments), Situation(current=current))


def problems(current: Any, **arguments: Any) -> list[str]:
    return hooks.problems(update(**arguments), Situation(current=current))


def test_only_what_is_set_is_sent_and_null_counts_as_unset():
    sent = body(GOOGLE, config=None, metadata=None, sync_profile=False, enable_token_storage=None)
    assert sent == {"syncProfile": False}


def test_settings_alone_need_no_look_at_the_connector():
    assert body(None, enable_token_storage=True) == {"enableTokenStorage": True}


@pytest.mark.parametrize("current", [None, [], {}, {"config": None, "metadata": "x"}])
@pytest.mark.parametrize("given", [{"config": {"scope": "openid"}}, {"metadata": {"logo": "https://a.example"}}])
def test_without_the_stored_values_nothing_is_sent(current: Any, given: Any):
    with pytest.raises(Internal, match="Nothing was sent"):
        body(current, **given)


def test_nested_objects_are_merged_and_lists_replaced():
    sent = body(OIDC, config={"idTokenVerificationConfig": {"issuer": "https://new.example"}})
    assert sent["config"] == {
        **OIDC["config"],
        "idTokenVerificationConfig": {"jwksUri": "https://id.example.com/jwks", "issuer": "https://new.example"},
    }
    assert body(TWILIO, config={"templates": []})["config"]["templates"] == []


def test_the_stored_record_is_left_as_it_is():
    before = repr(OIDC)
    body(OIDC, config={"idTokenVerificationConfig": {"issuer": None}, "scope": "x"}, metadata={"name": {"de": None}})
    assert repr(OIDC) == before


def test_null_takes_a_member_away():
    assert body(GOOGLE, config={"scope": None})["config"] == {"clientId": "123", "clientSecret": "GOCSPX-stored"}


def test_metadata_is_merged_and_repeats_the_target_even_if_the_record_lacks_it():
    dark, logo = "https://a.example/d.svg", {"logo": "https://a.example"}
    sent = body(OIDC, metadata={"name": {"en": "Acme ID"}, "logoDark": dark})["metadata"]
    assert sent == {**OIDC["metadata"], "name": {"en": "Acme ID", "de": "Akme"}, "logoDark": dark}
    assert body({**OIDC, "metadata": {}}, metadata=logo)["metadata"] == {"target": "acme-idp", **logo}


@pytest.mark.parametrize("empty", [None, "", [], {}])
def test_each_emptied_member_is_a_loss_with_its_present_value(empty: Any):
    assert losses(GOOGLE, config={"scope": empty}) == [("Unsets config.scope", "config.scope", "openid email")]


def test_emptied_members_inside_objects_are_losses():
    key, issuer = "config.idTokenVerificationConfig", "config.idTokenVerificationConfig.issuer"
    lost = losses(OIDC, config={"idTokenVerificationConfig": {"issuer": ""}})
    assert lost == [(f"Unsets {issuer}", issuer, "https://id.example.com")]
    for emptied in ({}, "x"):
        assert [field for _, field, _ in losses(OIDC, config={"idTokenVerificationConfig": emptied})] == [key]


def test_emptied_metadata_is_a_loss():
    assert losses(OIDC, metadata={"logo": None, "name": {"de": None}}) == [
        ("Unsets metadata.name.de", "metadata.name.de", "Akme"),
        ("Unsets metadata.logo", "metadata.logo", "https://a.example/l.svg"),
    ]


def test_changing_values_and_emptying_what_is_empty_are_no_losses():
    assert losses(GOOGLE, config={"scope": "openid", "prompts": [], "clientSecret": "new"}, sync_profile=False) == []
    assert losses(GOOGLE, config={}) == []
    assert losses(None, config={"scope": ""}) == []


def test_templates_left_out_of_the_new_list_are_losses():
    *kept, left_out = TWILIO["config"]["templates"]
    told = "Removes the BindMfa template from config.templates"
    assert losses(TWILIO, config={"templates": kept}) == [(told, "config.templates.BindMfa", left_out)]
    assert losses(TWILIO, config={"templates": [*kept, left_out]}) == []


def test_switching_token_storage_off_deletes_the_stored_tokens():
    lost = [("Deletes the third-party tokens stored for users", "enableTokenStorage", True)]
    assert losses(GOOGLE, enable_token_storage=False) == lost
    assert losses(None, enable_token_storage=False) == lost
    assert losses(OIDC, enable_token_storage=False) == []
    assert losses(GOOGLE, enable_token_storage=True) == []


WITHOUT_STANDARD = {key: value for key, value in OIDC.items() if key != "isStandard"}


@pytest.mark.parametrize(
    ("current", "arguments", "refused"),
    [
        *((current, given, "config") for current in (GOOGLE, None) for given in ({}, {"config": None}, {"config": {}})),
        *((current, {"config": None, "sync_profile": None}, "config") for current in (GOOGLE, None)),
        ({**GOOGLE, "isDemo": True}, {"sync_profile": True}, "id"),
        (OIDC, {"metadata": {}}, "config"),
        (GOOGLE, {"metadata": {"logo": "https://a.example"}}, "metadata"),
        (TWILIO, {"metadata": {}, "sync_profile": False}, "metadata"),
        (OIDC, {"metadata": {"logo": "https://a.example"}}, None),
        (WITHOUT_STANDARD, {"metadata": {"logo": "https://a.example"}}, None),
        (OIDC, {"metadata": {"target": "other"}}, "metadata.target"),
        (OIDC, {"metadata": {"target": None}}, "metadata.target"),
        (OIDC, {"metadata": {"target": "acme-idp"}}, None),
        (OIDC, {"metadata": {"name": {"de": "Akme"}}}, None),
        *((OIDC, {"metadata": {"name": {"en": empty}}}, "metadata.name.en") for empty in (None, "")),
        (TWILIO, {"sync_profile": True}, "sync_profile"),
        (TWILIO, {"sync_profile": False}, None),
        (GOOGLE, {"sync_profile": True}, None),
        (TWILIO, {"enable_token_storage": True}, "enable_token_storage"),
        ({**GOOGLE, "isTokenStorageSupported": False}, {"enable_token_storage": True}, "enable_token_storage"),
        (OIDC, {"enable_token_storage": True}, None),
        (GOOGLE, {"config": {"clientSecret": None}}, "config.clientSecret"),
        (GOOGLE, {"config": {"scope": None}}, None),
    ],
)
def test_an_update_that_the_platform_would_refuse_is_refused(current: Any, arguments: Any, refused: str | None):
    assert problems(current, **arguments) == ([refused] if refused else [])


def test_a_new_list_of_templates_must_hold_the_required_ones():
    (issue,) = update(config={"templates": TWILIO["config"]["templates"][1:]}).find_problems(Situation(current=TWILIO))
    assert (issue.path, issue.got) == ("config.templates", "none for SignIn")
    assert problems(TWILIO, config={"authToken": "new"}) == []


def test_the_config_is_held_against_the_schema_of_the_stored_factory_without_its_required_members():
    given = {"scope": "openid"}
    (use,) = update(config=given).find_configs(Situation(current=GOOGLE))
    assert (use.path, use.type_id, use.value, use.complete) == ("config", "google-universal", given, False)
    assert use.type is not None
    (blind,) = update(config=given).find_configs(Situation())
    assert (blind.type_id, blind.type) == (None, None)
    assert update(sync_profile=True).find_configs(Situation(current=GOOGLE)) == ()


def test_changes_are_planned_by_the_paths_of_the_record_as_it_will_be_shown():
    call = update(
        config={"scope": "", "idTokenVerificationConfig": {"issuer": "https://new"}, "list": [{"a": 1, "b": ""}]},
        metadata={"name": {"en": "Acme ID"}, "logoDark": None},
        sync_profile=True,
    )
    assert hooks.plan(call, Situation(current=OIDC)) == {
        "config.scope": None,
        "config.idTokenVerificationConfig.issuer": "https://new",
        "config.list": [{"a": 1}],
        "metadata.name.en": "Acme ID",
        "metadata.logoDark": None,
        "syncProfile": True,
    }


def test_the_connector_is_read_before_and_after():
    assert update(sync_profile=True).target_read() == GetConnector(id="x7k2m9q4")
    assert update(sync_profile=True).read_back({}) == GetConnector(id="x7k2m9q4")
