"""What every update loses, plans and sends, and the functions on JSON that this is derived with."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connector_mcp.operations.catalog import catalog
from connector_mcp.operations.conductorone.env_config import ENV_CONFIG
from connector_mcp.operations.operation import Effect, at
from connector_mcp.operations.schema import portable_schema
from connector_mcp.operations.situation import Loss, Situation
from connector_mcp.operations.update import (
    NamedItems,
    UpdateOperation,
    differences,
    is_unset,
    is_vacant,
    merge,
    without_vacant,
)

THOROUGH = 10 if os.environ.get("CI") else 1
"""CI takes the time to look at more examples of each update."""
UPDATES = {name: kind for name, kind in catalog().items() if issubclass(kind, UpdateOperation)}

SCALARS = st.sampled_from(["", "eu", "us", None, False, True, 0, 1])
KEYS = st.sampled_from(
    ["name", "value", "a", "b", "dotted.key", "okta_v2_domain", "seed-urls", "templates", "usageType"]
)
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=8
)
OBJECTS = st.dictionaries(KEYS, JSON, max_size=4)
VARIABLES = st.lists(
    st.fixed_dictionaries({"name": st.sampled_from(["region", "zone"]), "value": st.sampled_from(["", "eu", "us"])}),
    max_size=3,
)
WRAPPED = st.sampled_from(
    [{"stringValue": ""}, {"stringValue": "x"}, {"keyValues": {"items": []}}, {"keyValues": {"items": [{"key": "k"}]}}]
)
CONFIGS = st.one_of(
    st.fixed_dictionaries({"@type": st.just(ENV_CONFIG), "configuration": st.dictionaries(KEYS, WRAPPED, max_size=3)}),
    st.fixed_dictionaries({"@type": st.just("type.googleapis.com/other")}, optional={"a": JSON}),
    st.fixed_dictionaries(
        {"templates": st.lists(st.fixed_dictionaries({}, optional={"usageType": SCALARS, "content": SCALARS}))}
    ),
    OBJECTS,
)
CONNECTIONS = st.lists(
    st.fixed_dictionaries({"name": st.sampled_from(["production", "test"])}, optional={"variables": VARIABLES | JSON}),
    max_size=2,
)
STORED = {
    "config": CONFIGS | JSON,
    "configDoc": OBJECTS | JSON,
    "connectionVariables": VARIABLES | JSON,
    "connections": CONNECTIONS | JSON,
    "dynamicVariables": OBJECTS,
    "authSchemeConfigs": st.lists(st.fixed_dictionaries({"id": st.sampled_from(["key", "oauth"])}), max_size=2) | JSON,
    "unknown": JSON,
}
OF_WHAT_NO_READ_SHOWS = {"versori_link_connection_to_environment", "versori_set_static_user_variables"}
"""Updates that nothing can be compared with. They count as overwriting."""


def values(schema: Mapping[str, Any]) -> st.SearchStrategy[Any]:
    """Values that a field's schema accepts."""
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if "properties" in schema:
        parts = {key: values(part) for key, part in schema["properties"].items()}
        required = {key: parts.pop(key) for key in schema.get("required", ())}
        return st.fixed_dictionaries(required, optional=parts)
    match schema.get("type"):
        case "array":
            return st.lists(values(schema.get("items", {})), min_size=schema.get("minItems", 0), max_size=3)
        case "object" if isinstance(schema.get("additionalProperties"), dict):
            return st.dictionaries(KEYS, values(schema["additionalProperties"]), max_size=3)
        case "object":
            return CONFIGS
        case "boolean":
            return st.booleans()
        case "integer":
            return st.integers(0, 2)
        case _:
            texts = ["", "eu", "us", "displayName,config", "userIds"]
            return st.sampled_from([text for text in texts if len(text) >= schema.get("minLength", 0)])


def arguments(kind: type[UpdateOperation]) -> st.SearchStrategy[dict[str, Any]]:
    """Arguments that the update accepts: with empty, repeated and missing values, and with nulls."""
    schema = portable_schema(kind)
    members = {name: values(part) for name, part in schema["properties"].items()}
    if "connection_variables" in members:
        members["connection_variables"] = VARIABLES
    required = {
        name: CONFIGS
        if name == "config"
        else st.just("id")
        if schema["properties"][name]["type"] == "string"
        else values(schema["properties"][name])
        for name in schema.get("required", ())
    }
    optional = {name: member | st.none() if name != "replace" else member for name, member in members.items()}
    return st.fixed_dictionaries(required, optional={k: v for k, v in optional.items() if k not in required})


def records(kind: type[UpdateOperation]) -> st.SearchStrategy[dict[str, Any]]:
    """Records as a platform may hold them: any kind of value anywhere, and members that no schema knows."""
    named = {placement.stored_as for placement in kind.placements().values() if placement.stored_as}
    optional = {name: STORED.get(name, JSON) for name in (*sorted(named), *STORED)}
    return st.fixed_dictionaries({"id": st.just("id")}, optional=optional)


def leaves(value: Any, named: Mapping[str, NamedItems], path: tuple[str, ...] = (), place: str = "") -> dict[Any, Any]:
    """The values that a record holds, by path. A list is one value, unless its items are named. An object that holds
    only empty values is one."""
    if is_unset(value):
        return {}
    if place in named and isinstance(value, list):
        items = named[place].as_map(value).items()
        return {
            key: leaf
            for name, item in items
            for key, leaf in (leaves(item, named, (*path, name), place) or {(*path, name): item}).items()
        }
    if isinstance(value, dict):
        inner = [(key, member, f"{place}.{key}" if place else key) for key, member in value.items()]
        held = {k: v for key, member, spot in inner for k, v in leaves(member, named, (*path, key), spot).items()}
        return held or {(*path, "{}"): value}
    return {(*path, "[]"): value} if isinstance(value, list) else {path: value}


def gives_way(path: tuple[str, ...], after: Mapping[Any, Any]) -> bool:
    """Whether a single value gives way to an object or list, so that its member is not vacant."""
    return any(other[: len(path)] == path for other in after)


def covered(path: tuple[str, ...], losses: tuple[Loss, ...]) -> bool:
    return any(path[: len(loss.path)] == loss.path for loss in losses)


@pytest.mark.parametrize("name", UPDATES)
@settings(max_examples=10 * THOROUGH, deadline=None)
@given(data=st.data())
def test_an_update_loses_exactly_what_is_stored_and_will_be_vacant(name: str, data: st.DataObject) -> None:
    kind = UPDATES[name]
    update = kind.model_validate(data.draw(arguments(kind), "arguments"))
    current = data.draw(records(kind), "current")
    will_be = update.after(current)
    before, after = (leaves(record, kind.named_items) for record in (current, will_be))
    gone = {path for path in before if path not in after and not gives_way(path, after)}
    # A named item may stay and lose its value.
    gone |= {path for path, value in before.items() if not is_unset(value) and is_unset(after.get(path, value))}
    # An object of nothing but empty values is still there while any object is in its place.
    gone -= {path for path in gone if path[-1] == "{}" and isinstance(at(will_be, path[:-1]), dict)}
    losses = update.find_losses(Situation(current=current))
    hidden = tuple(update.find_hidden_losses(Situation(current=current)))
    found = [loss for loss in losses if loss not in hidden]
    given_members = {path[0] for path in kind.strategy.changes(update, update.given_members())}
    overwritten = {
        path
        for path, value in before.items()
        if path[0] not in given_members and path not in gone and after.get(path, value) != value
    }
    assert {path for path in before if covered(path, losses)} - {path for path in before if covered(path, hidden)} == {
        path for path in gone | overwritten if not covered(path, hidden)
    }
    assert all(any(path[: len(loss.path)] == loss.path for path in before) for loss in found)
    assert len({loss.path for loss in found}) == len(found)


@pytest.mark.parametrize("name", UPDATES)
@settings(max_examples=6 * THOROUGH, deadline=None)
@given(data=st.data())
def test_the_plan_says_what_the_target_will_be(name: str, data: st.DataObject) -> None:
    kind = UPDATES[name]
    update = kind.model_validate(data.draw(arguments(kind), "arguments"))
    current = data.draw(records(kind), "current")
    untouched = repr(current)
    after = update.after(current)
    for path, value in update.plan_changes(Situation(current=current)).items():
        assert without_vacant(value) == without_vacant(at(after, path))
    assert repr(current) == untouched


@pytest.mark.parametrize("name", UPDATES)
@settings(max_examples=3 * THOROUGH, deadline=None)
@given(data=st.data())
def test_without_the_target_nothing_is_lost_and_the_plan_still_holds(name: str, data: st.DataObject) -> None:
    kind = UPDATES[name]
    update = kind.model_validate(data.draw(arguments(kind), "arguments"))
    for current in (None, [], "text"):
        assert update.find_losses(Situation(current=current)) == tuple(
            update.find_hidden_losses(Situation(current=current))
        )
        update.plan_changes(Situation(current=current))


def test_every_operation_that_updates_declares_a_strategy() -> None:
    # What changes a state and sends no member, such as a start, has nothing to merge or to replace.
    changing = {
        name for name, kind in catalog().items() if kind.on and kind.effect is Effect.UPDATE and kind.sent_in("body")
    }
    assert changing - set(UPDATES) == OF_WHAT_NO_READ_SHOWS
    assert all(kind.strategy for kind in UPDATES.values())


def test_false_and_zero_are_values():
    assert not is_vacant(False)
    assert not is_vacant(0)
    assert not is_vacant({"a": ["", 0]})
    assert is_vacant({"a": [None, {"b": ""}], "c": {}})


@settings(max_examples=40, deadline=None)
@given(OBJECTS)
def test_merging_nothing_changes_nothing(stored: dict[str, Any]):
    assert merge(stored, {}) == stored


@settings(max_examples=80, deadline=None)
@given(OBJECTS, OBJECTS)
def test_a_merge_keeps_what_is_not_given(stored: dict[str, Any], change: dict[str, Any]):
    merged = merge(stored, change)
    assert all(merged[key] == value for key, value in stored.items() if key not in change)


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        ({"a": "x"}, {}, [(("a",), "x", False)]),
        ({"a": "x"}, {"a": {"b": ""}}, [(("a",), "x", False)]),
        ({"a": {"b": "x"}}, {"a": {"b": [""]}}, [(("a", "b"), "x", False)]),
        ({"a": {"b": "x"}}, {"a": ["y"]}, [(("a",), {"b": "x"}, False)]),
        ({"a": ["x"]}, {"a": {"b": "y"}}, [(("a",), ["x"], False)]),
        ({"a": ["x"]}, {"a": "y"}, [(("a",), ["x"], False)]),
        ({"a": ["x", "y"]}, {"a": ["x"]}, [(("a",), ["x", "y"], True)]),
        ({"a": "x"}, {"a": False}, [(("a",), "x", True)]),
        ({"a.b": "x"}, {"a": {"b": "x"}}, [(("a.b",), "x", False)]),
        ({"a": "", "b": [], "c": {"d": None}}, {}, []),
        ({"a": {"b": ""}}, {}, [(("a",), {"b": ""}, False)]),
        ({"a": [""]}, {"a": []}, [(("a",), [""], False)]),
        ({"a": {"b": [{}]}}, {"a": {}}, [(("a", "b"), [{}], False)]),
    ],
)
def test_a_member_is_gone_when_nothing_of_its_kind_is_there_after(before: Any, after: Any, found: Any) -> None:
    assert list(differences(before, after, {})) == found


def test_named_items_that_repeat_or_lack_a_name_are_told_apart() -> None:
    stored = [{"name": "region", "value": "eu"}, {"name": "region", "value": "us"}, {"value": "x"}, "odd"]
    assert NamedItems(("name",), value="value").as_map(stored) == {
        "region": "eu",
        "region (2)": "us",
        "[2]": "x",
        "[3]": "odd",
    }


BY_KEYS = {
    "anyOf": [
        {"type": "object", "properties": {"html": {}, "subject": {}}, "required": ["html"]},
        {"type": "object", "properties": {"template": {}, "subject": {}}, "required": ["template"]},
    ]
}
BY_TYPE = {
    "oneOf": [
        {"type": "string"},
        {"type": "object", "properties": {"type": {"const": "login"}, "user": {}, "pass": {}}},
        {"type": "object", "properties": {"type": {"enum": ["oauth2", "OAuth2"]}, "user": {}, "key": {}}},
    ]
}
ALTERNATIVES = {
    "type": "object",
    "properties": {"auth": BY_TYPE, "sent": {"type": "object", "additionalProperties": BY_KEYS}},
}


@pytest.mark.parametrize(
    ("stored", "given_value", "merged"),
    [
        ({"template": "t", "subject": "s"}, {"html": "h"}, {"html": "h"}),
        ({"template": "t", "subject": "s"}, {"subject": "new"}, {"template": "t", "subject": "new"}),
        ({"template": "t", "subject": "s"}, {"html": "h", "template": None}, {"html": "h", "subject": "s"}),
        ({"template": "t", "own": 1}, {"subject": "s"}, {"template": "t", "own": 1, "subject": "s"}),
        ({}, {"html": "h"}, {"html": "h"}),
        ("text", {"html": "h"}, {"html": "h"}),
    ],
)
def test_members_of_two_alternatives_are_never_mixed(stored: Any, given_value: Any, merged: Any) -> None:
    before = {"sent": {"Generic": stored, "SignIn": {"html": "kept"}}, "name": "n"}
    after = merge(before, {"sent": {"Generic": given_value}}, ALTERNATIVES)
    assert after == {"sent": {"Generic": merged, "SignIn": {"html": "kept"}}, "name": "n"}


def test_an_alternative_is_told_by_the_value_of_a_member_too() -> None:
    before = {"auth": {"type": "login", "user": "u", "pass": "p"}}
    assert merge(before, {"auth": {"type": "OAuth2", "key": "k"}}, ALTERNATIVES) == {
        "auth": {"type": "OAuth2", "key": "k"}
    }
    assert merge(before, {"auth": {"user": "new"}}, ALTERNATIVES) == {"auth": before["auth"] | {"user": "new"}}
