"""Creating, naming and deleting ConductorOne connectors: what is refused, lost and told."""

from __future__ import annotations

from typing import Any

import pytest

from connector_mcp.operations.conductorone.catalog_schema import GetConfigurationSchema
from connector_mcp.operations.conductorone.connector_setup import (
    CreateConnector,
    CreateDelegatedConnector,
    DeleteConnector,
    UpdateDelegatedConnector,
    ValidateHttpConnectorConfig,
)
from connector_mcp.operations.conductorone.connectors import GetConnector
from connector_mcp.operations.conductorone.env_config import ENV_CONFIG, SELECTED_GROUP
from connector_mcp.operations.situation import Situation
from tests.operations.hooks import issues, losses, plan, problems

APP = "2abCDEfghIJKlmnOPQrstUVwxyZ"
OKTA = "2kG3aTftCcAvWtHZt2Ywry0dPn7"
GITHUB = "2gkeVHQ9u8BtFpouw5jRmbnxjkW"
BATON = "2HErg7BRmNdHgX8sTCWVq4E1fyh"
NEW = "2newTypeThatIsNotShipped000"
CONFIG = {"okta_v2_domain": "acme.okta.com", "okta_v2_api_token": "00token"}
PAT = {SELECTED_GROUP: "github_personal_access_token_group", "github_access_token": "ghp"}
STORED = {
    "id": "c",
    "appId": APP,
    "catalogId": OKTA,
    "displayName": "Okta",
    "userIds": ["u1", "u2"],
    "description": "d",
}


def create(catalog_id: str = OKTA, config: Any = CONFIG, **arguments: Any) -> CreateConnector:
    return CreateConnector.model_validate({"app_id": APP, "catalog_id": catalog_id, "config": config, **arguments})


def form(*fields: dict[str, Any], groups: Any = ()) -> Situation:
    """The situation in which the platform describes a type by a form."""
    read = GetConfigurationSchema(catalog_id=NEW)
    answer = {"schema": None, "formSchema": {"displayName": "New", "fields": [*fields], "fieldGroups": [*groups]}}
    return Situation({"id": APP}, described=read.shape_result([answer], Situation()))


@pytest.mark.parametrize(
    ("catalog_id", "config", "path"),
    [
        ("okta", CONFIG, "catalog_id"),
        (OKTA, {}, "config"),
        (OKTA, CONFIG | {"okta_v2_api_token": ""}, "config.okta_v2_api_token"),
        (OKTA, CONFIG | {"okta_v2_domain": None}, "config.okta_v2_domain"),
        (BATON, {"a": "b"}, "config"),
        (OKTA, {"@type": "type.googleapis.com/other"}, "config.@type"),
        (GITHUB, {"github_access_token": "ghp"}, f"config.{SELECTED_GROUP}"),
        (GITHUB, PAT | {"github_app_id": "1"}, "config.github_access_token"),
        (GITHUB, PAT | {SELECTED_GROUP: "github_app_group"}, f"config.{SELECTED_GROUP}"),
        (GITHUB, PAT | {"github_org_list": ["a,b"]}, "config.github_org_list"),
    ],
)
def test_a_creation_that_cannot_work_is_refused_before_it_is_sent(catalog_id: str, config: Any, path: str) -> None:
    assert path in problems(create(catalog_id, config), Situation())


def test_a_type_that_the_catalog_does_not_have_is_refused_and_one_that_only_it_has_is_taken() -> None:
    key = {"name": "token", "displayName": "Token", "required": True, "stringField": {"passwordField": {}}}
    assert problems(create(NEW, {"token": "t"}), Situation()) == []
    assert problems(create(NEW, {"token": "t"}), Situation(described={})) == ["catalog_id"]
    (use,) = create(NEW, {"token": "t"}).find_configs(form(key))
    assert use.type is not None
    assert use.type.secret_paths == ("token",)
    assert [issue.path for issue in issues(create(NEW, {"other": "t"}), form(key))] == ["config.other", "config.token"]


def test_only_the_keys_of_the_chosen_group_are_required() -> None:
    fields = [{"name": name, "required": True, "stringField": {}} for name in ("a", "b", "host")]
    situation = form(*fields, groups=[{"name": "one", "fields": ["a"]}, {"name": "two", "fields": ["b"]}])
    assert issues(create(NEW, {SELECTED_GROUP: "one", "a": "x", "host": "h"}), situation) == []
    found = [issue.path for issue in issues(create(NEW, {SELECTED_GROUP: "two", "b": "x"}), situation)]
    assert found == ["config.host"]


def test_a_config_in_the_wires_form_is_sent_as_it_is() -> None:
    wrapped = {key: {"stringValue": value} for key, value in CONFIG.items()}
    for given in (CONFIG, wrapped, {"@type": ENV_CONFIG, "configuration": wrapped}):
        assert create(config=given).make_body(Situation())["config"] == {"@type": ENV_CONFIG, "configuration": wrapped}


def test_what_is_left_to_do_depends_on_how_the_connector_is_hosted() -> None:
    assert "conductorone_force_sync" in create().find_next_step({}, Situation())
    for catalog_id, named in ((OKTA, "console"), (BATON, "conductorone_rotate_credential")):
        delegated = CreateDelegatedConnector(app_id=APP, catalog_id=catalog_id)
        assert problems(delegated, Situation()) == []
        assert named in delegated.find_next_step({}, Situation())
    assert create().read_back({"id": "new"}) == GetConnector(app_id=APP, id="new")
    assert create().read_back({}) is None


def rename(**arguments: Any) -> UpdateDelegatedConnector:
    return UpdateDelegatedConnector.model_validate({"app_id": APP, "connector_id": "c", **arguments})


def test_owners_that_are_not_named_and_values_that_are_emptied_are_losses() -> None:
    now = Situation(STORED)
    assert losses(rename(display_name="Okta 2"), now) == []
    assert losses(rename(user_ids=["u2", "u3"]), now) == [("Removes owner u1", "userIds", "u1")]
    assert losses(rename(user_ids=[]), now) == [("Unsets userIds", "userIds", ["u1", "u2"])]
    assert losses(rename(description=""), now) == [("Unsets description", "description", "d")]
    assert plan(rename(display_name="Okta 2", description=""), now) == {"displayName": "Okta 2", "description": None}


def test_nothing_to_change_and_a_deleted_connector_are_refused() -> None:
    deleted = Situation(STORED | {"deletedAt": "2026-08-20T10:00:00Z"})
    assert problems(rename(), Situation(STORED)) == ["arguments"]
    assert problems(rename(display_name="x"), deleted) == ["connector_id"]
    assert problems(DeleteConnector(app_id=APP, id="c"), deleted) == ["id"]


@pytest.mark.parametrize(
    ("answer", "shown"),
    [
        ({"markers": None}, {"valid": True, "markers": []}),
        ({"markers": [{"severity": "WARNING"}]}, {"valid": True, "markers": [{"severity": "WARNING"}]}),
        ({"markers": [{"severity": "ERROR"}]}, {"valid": False, "markers": [{"severity": "ERROR"}]}),
        ({}, None),
        ([], None),
        ("<html>", None),
    ],
)
def test_a_configuration_is_valid_only_if_the_answer_says_so(answer: Any, shown: Any) -> None:
    assert ValidateHttpConnectorConfig(text="a").shape_result([answer], Situation()) == shown
