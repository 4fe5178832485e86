"""The connector types of a platform and the exact schema of each one's config.

Each platform's folder holds `connector_types.json`: `{type: {name, kind, creatable, words?, notes?, <traits>,
config}}`, where `config` is a JSON Schema (2020-12) with secret members that carry `writeOnly: true`, and `words` are
what people also call the type. The traits are the platform's own:

- Vectorize: `users` (has user operations), `user_credential` (the credential that its users bring: `refreshToken` or
  `accessToken`), `selected_files` (schema of a user's selection), `takes_config_on_create`, `pipeline_config` (schema
  of the config that a pipeline gives to a connector of the type; the two share no keys).
- Logto: `platform`, `target`, `isStandard`, `isDemo`, `isTokenStorageSupported`, `supportsAuthorizationUri`,
  `requiredTemplateUsageTypes`, `mayContainSecrets` (free-form members in which a credential may hide), `hosts` (the
  keys that name the hosts that credentials go to, where their names do not tell). SSO providers: `isEnterprise`,
  `providerType`, `forms` (keys that go together; exactly one form is filled in).
- ConductorOne: `fieldGroups` (`{group: [keys]}`, of which exactly one is filled in).

The file is read when it is first needed, because it is larger than all the declarations together.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib import resources
from typing import TYPE_CHECKING, Any, cast

from connector_mcp.json_values import JsonObject, is_array, is_object, members

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError

SECRET_PLACEHOLDER = "<secret-key>"  # noqa: S105 - what an example shows where a secret goes
_DOTS = r"*\u2022\u25cf\u25cb\u2219\u00b7\u22c5\u2027\u25e6\uff0a"
_STAND_IN = re.compile(
    r"(?:[a-z]+ )?(?:<[^<>]*>|\u2039[^\u2039\u203a]*\u203a|\$\{[^{}]*\}|\{\{[^{}]*\}\})"
    rf"|[{_DOTS}\u2026.]+"
    r"|\W*(?:redacted|masked|hidden|withheld|filtered|secret-?key|change-?me|placeholder)\W*",
    re.IGNORECASE,
)
_MASKED = re.compile(rf"[{_DOTS}]{{4,}}")
_MASK = re.compile(
    rf"\w{{0,4}}[{_DOTS}]{{4,}}\w{{0,4}}"
    r"|[\[(<*]+ ?(?:redacted|masked|hidden|withheld|filtered) ?[\])>*]+"
    r"|<[\w -]*(?:secret|token|key|password|authorization|credential)[\w -]*>",
    re.IGNORECASE,
)
_FORMATTED = {"uri": "https://example.com", "email": "name@example.com", "date": "2026-01-31"}


def stands_for_a_secret(text: str) -> bool:
    """Whether a text only stands for a secret: a placeholder such as `<secret-key>`, or a mask such as `****1234`."""
    return bool(_STAND_IN.fullmatch(text.strip()) or _MASKED.search(text))


def is_mask(text: str) -> bool:
    """Whether a text is nothing but a mask or placeholder of a secret, which no member of any config can be."""
    return bool(_MASK.fullmatch(text.strip()))


def kept_masks(stored: Any, kept: Any, secret: Collection[str], steps: tuple[str | int, ...] = ()) -> Iterator[str]:
    """Yield the places, at any depth, where a stored mask of a secret stays and so would be written back as its value.

    `secret` holds the dotted paths of the secret members.
    """
    if is_object(stored) and is_object(kept):
        for key in stored.keys() & kept.keys():
            yield from kept_masks(stored[key], kept[key], secret, (*steps, key))
    elif is_array(stored) and is_array(kept):
        for index, (before, after) in enumerate(zip(stored, kept, strict=False)):
            yield from kept_masks(before, after, secret, (*steps, index))
    elif isinstance(stored, str) and stored == kept:
        is_secret = ".".join(step for step in steps if isinstance(step, str)) in secret
        if is_mask(stored) or (is_secret and stands_for_a_secret(stored)):
            yield "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps).lstrip(".")


@dataclass(frozen=True, slots=True)
class ConfigPlan:
    """What to redact of a value in one place of a config. All alternatives of the schema apply at once.

    Schemas nest alternatives in alternatives. The plan flattens them once for each connector type.
    """

    hides_objects: bool
    """Whether an object in this place is redacted as a whole."""
    hides_others: bool
    """Whether any other value in this place is redacted: text, number, list."""
    describes_members: bool
    """Whether the schema names members of an object in this place."""
    members: Mapping[str, ConfigPlan]
    others: ConfigPlan | None
    """The plan for members that are not named; None where the names of the keys decide."""
    is_closed: bool
    """Whether the schema forbids members that it does not name."""
    items: ConfigPlan | None
    """The plan for the items of a list; None where the names of the keys decide."""


def config_plan(*schemas: Mapping[str, Any]) -> ConfigPlan:
    """Make the plan for a value to which all these schemas apply."""
    parts = [part for schema in schemas for part in _branches(schema)]
    properties = [part["properties"] for part in parts if part.get("properties")]
    others: list[Any] = [part["additionalProperties"] for part in parts if "additionalProperties" in part]
    secret = [part for part in parts if part.get("writeOnly")]
    return ConfigPlan(
        hides_objects=any(part.get("type", "object") == "object" for part in secret) or bool(secret and not properties),
        hides_others=bool(secret),
        describes_members=bool(properties),
        members={
            key: config_plan(*[each[key] for each in properties if key in each])
            for named in properties
            for key in named
        },
        others=_plan_of([cast("Mapping[str, Any]", schema) for schema in others if isinstance(schema, dict)]),
        is_closed=False in others,
        items=_plan_of([part["items"] for part in parts if isinstance(part.get("items"), dict)]),
    )


def _plan_of(schemas: Sequence[Mapping[str, Any]]) -> ConfigPlan | None:
    return config_plan(*schemas) if schemas else None


def _branches(schema: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield schema
    for word in ("anyOf", "oneOf", "allOf"):
        for branch in schema.get(word, ()):
            yield from _branches(branch)


@dataclass(frozen=True)
class ConnectorType:
    """One kind of connector: the schema of its config, and notes for the caller."""

    platform: str
    type: str
    name: str
    kind: str
    creatable: bool
    config: JsonObject
    notes: tuple[str, ...] = ()
    words: str = ""
    """What people also call it, for a search."""
    traits: JsonObject = field(default_factory=dict[str, Any])
    """Further facts that only this platform has, such as Logto's `platform` and `isStandard`."""

    @cached_property
    def secret_paths(self) -> tuple[str, ...]:
        """Dotted paths of the secret members of a config, nested ones included."""
        return tuple(sorted(set(_secret_paths(self.config, ""))))

    @cached_property
    def keys(self) -> frozenset[str]:
        """The names of all members of a config, nested ones included."""
        return frozenset(_keys(self.config))

    @cached_property
    def plan(self) -> ConfigPlan:
        """What to redact of a config."""
        return config_plan(self.config)


def _inner(schema: JsonObject) -> Iterator[tuple[str, JsonObject]]:
    """The schemas right inside a schema, each with the key that leads there; empty where none does."""
    for word in ("anyOf", "oneOf", "allOf"):
        for branch in schema.get(word, ()):
            yield "", branch
    for word in ("items", "additionalProperties"):
        if isinstance(schema.get(word), dict):
            yield "", schema[word]
    yield from schema.get("properties", {}).items()


def _secret_paths(schema: JsonObject, path: str) -> Iterator[str]:
    if schema.get("writeOnly") and path:
        yield path
    for key, inner in _inner(schema):
        yield from _secret_paths(inner, ".".join(filter(None, (path, key))))


def _keys(schema: JsonObject) -> Iterator[str]:
    for key, inner in _inner(schema):
        if key:
            yield key
        yield from _keys(inner)


@cache
def connector_types(platform: str) -> dict[str, ConnectorType]:
    """Every connector type of a platform by its id."""
    file = resources.files("connector_mcp.operations") / platform / "connector_types.json"
    if not file.is_file():
        return {}
    known = ("name", "kind", "creatable", "config", "notes", "words")
    return {
        key: ConnectorType(
            platform=platform,
            type=key,
            name=entry["name"],
            kind=entry["kind"],
            creatable=entry["creatable"],
            config=entry["config"],
            notes=tuple(entry.get("notes", ())),
            words=entry.get("words", ""),
            traits={name: value for name, value in entry.items() if name not in known},
        )
        for key, entry in json.loads(file.read_text("utf-8")).items()
    }


def connector_type(platform: str, type_id: Any) -> ConnectorType | None:
    """The connector type with this id; None for an unknown id, and for anything that is no text."""
    return connector_types(platform).get(type_id) if isinstance(type_id, str) else None


def closest_errors(error: ValidationError) -> Iterator[ValidationError]:
    """The error or, where an object fits none of several alternatives, the errors of the one it comes closest to."""
    branches: dict[Any, list[ValidationError]] = {}
    for inner in error.context or () if error.validator in ("anyOf", "oneOf") else ():
        branches.setdefault(inner.relative_schema_path[0], []).append(inner)
    # An alternative is ruled out by a value of another kind, and by another word where it has a fixed one.
    open_branches = [branch for branch in branches.values() if not any(map(_rules_out, branch))]
    if not is_object(error.instance) or not open_branches:
        yield _wrong_word([*branches.values()]) or error
        return
    for inner in min(open_branches, key=lambda branch: sum(map(_distance, branch))):
        yield from closest_errors(inner)


def _wrong_word(branches: Sequence[Sequence[ValidationError]]) -> ValidationError | None:
    """The error of the word that says which alternative is meant, with the words of all of them; None without one."""
    fixed = [[each for each in branch if each.validator in ("enum", "const")] for branch in branches]
    first = next((each[0] for each in fixed if each), None)
    if first is None or any(not each or each[0].relative_path != first.relative_path for each in fixed):
        return None
    schemas = [members(each[0].schema) for each in fixed]
    words = [word for schema in schemas for word in schema.get("enum", [schema.get("const")])]
    first.schema = {
        **{key: value for key, value in schemas[0].items() if key != "const"},
        "enum": [*dict.fromkeys(words)],
    }
    first.validator = "enum"
    return first


def _rules_out(inner: ValidationError) -> bool:
    return inner.validator in ("enum", "const") or (inner.validator == "type" and not inner.relative_path)


def _distance(error: ValidationError) -> int:
    """How far a value is from an alternative. Unknown keys count one by one."""
    if error.validator != "additionalProperties" or not is_object(error.instance):
        return 1
    return sum(key not in members(error.schema).get("properties", {}) for key in error.instance)


def example(schema: JsonObject) -> Any:
    """A small config that the schema accepts: its required members, or all of them where none is required.

    What the schema gives as example, default or enum value is used; elsewhere a placeholder such as `<bucket-name>`,
    and `SECRET_PLACEHOLDER` for a secret. The caller may change the result freely.
    """
    members = schema.get("properties", {})
    if members and schema.get("type") == "object" and not schema.get("required") and "examples" not in schema:
        return {key: _example(member, key) for key, member in members.items()}
    return _example(schema, "value")


def _example(schema: JsonObject, name: str) -> Any:
    if "const" in schema:
        return schema["const"]
    if schema.get("examples"):
        return deepcopy(schema["examples"][0])
    if "default" in schema:
        return deepcopy(schema["default"])
    if schema.get("enum"):
        return schema["enum"][0]
    for branches in ("anyOf", "oneOf"):
        if schema.get(branches):
            inherited = {"writeOnly": True} if schema.get("writeOnly") else {}
            return _example(inherited | schema[branches][0], name)
    match schema.get("type"):
        case "object":
            return _example_members(schema, name)
        case "array":
            return _example_items(schema, name)
        case "number" | "integer":
            return schema.get("minimum", 1)
        case "boolean":
            return False
        case _:
            return (
                SECRET_PLACEHOLDER if schema.get("writeOnly") else _FORMATTED.get(schema.get("format", ""), f"<{name}>")
            )


def _example_members(schema: JsonObject, name: str) -> JsonObject:
    members = schema.get("properties", {})
    values = schema.get("additionalProperties")
    if not members and isinstance(values, dict):
        inherited = {"writeOnly": True} if schema.get("writeOnly") else {}
        return {"<name>": _example(inherited | values, name)}
    return {key: _example(members.get(key, {}), key) for key in schema.get("required", ())}


def _example_items(schema: JsonObject, name: str) -> list[Any]:
    """One item, or one for each `contains`, with which a schema requires certain templates."""
    items: JsonObject = schema.get("items", {})
    if schema.get("writeOnly"):
        items = {"writeOnly": True} | items
    demanded = [part["contains"] for part in (schema, *schema.get("allOf", ())) if "contains" in part]
    if not demanded:
        return [_example(items, name) for _ in range(max(1, schema.get("minItems", 1)))]
    return [_example(items, name) | _example(contained, name) for contained in demanded]
