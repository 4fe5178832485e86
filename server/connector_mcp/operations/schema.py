"""Convert pydantic's JSON Schema into one that every client and model accepts.

The result has an object at the root with `additionalProperties: false`, no references, no combinators at the root, no
type arrays, no `title`, and nullable members as plain optional ones. All clients accept this part of JSON Schema.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import cache, lru_cache
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import core_schema

from connector_mcp.json_values import JsonObject, items, members

_NULL = {"type": "null"}
_DETAILS = ("description", "required", "additionalProperties", "examples", "writeOnly", "default")
# Annotations from pydantic that tell a caller nothing.
_NOISE = frozenset({"title", "discriminator"})


class _Lean(GenerateJsonSchema):
    """Generates the schema without the parts that would be removed again."""

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonObject:
        inner, default = self.generate_inner(schema["schema"]), schema.get("default")
        return inner if default is None else {**inner, "default": default}

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonObject:
        return self.generate_inner(schema["schema"])

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def sort(self, value: JsonObject, parent_key: str | None = None) -> JsonObject:
        return value


@cache
def portable_schema(model: type[BaseModel], without: tuple[str, ...] = ()) -> JsonObject:
    """Make the input schema of a model, without the members in `without`.

    Callers share the returned object and must not modify it.
    """
    schema = _portable(model)
    for name in without:
        schema["properties"].pop(name, None)
    required = [name for name in schema.get("required", ()) if name not in without]
    schema.pop("required", None)
    schema.pop("description", None)
    if required:
        schema["required"] = required
    schema.setdefault("properties", {})
    schema["additionalProperties"] = False
    return schema


# Operations on one kind of record share an output model.
@lru_cache(maxsize=256)
def shape(model: type[BaseModel]) -> JsonObject:
    """The bare types of an output model: no descriptions, and open to members that are not documented.

    Callers share the returned object and must not modify it.
    """
    return _without(_portable(model), _DETAILS)


def listed(schema: JsonObject) -> JsonObject:
    """The schema as clients get it: without `writeOnly`, which some of them refuse."""
    return _without(schema, ("writeOnly",))


def _portable(model: type[BaseModel]) -> JsonObject:
    schema = model.model_json_schema(by_alias=True, mode="validation", schema_generator=_Lean)
    definitions = schema.pop("$defs", {})
    return _convert(schema, definitions)


def _convert(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> JsonObject:
    if "$ref" in schema:
        named = definitions[str(schema["$ref"]).rpartition("/")[2]]
        own = {key: value for key, value in schema.items() if key != "$ref"}
        return _convert({**named, **own}, definitions)
    if "anyOf" in schema:
        branches = [branch for branch in schema["anyOf"] if branch != _NULL]
        if len(branches) == 1:
            own = {key: value for key, value in schema.items() if key != "anyOf"}
            return _convert({**branches[0], **own}, definitions)
    converted: JsonObject = {}
    for key, value in schema.items():
        if key in _NOISE:
            continue
        converted[key] = _convert_member(key, value, lambda part: _convert(part, definitions))
    if "const" in converted:
        converted["enum"] = [converted.pop("const")]
    if converted.get("additionalProperties") is True:
        del converted["additionalProperties"]
    return converted


def _convert_member(key: str, value: Any, convert: Callable[[Mapping[str, Any]], JsonObject]) -> Any:
    match key, value:
        case "properties", dict():
            return {name: convert(member) for name, member in members(value).items()}
        case (("anyOf" | "oneOf" | "allOf" | "prefixItems"), list()):
            return [convert(branch) for branch in items(value) if branch != _NULL]
        case (("items" | "additionalProperties"), dict()):
            # The property that holds the items describes them; the model's docstring would repeat that.
            return {word: part for word, part in convert(members(value)).items() if word != "description"}
        case _:
            return value


def _without(schema: JsonObject, words: Collection[str]) -> JsonObject:
    return {
        key: _convert_member(key, value, lambda part: _without(dict(part), words))
        for key, value in schema.items()
        if key not in words
    }
