"""What holds for the config of every Logto factory and of every Vectorize type that can be created."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from itertools import islice
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connector_mcp.engine.secret_refs.resolver import scan_arguments
from connector_mcp.errors import Issue
from connector_mcp.json_values import is_array, is_object
from connector_mcp.operations.connector_types import ConnectorType, connector_type, connector_types, example
from connector_mcp.operations.logto.connectors import CreateConnector, UpdateConnector
from connector_mcp.operations.logto.sso_connectors import CreateSsoConnector, UpdateSsoConnector
from connector_mcp.operations.logto.use import CreateConnectorTest
from connector_mcp.operations.operation import Operation
from connector_mcp.operations.situation import Situation
from connector_mcp.operations.update import without_vacant
from connector_mcp.operations.vectorize.ai_platform_connectors import (
    CreateAiPlatformConnector,
    UpdateAiPlatformConnector,
)
from connector_mcp.operations.vectorize.connectors import ConnectorUpdate
from connector_mcp.operations.vectorize.destination_connectors import (
    CreateDestinationConnector,
    UpdateDestinationConnector,
)
from connector_mcp.operations.vectorize.pipelines import CreatePipeline
from connector_mcp.operations.vectorize.source_connectors import CreateSourceConnector, UpdateSourceConnector
from tests.operations.hooks import issues

Steps = tuple[str | int, ...]

KEY_FILE = json.dumps(
    {
        "type": "service_account",
        "client_email": "robot@acme.iam.gserviceaccount.com",
        "private_key": "-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\n",
    }
)
WORDS = re.compile(r"[A-Za-z]{4,30}(-[A-Za-z]+)*")
LOGTO = [kind for kind in connector_types("logto").values() if kind.creatable and kind.kind != "SSO"]
SSO = [kind for kind in connector_types("logto").values() if kind.kind == "SSO"]
VECTORIZE = [
    kind
    for kind in connector_types("vectorize").values()
    if kind.creatable and kind.traits.get("takes_config_on_create", True) and kind.config["properties"]
]
VECTORIZE_CALLS: dict[str, tuple[type[Operation], type[ConnectorUpdate]]] = {
    "source": (CreateSourceConnector, UpdateSourceConnector),
    "destination": (CreateDestinationConnector, UpdateDestinationConnector),
    "AI platform": (CreateAiPlatformConnector, UpdateAiPlatformConnector),
}
IN_PIPELINE = " in a pipeline"
PIPELINE_PART = {
    f"{kind}{IN_PIPELINE}": path
    for kind, path in [
        ("source", "source_connectors[0]"), ("destination", "destination_connector"),
        ("AI platform", "ai_platform_connector"), ("built-in", "ai_platform_connector"),
    ]
}  # fmt: skip
PIPELINES = [
    replace(kind, type=kind.type + IN_PIPELINE, kind=kind.kind + IN_PIPELINE, config=kind.traits["pipeline_config"])
    for kind in connector_types("vectorize").values()
]
named = {"ids": lambda kind: kind.type}
every_type = pytest.mark.parametrize("kind", [*LOGTO, *SSO, *VECTORIZE, *PIPELINES], **named)
every_factory = pytest.mark.parametrize("kind", LOGTO, **named)


def filled(value: Any, key: str = "") -> Any:
    """The example without placeholders."""
    if is_object(value):
        return {name: filled(member, name) for name, member in value.items()}
    if is_array(value):
        return [filled(item, key) for item in value]
    if key == "service-account-json":
        return KEY_FILE
    return "value-1" if isinstance(value, str) and value.startswith("<") and not value.startswith("<p>") else value


def config_of(kind: ConnectorType) -> Any:
    """A valid config with all members that its schema describes in detail."""
    config = filled(example(kind.config))
    if kind.type == "VERTEX":
        config["key"] = KEY_FILE
    for key, member in kind.config["properties"].items():
        if key not in config and (member.get("properties") or member.get("anyOf")):
            whole = {name: filled(example(part), name) for name, part in member.get("properties", {}).items()}
            config[key] = whole or filled(example(member), key)
    return config


def calls(kind: ConnectorType, config: Any) -> Iterator[tuple[Operation, Situation, str]]:
    """The calls that take a whole config of this type, and the path of the config in each."""
    if kind.platform == "vectorize":
        if (path := PIPELINE_PART.get(kind.kind)) is not None:
            yield pipeline(path, kind.type.removesuffix(IN_PIPELINE), config), Situation(), f"{path}.config"
            return
        creation, change = VECTORIZE_CALLS[kind.kind]
        connector = {"name": "Docs", "type": kind.type, "config": config}
        create = creation.model_validate({"organization_id": "org", "connectors": [connector]})
        yield create, Situation(), "connectors[0].config"
        update = change.model_validate({"organization_id": "org", change.id_argument: "src", "config": config})
        yield update, Situation({"id": "src", "type": kind.type, "configDoc": {}}), "config"
        return
    if kind.kind == "SSO":
        given = {"provider_name": kind.type, "connector_name": "Acme", "config": config}
        yield CreateSsoConnector.model_validate(given), Situation(), "config"
        stored = {"id": "c", "providerName": kind.type, "config": {}, "branding": {}}
        yield UpdateSsoConnector(id="c", config=config), Situation(stored), "config"
        return
    metadata = {"metadata": {"target": "acme"}} if kind.traits["isStandard"] else {}
    given = {"connector_id": kind.type, "config": config, **metadata}
    described = {"id": kind.type, "type": kind.kind}
    yield CreateConnector.model_validate(given), Situation(described=described), "config"
    if kind.kind != "Social":
        recipient = {"phone": "49170"} if kind.kind == "Sms" else {"email": "a@example.com"}
        test = CreateConnectorTest.model_validate({"factory_id": kind.type, "config": config, **recipient})
        yield test, Situation(described=described), "config"


def pipeline(path: str, type_id: str, config: Any) -> CreatePipeline:
    """A pipeline in which this config is the one at a path, and all else is right."""
    given: dict[str, Any] = {"organization_id": "org", **deepcopy(CreatePipeline.example)}
    part = {"id": "c", "type": type_id, "config": config}
    member = path.removesuffix("[0]")
    given[member] = [part] if member != path else part
    return CreatePipeline.model_validate(given)


def refusals(kind: ConnectorType, config: Any) -> Iterator[dict[str, Issue]]:
    """What each call refuses, by the path inside of the config."""
    for call, situation, path in calls(kind, config):
        yield {issue.path.removeprefix(path).lstrip("."): issue for issue in issues(call, situation)}


def update_issues(kind: ConnectorType, stored: Any, given: Any) -> list[str]:
    current = {"id": "c", "connectorId": kind.type, "type": kind.kind, "config": stored, "metadata": {}}
    return [issue.path for issue in issues(UpdateConnector(id="c", config=given), Situation(current))]


def merged(kind: ConnectorType, stored: Any, given: Any) -> Any:
    current = {"id": "c", "connectorId": kind.type, "type": kind.kind, "config": stored, "metadata": {}}
    return UpdateConnector(id="c", config=given).complete_members(current)["config"]


def objects(schema: Any, value: Any, steps: Steps = ()) -> Iterator[tuple[Steps, Any]]:
    """Every object of a config with the schema that describes it; of alternatives the one that it fits."""
    for branch in schema.get("anyOf", ()):
        if is_object(value) and set(value) <= set(branch.get("properties", ())):
            yield from objects(branch, value, steps)
            return
    if is_object(value):
        yield steps, schema
        for key, member in value.items():
            inner = schema.get("properties", {}).get(key, schema.get("additionalProperties"))
            yield from objects(inner if is_object(inner) else {}, member, (*steps, key))
    elif is_array(value):
        # The items of a list have one schema: the first of them is enough.
        for item in value[:1]:
            yield from objects(schema.get("items", {}), item, (*steps, 0))


def at(value: Any, steps: Steps) -> Any:
    for step in steps:
        value = value[step]
    return value


def path_of(steps: Steps) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps).lstrip(".")


@every_type
def test_a_valid_config_is_taken(kind: ConnectorType) -> None:
    assert [refused for refused in refusals(kind, config_of(kind)) if refused] == []


@every_type
def test_a_required_member_that_is_left_out_or_empty_is_named_at_any_depth(kind: ConnectorType) -> None:
    whole = config_of(kind)
    # A pipeline may take no page of Notion, or no database; what Firecrawl is asked is its own matter.
    empties: list[Any] = [] if kind.type in ("NOTION in a pipeline", "FIRECRAWL in a pipeline") else ["", {"a": [""]}]
    for steps, schema in objects(kind.config, whole):
        for key in schema.get("required", ()):
            for empty in (None, *empties):
                config = deepcopy(whole)
                at(config, steps)[key] = empty
                if empty is None:
                    del at(config, steps)[key]
                for refused in islice(refusals(kind, config), None if empty is None else 1):
                    wanted = (path_of((*steps, key)), *path_of(steps).split("[")[:1], key)
                    assert any(path.startswith(place) for path in refused for place in wanted if place), (
                        path_of((*steps, key)), empty, list(refused),
                    )  # fmt: skip


@every_type
def test_an_unknown_key_is_refused_at_any_depth_with_the_nearest_one(kind: ConnectorType) -> None:
    whole = config_of(kind)
    for steps, schema in objects(kind.config, whole):
        # Of a key that looks like no word an error shows nothing. The options of TLS are passed on as they are.
        names = [name for name in schema.get("properties", ()) if WORDS.fullmatch(name) and steps != ("tls",)]
        for name in names[:3]:
            config, wrong = deepcopy(whole), f"{name}x"
            at(config, steps)[wrong] = at(config, steps).pop(name, "value-1")
            for refused in refusals(kind, config):
                issue = refused[path_of((*steps, wrong))]
                assert issue.got == "an unknown key"
                assert issue.wanted.startswith(f"{name} (closest match)")


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
        assert call.find_problems(Situation()) == ()
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


@every_type
def test_what_only_looks_like_a_mask_is_taken_where_no_secret_belongs(kind: ConnectorType) -> None:
    for text in ("*", "**", "...", "{{code}}", "${name}", "hidden", "*.pdf", "a **** b", "<p>Hi</p>"):
        whole = {**config_of(kind), "undescribed": {"list": [text]}}
        for call, situation, _ in calls(kind, whole):
            found = scan_arguments(call, call.find_configs(situation), target_known=True)
            assert [issue.path for issue in found.issues] == []
        if kind in LOGTO:
            assert "config.undescribed.list[0]" not in update_issues(kind, whole, {})
