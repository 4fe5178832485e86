"""The wrapper around ConductorOne's configs."""

from __future__ import annotations

from typing import Any

import pytest

from connector_mcp.operations.conductorone.env_config import (
    ENV_CONFIG,
    configuration_of,
    is_empty,
    plain_for,
    unwrap,
    wrap,
)


@pytest.mark.parametrize(
    ("plain", "wrapped"),
    [
        ("acme.okta.com", {"stringValue": "acme.okta.com"}), (True, {"stringValue": "true"}),
        (False, {"stringValue": "false"}), (30, {"stringValue": "30"}), (["a", "b"], {"stringValue": "a,b"}),
        ({"k": "v", "n": 1}, {"keyValues": {"items": [{"key": "k", "value": "v"}, {"key": "n", "value": "1"}]}}),
        (None, {"stringValue": ""}), ("", {"stringValue": ""}), ([], {"stringValue": ""}),
        ({}, {"keyValues": {"items": []}}), ({"stringValue": "x"}, {"stringValue": "x"}),
        ({"keyValues": {"items": []}}, {"keyValues": {"items": []}}),
    ],
)  # fmt: skip
def test_a_plain_value_is_wrapped_and_a_wrapped_one_stays(plain: Any, wrapped: Any) -> None:
    assert wrap(plain) == wrapped


@pytest.mark.parametrize("plain", ["x", {"k": "v"}, {}])
def test_strings_and_maps_survive_the_way_there_and_back(plain: Any) -> None:
    assert unwrap(wrap(plain)) == plain


@pytest.mark.parametrize("nothing", [None, "", [], {}, {"stringValue": ""}, {"keyValues": {"items": []}}])
def test_what_holds_nothing_is_empty_on_the_wire(nothing: Any) -> None:
    assert is_empty(wrap(nothing))


@pytest.mark.parametrize("something", [False, 0, "x", ["x"], {"k": ""}])
def test_a_false_and_a_zero_are_values(something: Any) -> None:
    assert not is_empty(wrap(something))


@pytest.mark.parametrize(
    ("kind", "given", "plain"),
    [
        ("boolean", {"stringValue": "true"}, True), ("boolean", "false", False), ("boolean", None, False),
        ("boolean", True, True), ("array", {"stringValue": "a,b"}, ["a", "b"]), ("array", "", []), ("array", None, []),
        ("object", {"keyValues": {"items": [{"key": "k", "value": "v"}]}}, {"k": "v"}), ("object", {}, {}),
        ("object", None, {}), ("string", None, ""), ("string", "x", "x"), ("string", 5, 5),
    ],
)  # fmt: skip
def test_a_given_value_is_seen_as_its_schema_describes_it(kind: str, given: Any, plain: Any) -> None:
    assert plain_for({"type": kind}, given) == plain


def test_only_an_env_config_has_a_configuration() -> None:
    values = {"a": {"stringValue": "b"}}
    assert configuration_of({"@type": ENV_CONFIG, "configuration": values}) == values
    assert configuration_of({"@type": ENV_CONFIG, "configuration": None}) == {}
    assert configuration_of({"@type": "type.googleapis.com/other", "configuration": values}) == {}
    assert configuration_of(None) == {}
