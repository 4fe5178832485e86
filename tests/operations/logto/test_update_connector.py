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


UNLIKE_STORED = {"config": None, "metadata": None, "sync_profile": False, "enable_token_storage": None}
JWKS, DARK = {"jwksUri": "https://id.example.com/jwks"}, "https://a.example/d.svg"
RENAMED = {**OIDC["metadata"], "name": {"en": "Acme ID", "de": "Akme"}, "logoDark": DARK}
WITHOUT_SCOPE = {"clientId": "123", "clientSecret": "GOCSPX-stored"}
NEW_ISSUER = {"idTokenVerificationConfig": {"issuer": "https://new.example"}}


@pytest.mark.parametrize(
    ("current", "arguments", "sent"),
    [
        (GOOGLE, UNLIKE_STORED, {"syncProfile": False}),
        (None, {"enable_token_storage": True}, {"enableTokenStorage": True}),
        (OIDC, {"config": NEW_ISSUER},
         {"config": OIDC["config"] | {"idTokenVerificationConfig": {**JWKS, "issuer": "https://new.example"}}}),
        (TWILIO, {"config": {"templates": []}}, {"config": TWILIO["config"] | {"templates": []}}),
        (GOOGLE, {"config": {"scope": None}}, {"config": WITHOUT_SCOPE}),
        (OIDC, {"metadata": {"name": {"en": "Acme ID"}, "logoDark": DARK}}, {"metadata": RENAMED}),
        ({**OIDC, "metadata": {}}, {"metadata": {"logo": DARK}}, {"metadata": {"target": "acme-idp", "logo": DARK}}),
    ],
)  # fmt: skip
def test_only_what_is_set_is_sent_and_objects_are_merged_with_what_is_stored(current: Any, arguments: Any, sent: Any):
    before = repr(current)
    assert body(current, **arguments) == sent
    assert repr(current) == before, "the stored record is left as it is"


@pytest.mark.parametrize("current", [None, [], {}, {"config": None, "metadata": "x"}])
@pytest.mark.parametrize("given", [{"config": {"scope": "openid"}}, {"metadata": {"logo": "https://a.example"}}])
def test_without_the_stored_values_nothing_is_sent(current: Any, given: Any):
    with pytest.raises(Internal, match="Nothing was sent"):
        body(current, **given)


SCOPE_LOST = ("Unsets config.scope", "config.scope", "openid email")
ISSUER, KEY = "config.idTokenVerificationConfig.issuer", "config.idTokenVerificationConfig"
*KEPT, LEFT_OUT = TWILIO["config"]["templates"]
TOKENS_LOST = ("Deletes the third-party tokens stored for users", "enableTokenStorage", True)


@pytest.mark.parametrize(
    ("current", "arguments", "lost"),
    [
        *((GOOGLE, {"config": {"scope": empty}}, [SCOPE_LOST]) for empty in (None, "", [], {})),
        (OIDC, {"config": {"idTokenVerificationConfig": {"issuer": ""}}},
         [(f"Unsets {ISSUER}", ISSUER, "https://id.example.com")]),
        *((OIDC, {"config": {"idTokenVerificationConfig": emptied}},
           [(f"Unsets {KEY}", KEY, OIDC["config"]["idTokenVerificationConfig"])]) for emptied in ({}, "x")),
        (OIDC, {"metadata": {"logo": None, "name": {"de": None}}},
         [("Unsets metadata.name.de", "metadata.name.de", "Akme"),
          ("Unsets metadata.logo", "metadata.logo", "https://a.example/l.svg")]),
        (GOOGLE, {"config": {"scope": "openid", "prompts": [], "clientSecret": "new"}, "sync_profile": False}, []),
        (GOOGLE, {"config": {}}, []),
        (None, {"config": {"scope": ""}}, []),
        (TWILIO, {"config": {"templates": KEPT}},
         [("Removes the BindMfa template from config.templates", "config.templates.BindMfa", LEFT_OUT)]),
        (TWILIO, {"config": {"templates": [*KEPT, LEFT_OUT]}}, []),
        (GOOGLE, {"enable_token_storage": False}, [TOKENS_LOST]),
        (None, {"enable_token_storage": False}, [TOKENS_LOST]),
        (OIDC, {"enable_token_storage": False}, []),
        (GOOGLE, {"enable_token_storage": True}, []),
    ],
)  # fmt: skip
def test_emptied_members_left_out_templates_and_deleted_tokens_are_losses(current: Any, arguments: Any, lost: Any):
    assert losses(current, **arguments) == lost


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
