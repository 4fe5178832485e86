"""Describe an operation as an MCP tool: name, description, schemas and the four annotations."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import cache, cached_property
from importlib import resources
from typing import Any

from connector_mcp.json_values import JsonObject, is_array, is_object
from connector_mcp.operations.across import ACROSS
from connector_mcp.operations.catalog import PLATFORMS, platform_folder
from connector_mcp.operations.local import LIST_SECRETS
from connector_mcp.operations.operation import Effect, Operation
from connector_mcp.operations.provisioning.tools import PROVISIONING
from connector_mcp.operations.schema import listed, portable_schema, shape

PLATFORM = "platform"
PROFILE = "profile"
"""The argument that names the account where a platform has several. No operation of a platform has one of its own."""

_OTHER_NAMES = "|".join(
    ("describe_connector_type", LIST_SECRETS, *(each.tool_name() for each in (*ACROSS, *PROVISIONING)))
)
_NAMES = re.compile(rf"\b(?:(?:{'|'.join(PLATFORMS)})_[a-z_0-9]+|{_OTHER_NAMES})\b")
_UNSERVED = "a tool that is not served"
_WORD_START = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|-")
_SENTENCES = re.compile(r"(?<=\.) +")


@dataclass(frozen=True)
class ProfileChoice:
    """The accounts that a call can choose from, and the default if there is one."""

    names: tuple[str, ...]
    default: str | None = None


@dataclass(frozen=True)
class Annotations:
    """The protocol's hints. They describe the worst that a call of the operation can do."""

    read_only: bool
    destructive: bool
    idempotent: bool
    open_world: bool


@dataclass(frozen=True)
class Tool:
    """An operation as a tool. The schemas are built when they are first read, so that they do not delay the start."""

    operation: type[Operation]
    name: str
    description: str
    title: str
    annotations: Annotations
    hidden: frozenset[str] = frozenset()
    """Arguments that the configuration sets; the schema leaves them out."""
    optional: frozenset[str] = frozenset()
    """Arguments that the configuration sets for some of the profiles, so that the schema cannot require them."""
    profiles: ProfileChoice | None = None
    target: str = ""
    """The argument with the id of the thing that a call concerns; empty where there is none."""
    served: frozenset[str] | None = None
    """The names of all tools that the caller sees. Texts name no others; None stands for every tool."""

    @cached_property
    def input_schema(self) -> JsonObject:
        """The schema that arguments are checked against; do not modify it."""
        hidden = [name for name in self.hidden if name in self.operation.model_fields]
        paging = self.operation.paging
        if paging and paging.cursor and paging.limit is None:
            # The platform decides how long its pages are.
            hidden.append("limit")
        schema = dict(portable_schema(self.operation, tuple(hidden)))
        _relax(schema, self.optional)
        if self.profiles is not None:
            _add_profile(schema, self.operation, self.profiles)
        return schema if self.served is None else _narrowed(schema, self.served)

    @cached_property
    def listed_schema(self) -> JsonObject:
        """The schema of the arguments as clients get it; do not modify it."""
        return listed(self.input_schema)

    def as_dict(self) -> JsonObject:
        """Return the tool in the form of `tools/list`."""
        return {
            "name": self.name,
            "title": self.title,
            "description": self.description,
            "inputSchema": self.listed_schema,
            "outputSchema": self.output_schema,
            "annotations": {
                "readOnlyHint": self.annotations.read_only,
                "destructiveHint": self.annotations.destructive,
                "idempotentHint": self.annotations.idempotent,
                "openWorldHint": self.annotations.open_world,
            },
        }

    def instead_of(self, name: str) -> str | None:
        """What can be done instead of giving an argument that cannot be; None where nothing is known of that name."""
        platform, wanted = self.operation.on, _WORD_START.sub("_", name).lower()
        cannot = impossible_arguments(platform.name).get(self.name, {}) if platform else {}
        instead = next((instead for names, instead in cannot.items() if wanted in names.split()), None)
        return instead and f"none: {instead}"

    def seen_with(self, served: frozenset[str], profiles: Collection[str]) -> Tool:
        """The tool for callers who see these tools, and may call this one under these profiles."""
        choice = self.profiles
        if choice is not None:
            names = tuple(name for name in choice.names if name in profiles)
            choice = ProfileChoice(names, choice.default if choice.default in names else None)
        description = only_served(self.description, served)
        return replace(self, description=description, profiles=choice, served=served)

    @cached_property
    def output_schema(self) -> JsonObject:
        """The schema of the result; do not modify it."""
        return output_schema(self.operation)


def tool_of(
    operation: type[Operation],
    *,
    hidden: Collection[str] = (),
    optional: Collection[str] = (),
    profiles: ProfileChoice | None = None,
) -> Tool:
    """Make the tool of an operation under a configuration; the arguments are those of `Tool`."""
    return Tool(
        operation=operation,
        name=operation.tool_name(),
        description=operation.tool_description(),
        title=_title(operation),
        annotations=Annotations(
            read_only=operation.effect is Effect.READ,
            destructive=operation.effect is Effect.DESTROY or operation.can_destroy or operation.overwrites,
            idempotent=operation.repeatable,
            open_world=operation.on is not None,
        ),
        hidden=frozenset(hidden),
        optional=frozenset(optional),
        profiles=profiles,
        target=operation.target_argument(),
    )


@cache
def impossible_arguments(platform: str) -> dict[str, dict[str, str]]:
    """By tool, arguments that callers expect and that the platform cannot take, with what can be done instead."""
    file = resources.files("connector_mcp.operations") / platform / "impossible_arguments.json"
    return json.loads(file.read_text("utf-8")) if file.is_file() else {}


def only_served(text: str, served: Collection[str]) -> str:
    """The sentences of a text that name no tool but the served ones."""
    return " ".join(part for part in _SENTENCES.split(text) if part == name_served(part, served))


def name_served(value: Any, served: Collection[str]) -> Any:
    """The value with other words in place of the names of tools that are not served, at any depth."""
    if isinstance(value, str):
        return _NAMES.sub(lambda name: _UNSERVED if name[0] not in served and _is_tool(name[0]) else name[0], value)
    if is_array(value):
        return [name_served(each, served) for each in value]
    return {key: name_served(each, served) for key, each in value.items()} if is_object(value) else value


def named_tools(text: str) -> set[str]:
    """The names of tools in a text."""
    return {name for name in _NAMES.findall(text) if _is_tool(name)}


def _is_tool(name: str) -> bool:
    """Whether a text of that form is the name of a tool: an id or the name of a secret may look like one."""
    platform = name.partition("_")[0]
    return platform not in PLATFORMS or name in _tool_names(platform)


@cache
def _tool_names(platform: str) -> frozenset[str]:
    return frozenset(operation.tool_name() for operation in platform_folder(platform).operations)


def _narrowed(schema: JsonObject, served: frozenset[str]) -> JsonObject:
    """The schema without sentences about tools, and without platforms, that are not served."""
    narrowed = dict(schema)
    if "description" in schema:
        narrowed["description"] = only_served(schema["description"], served)
    if "items" in schema:
        narrowed["items"] = _narrowed(schema["items"], served)
    if "properties" in schema:
        narrowed["properties"] = {name: _narrowed(member, served) for name, member in schema["properties"].items()}
        if "enum" in (platform := narrowed["properties"].get(PLATFORM, {})):
            platform["enum"] = [
                name for name in platform["enum"] if any(tool.startswith(f"{name}_") for tool in served)
            ]
    return narrowed


@cache
def _title(operation: type[Operation]) -> str:
    words = operation.tool_name().removeprefix(f"{operation.on.name}_" if operation.on else "").replace("_", " ")
    words = words.replace(" uri", " URI")
    return f"{operation.on.title}: {words}" if operation.on else words.capitalize()


def _relax(schema: JsonObject, optional: Collection[str]) -> None:
    required = [name for name in schema.pop("required", ()) if name not in optional]
    if required:
        schema["required"] = required


def _add_profile(schema: JsonObject, operation: type[Operation], profiles: ProfileChoice) -> None:
    needed = profiles.default is None or operation.effect is Effect.DESTROY
    unless = "" if needed else f"; {profiles.default} if left out"
    still = " Needed where the call destroys." if not needed and operation.can_destroy else ""
    member = {"type": "string", "enum": list(profiles.names), "description": f"Account to act under{unless}.{still}"}
    schema["properties"] = {PROFILE: member, **schema["properties"]}
    if needed:
        schema["required"] = [PROFILE, *schema.get("required", ())]


_VERIFIED = "Read back equal to what was sent. It does not say that the connector works."


def output_schema(operation: type[Operation]) -> JsonObject:
    """The schema of a result: `data` with the documented members and `meta` about the call, or else `error`.

    Nothing is required: many clients validate failures against this schema too, and hide those that do not conform from
    the model.
    """
    data = shape(operation.output)
    if operation.returns_list:
        data = {"type": "array", "items": data}
    meta: JsonObject = {"type": "object"}
    if operation.effect is not Effect.READ:
        meta["properties"] = {"verified": {"type": "boolean", "description": _VERIFIED}}
    return {"type": "object", "properties": {"data": data, "meta": meta, "error": {"type": "object"}}}
