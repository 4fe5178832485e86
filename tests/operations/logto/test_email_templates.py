"""E-mail templates: what is replaced, what is merged, and texts that cannot do what they are for."""

from __future__ import annotations

from typing import Any

import pytest

from connector_mcp.operations.logto.email_templates import ReplaceEmailTemplates, UpdateEmailTemplateDetails
from connector_mcp.operations.situation import Situation
from tests.operations import hooks

DETAILS = {"subject": "Code", "content": "Code: {{ code }}", "replyTo": "a@acme.com"}
STORED: dict[str, Any] = {"id": "t", "languageTag": "de", "templateType": "SignIn", "details": DETAILS}


def template(**changes: Any) -> dict[str, Any]:
    details = {"subject": "Code", "content": "Code: {{code}}"}
    return {"languageTag": "de", "templateType": "SignIn", "details": details} | changes


def replace(*templates: Any) -> ReplaceEmailTemplates:
    return ReplaceEmailTemplates.model_validate({"templates": list(templates)})


def test_a_template_of_the_same_language_and_type_is_replaced_and_others_stay() -> None:
    english = STORED | {"id": "e", "languageTag": "en"}
    (loss,) = replace(template(), template(languageTag="fr")).find_losses(Situation([STORED, english]))
    assert (loss.sentence, loss.before) == ("Replaces the SignIn template in de", DETAILS)
    assert hooks.losses(replace(template(details=DETAILS)), Situation([STORED])) == []


@pytest.mark.parametrize("kind", ["SignIn", "Register", "ForgotPassword", "MfaVerification", "BindMfa"])
def test_an_email_with_a_code_has_a_place_for_it(kind: str) -> None:
    wrong = template(templateType=kind, details={"subject": "s", "content": "Hello {{user}}"})
    assert hooks.problems(replace(template(languageTag="fr"), wrong), Situation()) == ["templates[1].details.content"]
    change = UpdateEmailTemplateDetails(id="t", content="Hello")
    assert hooks.problems(change, Situation(STORED | {"templateType": kind})) == ["content"]


@pytest.mark.parametrize("kind", ["OrganizationInvitation", "Generic"])
def test_other_emails_need_no_code(kind: str) -> None:
    text = {"subject": "s", "content": "Join {{link}}"}
    assert hooks.problems(replace(template(templateType=kind, details=text)), Situation()) == []


def test_two_templates_for_one_place_are_refused() -> None:
    assert hooks.problems(replace(template(), template()), Situation()) == ["templates[1]"]


def test_details_are_merged_so_that_nothing_is_lost() -> None:
    change, now = UpdateEmailTemplateDetails(id="t", subject="Neu"), Situation(STORED)
    assert change.make_body(now) == {"subject": "Neu"}
    assert change.find_losses(now) == ()
    assert hooks.plan(change, now) == {"details.subject": "Neu"}
    assert hooks.problems(UpdateEmailTemplateDetails(id="t"), now) == ["subject"]
