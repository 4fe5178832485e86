"""The published form of every tool: what `tool_schemas/` holds."""

from __future__ import annotations

import json
from collections.abc import Iterable

from connector_mcp.cli.commands.tools import contract
from connector_mcp.operations.catalog import PLATFORMS, catalog
from connector_mcp.operations.tool import Tool, tool_of

NEUTRAL = "connectors"
"""Folder of the tools that belong to no platform."""


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
