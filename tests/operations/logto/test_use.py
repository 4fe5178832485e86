"""Sending test messages and starting social sign-ins through Logto connectors."""

from typing import Any

import pytest
from pydantic import ValidationError

from connector_mcp.operations.logto.use import CreateConnectorAuthorizationUri, CreateConnectorTest
from connector_mcp.operations.situation import Situation
from tests.operations import hooks

NOWHERE = Situation()
CONFIG = {"endpoint": "https://messages.example.com"}
SEND_NOTHING = ("github-universal", "logto-social-demo", "logto-sms")
WITHOUT_TEMPLATES = {
    "accountSID": "AC1", "authToken": "t", "fromMessagingServiceSID": "MG1",
    "templates": [{"usageType": "Generic", "content": "{{code}}"}],
}  # fmt: skip


def problems(factory_id: str, **arguments: Any) -> list[str]:
    call = CreateConnectorTest.model_validate({"factory_id": factory_id, "config": CONFIG, **arguments})
    return hooks.problems(call, NOWHERE)


def test_a_test_is_confirmed_though_the_platform_answers_with_nothing():
    call = CreateConnectorTest(factory_id="http-sms", config=CONFIG, phone="1")
    assert call.shape_result([None], NOWHERE) == {"accepted": True}


@pytest.mark.parametrize("recipient", [{"phone": "+49170"}, {"phone": "49 170"}, {"phone": ""}, {"email": "a@b"}])
def test_a_recipient_that_the_platform_would_refuse_is_refused(recipient: Any):
    with pytest.raises(ValidationError):
        CreateConnectorTest(factory_id="http-sms", config=CONFIG, **recipient)


def test_the_config_is_checked_whole():
    (use,) = CreateConnectorTest(factory_id="http-sms", config=CONFIG, phone="1").find_configs(NOWHERE)
    assert (use.path, use.type_id, use.value, use.complete) == ("config", "http-sms", CONFIG, True)
    assert use.type is not None


@pytest.mark.parametrize(
    ("factory_id", "arguments", "refused"),
    [
        ("http-sms", {}, ["phone"]),
        ("http-email", {}, ["email"]),
        ("my-own", {}, ["phone"]),
        ("my-own", {"email": "a@example.com"}, []),
        ("http-sms", {"email": "a@example.com"}, ["phone"]),
        ("http-sms", {"phone": "1", "email": "a@example.com"}, []),
        ("http-email", {"phone": "1"}, ["phone"]),
        ("http-email", {"phone": "1", "email": "a@example.com"}, ["phone"]),
        ("http-email", {"email": "a@example.com"}, []),
        *((sends_nothing, {"phone": "1"}, ["factory_id"]) for sends_nothing in SEND_NOTHING),
        ("twilio-short-message-service", {"phone": "1", "config": WITHOUT_TEMPLATES}, ["config.templates"]),
    ],
)
def test_a_test_needs_a_factory_that_sends_all_its_templates_and_a_recipient_of_its_kind(
    factory_id: str, arguments: Any, refused: list[str]
):
    assert problems(factory_id, **arguments) == refused


@pytest.mark.parametrize("empty", ["state", "redirect_uri"])
def test_empty_values_are_refused(empty: str):
    with pytest.raises(ValidationError):
        CreateConnectorAuthorizationUri.model_validate({**CreateConnectorAuthorizationUri.example, empty: ""})
