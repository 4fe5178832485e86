"""Updating a ConductorOne connector: the mask, the config, what is lost, what is refused."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from pydantic import ValidationError

from connector_mcp.engine.arguments import check_configs
from connector_mcp.errors import Internal, InvalidArguments
from connector_mcp.operations.conductorone.connectors import GetConnector, UpdateConnector
from connector_mcp.operations.conductorone.env_config import ENV_CONFIG
from connector_mcp.operations.operation import Situation, at
from connector_mcp.operations.platform import Request
from connector_mcp.operations.tool import tool_of

APP = "2abCDEfghIJKlmnOPQrstUVwxyZ"
CONNECTOR = "2xyConnector00000000000001"
OKTA = "2kG3aTftCcAvWtHZt2Ywry0dPn7"
GITHUB = "2gkeVHQ9u8BtFpouw5jRmbnxjkW"
HTTP = "2xxnvEBt2eOHCHhCS4muTieQcJe"
IDENTITY = {"id": CONNECTOR, "appId": APP}
DOMAIN = {"okta_v2_domain": {"stringValue": "acme.okta.com"}}
STORED: dict[str, Any] = {
    **IDENTITY,
    "catalogId": OKTA,
    "displayName": "Okta v2",
    "description": "Production",
    "config": {"@type": ENV_CONFIG, "configuration": DOMAIN},
    "userIds": ["2user000000000000000000001"],
    "profileAllowList": [],
    "profileIgnoreList": None,
    "syncConfig": {"syncResourceTypeIds": ["user"]},
    "disableCheckBadSync": True,
    "parallelSyncWorkerCount": 2,
    "deletedAt": None,
}


def update(**arguments: Any) -> UpdateConnector:
    return UpdateConnector.model_validate({"app_id": APP, "id": CONNECTOR, **arguments})


def now(**changes: Any) -> Situation:
    return Situation(current=copy.deepcopy(STORED) | changes)


def losses(operation: UpdateConnector, situation: Situation) -> list[tuple[str, str, Any]]:
    return [(loss.sentence, loss.field, loss.before) for loss in operation.find_losses(situation)]


def plan(operation: UpdateConnector, situation: Situation) -> dict[str, Any]:
    return {".".join(path): value for path, value in operation.plan_changes(situation).items()}


def paths(operation: UpdateConnector, situation: Situation) -> list[str]:
    return [issue.path for issue in operation.find_problems(situation)]


def env(**values: Any) -> dict[str, Any]:
    return {"@type": ENV_CONFIG, "configuration": values}


def test_an_update_posts_what_is_given_under_a_mask_of_it() -> None:
    [request] = update(
        display_name="Okta",
        description=None,
        user_ids=["u1"],
        profile_allow_list=["email"],
        profile_ignore_list=[],
        sync_config={"sync_resource_type_ids": ["user", "group"]},
        disable_check_bad_sync=False,
        parallel_sync_worker_count=0,
        expand_mask=["app_id", "user_ids"],
    ).make_requests(now())
    assert request == Request(
        "POST",
        "/api/v1/apps/{app_id}/connectors/{id}",
        {"app_id": APP, "id": CONNECTOR},
        {},
        {
            "connector": {
                **IDENTITY,
                "displayName": "Okta",
                "description": None,
                "userIds": ["u1"],
                "profileAllowList": ["email"],
                "profileIgnoreList": [],
                "syncConfig": {"syncResourceTypeIds": ["user", "group"]},
                "disableCheckBadSync": False,
                "parallelSyncWorkerCount": 0,
            },
            "updateMask": "displayName,description,userIds,profileAllowList,profileIgnoreList,syncConfig,"
            "disableCheckBadSync,parallelSyncWorkerCount",
            "expandMask": {"paths": ["app_id", "user_ids"]},
        },
        repeatable=True,
    )


def test_a_mask_that_is_given_is_sent_as_one_string() -> None:
    body = update(display_name="Okta", update_mask=" displayName, description ").make_body(now())
    assert body == {"connector": {**IDENTITY, "displayName": "Okta"}, "updateMask": "displayName,description"}


def test_plain_config_keys_go_over_those_that_can_be_read() -> None:
    body = update(config={"okta_v2_api_token": "00new", "okta_sync_secrets": True}).make_body(now())
    assert body == {
        "connector": {
            **IDENTITY,
            "config": env(
                **DOMAIN, okta_v2_api_token={"stringValue": "00new"}, okta_sync_secrets={"stringValue": "true"}
            ),
        },
        "updateMask": "config",
    }


def test_a_plain_config_is_wrapped_where_there_was_none() -> None:
    body = update(config={"okta_v2_domain": "a.okta.com"}).make_body(now(config=None))
    assert body["connector"]["config"] == env(okta_v2_domain={"stringValue": "a.okta.com"})


def test_a_config_in_the_wires_form_is_not_merged() -> None:
    given = env(okta_v2_api_token={"stringValue": "00new"})
    assert update(config=given).make_body(now())["connector"]["config"] == given
    other = {"@type": "type.googleapis.com/other", "anything": [1]}
    assert update(config=other).make_body(now())["connector"]["config"] == other


def test_a_null_config_is_sent_as_null() -> None:
    body = update(config=None).make_body(now())
    assert body == {"connector": {**IDENTITY, "config": None}, "updateMask": "config"}


def test_a_plain_config_without_the_connector_sends_nothing() -> None:
    with pytest.raises(Internal):
        update(config={"okta_v2_domain": "a"}).make_requests(Situation())


def test_a_call_that_only_sets_values_loses_nothing() -> None:
    operation = update(
        display_name="Okta",
        user_ids=["u2"],
        config={"okta_v2_api_token": "00new", "okta_v2_domain": "b.okta.com", "okta_sync_secrets": False},
        disable_check_bad_sync=False,
        parallel_sync_worker_count=0,
    )
    assert losses(operation, now()) == []


@pytest.mark.parametrize("empty", ["", None, {"stringValue": ""}])
def test_an_empty_secret_erases_the_stored_one(empty: Any) -> None:
    operation = update(config={"okta_v2_api_token": empty})
    wanted = [("Erases the stored secret okta_v2_api_token", "config.configuration.okta_v2_api_token", None)]
    assert losses(operation, now()) == wanted
    assert operation.make_body(now())["connector"]["config"]["configuration"]["okta_v2_api_token"] == {
        "stringValue": ""
    }


def test_an_empty_secret_in_the_wires_form_is_seen_too() -> None:
    operation = update(config=env(**DOMAIN, okta_v2_api_token={"stringValue": ""}))
    assert [sentence for sentence, _, _ in losses(operation, now())] == ["Erases the stored secret okta_v2_api_token"]


def test_an_empty_map_erases_a_secret_map() -> None:
    found = losses(update(config={"http_connector_map_values": {}}), now(catalogId=HTTP, config=env()))
    assert [sentence for sentence, _, _ in found] == ["Erases the stored secret http_connector_map_values"]


def test_any_empty_key_may_be_a_secret_where_the_type_is_not_known() -> None:
    operation = update(config={"some_key": ""})
    for situation in (now(catalogId="2zzzUnknown"), now(catalogId=None), Situation()):
        assert [sentence for sentence, _, _ in losses(operation, situation)] == ["Erases the stored secret some_key"]


def test_an_empty_value_over_a_readable_key_is_a_loss() -> None:
    wanted = [("Unsets okta_v2_domain of config", "config.configuration.okta_v2_domain", "acme.okta.com")]
    assert losses(update(config={"okta_v2_domain": ""}), now()) == wanted
    assert losses(update(config={"okta_v2_domain": None}), now(catalogId="2zzzUnknown")) == wanted


def test_an_empty_value_where_nothing_readable_is_stored_loses_nothing() -> None:
    assert losses(update(config={"okta_sync_secrets": None}), now()) == []


def test_a_config_in_the_wires_form_loses_the_readable_keys_it_leaves_out() -> None:
    operation = update(config=env(okta_v2_api_token={"stringValue": "00new"}))
    wanted = [("Unsets okta_v2_domain of config", "config.configuration.okta_v2_domain", "acme.okta.com")]
    assert losses(operation, now()) == wanted


def test_a_null_config_and_one_of_another_type_lose_the_stored_one() -> None:
    assert losses(update(config=None), now()) == [("Unsets config and every secret in it", "config", STORED["config"])]
    other = update(config={"@type": "type.googleapis.com/other"})
    assert losses(other, now()) == [("Replaces config by one of another type", "config", STORED["config"])]


@pytest.mark.parametrize(
    ("member", "sentence"),
    [
        ("displayName", "Unsets displayName"),
        ("description", "Unsets description"),
        ("userIds", "Unsets userIds"),
        ("config", "Unsets config and every secret in it"),
        ("syncConfig", "Unsets syncConfig"),
        ("disableCheckBadSync", "Unsets disableCheckBadSync"),
        ("parallelSyncWorkerCount", "Unsets parallelSyncWorkerCount"),
    ],
)
def test_a_path_of_the_mask_that_is_not_given_is_a_loss(member: str, sentence: str) -> None:
    operation = update(update_mask=member)
    assert losses(operation, now()) == [(sentence, member, STORED[member])]
    assert plan(operation, now()) == {member: None}


def test_a_path_of_the_mask_where_nothing_is_stored_loses_nothing() -> None:
    operation = update(update_mask="description,userIds,profileAllowList,profileIgnoreList,syncConfig")
    assert losses(operation, now(description="", userIds=None, syncConfig={"syncResourceTypeIds": None})) == []


@pytest.mark.parametrize(
    ("argument", "empty", "member"),
    [
        ("display_name", "", "displayName"),
        ("description", None, "description"),
        ("user_ids", [], "userIds"),
        ("sync_config", {"sync_resource_type_ids": []}, "syncConfig.syncResourceTypeIds"),
        ("sync_config", None, "syncConfig"),
    ],
)
def test_an_empty_value_over_a_stored_member_is_a_loss(argument: str, empty: Any, member: str) -> None:
    assert losses(update(**{argument: empty}), now()) == [(f"Unsets {member}", member, at(STORED, member))]


def test_what_the_mask_does_not_reach_is_neither_lost_nor_planned() -> None:
    operation = update(display_name="Okta", description="", config={"okta_v2_api_token": ""}, update_mask="displayName")
    assert losses(operation, now()) == []
    assert plan(operation, now()) == {"displayName": "Okta"}


def test_the_plan_names_members_of_the_record() -> None:
    operation = update(
        display_name="Okta",
        description="",
        sync_config={"sync_resource_type_ids": ["group"]},
        config={"okta_v2_domain": "", "okta_v2_api_token": "00new", "okta_sync_secrets": True},
    )
    assert plan(operation, now()) == {
        "displayName": "Okta",
        "description": None,
        "syncConfig.syncResourceTypeIds": ["group"],
        "config.configuration.okta_v2_domain.stringValue": None,
        "config.configuration.okta_v2_api_token.stringValue": "00new",
        "config.configuration.okta_sync_secrets.stringValue": "true",
    }


def test_the_plan_of_a_config_in_the_wires_form_unsets_what_it_leaves_out() -> None:
    given = env(http_connector_map_values={"keyValues": {"items": [{"key": "k", "value": "v"}]}})
    assert plan(update(config=given), now()) == {
        "config.configuration.okta_v2_domain": None,
        "config.configuration.http_connector_map_values.keyValues.items": [{"key": "k", "value": "v"}],
    }
    other = {"@type": "type.googleapis.com/other"}
    assert plan(update(config=other), now()) == {"config.@type": other["@type"], "config.configuration": None}


def test_a_config_is_held_against_the_connectors_own_type() -> None:
    [use] = update(config={"okta_v2_domain": "a", "okta_sync_secrets": None}).find_configs(now())
    assert (use.path, use.type_id, use.complete) == ("config", OKTA, False)
    assert use.type is not None
    assert use.type.name == "Okta v2"
    assert use.value == {"okta_v2_domain": "a", "okta_sync_secrets": False}
    assert UpdateConnector(app_id=APP, id=CONNECTOR, display_name="x").find_configs(now()) == ()


def test_a_wrapped_config_is_checked_as_the_plain_map() -> None:
    values = {
        "C1_selected_field_group_name": {"stringValue": "github_personal_access_token_group"},
        "github_org_list": {"stringValue": "a,b"},
        "github_sync_secrets": {"stringValue": "true"},
    }
    uses = update(config=env(**values)).find_configs(now(catalogId=GITHUB))
    check_configs(tool_of(UpdateConnector), uses)
    assert uses[0].path == "config.configuration"
    assert uses[0].value["github_org_list"] == ["a", "b"]
    assert uses[0].value["github_sync_secrets"] is True


def test_a_mistyped_key_is_found_even_when_it_is_empty() -> None:
    uses = update(config={"okta_v2_api_tokn": ""}).find_configs(now())
    with pytest.raises(InvalidArguments) as caught:
        check_configs(tool_of(UpdateConnector), uses)
    assert caught.value.issues[0].path == "config.okta_v2_api_tokn"


@pytest.mark.parametrize("empty", ["", None])
def test_an_empty_value_passes_the_check_of_its_type(empty: Any) -> None:
    given = {"okta_v2_api_token": empty, "okta_sync_secrets": empty}
    check_configs(tool_of(UpdateConnector), update(config=given).find_configs(now()))


def test_a_config_of_another_type_is_not_checked_and_all_secret() -> None:
    given = {"@type": "type.googleapis.com/other", "token": "x"}
    [use] = update(config=given).find_configs(now())
    assert (use.type, use.value) == (None, given)


def test_the_type_is_not_known_before_the_connector_is_read() -> None:
    [use] = update(config={"a": "b"}).find_configs(Situation())
    assert (use.type_id, use.type, use.value) == (None, None, {"a": "b"})


def test_a_good_call_has_no_problems() -> None:
    operation = update(
        display_name="Okta",
        config={"okta_v2_domain": "a"},
        update_mask="displayName,config,syncConfig.syncResourceTypeIds",
    )
    assert paths(operation, now()) == []
    assert paths(operation, Situation()) == []


def test_a_call_that_changes_nothing_is_refused() -> None:
    assert paths(update(), now()) == ["arguments"]
    assert paths(update(expand_mask=["*"]), now()) == ["arguments"]
    assert paths(update(display_name="x", update_mask=" , "), now()) == ["update_mask"]


@pytest.mark.parametrize(
    ("path", "near"), [("display_name", "displayName"), ("userId", "userIds"), ("syncConfigs", "syncConfig")]
)
def test_an_unknown_path_is_answered_with_the_nearest_one(path: str, near: str) -> None:
    [issue] = update(display_name="x", update_mask=path).find_problems(now())
    assert (issue.path, issue.example) == ("update_mask", near)
    assert issue.wanted.startswith(f"{near}, perhaps; ")


@pytest.mark.parametrize("path", ["status", "catalogId", "deletedAt", "status.lastError"])
def test_a_read_only_path_is_refused(path: str) -> None:
    [issue] = update(update_mask=path).find_problems(now())
    assert issue.path == "update_mask"
    assert "read-only" in issue.got


def test_a_deleted_connector_is_not_updated() -> None:
    assert paths(update(display_name="x"), now(deletedAt="2026-08-20T10:00:00Z")) == ["id"]


def test_a_plain_config_does_not_replace_one_that_is_no_env_config() -> None:
    other = now(config={"@type": "type.googleapis.com/other"})
    assert paths(update(config={"a": "b"}), other) == ["config"]
    assert paths(update(config=env(a={"stringValue": "b"})), other) == []


def test_a_list_item_with_a_comma_would_become_two() -> None:
    assert paths(update(config={"github_org_list": ["a,b"]}), now(catalogId=GITHUB)) == ["config.github_org_list"]


def test_the_result_is_the_connector_with_what_was_expanded() -> None:
    operation, view = update(display_name="x"), {"connector": STORED, "appPath": "$.expanded[0]"}
    app = {"@type": "type.googleapis.com/c1.api.app.v1.App", "id": APP}
    expanded = operation.shape_result([{"connectorView": view, "expanded": [app]}], now())
    assert expanded == {**STORED, "expanded": [app]}
    for nothing in ([], None):
        assert operation.shape_result([{"connectorView": view, "expanded": nothing}], now()) == STORED


def test_an_update_is_read_back_by_the_same_ids() -> None:
    assert update(display_name="x").read_back(STORED) == GetConnector(app_id=APP, id=CONNECTOR)


@pytest.mark.parametrize(
    "arguments",
    [
        {"parallel_sync_worker_count": 5},
        {"parallel_sync_worker_count": -1},
        {"expand_mask": ["owners"]},
        {"sync_config": {"syncResourceTypeIds": []}},
        {"status": {}},
        {"display_name": 1},
    ],
)
def test_arguments_that_do_not_fit_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        update(**arguments)
