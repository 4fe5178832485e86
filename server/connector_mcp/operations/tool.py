"""Describe an operation as an MCP tool: name, description, schemas and the four annotations."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property

from connector_mcp.json_values import JsonObject
from connector_mcp.operations.operation import Effect, ListOperation, Operation
from connector_mcp.operations.schema import portable_schema, shape

PROFILE = "profile"
"""The argument that names the account where a platform has several. It is reserved: no operation has such a field."""


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
    annotations: Annotations
    hidden: frozenset[str] = frozenset()
    """Arguments that the configuration sets; the schema leaves them out."""
    optional: frozenset[str] = frozenset()
    """Arguments that the configuration sets for some of the profiles, so that the schema cannot require them."""
    profiles: ProfileChoice | None = None

    @cached_property
    def input_schema(self) -> JsonObject:
        """The schema of the arguments; do not modify it."""
        hidden = [name for name in self.hidden if name in self.operation.model_fields]
        paging = self.operation.paging
        if paging and paging.cursor and paging.limit is None:
            # The platform decides how long its pages are.
            hidden.append("limit")
        schema = portable_schema(self.operation, without=hidden)
        _relax(schema, self.optional)
        if self.profiles is not None:
            _add_profile(schema, self.operation, self.profiles)
        return schema

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
        annotations=Annotations(
            read_only=operation.effect is Effect.READ,
            destructive=operation.effect is Effect.DESTROY or operation.can_destroy or operation.overwrites,
            idempotent=operation.repeatable,
            open_world=operation.on is not None,
        ),
        hidden=frozenset(hidden),
        optional=frozenset(optional),
        profiles=profiles,
    )


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
    if is_list(operation):
        data = {"type": "array", "items": data}
    meta: JsonObject = {"type": "object"}
    if operation.effect is not Effect.READ:
        meta["properties"] = {"verified": {"type": "boolean", "description": _VERIFIED}}
    return {"type": "object", "properties": {"data": data, "meta": meta, "error": {"type": "object"}}}


def is_list(operation: type[Operation]) -> bool:
    """Whether the data of a success is an array."""
    return issubclass(operation, ListOperation) or operation.returns_list
