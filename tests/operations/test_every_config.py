"""What holds for the config of every connector type of every platform, in every call that takes a whole one."""

from __future__ import annotations

import re
from copy import deepcopy
from itertools import islice
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connector_mcp.engine.secret_refs.resolver import scan_arguments
from connector_mcp.json_values import is_object
from connector_mcp.operations.connector_types import ConnectorType, connector_type
from connector_mcp.operations.logto.connectors import UpdateConnector
from connector_mcp.operations.situation import Situation
from connector_mcp.operations.update import without_vacant
from tests.for_each import for_each
from tests.operations.configs import (
    CATALOG,
    LOGTO,
    PIPELINES,
    SELECTIONS,
    SSO,
    VECTORIZE,
    VERSORI,
    Steps,
    at,
    calls,
    config_of,
    objects,
    path_of,
    refusals,
    variants,
)
from tests.operations.hooks import issues

WORDS = re.compile(r"[A-Za-z]{4,30}(-[A-Za-z]+)*")
EVERY = [*LOGTO, *SSO, *VECTORIZE, *PIPELINES, *SELECTIONS, *VERSORI, *CATALOG]
named = {"ids": lambda kind: kind.type}
every_kind = for_each("kind", EVERY, **named)
every_factory = for_each("kind", LOGTO, **named)
TYPE_WORDS = {
    "string": "a string",
    "boolean": "true or false",
    "object": "an object",
    "array": "an array",
    "number": "a number|an integer",
}
SAMPLES: dict[str, Any] = {"string": "text", "number": 7, "boolean": True, "array": ["x"], "object": {"x": "y"}}


def update_issues(kind: ConnectorType, stored: Any, given: Any) -> list[str]:
    current = {"id": "c", "connectorId": kind.type, "type": kind.kind, "config": stored, "metadata": {}}
    return [issue.path for issue in issues(UpdateConnector(id="c", config=given), Situation(current))]


def merged(kind: ConnectorType, stored: Any, given: Any) -> Any:
    current = {"id": "c", "connectorId": kind.type, "type": kind.kind, "config": stored, "metadata": {}}
    return UpdateConnector(id="c", config=given).complete_members(current)["config"]


@every_kind
def test_a_valid_config_is_taken(kind: ConnectorType) -> None:
    for config in variants(kind):
        assert [refused for refused in refusals(kind, config) if refused] == []


@every_kind
def test_a_required_member_that_is_left_out_or_empty_is_named_at_any_depth(kind: ConnectorType) -> None:
    # A pipeline may take no page of Notion, or no database; what Firecrawl is asked is its own matter. Versori takes
    # empty values.
    takes_empty = kind.type in ("NOTION in a pipeline", "FIRECRAWL in a pipeline") or kind.platform == "versori"
    for whole in variants(kind):
        for steps, schema in objects(kind.config, whole):
            for key in schema.get("required", ()):
                for empty in [None] if takes_empty else [None, "", {"a": [""]}]:
                    config = deepcopy(whole)
                    at(config, steps)[key] = empty
                    if empty is None:
                        del at(config, steps)[key]
                    for refused in islice(refusals(kind, config), None if empty is None else 1):
                        place = path_of((*steps, key))
                        wanted = (place, *path_of(steps).split("[")[:1], key) if empty is not None else (place,)
                        named = [path for path in refused if any(path.startswith(each) for each in wanted if each)]
                        assert named, (place, empty, list(refused))
                        assert empty is not None or refused[place].got == "nothing"
                        assert all(refused[path].wanted for path in named)


def kinds_of(schema: Any) -> set[str]:
    """The kinds of values that a schema takes. Of any schema that takes all, no kind is wrong."""
    own = {"integer": "number"}.get(schema.get("type"), schema.get("type"))
    return {own or "any"} if "anyOf" not in schema else {kind for each in schema["anyOf"] for kind in kinds_of(each)}


@every_kind
def test_a_value_of_another_type_is_named_at_any_depth_with_what_is_wanted(kind: ConnectorType) -> None:
    number = 0
    for whole in variants(kind):
        for steps, schema in objects(kind.config, whole):
            for key, member in schema.get("properties", {}).items():
                taken = kinds_of(member)
                # A list of texts may be given to ConductorOne as one text.
                taken |= {"string"} if kind.platform == "conductorone" and "array" in taken else set()
                others = [sample for name, sample in SAMPLES.items() if not taken & {name, "any"}]
                if not others:
                    continue
                config, number = deepcopy(whole), number + 1
                at(config, steps)[key] = others[number % len(others)]
                place = path_of((*steps, key))
                (first, *_) = refusals(kind, config)
                assert place in first, (place, list(first))
                fixed = member.get("enum") or ([member["const"]] if "const" in member else [])
                words = [str(fixed[0])] if fixed else [TYPE_WORDS[each] for each in kinds_of(member)]
                assert any(re.search(word, first[place].wanted) for word in words), first[place]


@every_kind
def test_an_unknown_key_is_refused_at_any_depth_with_the_nearest_one(kind: ConnectorType) -> None:
    for whole in variants(kind):
        for steps, schema in objects(kind.config, whole):
            if schema.get("additionalProperties", True) is not False:
                continue
            # Of a key that looks like no word an error shows nothing.
            names = [name for name in schema.get("properties", ()) if WORDS.fullmatch(name)][:2]
            for name, wrong in [("", "noSuchKey"), *((name, f"{name}x") for name in names)]:
                config = deepcopy(whole)
                # Without the word that chooses one of several types, no type is known.
                is_fixed = schema.get("properties", {}).get(name, {}).keys() & {"const", "enum"}
                at(config, steps)[wrong] = "value-1" if is_fixed else at(config, steps).pop(name, "value-1")
                for refused in refusals(kind, config):
                    issue = refused[path_of((*steps, wrong))]
                    assert issue.got == "an unknown key"
                    assert re.match(rf"{name} \(closest match\)" if name else r"\w", issue.wanted)


@every_factory
def test_an_update_refuses_to_empty_a_required_member_or_to_add_an_unknown_one(kind: ConnectorType) -> None:
    stored = config_of(kind)
    for steps, schema in objects(kind.config, stored):
        if any(isinstance(step, int) for step in steps):
            continue
        for change in [*schema.get("required", ()), "no-such-key"]:
            if change == "no-such-key" and (steps == ("tls",) or not schema.get("properties")):
                continue
            for value in ("", None, {}) if change != "no-such-key" else ("", "value-1"):
                given: Any = {change: value}
                for step in reversed(steps):
                    given = {step: given}
                assert update_issues(kind, stored, given) != [], (kind.type, given)


SMTP, MAILGUN = "simple-mail-transfer-protocol", "mailgun-email"
FORMS: dict[tuple[str, str], dict[str, Any]] = {
    (SMTP, "auth"): {
        "login": {"type": "login", "user": "u", "pass": "p-stored"},
        "account": {"type": "oauth2", "user": "u", "privateKey": "k", "serviceClient": "c"},
        "account with passphrase": {
            "type": "oauth2", "user": "u", "privateKey": {"key": "k", "passphrase": "p"}, "serviceClient": "c",
        },
        "token": {"type": "oauth2", "user": "u", "clientId": "i", "clientSecret": "s", "refreshToken": "r"},
    },
    (MAILGUN, "deliveries.Generic"): {
        "html": {"html": "<p>{{code}}</p>", "text": "{{code}}", "subject": "Code"},
        "template": {"template": "otp", "variables": {"brand": "Acme"}, "subject": "Code"},
    },
}  # fmt: skip
SWITCHES = [(place, old, new) for place, forms in FORMS.items() for old in forms for new in forms if old != new]


@pytest.mark.parametrize(("place", "old", "new"), SWITCHES)
def test_another_alternative_replaces_the_stored_one_whole_or_is_refused(
    place: tuple[str, str], old: str, new: str
) -> None:
    """Whichever members of the other alternative are given, and in an update nothing of two is ever mixed."""
    type_id, path = place
    kind = connector_type("logto", type_id)
    assert kind is not None
    stored, keys = config_of(kind), path.split(".")
    at(stored, tuple(keys[:-1]))[keys[-1]] = FORMS[place][old]
    target = FORMS[place][new]
    for left_out in (None, *target):
        given: Any = {key: value for key, value in target.items() if key != left_out}
        for step in reversed(keys):
            given = {step: given}
        will_be = at(without_vacant(merged(kind, stored, given)), tuple(keys))
        if update_issues(kind, stored, given) == []:
            fitting = [form for form in FORMS[place].values() if set(will_be) <= set(form)]
            assert fitting, will_be
            if left_out is None:
                assert will_be == target
        else:
            assert left_out is not None, "the whole alternative is taken"


@every_factory
def test_what_the_form_of_the_platform_has_is_taken(kind: ConnectorType) -> None:
    """The shipped types are a snapshot: the form that the platform gives for a factory has the last word."""
    config = {**config_of(kind), "newKey": "value-1"}
    form = [{"key": key, "type": "Json", "label": key, "required": True} for key in config]
    described = {"id": kind.type, "type": kind.kind, "formItems": form}
    for call, situation, _ in calls(kind, config):
        assert call.type_read() is not None
        assert list(call.find_problems(Situation())) == []
        assert issues(call, Situation(situation.current, described=described)) == []
        refused = issues(call, Situation(situation.current, described={}))
        assert [issue.path for issue in refused] == ["config.newKey"]
    without: Any = {key: value for key, value in config.items() if key != "newKey"}
    for call, _, _ in calls(kind, without):
        assert call.type_read() is None, "what is shipped needs no further read"
    current = {"id": "c", "connectorId": kind.type, "type": kind.kind, "config": without, "metadata": {}}
    change = UpdateConnector(id="c", config={"newKey": "value-2"})
    assert issues(change, Situation({**current, "formItems": form})) == []
    assert [issue.path for issue in issues(change, Situation(current))] == ["config.newKey"]


def with_text(value: Any, steps: Steps, text: str) -> Any:
    """The value with a text at the end of the steps, through objects and lists that it may not have yet."""
    if not steps:
        return text
    step, rest = steps[0], steps[1:]
    if isinstance(step, int):
        return [*([{}] * step), with_text(None, rest, text)]
    held = value if is_object(value) else {}
    return {**held, step: with_text(held.get(step), rest, text)}


MASKS = st.one_of(
    st.builds(
        lambda dot, count, end: dot * count + end, st.sampled_from("*\u2022\u25cf"), st.integers(4, 20), st.just("")
    ),
    st.sampled_from(["[redacted]", "<redacted>", "(hidden)", "****1234", "<client-secret>", "<authorization>"]),
)
PLACES = st.lists(st.one_of(st.sampled_from(["own", "extra", "nested"]), st.integers(0, 2)), min_size=1, max_size=5)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(kind=st.sampled_from([*LOGTO, *VECTORIZE]), inner=PLACES, mask=MASKS)
def test_a_mask_is_found_at_every_depth_of_every_config(kind: ConnectorType, inner: list[Any], mask: str) -> None:
    """In what is given, on every platform, and in what Logto shows and an update would write back."""
    place: Steps = ("undescribed", *inner)
    whole = with_text(config_of(kind), place, mask)
    for call, situation, path in calls(kind, whole):
        found = scan_arguments(call, call.find_configs(situation), target_known=True)
        assert f"{path}.{path_of(place)}" in [issue.path for issue in found.issues]
    if kind in LOGTO:
        other = next(iter(config_of(kind)), "clientId")
        refused = update_issues(kind, whole, {other: config_of(kind).get(other, "x")})
        assert f"config.{path_of(place)}" in refused
        assert f"config.{path_of(place)}" not in update_issues(kind, whole, {"undescribed": "the value"})


@every_kind
def test_what_only_looks_like_a_mask_is_taken_where_no_secret_belongs(kind: ConnectorType) -> None:
    for text in ("*", "**", "...", "{{code}}", "${name}", "hidden", "*.pdf", "a **** b", "<p>Hi</p>"):
        whole = {**config_of(kind), "undescribed": {"list": [text]}}
        for call, situation, _ in calls(kind, whole):
            found = scan_arguments(call, call.find_configs(situation), target_known=True)
            assert [issue.path for issue in found.issues] == []
        if kind in LOGTO:
            assert "config.undescribed.list[0]" not in update_issues(kind, whole, {})
