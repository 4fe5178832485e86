"""Redaction comes to the same as its rules do one after the other, on any JSON and for every connector type."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from random import Random
from typing import Annotated, Any

import pytest

from connector_mcp.engine.redaction.redactor import (
    by_name,
    redact_arguments,
    redact_config,
    redact_record,
    secret_values,
)
from connector_mcp.engine.secret_refs.secret_references import look_for_credentials
from connector_mcp.json_values import JsonObject
from connector_mcp.operations.catalog import PLATFORMS, platform_folder
from connector_mcp.operations.connector_types import connector_types
from connector_mcp.operations.operation import (
    POST,
    SECRET,
    ConfigUse,
    Effect,
    Operation,
    Record,
    Situation,
)
from connector_mcp.operations.platform import Platform
from connector_mcp.secrets.reference import key_format, mentions_reference
from tests.engine import slow_redaction as slow
from tests.engine.redaction import STORED, by_schema

every_platform = pytest.mark.parametrize("name", PLATFORMS)


def platform_of(name: str) -> Platform:
    return platform_folder(name).platform


# Keys and texts that the rules are about, and those that only look so.
KEYS = """
password apiKey token nextToken tokens credentials credential auth basicAuth data value name key id type accessKeyId url
config configDoc configuration credential.data @type connections items stringValue
""".split()  # noqa: SIM905 - one line, not one a word
TEXTS = [
    "",
    "plain",
    "apiKey",
    "Authorization",
    "[redacted]",
    "secret://NAME",
    "secret://not a name",
    "https://example.com/a:b@c",
    "https://user:pass@example.com",
    "://:x@",
    "-----BEGIN RSA PRIVATE KEY-----\nMIIE",
    "-----BEGIN CERTIFICATE-----",
    "AKIA" + "ABCDEFGHIJKLMNOP",
    "[not json",
    "{{template}}",
    "\u00a0{}",
    " \u2003[1]",
    "\ufeff{}",
    "[" * 2_000,
]


class Maker:
    """Makes JSON out of chance: a thousand values in the time that a strategy takes for one schema."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)

    def one_of(self, choices: Sequence[Any]) -> Any:
        return self._random.choice(choices)

    def happens(self, share: float) -> bool:
        return self._random.random() < share

    def scalar(self) -> Any:
        return self.one_of([None, True, False, 0, 7, -1, 0.5, *TEXTS, *TEXTS])

    def json(self, keys: Sequence[str] = KEYS, depth: int = 3) -> Any:
        """Any JSON, and in it texts that are JSON again."""
        form = "scalar" if depth == 0 else self.one_of(["scalar", "scalar", "list", "object", "object", "text"])
        match form:
            case "list":
                return [self.json(keys, depth - 1) for _ in range(self._random.randrange(4))]
            case "object":
                return self.members(keys, depth)
            case "text":
                return self.one_of(["", " ", "\n\t", "\u00a0"]) + json.dumps(self.json(keys, depth - 1))
            case _:
                return self.scalar()

    def members(self, keys: Sequence[str] = KEYS, depth: int = 3) -> JsonObject:
        return {self.one_of(keys): self.json(keys, depth - 1) for _ in range(self._random.randrange(5))}

    def following(self, schema: Mapping[str, Any], keys: Sequence[str] = ()) -> Any:
        """JSON that goes along with a schema for a while, and then its own way."""
        keys = keys or [*KEYS, *named(schema)]
        properties, others, items = schema.get("properties"), schema.get("additionalProperties"), schema.get("items")
        branches = [branch for word in ("anyOf", "oneOf", "allOf") for branch in schema.get(word, ())]
        if self.happens(0.15):
            return self.json(keys)
        if branches and self.happens(0.7):
            return self.following(self.one_of(branches), keys)
        if isinstance(items, dict) and self.happens(0.7):
            return [self.following(items, keys) for _ in range(self._random.randrange(3))]
        made = self.members(keys, 2) if self.happens(0.3) else {}
        if isinstance(others, dict):
            made |= {self.one_of(keys): self.following(others, keys) for _ in range(2)}
        if properties:
            made |= {key: self.following(inner, keys) for key, inner in properties.items() if self.happens(0.6)}
        return made if made or schema.get("type") == "object" else self.json(keys, 1)

    def schema(self, depth: int = 3) -> JsonObject:
        """Any schema, as far as redaction reads it."""
        made: JsonObject = {}
        if self.happens(0.4):
            made["type"] = self.one_of(["object", "array", "string"])
        if self.happens(0.2):
            made["writeOnly"] = self.happens(0.8)
        if depth:
            if self.happens(0.5):
                made["properties"] = {
                    self.one_of(KEYS): self.schema(depth - 1) for _ in range(self._random.randrange(4))
                }
            for word in ("additionalProperties", "items"):
                if self.happens(0.3):
                    made[word] = self.one_of([True, False, self.schema(depth - 1), self.schema(depth - 1)])
            for word in ("anyOf", "oneOf", "allOf"):
                if self.happens(0.2):
                    made[word] = [self.schema(depth - 1) for _ in range(self._random.randrange(3))]
        return made


def named(schema: Mapping[str, Any]) -> Iterator[str]:
    """Every key that a schema names, however deep."""
    for key, member in schema.get("properties", {}).items():
        yield key
        yield from named(member)
    for word in ("anyOf", "oneOf", "allOf"):
        for branch in schema.get(word, ()):
            yield from named(branch)
    for word in ("items", "additionalProperties"):
        if isinstance(schema.get(word), dict):
            yield from named(schema[word])


@every_platform
def test_by_name_any_json_shows_what_the_rules_show(name: str) -> None:
    maker = Maker(1)
    for _ in range(1_000):
        value = maker.json()
        before = copy.deepcopy(value)
        shown = by_name(value, platform_of(name))
        assert shown == slow.by_name(before, platform_of(name))
        assert value == before


def test_by_any_schema_any_json_shows_what_the_rules_show() -> None:
    maker, platform = Maker(2), platform_of("logto")
    for _ in range(2_000):
        schema, strict = maker.schema(), maker.happens(0.5)
        value = maker.following(schema)
        before = copy.deepcopy(value)
        shown = by_schema(value, schema, platform, strict=strict)
        assert shown == slow.by_schema(before, schema, platform, strict), schema
        assert value == before


@every_platform
def test_by_the_schema_of_every_type_a_config_shows_what_the_rules_show(name: str) -> None:
    maker, platform = Maker(3), platform_of(name)
    for kind in connector_types(name).values():
        for strict in (False, True) * 4:
            config = maker.following(kind.config)
            before = copy.deepcopy(config)
            expected = slow.redact_config(before, kind, platform, strict=strict)
            assert redact_config(config, kind, platform, strict=strict) == expected, kind.type
            assert config == before


@every_platform
def test_a_record_of_every_type_shows_what_the_rules_show(name: str) -> None:
    maker, platform, stored = Maker(4), platform_of(name), STORED[name]
    for kind in [kind for kind in connector_types(name).values() for _ in range(6)]:
        member: Any = maker.following(kind.config)
        for step in reversed(stored.steps):
            # Now and then something else stands where the config does, or where it would be in.
            member = {**maker.members(depth=1), step: member if maker.happens(0.9) else maker.json()}
        record = {**maker.members(), **member, stored.type_at: maker.one_of([kind.type, kind.type, "OTHER", 5])}
        before = copy.deepcopy(record)
        expected = slow.redact_record(before, stored, platform)
        assert redact_record(record, stored, platform) == expected
        assert redact_record([record, 5, "x"], stored, platform) == [expected, 5, "x"]
        chosen = {key: record[key] for key in record if maker.happens(0.5)}
        shown = redact_record(record, stored, platform, chosen=chosen)
        # A value is judged by the label beside it, and so only where both are chosen.
        assert {**shown, "value": 0} == {**{key: expected[key] for key in chosen}, "value": 0}
        assert ("value" in shown, record) == ("value" in chosen, before)


class Call(Operation):
    """A call with arguments of every kind."""

    on = platform_of("versori")
    http = POST("/calls")
    effect = Effect.CREATE
    output = Record

    config: Any = None
    refresh_token: Annotated[Any, SECRET] = None
    credential: Any = None
    label: Any = None


def arguments_of(maker: Maker) -> JsonObject:
    return {key: maker.json(depth=2) for key in Call.model_fields if maker.happens(0.4)}


def plainly_shown(arguments: JsonObject) -> JsonObject:
    return {
        key: slow.hide(value) if key == "refresh_token" else slow.member_by_name(key, value, Call.on, key)
        for key, value in arguments.items()
    }


def texts(value: Any) -> Iterator[str]:
    """Every text in a JSON value, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, member in value.items():
            yield key
            yield from texts(member)
    elif isinstance(value, list):
        for member in value:
            yield from texts(member)


def test_arguments_are_clean_where_the_rules_find_nothing_in_them_and_nowhere_else() -> None:
    maker, clean = Maker(5), 0
    for _ in range(1_500):
        arguments = arguments_of(maker)
        operation, expected = Call(**arguments), plainly_shown(arguments)
        assert redact_arguments(operation, ()) == expected
        found = look_for_credentials(operation, Situation(), settled=True)
        assert found.shown == expected
        plain = expected == arguments and "refresh_token" not in arguments
        mentions = any(mentions_reference(text) or key_format(text) for text in texts(arguments))
        assert not found.is_clean or (plain and not mentions)
        if found.is_clean:
            clean += 1
            assert secret_values(operation, ()) == set()
    assert clean > 300


@every_platform
def test_arguments_with_a_config_of_every_type_show_what_the_rules_show(name: str) -> None:
    maker = Maker(6)
    for kind in [None, *connector_types(name).values()] * 2:
        config = maker.following(kind.config if kind else {})
        arguments = {**arguments_of(maker), "config": config}
        operation, before = Call(**arguments), copy.deepcopy(arguments)
        shown = redact_arguments(operation, [ConfigUse("config", kind.type if kind else None, kind, config)])
        assert shown == plainly_shown(before) | {"config": slow.redact_config(config, kind, Call.on, strict=True)}
        assert operation.model_dump(exclude_unset=True) == before
