"""The published form of a tool: what `tools --json` prints and what `tool_schemas/` holds."""

from __future__ import annotations

import json
from collections.abc import Iterable

from connector_mcp.json_values import JsonObject
from connector_mcp.operations.catalog import PLATFORMS, catalog
from connector_mcp.operations.tool import Tool, tool_of

NEUTRAL = "connectors"
"""Folder of the tools that belong to no platform."""


def contract(tool: Tool) -> JsonObject:
    """The tool in the protocol's own member names, as tools/list gives it."""
    return {
        "name": tool.name,
        "description": tool.description,
        "inputSchema": tool.input_schema,
        "outputSchema": tool.output_schema,
        "annotations": {
            "readOnlyHint": tool.annotations.read_only,
            "destructiveHint": tool.annotations.destructive,
            "idempotentHint": tool.annotations.idempotent,
            "openWorldHint": tool.annotations.open_world,
        },
    }


def all_tools(platforms: Iterable[str] = PLATFORMS) -> tuple[Tool, ...]:
    """Every tool of the platforms with all its arguments, whatever a configuration would hide."""
    return tuple(tool_of(operation) for operation in catalog(platforms).values())


def folder_of(tool: Tool) -> str:
    """The platform's name, or that of the folder for the tools of none."""
    return tool.operation.on.name if tool.operation.on else NEUTRAL


def published_files() -> dict[str, str]:
    """Path below `tool_schemas/` and text of every file of the contract; the same declarations give the same bytes."""
    return {
        f"{folder_of(tool)}/{tool.name}.json": json.dumps(contract(tool), indent=2, sort_keys=True, ensure_ascii=False)
        + "\n"
        for tool in all_tools()
    }


def effect_words(tool: Tool) -> str:
    """The effect of the tool's operation, and what a call of it can be at its worst where that is more."""
    effect = tool.operation.effect.value
    return f"{effect}, can destroy" if tool.operation.can_destroy and effect != "destroy" else effect
