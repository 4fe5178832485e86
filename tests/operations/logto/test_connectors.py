"""Listing, getting and deleting Logto connectors."""

from typing import Any

import pytest

from connector_mcp.operations.logto.connectors import (
    CreateConnector,
    DeleteConnector,
    GetConnector,
    ListConnectors,
    UpdateConnector,
)
from connector_mcp.operations.situation import Situation

NOWHERE = Situation()


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


GITHUB = {"id": "x7k2m9q4", "type": "Social", "platform": "Universal", "enableTokenStorage": False}


@pytest.mark.parametrize(
    ("connector", "told", "untold"),
    [
        (GITHUB, ["Deletes connector GitHub", "People can no longer sign in with GitHub."], ["tokens"]),
        ({**GITHUB, "enableTokenStorage": True}, ["third-party tokens stored for users are deleted"], []),
        ({**GITHUB, "platform": "Native"}, ["sign in with GitHub in native apps."], []),
        ({**GITHUB, "platform": "Web"}, ["sign in with GitHub on the web."], []),
        ({**GITHUB, "isDemo": True}, ["Deletes demo connector GitHub"], ["credentials"]),
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
