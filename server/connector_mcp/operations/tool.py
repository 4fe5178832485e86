"""What MCP clients are told of an operation: name, description, schemas and the four annotations."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from connector_mcp.operations.operation import Effect, ListOperation, Operation
from connector_mcp.operations.platform import JsonObject
from connector_mcp.operations.portable_schema import portable_schema, shape

PROFILE = "profile"
"""The argument that names the account, where a platform has several. No operation has a field of this name."""


@dataclass(frozen=True)
class ProfileChoice:
    """The accounts between which a call chooses, and the one that counts where it may leave that out."""

    names: tuple[str, ...]
    default: str | None = None


@dataclass(frozen=True)
class Annotations:
    """The hints of the protocol. They describe what the operation can do at its worst."""

    read_only: bool
    destructive: bool
    idempotent: bool
    open_world: bool


@dataclass(frozen=True)
class Tool:
    """An operation as a tool."""

    operation: type[Operation]
    name: str
    description: str
    input_schema: JsonObject
    output_schema: JsonObject
    annotations: Annotations


def tool_of(
    operation: type[Operation],
    *,
    hidden: Collection[str] = (),
    optional: Collection[str] = (),
    profiles: ProfileChoice | None = None,
) -> Tool:
    """The tool of an operation, less the `hidden` arguments, which the configuration fixes.

    `optional` arguments are fixed under some of the profiles only, so that no call need give them in general.
    """
    schema = portable_schema(operation, without=[name for name in hidden if name in operation.model_fields])
    _relax(schema, optional)
    if profiles is not None:
        _add_profile(schema, operation, profiles)
    return Tool(
        operation=operation,
        name=operation.tool_name(),
        description=operation.tool_description(),
        input_schema=schema,
        output_schema=output_schema(operation),
        annotations=Annotations(
            read_only=operation.effect is Effect.READ,
            destructive=operation.effect is Effect.DESTROY or operation.can_destroy or operation.overwrites,
            idempotent=operation.repeatable,
            open_world=operation.on is not None,
        ),
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


def output_schema(operation: type[Operation]) -> JsonObject:
    """The schema of a result: `data` with the documented members and `meta` about the call, or else `error`.

    Nothing is required: many clients hold failures to this schema as well, and hide from the model those that do not
    conform.
    """
    data = shape(operation.output)
    if is_list(operation):
        data = {"type": "array", "items": data}
    return {
        "type": "object",
        "properties": {"data": data, "meta": {"type": "object"}, "error": {"type": "object"}},
    }


def is_list(operation: type[Operation]) -> bool:
    """Whether the data of a success is an array."""
    return issubclass(operation, ListOperation) or operation.returns_list
