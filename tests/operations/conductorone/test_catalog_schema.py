"""ConductorOne's own description of a connector type wins over the shipped one."""

from __future__ import annotations

from typing import Any

import pytest

from connector_mcp.operations.conductorone.catalog_schema import GetConfigurationSchema, described_type
from connector_mcp.operations.conductorone.connectors import UpdateConnector
from connector_mcp.operations.connector_types import ConnectorType, connector_types
from connector_mcp.operations.situation import Situation
from tests.for_each import for_each
from tests.operations.hooks import issues

OWN = "2ownConnectorType0000000001"
every_type = for_each("kind", connector_types("conductorone").values(), ids=lambda kind: kind.name)


def shown(*fields: Any, form: Any = None, **more: Any) -> Any:
    answer = {"schema": {"displayName": "Own", "fields": list(fields), "fieldGroups": None, **more}, "formSchema": form}
    return GetConfigurationSchema(catalog_id=OWN).shape_result([answer], Situation())


def field(name: str, **kind: Any) -> dict[str, Any]:
    return {"name": name, "displayName": name, **(kind or {"str": {"secret": False}})}


def situation(type_id: str, described: Any, config: Any = None) -> Situation:
    stored = {"@type": "type.googleapis.com/c1.api.app.v1.EnvConfig", "configuration": config or {}}
    return Situation({"id": "c", "catalogId": type_id, "config": stored, "deletedAt": None}, described=described)


def refused(type_id: str, described: Any, config: Any) -> list[str]:
    update = UpdateConnector(app_id="a", id="c", config=config)
    return [issue.path for issue in issues(update, situation(type_id, described))]


@every_type
def test_the_platforms_fields_decide_which_keys_are_taken_of_every_type(kind: ConnectorType) -> None:
    keys = [key for key in kind.config["properties"] if not key.startswith("C1_")]
    for name in (kind.type, OWN):
        assert refused(name, shown(field("new_key")), {"new_key": "x"}) == []
        for gone in keys[:2]:
            assert refused(name, shown(field("new_key")), {gone: "x"}) == [f"config.{gone}"], "the platform dropped it"
    assert (refused(kind.type, None, {"new_key": "x"}) or ["config.new_key"]) == ["config.new_key"]
    for nothing in ({}, shown()):
        assert described_type(kind.type, nothing) == connector_types("conductorone")[kind.type]
        assert described_type(OWN, nothing) is None


@pytest.mark.parametrize(
    ("kind", "fits", "other", "secret"),
    [
        ({"str": {"secret": False}}, "x", 5, False), ({"text": {"secret": True}}, "x", {}, True),
        ({"secret": {}}, "x", [], True), ({"checkbox": {"checked": True}}, True, "yes", False),
        ({"strList": {}}, ["x"], 5, False), ({"keyValue": {"secret": True}}, {"a": "b"}, 5, True),
        ({"stringMap": {"optional": True}}, {"a": "b"}, ["b"], False), ({"import": {"secret": True}}, "x", 5, True),
        ({"select": {"items": [{"value": "eu"}]}}, "eu", "us", False), ({"random": {"length": 8}}, "x", 5, False),
        ({"stringField": {"passwordField": {}}}, "x", 5, True), ({"stringField": {"textField": {}}}, "x", 5, False),
        ({"stringField": {"selectField": {"options": [{"value": "eu"}]}}}, "eu", "us", False),
        ({"boolField": {}}, False, "no", False), ({"stringSliceField": {}}, ["x"], 5, False),
        ({"int64Field": {}}, "42", "many", False), ({"fileField": {}}, "x", 5, False),
        ({"stringMapField": {}}, {"a": "b"}, 5, False),
    ],
)  # fmt: skip
def test_a_field_of_each_kind_is_checked_and_hidden_as_the_platform_says(
    kind: Any, fits: Any, other: Any, secret: bool
) -> None:
    in_form = any(name.endswith("Field") for name in kind)
    described = shown(form={"fields": [field("key", **kind)]}) if in_form else shown(field("key", **kind))
    assert refused(OWN, described, {"key": fits}) == []
    assert refused(OWN, described, {"key": other}) == ["config.key"]
    made = described_type(OWN, described)
    assert made is not None
    assert made.secret_paths == (("key",) if secret else ())


def test_fields_that_no_config_sets_are_no_keys_and_what_is_shipped_as_secret_stays_it() -> None:
    odd = [field("a", oauth2={}), field("b", readOnly={}), {**field("c"), "readOnly": True}, {"name": ""}, None]
    described = shown(field("d"), *odd)
    assert [refused(OWN, described, {key: "x"}) != [] for key in "abcd"] == [True, True, True, False]
    okta = described_type("2kG3aTftCcAvWtHZt2Ywry0dPn7", shown(field("okta_v2_api_token")))
    assert okta is not None
    assert okta.secret_paths == ("okta_v2_api_token",)


def test_groups_of_the_platform_are_kept_apart_and_required_fields_are_shown() -> None:
    groups = [{"name": "one", "fieldNames": ["a"]}, {"name": "two", "fieldNames": ["b"]}]
    described = shown(form={"fields": [field("a") | {"required": True}, field("b")], "fieldGroups": groups})
    kind = described_type(OWN, described)
    assert kind is not None
    assert (kind.config["required"], kind.name) == (["a"], "Own")
    assert refused(OWN, described, {"C1_selected_field_group_name": "one", "a": "x"}) == []
    assert refused(OWN, described, {"C1_selected_field_group_name": "three", "a": "x"}) != []
    stored = {"b": {"stringValue": "x"}}
    update = UpdateConnector(app_id="a", id="c", config={"a": "x"})
    assert [issue.path for issue in issues(update, situation(OWN, described, stored))] == ["config.a"]


@pytest.mark.parametrize("answer", [{}, None, [], "x", {"data": {}}])
def test_an_answer_of_another_form_is_no_description(answer: Any) -> None:
    assert GetConfigurationSchema(catalog_id=OWN).shape_result([answer], Situation()) is None


def test_the_description_is_read_only_for_a_config_of_the_known_form() -> None:
    current = situation(OWN, None).current
    assert UpdateConnector(app_id="a", id="c", display_name="x").type_read(current) is None
    assert UpdateConnector(app_id="a", id="c", config={"@type": "other"}).type_read(current) is None
    read = UpdateConnector(app_id="a", id="c", config={"a": "x"}).type_read(current)
    assert read is not None
    assert read.make_body(Situation()) == {"catalogId": OWN, "appId": "a", "connectorId": "c"}
