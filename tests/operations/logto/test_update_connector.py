"""Changing Logto connectors: merging, and what is lost by it."""

from typing import Any

import pytest

from connector_mcp.errors import Internal
from connector_mcp.operations.logto.connectors import GetConnector, UpdateConnector
from connector_mcp.operations.operation import Situation
from connector_mcp.operations.platform import Request

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
    found = update(**arguments).find_losses(Situation(current=current))
    return [(loss.sentence, loss.field, loss.before) for loss in found]


def plan(operation: UpdateConnector, situation: Situation) -> dict[str, Any]:
    return {".".join(path): value for path, value in operation.plan_changes(situation).items()}


def problems(current: Any, **arguments: Any) -> list[str]:
    return [issue.path for issue in update(**arguments).find_problems(Situation(current=current))]


def test_a_changed_key_is_sent_with_the_whole_stored_config_secrets_included():
    request = update(config={"scope": "openid"}, sync_profile=True).make_request(Situation(current=GOOGLE))
    assert request == Request(
        "PATCH",
        "/api/connectors/{id}",
        {"id": "x7k2m9q4"},
        body={"config": {"clientId": "123", "clientSecret": "GOCSPX-stored", "scope": "openid"}, "syncProfile": True},
        repeatable=True,
    )


def test_only_what_is_set_is_sent_and_null_counts_as_unset():
    assert body(GOOGLE, config=None, metadata=None, sync_profile=False, enable_token_storage=None) == {
        "syncProfile": False
    }


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


def test_metadata_is_merged_and_repeats_the_target():
    assert body(OIDC, metadata={"name": {"en": "Acme ID"}, "logoDark": "https://a.example/d.svg"})["metadata"] == {
        "target": "acme-idp",
        "name": {"en": "Acme ID", "de": "Akme"},
        "logo": "https://a.example/l.svg",
        "logoDark": "https://a.example/d.svg",
    }


def test_the_target_is_repeated_even_if_the_stored_metadata_lacks_it():
    assert body({**OIDC, "metadata": {}}, metadata={"logo": "https://a.example"})["metadata"] == {
        "target": "acme-idp",
        "logo": "https://a.example",
    }


@pytest.mark.parametrize("empty", [None, "", [], {}])
def test_each_emptied_member_is_a_loss_with_its_present_value(empty: Any):
    assert losses(GOOGLE, config={"scope": empty}) == [("Unsets config.scope", "config.scope", "openid email")]


def test_emptied_members_inside_objects_are_losses():
    issuer = "config.idTokenVerificationConfig.issuer"
    assert losses(OIDC, config={"idTokenVerificationConfig": {"issuer": ""}}) == [
        (f"Unsets {issuer}", issuer, "https://id.example.com")
    ]
    assert [field for _, field, _ in losses(OIDC, config={"idTokenVerificationConfig": {}})] == [
        "config.idTokenVerificationConfig"
    ]
    assert [field for _, field, _ in losses(OIDC, config={"idTokenVerificationConfig": "x"})] == [
        "config.idTokenVerificationConfig"
    ]


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
    kept = TWILIO["config"]["templates"][:4]
    assert losses(TWILIO, config={"templates": kept}) == [
        (
            "Removes the BindMfa template from config.templates",
            "config.templates.BindMfa",
            {"usageType": "BindMfa", "content": "BindMfa"},
        )
    ]
    assert losses(TWILIO, config={"templates": TWILIO["config"]["templates"]}) == []


def test_switching_token_storage_off_deletes_the_stored_tokens():
    lost = [("Deletes the third-party tokens stored for users", "enableTokenStorage", True)]
    assert losses(GOOGLE, enable_token_storage=False) == lost
    assert losses(None, enable_token_storage=False) == lost
    assert losses(OIDC, enable_token_storage=False) == []
    assert losses(GOOGLE, enable_token_storage=True) == []


@pytest.mark.parametrize("given", [{}, {"config": None, "sync_profile": None}])
def test_a_call_that_changes_nothing_is_refused(given: Any):
    assert problems(GOOGLE, **given) == ["config"]
    assert problems(None, **given) == ["config"]


def test_demo_connectors_are_refused():
    assert problems({**GOOGLE, "isDemo": True}, sync_profile=True) == ["id"]


@pytest.mark.parametrize("current", [GOOGLE, TWILIO])
def test_metadata_is_refused_unless_the_connector_is_standard(current: Any):
    assert problems(current, metadata={}) == ["metadata"]
    assert problems(OIDC, metadata={"logo": "https://a.example"}) == []


def test_whether_a_connector_is_standard_is_known_even_if_its_record_does_not_say():
    assert problems({key: value for key, value in OIDC.items() if key != "isStandard"}, metadata={}) == []


def test_the_target_cannot_change():
    assert problems(OIDC, metadata={"target": "other"}) == ["metadata.target"]
    assert problems(OIDC, metadata={"target": None}) == ["metadata.target"]
    assert problems(OIDC, metadata={"target": "acme-idp"}) == []


def test_only_social_connectors_sync_profiles():
    assert problems(TWILIO, sync_profile=True) == ["sync_profile"]
    assert problems(TWILIO, sync_profile=False) == []
    assert problems(GOOGLE, sync_profile=True) == []


def test_token_storage_is_refused_where_the_factory_has_none():
    assert problems(TWILIO, enable_token_storage=True) == ["enable_token_storage"]
    assert problems({**GOOGLE, "isTokenStorageSupported": False}, enable_token_storage=True) == ["enable_token_storage"]
    assert problems(OIDC, enable_token_storage=True) == []


def test_a_required_member_cannot_be_taken_away():
    assert problems(GOOGLE, config={"clientSecret": None}) == ["config.clientSecret"]
    assert problems(GOOGLE, config={"scope": None}) == []


def test_a_new_list_of_templates_must_hold_the_required_ones():
    (issue,) = update(config={"templates": TWILIO["config"]["templates"][1:]}).find_problems(Situation(current=TWILIO))
    assert (issue.path, issue.got) == ("config.templates", "none for SignIn")
    assert problems(TWILIO, config={"authToken": "new"}) == []


def test_the_config_is_held_against_the_schema_of_the_stored_factory_without_its_required_members():
    (use,) = update(config={"scope": "openid"}).find_configs(Situation(current=GOOGLE))
    assert (use.path, use.type_id, use.value, use.complete) == (
        "config",
        "google-universal",
        {"scope": "openid"},
        False,
    )
    assert use.type is not None
    (blind,) = update(config={"scope": "openid"}).find_configs(Situation())
    assert (blind.type_id, blind.type) == (None, None)
    assert update(sync_profile=True).find_configs(Situation(current=GOOGLE)) == ()


def test_changes_are_planned_by_the_paths_of_the_record_as_it_will_be_shown():
    call = update(
        config={"scope": "", "idTokenVerificationConfig": {"issuer": "https://new"}, "list": [{"a": 1, "b": ""}]},
        metadata={"name": {"en": "Acme ID"}, "logoDark": None},
        sync_profile=True,
    )
    assert plan(call, Situation(current=OIDC)) == {
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
