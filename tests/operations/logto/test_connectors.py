"""Listing, creating and deleting Logto connectors, and what people are told of it."""

from typing import Any

import pytest
from pydantic import ValidationError

from connector_mcp.operations.logto.connectors import (
    CreateConnector,
    DeleteConnector,
    GetConnector,
    ListConnectors,
    UpdateConnector,
)
from connector_mcp.operations.situation import Situation
from tests.operations import hooks

NOWHERE = Situation()
GITHUB = {"clientId": "Iv1.abc", "clientSecret": "s3cr3t"}
HTTP_SMS = {"endpoint": "https://sms.example.com"}
OIDC = {"authorizationEndpoint": "https://id.example.com/a", "scope": "openid"}
SMTP = {
    "id": "mail1", "connectorId": "simple-mail-transfer-protocol", "type": "Email", "name": {"en": "SMTP"},
    "config": {"host": "smtp.example.com"}, "readme": "# SMTP", "usage": 12,
}  # fmt: skip
TWILIO = {"id": "sms1", "connectorId": "twilio-short-message-service", "type": "Sms", "name": {"en": "Twilio"}}
GOOGLE = {"id": "x7k2m9q4", "connectorId": "google-universal", "type": "Social", "name": {"en": "Google"}}


def templates(*uses: str) -> list[Any]:
    return [{"usageType": use, "content": "{{code}}"} for use in uses]


def twilio(*uses: str) -> CreateConnector:
    config = {"accountSID": "AC1", "authToken": "t", "fromMessagingServiceSID": "MG1", "templates": templates(*uses)}
    return CreateConnector(connector_id="twilio-short-message-service", config=config)


def losses(call: CreateConnector, connectors: list[Any], described: Any = None) -> list[str]:
    """The losses as the engine finds them: of what the target selects from the list."""
    assert call.acts_on is not None
    assert call.acts_on.select is not None
    selected = call.acts_on.select(call, Situation(connectors, described=described))
    return [loss.sentence for loss in call.find_losses(Situation(selected, described=described))]


def problems(**arguments: Any) -> list[str]:
    return hooks.problems(CreateConnector.model_validate(arguments), NOWHERE)


def test_an_unknown_member_of_the_metadata_is_refused_as_the_platform_would_drop_it_silently():
    with pytest.raises(ValidationError):
        CreateConnector.model_validate({"connector_id": "oidc", "metadata": {"target": "a", "logo_url": "https://a"}})


def test_the_config_is_held_against_the_whole_schema_of_the_factory():
    (use,) = CreateConnector(connector_id="github-universal", config=GITHUB).find_configs(NOWHERE)
    assert (use.path, use.type_id, use.value, use.complete) == ("config", "github-universal", GITHUB, True)
    assert use.type is not None
    assert use.type.type == "github-universal"


def test_the_config_of_a_factory_of_the_servers_own_has_no_schema():
    (use,) = CreateConnector(connector_id="my-own", config={"a": 1}).find_configs(NOWHERE)
    assert use.type is None
    assert CreateConnector(connector_id="my-own").find_configs(NOWHERE) == ()


SECOND = {**TWILIO, "id": "sms2", "connectorId": "http-sms"}
SMTP_LOST = "Deletes Email connector simple-mail-transfer-protocol (id mail1) with its credentials"
SMS_LOST = [
    "Deletes Sms connector twilio-short-message-service (id sms1) with its credentials",
    "Deletes Sms connector http-sms (id sms2) with its credentials",
]


@pytest.mark.parametrize(
    ("factory_id", "present", "lost"),
    [
        ("http-sms", [SMTP, TWILIO, GOOGLE, SECOND], SMS_LOST),
        ("http-email", [SMTP, TWILIO], [SMTP_LOST]),
        ("http-email", [TWILIO, GOOGLE], []),
        ("github-universal", [SMTP, TWILIO, GOOGLE], []),
    ],
)
def test_a_creation_deletes_each_present_connector_of_its_exclusive_type_and_no_other(
    factory_id: str, present: list[Any], lost: list[str]
):
    assert losses(CreateConnector(connector_id=factory_id, config=HTTP_SMS), present) == lost


@pytest.mark.parametrize(("factory_id", "feared"), [("github-universal", 0), ("http-sms", 1), ("my-own", 2)])
def test_without_a_look_at_the_others_a_loss_is_feared_and_only_a_social_connector_needs_none(
    factory_id: str, feared: int
):
    call = CreateConnector(connector_id=factory_id, config=HTTP_SMS)
    assert call.target_read() == (ListConnectors() if feared else None)
    assert len(hooks.losses(call, NOWHERE)) == feared


def test_a_factory_of_the_servers_own_may_delete_every_email_and_sms_connector():
    call = CreateConnector(connector_id="my-own", config={})
    told = losses(call, [SMTP, TWILIO, GOOGLE])
    assert [sentence.startswith("May delete") for sentence in told] == [True, True]
    assert "(id mail1)" in told[0]
    assert "(id sms1)" in told[1]


def test_the_target_is_the_connectors_in_danger_without_noise_and_what_changes_by_itself():
    call, target = CreateConnector(connector_id="http-email", config=HTTP_SMS), CreateConnector.acts_on
    assert target is not None
    assert target.select is not None
    assert callable(target.name)
    selected = target.select(call, Situation([SMTP, TWILIO]))
    assert selected == [{name: SMTP[name] for name in ("id", "connectorId", "type", "name", "config")}]
    assert target.name(call, selected) == "SMTP"
    assert target.name(call, []) == "http-email"
    assert target.select(call, NOWHERE) == []


def test_a_missing_config_is_refused_where_the_factory_requires_members():
    (issue,) = CreateConnector(connector_id="github-universal").find_problems(NOWHERE)
    assert issue.path == "config"
    assert "clientId, clientSecret" in issue.wanted


SIMPLE = {"connector_id": "github-universal", "config": GITHUB}


@pytest.mark.parametrize(
    ("arguments", "refused"),
    [
        *(({"connector_id": demo, "config": {}}, "connector_id") for demo in ("logto-sms", "logto-social-demo")),
        ({"connector_id": "logto-email"}, None),
        ({"connector_id": "github-universall"}, None),
        *(
            ({"connector_id": "oidc", "config": OIDC, "metadata": metadata}, "metadata.target")
            for metadata in (None, {}, {"name": {"en": "Acme"}}, {"target": ""})
        ),
        (
            {"connector_id": "oidc", "config": OIDC, "metadata": {"target": "a", "name": {"de": "A"}}},
            "metadata.name.en",
        ),
        ({**SIMPLE, "metadata": {}}, "metadata"),
        ({"connector_id": "http-sms", "config": HTTP_SMS, "metadata": {"name": {"en": "Our SMS"}}}, None),
        ({**SIMPLE, "connector_id": "slack-universal", "enable_token_storage": True}, "enable_token_storage"),
        ({**SIMPLE, "enable_token_storage": True}, None),
    ],
)
def test_a_creation_that_the_platform_would_refuse_is_refused(arguments: Any, refused: str | None):
    assert problems(**arguments) == ([refused] if refused else [])


def test_missing_templates_are_named():
    (issue,) = twilio("SignIn", "Register").find_problems(NOWHERE)
    assert (issue.path, issue.got) == ("config.templates", "none for ForgotPassword, Generic")
    assert hooks.problems(twilio("SignIn", "Register", "ForgotPassword", "Generic", "BindMfa"), NOWHERE) == []


def test_what_was_created_is_read_by_its_new_id():
    call = CreateConnector(connector_id="github-universal", config=GITHUB)
    assert call.read_back({"id": "new1", "connectorId": "github-universal"}) == GetConnector(id="new1")
    assert call.read_back(None) is None


def test_no_noise_member_is_in_the_summary_of_a_row():
    assert not set(ListConnectors.summary) & ListConnectors.heavy
    assert {"readme", "logo", "logoDark", "configTemplate", "description", "formItems"} == ListConnectors.heavy


def test_a_deletion_is_confirmed_though_the_platform_answers_with_nothing():
    assert DeleteConnector(id="x7k2m9q4").shape_result([None], NOWHERE) == {"id": "x7k2m9q4", "deleted": True}


def test_the_target_of_a_deletion_is_the_connector_by_the_name_that_the_console_shows():
    call = DeleteConnector(id="x7k2m9q4")
    assert call.target_read() == GetConnector(id="x7k2m9q4")
    target = DeleteConnector.acts_on
    assert target is not None
    assert (target.name, call.target_argument()) == ("name.en", "id")
    assert "usage" in target.volatile


GITHUB_CONNECTOR = {"id": "x7k2m9q4", "type": "Social", "platform": "Universal", "enableTokenStorage": False}


@pytest.mark.parametrize(
    ("connector", "told", "untold"),
    [
        (GITHUB_CONNECTOR, ["Deletes connector GitHub", "People can no longer sign in with GitHub."], ["tokens"]),
        ({**GITHUB_CONNECTOR, "enableTokenStorage": True}, ["third-party tokens stored for users are deleted"], []),
        ({**GITHUB_CONNECTOR, "platform": "Native"}, ["sign in with GitHub in native apps."], []),
        ({**GITHUB_CONNECTOR, "platform": "Web"}, ["sign in with GitHub on the web."], []),
        ({**GITHUB_CONNECTOR, "isDemo": True}, ["Deletes demo connector GitHub"], ["credentials"]),
        ({"type": "Email"}, ["sends no e-mail any more"], ["SMS", "sign in", "tokens"]),
        ({"type": "Sms"}, ["sends no SMS any more"], ["mail", "sign in", "tokens"]),
        (None, ["what uses it stops"], ["SMS", "mail", "sign in"]),
    ],
)
def test_a_deletion_tells_what_stops_as_the_connector_decides(connector: Any, told: list[str], untold: list[str]):
    deletion = DeleteConnector(id="x7k2m9q4")
    sentence = deletion.describe_effect(Situation(connector)).format(name="GitHub", id=deletion.id)
    assert sentence.startswith("Deletes ")
    assert sentence.endswith("It cannot be undone.")
    assert [part for part in told if part not in sentence] == []
    assert [part for part in (*untold, " if ") if part in sentence] == []


@pytest.mark.parametrize(
    ("made", "told"), [("Email", "e-mail"), ("Sms", "SMS"), ("Social", "sign-ins"), (None, "uses")]
)
def test_a_change_tells_what_works_with_it_as_the_connector_decides(made: Any, told: str):
    change = UpdateConnector(id="x7k2m9q4", sync_profile=True)
    sentence = change.describe_effect(Situation({"type": made})).format(name="GitHub", id=change.id)
    assert sentence.startswith("Changes ")
    assert [word for word in ("e-mail", "SMS", "sign-ins", "uses") if word in sentence.replace("use the", "")] == [told]


@pytest.mark.parametrize(
    ("factory_id", "described", "told"),
    [
        ("http-email", None, "sends all e-mail"),
        ("http-sms", None, "sends all SMS"),
        ("github-universal", None, "people can sign in"),
        ("our-mail", {"id": "our-mail", "type": "Email"}, "sends all e-mail"),
        ("our-mail", None, "Creates a connector from factory"),
    ],
)
def test_a_creation_tells_what_the_connector_is_for(factory_id: str, described: Any, told: str):
    creation = CreateConnector(connector_id=factory_id, config={})
    assert told in creation.describe_effect(Situation(described=described))
