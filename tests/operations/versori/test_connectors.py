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
SETTINGS = {"name": "Acme", "protocol": "http", "base_url": "https://b.example"}
SENT = {"name": "Acme", "protocol": "http", "baseUrl": "https://b.example"}


def update(**arguments: Any) -> UpdateConnector:
    return UpdateConnector.model_validate({"organisation_id": ORGANISATION, "connector_id": CONNECTOR, **arguments})


def now(record: Any = STORED) -> Situation:
    return Situation(current=copy.deepcopy(record))


def variable(name: str, value: str) -> dict[str, str]:
    return {"name": name, "value": value}


@pytest.mark.parametrize(
    ("arguments", "current", "body"),
    [
        ({"name": "Acme", "documentation_url": "https://new.example"}, STORED,
         {**KEPT, "name": "Acme", "documentationURL": "https://new.example"}),
        ({"image_url": "", "tags": {}}, STORED,
         {**{key: value for key, value in KEPT.items() if key != "imageURL"}, "tags": {}}),
        ({"name": "DWH"}, BIGQUERY,
         {"name": "DWH", "protocol": "bigquery", "datasetId": "acme-prod.sales", "public": False}),
        ({**SETTINGS, "replace": True}, STORED, SENT),
        ({**SETTINGS, "replace": True}, None, SENT),
    ],
    ids=["a merge", "a merge that empties", "a dataset", "a replacement", "a replacement of what was not read"],
)  # fmt: skip
def test_a_merge_sends_what_is_there_under_what_is_given_and_a_replacement_only_that(
    arguments: Any, current: Any, body: Any
) -> None:
    [request] = update(**arguments).make_requests(now(current))
    ids = {"organisation_id": ORGANISATION, "connector_id": CONNECTOR}
    path = "/o/{organisation_id}/connectors/{connector_id}"
    assert request == Request("PUT", path, ids, {}, {**IDENTITY, **body}, repeatable=True)


def test_a_merge_without_the_connector_sends_nothing() -> None:
    with pytest.raises(Internal):
        update(name="Acme").make_requests(Situation())


TAGGED = {**STORED, "tags": {"team": ["sales"], "archived": [], "odd": [""]}}
TWICE = {**STORED, "connections": [{"variables": [variable("region", "eu"), variable("region", "us"),
                                                  variable("zone", "")]}]}  # fmt: skip
UNSET_DOCS = ("Unsets documentationURL", "documentationURL", STORED["documentationURL"])
UNSET_IMAGE = ("Unsets imageURL", "imageURL", STORED["imageURL"])
UNSET_TAGS = ("Unsets tags", "tags", STORED["tags"])
MAY_UNSET = ("May unset connectionVariables", "connectionVariables", STORED["connectionVariables"])
PRODUCTION = "connections.production.variables"


@pytest.mark.parametrize(
    ("arguments", "record", "lost"),
    [
        ({"name": "Acme", "public": False, "base_url": "https://b.example",
          "tags": {**STORED["tags"], "a": ["x"]}}, STORED, []),
        ({"connection_variables": STORED["connections"][0]["variables"]}, STORED, []),
        ({"replace": True, "name": "DWH", "protocol": "bigquery", "dataset_id": "acme-prod.sales"}, BIGQUERY, []),
        ({"replace": True, **SETTINGS}, STORED,
         [("Unsets public", "public", True), UNSET_DOCS, UNSET_IMAGE, UNSET_TAGS, MAY_UNSET]),
        ({"tags": {"team": ["ops"]}}, STORED, [("Unsets tags.tier", "tags.tier", ["gold"])]),
        ({"tags": {"team": ["sales"]}}, TAGGED,
         [("Unsets tags.odd", "tags.odd", [""]), ("Unsets tags.archived", "tags.archived", None)]),
        ({"tags": {"team": ["ops"], "archived": [], "odd": [""]}}, TAGGED, []),
        ({"connection_variables": [variable("region", "eu")]}, TWICE,
         [("Drops variable region (2) of connection [0]", "connections.[0].variables.region (2)", "us"),
          ("Drops variable zone of connection [0]", "connections.[0].variables.zone", "")]),
        ({"connection_variables": [variable("region", "eu")]}, STORED,
         [("Overwrites variable region of connection production", f"{PRODUCTION}.region", "us"),
          ("Drops variable zone of connection production", f"{PRODUCTION}.zone", "b")]),
        ({"connection_variables": []}, STORED,
         [("Unsets connectionVariables", "connectionVariables", STORED["connectionVariables"]),
          ("Drops variable region of connection production", f"{PRODUCTION}.region", "us"),
          ("Drops variable zone of connection production", f"{PRODUCTION}.zone", "b")]),
        ({"connection_variables": [variable("zone", "a")]}, {**STORED, "connections": []},
         [("Drops variable region", "connectionVariables.region", "eu")]),
    ],
)  # fmt: skip
def test_what_is_unset_dropped_or_overwritten_is_a_loss_and_nothing_else(
    arguments: Any, record: Any, lost: list[Any]
) -> None:
    assert losses(update(**arguments), now(record)) == lost


@pytest.mark.parametrize("replace", [True, False])
@pytest.mark.parametrize(("argument", "empty", "lost"), [
    ("documentation_url", "", UNSET_DOCS), ("image_url", "", UNSET_IMAGE), ("tags", {}, UNSET_TAGS),
])  # fmt: skip
def test_an_empty_value_over_a_stored_one_is_a_loss(replace: bool, argument: str, empty: Any, lost: Any) -> None:
    operation = update(**{"replace": replace, argument: empty})
    assert lost in losses(operation, now())
    assert plan(operation, now())[lost[1]] is None


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


GONE = {"documentationURL": None, "imageURL": None, "tags": None}
BLIND = {"name": "Acme", "tags": {}, "connection_variables": [], "auth_scheme_config_ids": ["key"]}


@pytest.mark.parametrize(
    ("arguments", "record", "planned"),
    [
        ({"name": "Acme", "documentation_url": "", "auth_scheme_config_ids": ["oauth", "key"]}, STORED,
         {"name": "Acme", "documentationURL": None, "connectionVariables": STORED["connectionVariables"],
          "authSchemeConfigs": STORED["authSchemeConfigs"][::-1]}),
        ({"replace": True, **SETTINGS, "public": True}, STORED, {**SENT, "public": True, **GONE}),
        (BLIND, None, {"name": "Acme", "tags": None, "connectionVariables": None}),
    ],
    ids=["a merge keeps the variables", "a replacement unsets", "nothing was read"],
)  # fmt: skip
def test_the_plan_names_members_of_the_record(arguments: Any, record: Any, planned: Any) -> None:
    assert plan(update(**arguments), now(record)) == planned


def test_nothing_is_found_of_a_connector_that_was_not_read() -> None:
    assert (losses(update(**BLIND), Situation()), problems(update(**BLIND), Situation())) == ([], [])


def test_a_call_that_changes_nothing_is_refused() -> None:
    [issue] = update().find_problems(now())
    assert issue.path == "arguments"
    assert "base_url" in issue.wanted
    assert "replace" not in issue.wanted


@pytest.mark.parametrize(
    ("record", "arguments", "refused"),
    [
        (None, {"replace": True, "public": True}, ["name", "protocol"]),
        (None, {"replace": True, "name": "n", "protocol": "http"}, ["base_url"]),
        (None, {"replace": True, "name": "n", "protocol": "bigquery"}, ["dataset_id"]),
        (STORED, {**SETTINGS, "auth_scheme_config_ids": ["oauth", "key"]}, []),
        (STORED, {"dataset_id": "p.d"}, ["dataset_id"]),
        (BIGQUERY, {"base_url": "https://b.example"}, ["base_url"]),
        (BIGQUERY, {"connection_variables": [variable("a", "b")]}, ["connection_variables"]),
        *((STORED, {name: ""}, [name]) for name in ("name", "base_url")),
        (STORED, {"connection_variables": [variable("a", "b")] * 2}, ["connection_variables"]),
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


@pytest.mark.parametrize(
    "arguments", [{"protocol": "ftp"}, {"connection_variables": [{"name": "a"}]}, {"id": "x"}, {"public": "yes"}]
)
def test_arguments_that_do_not_fit_are_refused(arguments: Any) -> None:
    with pytest.raises(ValidationError):
        update(**arguments)
