"""ConductorOne's syncs, credentials, apps and owners: what is refused, lost and planned."""

from __future__ import annotations

from typing import Any

import pytest

from connector_mcp.engine.sender import find_flaw
from connector_mcp.operations.catalog import platform_folder
from connector_mcp.operations.conductorone.apps import CreateApp, GetApp, UpdateApp
from connector_mcp.operations.conductorone.connectors import GetConnector
from connector_mcp.operations.conductorone.credentials import RevokeCredential, RotateCredential
from connector_mcp.operations.conductorone.owners import (
    AddAppOwner,
    ListAppOwnerIds,
    SearchConnectorUserOwners,
    SetConnectorOwners,
)
from connector_mcp.operations.conductorone.sync import ForceSync, PauseSync, ResumeSync, UpdateConnectorSchedule
from connector_mcp.operations.operation import Operation
from connector_mcp.operations.situation import Situation
from tests.operations.hooks import losses, plan, problems

PLACE = {"app_id": "a", "connector_id": "c"}
RUNS = {"id": "c", "catalogId": "t", "syncDisabledAt": None, "status": {"status": "SYNC_STATUS_DONE"}}
PAUSED = RUNS | {"syncDisabledAt": "2026-08-20T10:00:00Z"}
NEW = RUNS | {"status": {"status": "SYNC_STATUS_UNSPECIFIED"}}
DELETED = RUNS | {"deletedAt": "2026-08-20T10:00:00Z"}
ON_WHAT_CAN_BE_DELETED = [
    operation
    for operation in platform_folder("conductorone").operations
    if operation.acts_on and operation.acts_on.read in (GetApp, GetConnector)
]


@pytest.mark.parametrize("operation", ON_WHAT_CAN_BE_DELETED)
def test_a_deleted_app_or_connector_is_told_nothing(operation: type[Operation]) -> None:
    call = operation.model_validate(operation.example)
    assert problems(call, Situation(DELETED)) == [operation.target_argument()]
    assert problems(call, Situation(RUNS)) == []


@pytest.mark.parametrize(("operation", "confirmed"), [(PauseSync, "accepted"), (ForceSync, "accepted")])
def test_an_order_is_confirmed_only_by_an_empty_object(operation: type[Operation], confirmed: str) -> None:
    order = operation(**PLACE)
    assert order.shape_result([{}], Situation()) == {"id": "c", confirmed: True}
    for other in (None, [], {"message": "Hello from the gateway"}):
        assert find_flaw(order, order.shape_result([other], Situation())) == "something in which there is no id"


def test_a_pause_is_a_loss_until_it_is_made_and_a_paused_connector_cannot_sync() -> None:
    (loss,) = losses(PauseSync(**PLACE), Situation(RUNS))
    assert "revocations of access wait" in loss[0]
    assert losses(PauseSync(**PLACE), Situation(PAUSED)) == []
    assert problems(ForceSync(**PLACE), Situation(PAUSED)) == ["connector_id"]
    assert plan(ResumeSync(**PLACE), Situation(PAUSED)) == {"syncDisabledAt": None}


@pytest.mark.parametrize(
    ("current", "may_lose"), [(NEW, False), (NEW | {"status": None}, False), (RUNS, True), ({}, True), (None, True)]
)
def test_a_new_credential_may_end_that_of_a_connector_unless_it_never_synced(current: Any, may_lose: bool) -> None:
    assert bool(losses(RotateCredential(**PLACE), Situation(current))) == may_lose


def test_the_secret_of_a_new_credential_goes_to_the_secret_store() -> None:
    assert RotateCredential.mints == ("credential.clientSecret",)
    revoke = RevokeCredential(**PLACE, credential_id="k")
    assert revoke.shape_result([{}], Situation()) == {"id": "k", "revoked": True}
    assert revoke.acts_on is not None
    assert callable(revoke.acts_on.name)
    assert revoke.acts_on.name(revoke, {"clientId": "owl"}) == "owl"


@pytest.mark.parametrize(
    ("spec", "zone", "refused"),
    [
        ("0 */6 * * *", "Europe/Berlin", []),
        ("0,30 * * * *", "UTC", []),
        ("*/30 * * * MON-FRI", None, []),
        ("* * * * *", None, ["cron_spec"]),
        ("*/5 * * * *", None, ["cron_spec"]),
        ("0,20 * * * *", None, ["cron_spec"]),
        ("50,10 * * * *", None, ["cron_spec"]),
        ("0-10 * * * *", None, ["cron_spec"]),
        ("every day", None, ["cron_spec"]),
        ("0 0 * * * *", None, ["cron_spec"]),
        ("0 0 * * *", "Europe Berlin", ["timezone"]),
    ],
)
def test_a_schedule_is_five_fields_and_runs_are_half_an_hour_apart(
    spec: str, zone: str | None, refused: list[str]
) -> None:
    given = {"cron_spec": spec} | ({} if zone is None else {"timezone": zone})
    schedule = UpdateConnectorSchedule.model_validate({**PLACE, **given})
    assert problems(schedule, Situation(RUNS)) == refused
    shown = {"cronSpec": spec} | ({} if zone is None else {"timezone": zone})
    assert plan(schedule, Situation(RUNS)) == {f"connectorSyncCronSchedule.{key}": each for key, each in shown.items()}


def test_the_time_zone_of_a_schedule_stays_unless_another_is_given() -> None:
    stored = {"cronSpec": "0 0 * * *", "timezone": "Asia/Tokyo", "start": "2026-08-20T10:00:00Z"}
    now = Situation(RUNS | {"connectorSyncCronSchedule": stored})
    for given, zone in (({}, "Asia/Tokyo"), ({"timezone": "UTC"}, "UTC")):
        schedule = UpdateConnectorSchedule.model_validate({**PLACE, "cron_spec": "0 6 * * *", **given})
        assert schedule.make_body(now) == {"cron": {"cronSpec": "0 6 * * *", "timezone": zone}}
        assert losses(schedule, now) == []


APP = {"id": "a", "displayName": "CRM", "description": "d", "grantPolicyId": "p", "annotations": {"a": "1", "b": "2"}}


def change(**arguments: Any) -> UpdateApp:
    return UpdateApp.model_validate({"id": "a", **arguments})


def test_annotations_of_an_app_are_merged_and_an_empty_value_deletes_one() -> None:
    assert losses(change(annotations={"c": "3"}), Situation(APP)) == []
    assert losses(change(annotations={"a": ""}), Situation(APP)) == [("Unsets annotations.a", "annotations.a", "1")]
    assert plan(change(annotations={"c": "3"}), Situation(APP)) == {"annotations.c": "3"}
    assert losses(change(grant_policy_id=""), Situation(APP)) == [("Unsets grantPolicyId", "grantPolicyId", "p")]
    assert losses(change(grant_policy_id="q"), Situation(APP)) == []


def test_an_update_of_an_app_needs_something_to_change_and_an_app_that_is_there() -> None:
    assert problems(change(), Situation(APP)) == ["arguments"]
    assert problems(change(description="x"), Situation(APP | {"deletedAt": "2026-08-20T10:00:00Z"})) == ["id"]


@pytest.mark.parametrize(
    ("annotations", "refused"),
    [
        ({"managed_by": "me", "team/a.b-c": ""}, []),
        ({"c1/own": "x"}, ["annotations"]),
        ({"1a": "x"}, ["annotations"]),
        ({"a": "with space"}, ["annotations.a"]),
        ({"a": "x" * 257}, ["annotations.a"]),
        ({f"k{number}": "x" for number in range(17)}, ["annotations"]),
    ],
)
def test_annotations_that_are_refused_are_named(annotations: Any, refused: list[str]) -> None:
    assert problems(CreateApp(display_name="CRM", annotations=annotations), Situation()) == refused
    assert problems(change(annotations=annotations), Situation(APP)) == refused


OWNERS = [
    {"id": "u1", "displayName": "Alice", "roleSlug": "owner"},
    {"id": "u2", "displayName": None, "roleSlug": "owner"},
    {"id": "u3", "displayName": "Carla", "roleSlug": "viewer"},
]


def test_owners_that_are_not_named_are_removed_and_those_by_entitlement_may_be() -> None:
    given = SetConnectorOwners.model_validate({**PLACE, "role_slug": "owner", "user_ids": ["u4"]})
    found = [sentence for sentence, _, _ in losses(given, Situation(OWNERS))]
    unseen = "Removes every entitlement that owns it in this role and is not named"
    assert found == ["Removes owner Alice (id u1)", "Removes owner u2 (id u2)", unseen]
    assert [sentence for sentence, _, _ in losses(given, Situation())] == [unseen]
    nobody = SetConnectorOwners.model_validate({**PLACE, "role_slug": "owner", "user_ids": []})
    assert problems(nobody, Situation(OWNERS)) == ["user_ids"]


def test_owners_are_rows_with_ids() -> None:
    answer = {"list": [{"roleSlug": "owner", "user": {"id": "u1", "email": "a@b.c"}}], "nextPageToken": ""}
    (row,) = SearchConnectorUserOwners(**PLACE).shape_result([answer], Situation())
    assert row == {"id": "u1", "email": "a@b.c", "roleSlug": "owner", "createdAt": None}
    owners = ListAppOwnerIds(app_id="a")
    assert owners.shape_result([{"userIds": ["u1"]}], Situation()) == [{"id": "u1"}]
    assert owners.shape_result([{}], Situation()) is None
    assert "conductorone_list_app_owner_ids" in AddAppOwner(app_id="a", user_id="u").find_next_step({}, Situation())
