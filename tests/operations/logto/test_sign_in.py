"""Changing who can sign in: what is lost, what is refused, and what Logto drops silently."""

from __future__ import annotations

from typing import Any

import pytest

from connector_mcp.operations.logto.sign_in import GetSignInExperienceConfig, UpdateSignInExp
from connector_mcp.operations.situation import Situation
from tests.operations import hooks

PASSWORD = {"identifier": "username", "password": True, "verificationCode": False, "isPasswordPrimary": True}
CODE = {"identifier": "email", "password": True, "verificationCode": True, "isPasswordPrimary": False}
NOW: dict[str, Any] = {
    "id": "default", "signInMode": "SignInAndRegister", "singleSignOnEnabled": False, "socialSignIn": {},
    "socialSignInConnectorTargets": ["github", "google"], "forgotPasswordMethods": ["EmailVerificationCode"],
    "signUp": {"identifiers": ["email"], "password": True, "verify": True}, "signIn": {"methods": [PASSWORD, CODE]},
}  # fmt: skip


def update(**arguments: Any) -> UpdateSignInExp:
    return UpdateSignInExp.model_validate(arguments)


def losses(now: Any = NOW, **arguments: Any) -> list[str]:
    return [loss.sentence for loss in update(**arguments).find_losses(Situation(now))]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"social_sign_in_connector_targets": ["google"]}, ["Hides the sign-in button of github"]),
        ({"social_sign_in_connector_targets": []}, ["Hides the sign-in button of g"] * 2),
        ({"social_sign_in_connector_targets": ["google", "github", "x"]}, []),
        ({"sign_in": {"methods": [PASSWORD]}}, ["Unsets signIn.methods.email"]),
        ({"sign_in": {"methods": [PASSWORD, CODE | {"password": False}]}}, ["Takes sign-in by email with a password"]),
        (
            {"sign_in": {"methods": [PASSWORD, CODE | {"verificationCode": False}]}},
            ["Takes sign-in by email with a verification code away"],
        ),
        ({"sign_in": {"methods": [CODE, PASSWORD]}}, []),
        ({"sign_in_mode": "SignIn"}, ["Stops all sign-ups"]),
        ({"sign_in_mode": "Register"}, ["Stops all sign-ins"]),
        ({"sign_in_mode": "SignInAndRegister"}, []),
        ({"single_sign_on_enabled": True}, ["Shuts password, code and social sign-in"]),
        ({"single_sign_on_enabled": False}, []),
        ({"social_sign_in": {"automaticAccountLinking": True}}, ["Lets social accounts into the existing user"]),
        ({"social_sign_in": {"skipRequiredIdentifiers": True}}, []),
        ({"forgot_password_methods": []}, ["May take ways to reset a password away"]),
        ({"forgot_password_methods": ["EmailVerificationCode", "PhoneVerificationCode"]}, []),
        (
            {"sign_up": {"identifiers": ["username"], "password": False, "verify": False}},
            ["Lets new users set no password", "Takes unverified addresses", "Takes sign-up by email away"],
        ),
    ],
)
def test_what_shuts_people_out_or_lets_them_in_is_said(arguments: dict[str, Any], said: list[str]) -> None:
    found = losses(**arguments)
    assert len(found) == len(said), found
    assert all(sentence.startswith(start) for sentence, start in zip(found, said, strict=True)), found


def test_what_opens_the_tenant_or_switches_off_single_sign_on_is_said() -> None:
    assert losses(NOW | {"signInMode": "SignIn"}, sign_in_mode="SignInAndRegister") == [
        "Lets anyone sign up for an account"
    ]
    assert losses(NOW | {"singleSignOnEnabled": True}, single_sign_on_enabled=False) == [
        "Switches off single sign-on for all SSO connectors"
    ]
    # Null is what older tenants have: whatever connectors there are.
    assert losses(NOW | {"forgotPasswordMethods": None}, forgot_password_methods=["EmailVerificationCode"]) != []


def test_without_the_present_state_a_change_of_access_is_still_one() -> None:
    assert losses(None, single_sign_on_enabled=True) != []
    assert losses(None, single_sign_on_enabled=False) != []
    assert losses(None, sign_in_mode="SignIn") != []


REFUSED: list[tuple[dict[str, Any], list[str]]] = [
    ({}, ["social_sign_in_connector_targets"]),
    ({"social_sign_in": {"autoLink": True}}, ["social_sign_in"]),
    ({"sign_up": {"identifiers": ["email"], "password": True, "verify": False}}, ["sign_up.verify"]),
    ({"sign_up": {"identifiers": ["email", "email"], "password": True, "verify": True}}, ["sign_up.identifiers"]),
    (
        {"sign_up": {"identifiers": [], "password": True, "verify": False, "secondaryIdentifiers": [{}]}},
        ["sign_up.secondaryIdentifiers[0].identifier", "sign_up.identifiers"],
    ),
    (
        {
            "sign_up": {
                "identifiers": ["username"], "password": True, "verify": False,
                "secondaryIdentifiers": [{"identifier": "emailOrPhone"}],
            }
        },
        ["sign_up.secondaryIdentifiers[0].verify"],
    ),
    (
        {"sign_in": {"methods": [PASSWORD, CODE | {"password": False, "verificationCode": False}]}},
        ["sign_in.methods[1]"],
    ),
    (
        {
            "sign_up": {"identifiers": ["email"], "password": False, "verify": True},
            "sign_in": {"methods": [PASSWORD, CODE | {"verificationCode": False}]},
        },
        ["sign_in.methods[1].verificationCode"],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "paths"), REFUSED)
def test_what_logto_would_refuse_is_refused_before(arguments: dict[str, Any], paths: list[str]) -> None:
    assert hooks.problems(update(**arguments), Situation(NOW)) == paths


def test_a_sign_up_that_contradicts_the_stored_methods_is_refused() -> None:
    now = NOW | {"signIn": {"methods": [CODE | {"verificationCode": False}]}}
    sign_up = {"identifiers": ["email"], "password": False, "verify": True}
    (issue,) = update(sign_up=sign_up).find_problems(Situation(now))
    assert "send sign_in with sign_up" in issue.wanted


def test_targets_that_logto_dropped_are_told() -> None:
    call = update(social_sign_in_connector_targets=["github", "discrod"])
    assert "dropped 1 of the targets" in call.find_unproven({"socialSignInConnectorTargets": ["github"]})
    assert call.find_unproven({"socialSignInConnectorTargets": ["github", "discrod"]}) == ""
    assert hooks.plan(call, Situation(NOW))["socialSignInConnectorTargets"] == ["github", "discrod"]


def test_the_page_is_shown_without_logos() -> None:
    connector = {"id": "c", "target": "github", "logo": "data:", "logoDark": "data:"}
    page = {"id": "default", "socialConnectors": [connector], "ssoConnectors": [{"id": "s", "logo": "x"}]}
    shown = GetSignInExperienceConfig().shape_result([page], Situation())
    assert shown["socialConnectors"] == [{"id": "c", "target": "github"}]
    assert shown["ssoConnectors"] == [{"id": "s"}]
    assert GetSignInExperienceConfig().shape_result(["text"], Situation()) == "text"
