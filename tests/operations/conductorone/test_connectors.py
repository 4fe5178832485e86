"""Reading and updating ConductorOne connectors: the mask, the config, what is lost, what is refused."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from pydantic import ValidationError

from connector_mcp.engine.checks.configs import check_configs
from connector_mcp.errors import Internal
from connector_mcp.operations.conductorone.connector_setup import (
    CreateConnector,
    CreateDelegatedConnector,
    UpdateDelegatedConnector,
)
from connector_mcp.operations.conductorone.connectors import (
    CONNECTOR_TARGET,
    GetConnector,
    ListConnectors,
    UpdateConnector,
)
from connector_mcp.operations.conductorone.env_config import ENV_CONFIG
from connector_mcp.operations.operation import at
from connector_mcp.operations.platform import NO_BODY
from connector_mcp.operations.situation import Situation
from connector_mcp.operations.tool import tool_of
from tests.operations.hooks import issues, losses, plan, problems

APP = "2abCDEfghIJKlmnOPQrstUVwxyZ"
CONNECTOR = "2xyConnector00000000000001"
OKTA = "2kG3aTftCcAvWtHZt2Ywry0dPn7"
GITHUB = "2gkeVHQ9u8BtFpouw5jRmbnxjkW"
HTTP = "2xxnvEBt2eOHCHhCS4muTieQcJe"
IDENTITY = {"id": CONNECTOR, "appId": APP}
DOMAIN = {"okta_v2_domain": {"stringValue": "acme.okta.com"}}
OWNERS = ["2user000000000000000000001"]
STORED: dict[str, Any] = {
    **IDENTITY, "catalogId": OKTA, "displayName": "Okta v2", "description": "Production",
    "config": {"@type": ENV_CONFIG, "configuration": DOMAIN}, "userIds": OWNERS,
    "profileAllowList": [], "profileIgnoreList": None, "syncConfig": {"syncResourceTypeIds": ["user"]},
    "disableCheckBadSync": True, "parallelSyncWorkerCount": 2, "deletedAt": None,
}  # fmt: skip


def update(**arguments: Any) -> UpdateConnector:
    return UpdateConnector.model_validate({"app_id": APP, "id": CONNECTOR, **arguments})


def now(**changes: Any) -> Situation:
    return Situation(current=copy.deepcopy(STORED) | changes)


def env(**values: Any) -> dict[str, Any]:
    return {"@type": ENV_CONFIG, "configuration": values}


def erased(key: str) -> tuple[str, str, None]:
    return (f"Erases the stored secret {key}", f"config.configuration.{key}", None)


OTHER = {"@type": "type.googleapis.com/other"}
DOMAIN_LOST = ("Unsets okta_v2_domain of config", "config.configuration.okta_v2_domain", "acme.okta.com")
NEW_TOKEN = {"okta_v2_api_token": {"stringValue": "00new"}}


@pytest.mark.parametrize(
    ("config", "stored", "sent"),
    [
        ({"okta_v2_domain": "a.okta.com"}, {"config": None}, env(okta_v2_domain={"stringValue": "a.okta.com"})),
        ({"okta_v2_api_token": "00new"}, {}, env(**DOMAIN, **NEW_TOKEN)),
        ({"okta_sync_secrets": True}, {}, env(**DOMAIN, okta_sync_secrets={"stringValue": "true"})),
    ],
)
def test_a_plain_config_is_wrapped_over_the_keys_that_can_be_read(config: Any, stored: Any, sent: Any) -> None:
    body = update(config=config).make_body(now(**stored))
    assert body == {"connector": {**IDENTITY, "config": sent}, "updateMask": "config"}


def test_a_config_in_the_wires_form_is_not_merged() -> None:
    for given in (env(**NEW_TOKEN), {**OTHER, "anything": [1]}):
        assert update(config=given).make_body(now())["connector"]["config"] == given


def test_a_plain_config_without_the_connector_sends_nothing() -> None:
    with pytest.raises(Internal):
        update(config={"okta_v2_domain": "a"}).make_requests(Situation())


SET = {"okta_v2_api_token": "00new", "okta_v2_domain": "b.okta.com", "okta_sync_secrets": False}
EMPTY_ALREADY = {"description": "", "userIds": None, "syncConfig": {"syncResourceTypeIds": None}}
EMPTY_TOKEN = {"okta_v2_api_token": {"stringValue": ""}}
UNKNOWN: dict[str, Any] = {"catalogId": "2zzzUnknown"}


def unset(member: str) -> tuple[str, str, Any]:
    return (f"Unsets {member}", member, at(STORED, member))


@pytest.mark.parametrize(
    ("arguments", "stored", "lost"),
    [
        # Values that are set, zero, null where nothing readable is stored, and masked members that are empty.
        ({"display_name": "Okta", "user_ids": [*OWNERS, "u2"], "config": SET, "disable_check_bad_sync": False}, {}, []),
        ({"parallel_sync_worker_count": 0}, {}, []),
        ({"config": {"okta_sync_secrets": None}}, {}, []),
        ({"update_mask": "description,userIds,profileAllowList,profileIgnoreList,syncConfig"}, EMPTY_ALREADY, []),
        # An empty value erases a secret, in the wire form and in a map too; of an unknown type, any key may be one.
        *(({"config": {"okta_v2_api_token": empty}}, {}, [erased("okta_v2_api_token")])
          for empty in ("", None, {"stringValue": ""})),
        ({"config": env(**DOMAIN, **EMPTY_TOKEN)}, {}, [erased("okta_v2_api_token")]),
        ({"config": {"http_connector_map_values": {}}}, {"catalogId": HTTP, "config": env()},
         [erased("http_connector_map_values")]),
        *(({"config": {"some_key": ""}}, stored, [erased("some_key")]) for stored in (UNKNOWN, {"catalogId": None})),
        # A readable key that is emptied, or left out in the wire form.
        ({"config": {"okta_v2_domain": ""}}, {}, [DOMAIN_LOST]),
        ({"config": {"okta_v2_domain": None}}, UNKNOWN, [DOMAIN_LOST]),
        ({"config": env(**NEW_TOKEN)}, {}, [DOMAIN_LOST]),
        # An empty value over a stored member.
        ({"display_name": ""}, {}, [unset("displayName")]),
        ({"description": ""}, {}, [unset("description")]),
        ({"user_ids": []}, {}, [unset("userIds")]),
        ({"sync_config": {"sync_resource_type_ids": []}}, {}, [unset("syncConfig.syncResourceTypeIds")]),
    ],
)  # fmt: skip
def test_what_is_emptied_is_lost_and_nothing_else(arguments: Any, stored: Any, lost: Any) -> None:
    assert losses(update(**arguments), now(**stored)) == lost


def test_without_the_connector_an_emptied_key_may_be_a_secret() -> None:
    assert losses(update(config={"some_key": ""}), Situation()) == [erased("some_key")]


@pytest.mark.parametrize("empty", ["", None, {"stringValue": ""}])
def test_an_empty_secret_is_sent_as_the_empty_text_that_erases_it(empty: Any) -> None:
    sent = update(config={"okta_v2_api_token": empty}).make_body(now())["connector"]["config"]["configuration"]
    assert sent["okta_v2_api_token"] == {"stringValue": ""}


@pytest.mark.parametrize(
    "member",
    ["displayName", "description", "userIds", "config", "syncConfig", "disableCheckBadSync", "parallelSyncWorkerCount"],
)
def test_a_path_of_the_mask_that_is_not_given_is_a_loss(member: str) -> None:
    operation, secrets = update(update_mask=member), " and every secret in it" if member == "config" else ""
    assert losses(operation, now()) == [(f"Unsets {member}{secrets}", member, STORED[member])]
    assert plan(operation, now()) == {member: None}


@pytest.mark.parametrize("stored", [STORED["config"], {**OTHER, "a": 1}, {"@type": ENV_CONFIG}, [STORED["config"]]])
@pytest.mark.parametrize("given", [{"@type": "type.googleapis.com/third"}, env(), {"@type": ENV_CONFIG}])
def test_a_config_that_gives_way_as_a_whole_is_a_loss(given: Any, stored: Any) -> None:
    [(sentence, field, before)] = losses(update(config=given), now(config=stored))
    same = isinstance(stored, dict) and given["@type"] == stored["@type"]
    lost = "Unsets config and every secret in it" if same else "Replaces config by one of another type"
    assert (sentence, field, before) == (lost, "config", stored)


@pytest.mark.parametrize(
    ("given", "stored", "refused"),
    [
        ({}, STORED["config"], ["config"]),
        ({"okta_v2_domain": "a"}, {**OTHER, "a": 1}, ["config"]),
        ({"okta_v2_domain": "a"}, [STORED["config"]], ["config"]),
        ({"okta_v2_domain": "a"}, env() | {"configuration": [{"key": "okta_v2_domain"}]}, ["config"]),
        ({"@type": ENV_CONFIG, "configuration": [{"key": "okta_v2_domain"}]}, None, ["config.configuration"]),
        ({"okta_v2_domain": "a"}, env(), []),
        ({"okta_v2_domain": "a"}, None, []),
    ],
)
def test_a_config_that_cannot_be_put_over_the_stored_one_is_refused(given: Any, stored: Any, refused: Any) -> None:
    assert problems(update(config=given), now(config=stored)) == refused


@pytest.mark.parametrize("shown", ["", "********", "[redacted]"])
def test_a_secret_is_never_written_back_as_a_read_shows_it(shown: str) -> None:
    for key, catalog_id in (("okta_v2_api_token", OKTA), ("key_of_ours", "2zzzUnknown")):
        stored = env(**DOMAIN, **{key: {"stringValue": shown}})
        body = update(config={"okta_sync_secrets": True}).make_body(now(config=stored, catalogId=catalog_id))
        assert body["connector"]["config"] == env(**DOMAIN, okta_sync_secrets={"stringValue": "true"})


PAT, APP_GROUP = "github_personal_access_token_group", "github_app_group"
ORGS = {"github_org_list": {"stringValue": "acme"}}


@pytest.mark.parametrize(
    ("given", "stored", "refused"),
    [
        ({"github_app_id": "1"}, ORGS, ["config.github_app_id"]),
        ({"github_app_id": "1", "github_org_list": None}, ORGS, []),
        ({"github_org_list": ["b"]}, ORGS, []),
        ({"github_app_id": "1", "github_access_token": "ghp"}, {},
         ["config.github_access_token", "config.github_app_id"]),
        ({"github_app_id": "1"}, {"C1_selected_field_group_name": {"stringValue": PAT}},
         ["config.C1_selected_field_group_name"]),
        ({"github_app_id": "1", "C1_selected_field_group_name": APP_GROUP},
         {"C1_selected_field_group_name": {"stringValue": PAT}}, []),
    ],
)  # fmt: skip
def test_keys_of_two_field_groups_are_never_mixed(given: Any, stored: Any, refused: list[str]) -> None:
    assert problems(update(config=given), now(catalogId=GITHUB, config=env(**stored))) == refused


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
    items = [{"key": "k", "value": "v"}]
    assert plan(update(config=env(http_connector_map_values={"keyValues": {"items": items}})), now()) == {
        "config.configuration.okta_v2_domain": None,
        "config.configuration.http_connector_map_values.keyValues.items": items,
    }
    assert plan(update(config=OTHER), now()) == {"config.@type": OTHER["@type"], "config.configuration": None}


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
        "github_org_list": {"stringValue": "a,b"}, "github_sync_secrets": {"stringValue": "true"},
    }  # fmt: skip
    [use] = update(config=env(**values)).find_configs(now(catalogId=GITHUB))
    check_configs(tool_of(UpdateConnector), [use])
    assert (use.path, use.value["github_org_list"]) == ("config.configuration", ["a", "b"])
    assert use.value["github_sync_secrets"] is True


def test_the_type_is_not_known_of_other_configs_and_before_the_connector_is_read() -> None:
    given = {**OTHER, "token": "x"}
    [use] = update(config=given).find_configs(now())
    assert (use.type, use.value) == (None, given)
    [use] = update(config={"a": "b"}).find_configs(Situation())
    assert (use.type_id, use.type, use.value) == (None, None, {"a": "b"})


WHOLE = {
    "display_name": "Okta",
    "config": {"okta_v2_domain": "a"},
    "update_mask": "displayName,config,syncConfig.syncResourceTypeIds",
}


@pytest.mark.parametrize(
    ("arguments", "stored", "refused"),
    [
        (WHOLE, {}, []),
        ({}, {}, ["arguments"]),
        ({"expand_mask": ["*"]}, {}, ["arguments"]),
        ({"display_name": "x", "update_mask": " , "}, {}, ["update_mask"]),
        ({"display_name": "x"}, {"deletedAt": "2026-08-20T10:00:00Z"}, ["id"]),
        ({"config": {"okta_v2_domain": "b"}}, {"config": OTHER}, ["config"]),
        ({"config": env(okta_v2_domain={"stringValue": "b"})}, {"config": OTHER}, []),
        ({"config": {"github_org_list": ["a,b"]}}, {"catalogId": GITHUB}, ["config.github_org_list"]),
        ({"config": {"okta_v2_api_tokn": ""}}, {}, ["config.okta_v2_api_tokn"]),
        *(({"config": {"okta_v2_api_token": empty, "okta_sync_secrets": empty}}, {}, []) for empty in ("", None)),
    ],
)
def test_an_update_that_cannot_work_is_refused(arguments: Any, stored: Any, refused: list[str]) -> None:
    assert [issue.path for issue in issues(update(**arguments), now(**stored))] == refused
    assert refused or problems(update(**arguments), Situation()) == []


@pytest.mark.parametrize(
    ("path", "got", "near", "wanted"),
    [
        *((path, "read-only", "displayName", "") for path in ("status", "catalogId", "deletedAt", "status.lastError")),
        ("display_name", "unknown path", "displayName", "displayName, perhaps; "),
        ("userId", "unknown path", "userIds", "userIds, perhaps; "),
        ("syncConfigs", "unknown path", "syncConfig", "syncConfig, perhaps; "),
    ],
)
def test_a_read_only_or_unknown_path_is_answered_with_the_nearest_one(
    path: str, got: str, near: str, wanted: str
) -> None:
    [issue] = update(display_name="x", update_mask=path).find_problems(now())
    assert (issue.path, got in issue.got, issue.example) == ("update_mask", True, near)
    assert issue.wanted.startswith(wanted)


def test_the_result_is_the_connector_with_what_was_expanded() -> None:
    operation, view = update(display_name="x"), {"connector": STORED, "appPath": "$.expanded[0]"}
    app = {"@type": "type.googleapis.com/c1.api.app.v1.App", "id": APP}
    expanded = operation.shape_result([{"connectorView": view, "expanded": [app]}], now())
    assert expanded == {**STORED, "expanded": [app]}
    for nothing in ([], None):
        assert operation.shape_result([{"connectorView": view, "expanded": nothing}], now()) == STORED


@pytest.mark.parametrize("mask", [[], ["app_id", "*"]])
def test_what_to_expand_is_sent_in_the_documented_form_by_each_operation(mask: list[str]) -> None:
    place, kind = {"app_id": APP, "expand_mask": mask}, {"catalog_id": OKTA}
    for call in (
        update(display_name="x", expand_mask=mask),
        UpdateDelegatedConnector.model_validate(place | {"connector_id": "c", "display_name": "x"}),
        CreateDelegatedConnector.model_validate(place | kind),
        CreateConnector.model_validate(place | kind | {"config": {"okta_v2_domain": "a"}}),
    ):
        assert call.make_body(now())["expandMask"] == {"paths": mask}
    assert "expandMask" not in update(display_name="x").make_body(now())


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


def test_a_list_gives_connectors_out_of_their_views_and_no_deleted_ones() -> None:
    kept = {"id": "1", "displayName": "Okta", "deletedAt": None}
    deleted = {"id": "2", "displayName": "Old", "deletedAt": "2026-08-01T09:00:00Z"}
    views = [{"connector": kept, "appPath": ""}, {"connector": deleted, "appPath": ""}]
    operation = ListConnectors(app_id=APP)
    assert operation.shape_result([{"list": views, "nextPageToken": ""}], Situation()) == [kept]
    assert operation.shape_result([{"list": None, "expanded": None}], Situation()) == []


def test_a_connector_is_read_out_of_its_view() -> None:
    operation = GetConnector(app_id=APP, id=CONNECTOR)
    [request] = operation.make_requests(Situation())
    assert (request.method, request.path) == ("GET", "/api/v1/apps/{app_id}/connectors/{id}")
    assert (request.path_values, request.body) == ({"app_id": APP, "id": CONNECTOR}, NO_BODY)
    answer = {"connectorView": {"connector": {"id": CONNECTOR}, "appPath": ""}, "expanded": []}
    assert operation.shape_result([answer], Situation()) == {"id": CONNECTOR}


def test_what_a_running_sync_changes_is_no_part_of_the_fingerprint() -> None:
    assert {"status", "updatedAt", "syncDisabledAt", "oauthAuthorizedAs"} <= CONNECTOR_TARGET.volatile
    assert not {"config", "displayName", "userIds", "deletedAt", "catalogId"} & CONNECTOR_TARGET.volatile
