"""The operations that this server answers by itself: describing connector types and listing secrets."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from textwrap import shorten
from typing import Annotated, Any, Literal

from pydantic import Field

from connector_mcp.errors import InvalidArguments, Issue
from connector_mcp.json_values import JsonObject, is_object
from connector_mcp.operations.connector_types import ConnectorType, connector_types, example
from connector_mcp.operations.operation import LocalOperation, Operation, Record
from connector_mcp.operations.situation import Situation
from connector_mcp.operations.type_names import only_type, similar_types, unknown_type
from connector_mcp.suggest import nearest

LIST_SECRETS = "list_secrets"
"""The tool that is served only where a place for secrets is configured."""

LARGEST_SUMMARY = 1_820
"""Bytes of JSON that the summary of a connector type may have. With the meta beside it, a result stays below 2,000."""
_MOST_FOUND = 15
_VALUES_WIDTH = 150
_LEFT_OUT = ("config_example", "secret_keys", "mayContainSecrets")
_IN_WORDS = {"config_schema": "config_keys", "pipeline_config": "pipeline_keys", "selected_files": "selected_files"}


@dataclass(frozen=True)
class TypeSource:
    """How a platform itself describes its connector types. What it says wins over what this server ships."""

    read: Callable[[str], Operation | None]
    """The read of a type's description; None where the shipped one suffices or there cannot be such a type."""
    describe: Callable[[str, JsonObject], ConnectorType | None]
    """The type with an id as the answer of that read describes it; None if the platform does not have it."""


class ConnectorTypeRecord(Record):
    """A connector type, or the list of them."""

    type: str | None = None
    name: str | None = None
    creatable: bool | None = None
    types: list[str] | None = None


def describe_connector_type(sources: Mapping[str, TypeSource | None]) -> type[LocalOperation]:
    """Make the operation for these platforms, with the source of each one that describes its types itself."""

    class DescribeConnectorType(LocalOperation):
        """Get the config keys of a connector type: which are required or secret, what each is, and an example. Call it
        before you create a connector or change a config. With other words in `type` it searches; without, it lists."""

        output = ConnectorTypeRecord
        example = {"platform": next(iter(sources), "")}

        platform: Annotated[
            str, Field(description="Where the connector is or will be.", json_schema_extra={"enum": [*sources]})
        ]
        type: Annotated[
            str | None,
            Field(description="Id of the type as connectors show it, or words such as s3, mailbox or google sign-in."),
        ] = None
        detail: Annotated[
            Literal["summary", "full"],
            Field(description="summary: at most 2 kB; of a long schema the keys in short. full: the exact schema."),
        ] = "summary"

        def type_read(self, current: Any = None) -> Operation | None:
            """The platform's own description of the type."""
            source, name = sources.get(self.platform), (self.type or "").strip()
            if found := only_type(self.platform, name):
                name = found.type
            # Words of a search are no id.
            return source.read(name) if source and len(name.split()) == 1 else None

        def answer_locally(self, situation: Situation) -> Any:
            if self.platform not in sources:
                near = nearest(self.platform, sources, count=1)
                raise InvalidArguments(
                    self.tool_name(),
                    [
                        Issue(
                            "platform", "a platform that is not served", f"one of {', '.join(sources)}", candidates=near
                        )
                    ],
                )
            if self.type is None:
                return {"types": [_row(each) for each in connector_types(self.platform).values()]}
            found, source, described = only_type(self.platform, self.type), sources[self.platform], situation.described
            if source and described:
                found = source.describe(found.type if found else self.type, described)
            if found is not None:
                exact = _description(found, self.type, by_platform=bool(described))
                return exact if self.detail == "full" else _summary(exact)
            if similar := similar_types(self.platform, self.type):
                note = f"{len(similar)} types fit. Call again with the id of one, which stands before the colon."
                return {"types": [_row(each) for each in similar[:_MOST_FOUND]], "notes": [note]}
            raise InvalidArguments(
                self.tool_name(),
                [unknown_type("type", self.platform, self.type, f"a {self.platform} connector type")],
                fix=f"Call again with other words, or with only platform={self.platform!r} to list the types.",
            )

    return DescribeConnectorType


def _row(each: ConnectorType) -> str:
    return f"{each.type}: {each.name}{'' if each.creatable else ' (cannot be created here)'}"


def _description(found: ConnectorType, name: str, *, by_platform: bool) -> JsonObject:
    notes = list(found.notes)
    if name != found.type:
        notes.insert(0, f"{found.type} is the only type that this name fits.")
    described = {
        "type": found.type,
        "name": found.name,
        "kind": found.kind,
        "creatable": found.creatable,
        "described_by": "the platform" if by_platform else "this server",
        "secret_keys": list(found.secret_paths),
        "config_schema": found.config,
        "config_example": example(found.config),
    }
    return described | ({"notes": notes} if notes else {}) | found.traits


def _summary(exact: JsonObject) -> JsonObject:
    """The description in at most `LARGEST_SUMMARY` bytes: exact if it is that short, or else its schemas in words.

    What is left out is said. Required keys are never left out, not even of a type that has too many of them.
    """
    shorter = exact
    for shorter in _ever_shorter(exact):
        if len(json.dumps(shorter, ensure_ascii=False, separators=(",", ":")).encode()) <= LARGEST_SUMMARY:
            break
    return shorter


def _ever_shorter(exact: JsonObject) -> Iterator[JsonObject]:
    yield exact
    of_pipeline = [name for name in ("pipeline_config", "selected_files") if name in exact]
    schemas = ["config_schema", *of_pipeline]
    for width, inner, in_words, left_out in (
        *((width, width // 2, names, ()) for names in (of_pipeline, schemas) for width in (100, 60, 40)),
        *((*widths, schemas, _LEFT_OUT) for widths in ((60, 30), (40, 20), (40, 0), (20, 0), (14, 0), (0, 0))),
    ):
        kept = {name: value for name, value in exact.items() if name not in (*in_words, *left_out)}
        kept |= {_IN_WORDS[name]: _keys_in_words(exact[name], width, inner) for name in in_words}
        said = (
            f"The exact schema{', an example' if left_out else ''}: see detail full. Keys without a form are strings."
        )
        yield {name: value for name, value in kept.items() if value or name == "creatable"} | {"left_out": said}
    schema = exact["config_schema"]
    keys = {"required": _keys_in_words(schema, 0, 0).get("required", {})}
    said = f"{len(schema['properties']) - len(keys['required'])} optional keys and more: see detail full."
    yield {"type": exact["type"], "creatable": exact["creatable"], "config_keys": keys, "left_out": said}


def _keys_in_words(schema: JsonObject, width: int, inner: int) -> Any:
    """The keys of an object, each with its form and meaning; of any other value the form. Meanings are cut to a width.

    `inner` is the width for members of members, and 0 leaves their meanings out.
    """
    properties, required = schema.get("properties", {}), schema.get("required", ())
    if not properties:
        return _form(schema, inner)
    keys = {
        "required": {key: _meaning(properties[key], max(width, 40), inner) for key in required},
        "optional": {key: _meaning(member, width, inner) for key, member in properties.items() if key not in required},
    }
    return {name: group for name, group in keys.items() if group}


def _meaning(schema: JsonObject, width: int, inner: int) -> str:
    form, text = _form(schema, inner), _text(schema, width)
    return ": ".join(part for part in ("" if form == "string" else form, text) if part) or form


def _text(schema: JsonObject, width: int) -> str:
    whole = str(schema.get("description", "")).rstrip(".").removeprefix("Whether ")
    return shorten(whole, width, placeholder="\u2026") if width else ""


def _form(schema: JsonObject, inner: int) -> str:
    """The form of a value, much as in TypeScript: `secret`, `'a'|'b'`, `[string]`, `{key: form, optional?: form}`."""
    values = [schema["const"]] if "const" in schema else schema.get("enum", ())
    branches = [branch for word in ("anyOf", "oneOf") for branch in schema.get(word, ())]
    others, required = schema.get("additionalProperties"), schema.get("required", ())
    if values:
        texts = [f"'{value}'" for value in values]
        shown = [
            text for text, length in zip(texts, accumulate(map(len, texts)), strict=True) if length <= _VALUES_WIDTH
        ]
        form = "|".join(shown if shown == texts else [*shown, f"\u2026 ({len(texts)} values)"])
    elif branches:
        form = " or ".join(dict.fromkeys(_form(branch, inner) for branch in branches))
    elif named := schema.get("properties", {}):
        form = f"{{{', '.join(_member(key, member, key in required, inner) for key, member in named.items())}}}"
    elif is_object(others):
        form = f"{{NAME: {_form(others, inner)}}}"
    elif is_object(schema.get("items")):
        form = f"[{_form(schema['items'], inner)}]"
    else:
        form = str(schema.get("format") or schema.get("type") or "any value")
    is_secret = bool(schema.get("writeOnly")) and "secret" not in form
    return ("secret" if form == "string" else f"secret {form}") if is_secret else form


def _member(key: str, schema: JsonObject, is_required: bool, inner: int) -> str:
    form, text = _form(schema, inner), _text(schema, inner if is_required else inner // 2)
    key = key if is_required else f"{key}?"
    return f"{key}{'' if form == 'string' else f': {form}'}{f' ({text})' if text else ''}"


class SecretRecord(Record):
    """A secret: its reference, and where it may be used."""

    reference: str | None = None
    source: str | None = None
    platforms: list[str] | None = None
    profiles: list[str] | None = None
    fields: list[str] | None = None
    changed: str | None = None


def list_secrets(listing: Callable[[], Sequence[JsonObject]]) -> type[LocalOperation]:
    """Make the operation that answers with what `listing` returns at each call."""

    class ListSecrets(LocalOperation):
        """List the secrets that the operator has stored, with where each may be used; values are never shown. Give the
        reference as the value of a secret field."""

        output = SecretRecord
        returns_list = True

        def answer_locally(self, situation: Situation) -> Any:
            return list(listing())

    return ListSecrets
