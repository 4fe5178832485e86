"""Versori's connector operations: what they send, what they would destroy, what they refuse."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from pydantic import ValidationError

from connector_mcp.errors import Internal
from connector_mcp.operations.platform import Request
from connector_mcp.operations.situation import Situation
from connector_mcp.operations.versori.connectors import GetConnector, UpdateConnector
from tests.operations.hooks import losses, plan, problems

ORGANISATION = "01HZX0A1B2C3D4E5F6G7H8J9K0"
CONNECTOR = "01J2ABCDEF0123456789ABCDEF"
IDENTITY = {"id": CONNECTOR, "organisationId": ORGANISATION}
STORED: dict[str, Any] = {
    **IDENTITY, "name": "Acme CRM", "public": True, "documentationURL": "https://docs.acme.example",
    "imageURL": "https://acme.example/icon.png", "tags": {"team": ["sales"], "tier": ["gold"]}, "protocol": "http",
    "baseUrl": "https://{{region}}.api.acme.example/v2",
    "authSchemeConfigs": [{"id": "key", "schemeType": "api-key"}, {"id": "oauth", "schemeType": "oauth2"}],
    "connectionVariables": [{"name": "region", "value": "eu"}],
    "connections": [{
        "id": "01J2C0NN000000000000000001", "name": "production",
        "credentials": {"action": [{"id": "1", "credential": {"data": {"value": ""}}}]},
        "variables": [{"name": "region", "value": "us"}, {"name": "zone", "value": "b"}],
        "updatedAt": "2024-09-01T10:00:00Z",
    }],
    "versions": [{"id": "01J2VER0000000000000000001", "name": "1.0.0"}],
    "createdAt": "2024-09-01T10:00:00Z", "updatedAt": "2024-10-01T12:00:00Z",
}  # fmt: skip
_KEPT = ("name", "protocol", "baseUrl", "documentationURL", "imageURL", "tags", "public")
KEPT = {member: STORED[member] for member in _KEPT}
BIGQUERY: dict[str, Any] = {
    **IDENTITY, "name": "Warehouse", "protocol": "bigquery", "datasetId": "acme-prod.sales", "public": False,
    "authSchemeConfigs": [], "connections": [], "versions": [],
}  # fmt: skip


def update(**arguments: Any) -> UpdateConnector:
    return UpdateConnector.model_validate({"organisation_id": ORGANISATION, "connector_id": CONNECTOR, **arguments})


def now(record: Any = STORED) -> Situation:
    return Situation(current=copy.deepcopy(record))


def test_a_merge_sends_what_is_there_now_under_what_is_given() -> None:
    [request] = update(name="Acme", documentation_url="https://new.example").make_requests(now())
    assert request == Request(
        "PUT",
        "/o/{organisation_id}/connectors/{connector_id}",
        {"organisation_id": ORGANISATION, "connector_id": CONNECTOR},
        {},
        {**IDENTITY, **KEPT, "name": "Acme", "documentationURL": "https://new.example"},
        repeatable=True,
    )


def test_a_merge_leaves_out_what_is_emptied_and_never_sends_variables_or_scheme_order_by_itself() -> None:
    body = update(image_url="", tags={}).make_body(now())
    assert body == {**IDENTITY, **{key: value for key, value in KEPT.items() if key != "imageURL"}, "tags": {}}


def test_a_merge_of_a_bigquery_connector_sends_its_dataset() -> None:
    assert update(name="DWH").make_body(now(BIGQUERY)) == {
        **IDENTITY, "name": "DWH", "protocol": "bigquery", "datasetId": "acme-prod.sales", "public": False,
    }  # fmt: skip


def test_a_merge_without_the_connector_sends_nothing() -> None:
    with pytest.raises(Internal):
        update(name="Acme").make_requests(Situation())


def test_replace_sends_only_what_is_given_and_the_identity() -> None:
    operation = update(replace=True, name="Acme", protocol="http", base_url="https://api.acme.example")
    wanted = {**IDENTITY, "name": "Acme", "protocol": "http", "baseUrl": "https://api.acme.example"}
    assert operation.make_body(now()) == wanted
    assert operation.make_body(Situation()) == wanted


@pytest.mark.parametrize(
    ("arguments", "record"),
    [
        (
            {"name": "Acme", "public": False, "base_url": "https://b.example", "tags": {**STORED["tags"], "a": ["x"]}},
            STORED,
        ),
        ({"connection_variables": STORED["connections"][0]["variables"]}, STORED),
        ({"replace": True, "name": "DWH", "protocol": "bigquery", "dataset_id": "acme-prod.sales"}, BIGQUERY),
    ],
    ids=["values that are set", "the variables of every connection", "a replacement of members that are not there"],
)
def test_nothing_is_lost_by(arguments: Any, record: Any) -> None:
    assert losses(update(**arguments), now(record)) == []


def test_replacing_names_every_value_that_is_not_given() -> None:
    operation = update(replace=True, name="Acme", protocol="http", base_url="https://b.example")
    assert losses(operation, now()) == [
        ("Unsets public", "public", True),
        ("Unsets documentationURL", "documentationURL", "https://docs.acme.example"),
        ("Unsets imageURL", "imageURL", "https://acme.example/icon.png"),
        ("Unsets tags", "tags", {"team": ["sales"], "tier": ["gold"]}),
        ("May unset connectionVariables", "connectionVariables", [{"name": "region", "value": "eu"}]),
    ]


@pytest.mark.parametrize("replace", [True, False])
@pytest.mark.parametrize(
    ("argument", "empty", "member"),
    [
        ("documentation_url", "", "documentationURL"),
        ("image_url", "", "imageURL"),
        ("tags", {}, "tags"),
    ],
)
def test_an_empty_value_over_a_stored_one_is_a_loss(replace: bool, argument: str, empty: Any, member: str) -> None:
    operation = update(**{"replace": replace, argument: empty})
    assert (f"Unsets {member}", member, STORED[member]) in losses(operation, now())
    assert plan(operation, now())[member] is None


def test_new_tags_that_leave_one_out_lose_it() -> None:
    assert losses(update(tags={"team": ["ops"]}), now()) == [("Unsets tags.tier", "tags.tier", ["gold"])]


def test_a_tag_without_a_value_is_lost_too() -> None:
    stored = {**STORED, "tags": {"team": ["sales"], "archived": [], "odd": [""]}}
    assert losses(update(tags={"team": ["sales"]}), now(stored)) == [
        ("Unsets tags.odd", "tags.odd", [""]),
        ("Unsets tags.archived", "tags.archived", None),
    ]
    assert losses(update(tags={"team": ["ops"], "archived": [], "odd": [""]}), now(stored)) == []


@pytest.mark.parametrize(
    "connections",
    [None, "text", ["01J2C0NN000000000000000001"], {"items": STORED["connections"]}, [{"id": "1"}], [None],
     [*STORED["connections"], {"id": "2", "variables": {"region": "eu"}}]],
)  # fmt: skip
def test_variables_of_connections_in_an_undocumented_shape_may_be_lost(connections: Any) -> None:
    operation, target = update(connection_variables=STORED["connectionVariables"]), UpdateConnector.acts_on
    assert target is not None
    assert target.select is not None
    current = target.select(operation, now({**STORED, "connections": connections}))
    assert "connections" in {field.partition(".")[0] for _, field, _ in losses(operation, now(current))}
    assert losses(update(name="Acme"), now(current)) == []


def test_a_stored_variable_that_repeats_a_name_or_is_empty_is_lost_too() -> None:
    twice = [{"name": "region", "value": "eu"}, {"name": "region", "value": "us"}, {"name": "zone", "value": ""}]
    operation = update(connection_variables=[{"name": "region", "value": "eu"}])
    assert [
        sentence for sentence, _, _ in losses(operation, now({**STORED, "connections": [{"variables": twice}]}))
    ] == [
        "Drops variable region (2) of connection [0]",
        "Drops variable zone of connection [0]",
    ]


def test_variables_that_differ_from_a_connections_own_are_a_loss() -> None:
    operation = update(connection_variables=[{"name": "region", "value": "eu"}])
    assert losses(operation, now()) == [
        ("Overwrites variable region of connection production", "connections.production.variables.region", "us"),
        ("Drops variable zone of connection production", "connections.production.variables.zone", "b"),
    ]


def test_no_variables_unset_those_of_the_connector_and_its_connections() -> None:
    assert [sentence for sentence, _, _ in losses(update(connection_variables=[]), now())] == [
        "Unsets connectionVariables",
        "Drops variable region of connection production",
        "Drops variable zone of connection production",
    ]


def test_a_variable_of_the_connector_that_is_left_out_is_a_loss() -> None:
    bare = {**STORED, "connections": []}
    operation = update(connection_variables=[{"name": "zone", "value": "a"}])
    assert losses(operation, now(bare)) == [("Drops variable region", "connectionVariables.region", "eu")]


def test_the_plan_names_members_of_the_record_and_that_variables_survive() -> None:
    operation = update(name="Acme", documentation_url="", auth_scheme_config_ids=["oauth", "key"])
    assert plan(operation, now()) == {
        "name": "Acme",
        "documentationURL": None,
        "connectionVariables": STORED["connectionVariables"],
        "authSchemeConfigs": [STORED["authSchemeConfigs"][1], STORED["authSchemeConfigs"][0]],
    }


def test_the_plan_of_a_replacement_unsets_what_is_not_given() -> None:
    operation = update(replace=True, **SETTINGS, public=True)
    assert plan(operation, now()) == {
        "name": "Acme",
        "protocol": "http",
        "baseUrl": "https://b.example",
        "public": True,
        "documentationURL": None,
        "imageURL": None,
        "tags": None,
    }


def test_hooks_cope_with_a_connector_that_was_not_read() -> None:
    operation = update(name="Acme", tags={}, connection_variables=[], auth_scheme_config_ids=["key"])
    assert operation.find_losses(Situation()) == ()
    assert operation.find_problems(Situation()) == ()
    assert plan(operation, Situation()) == {"name": "Acme", "tags": None, "connectionVariables": None}


def test_a_call_that_changes_nothing_is_refused() -> None:
    [issue] = update().find_problems(now())
    assert issue.path == "arguments"
    assert "base_url" in issue.wanted
    assert "replace" not in issue.wanted


@pytest.mark.parametrize(
    ("arguments", "missing"),
    [
        ({"public": True}, ["name", "protocol"]),
        ({"name": "n", "protocol": "http"}, ["base_url"]),
        ({"name": "n", "protocol": "bigquery"}, ["dataset_id"]),
    ],
)
def test_replacing_wants_what_the_platform_requires(arguments: dict[str, Any], missing: list[str]) -> None:
    assert problems(update(replace=True, **arguments), Situation()) == missing


SETTINGS = {"name": "Acme", "protocol": "http", "base_url": "https://b.example"}


@pytest.mark.parametrize(
    ("record", "arguments", "refused"),
    [
        (STORED, {**SETTINGS, "auth_scheme_config_ids": ["oauth", "key"]}, []),
        (STORED, {"dataset_id": "p.d"}, ["dataset_id"]),
        (BIGQUERY, {"base_url": "https://b.example"}, ["base_url"]),
        (BIGQUERY, {"connection_variables": [{"name": "a", "value": "b"}]}, ["connection_variables"]),
        *((STORED, {name: ""}, [name]) for name in ("name", "base_url")),
        (STORED, {"connection_variables": [{"name": "a", "value": "b"}] * 2}, ["connection_variables"]),
        *(
            (STORED, {"auth_scheme_config_ids": ids}, ["auth_scheme_config_ids"])
            for ids in (["key"], ["key", "oauth", "new"], ["key", "key"], [])
        ),
    ],
)
def test_an_update_that_cannot_work_is_refused(record: Any, arguments: Any, refused: list[str]) -> None:
    assert problems(update(**arguments), now(record)) == refused


def test_the_protocol_cannot_change() -> None:
    [issue] = update(protocol="bigquery").find_problems(now())
    assert (issue.path, issue.got, issue.example) == ("protocol", "bigquery", "http")


def test_the_fingerprint_covers_variables_but_not_what_lives_by_itself() -> None:
    target = UpdateConnector.acts_on
    assert target is not None
    assert target.select is not None
    selected = target.select(update(name="n"), now())
    assert selected["connections"] == [{key: STORED["connections"][0][key] for key in ("id", "name", "variables")}]
    assert "versions" not in selected
    assert selected["tags"] == STORED["tags"]
    assert target.volatile == {"updatedAt", "versions"}
    assert target.select(update(name="n"), Situation()) is None


def test_an_update_is_read_back_by_the_same_ids() -> None:
    read = update(name="n").read_back(STORED)
    assert read == GetConnector(organisation_id=ORGANISATION, connector_id=CONNECTOR)


def test_arguments_that_do_not_fit_are_refused() -> None:
    for arguments in ({"protocol": "ftp"}, {"connection_variables": [{"name": "a"}]}, {"id": "x"}, {"public": "yes"}):
        with pytest.raises(ValidationError):
            update(**arguments)
