"""What this server says of itself, and how it puts its tools, in the words of the protocol, without the SDK."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from connector_mcp import __version__
from connector_mcp.json_values import JsonObject
from connector_mcp.operations.tool import Tool

NAME: Final = "connector-mcp"
TITLE: Final = "Connectors"

INSTRUCTIONS: Final = (
    "Provisions and looks after connectors on Vectorize, Logto, Versori and ConductorOne.\n"
    "Call describe_connector_type before you create a connector or change a config: it gives the exact schema, which "
    "members are secret, and an example.\n"
    "Calls that destroy or overwrite something are put to a person or parked for an operator; the result says which. "
    "Make the same call again, unchanged, once it is approved. You cannot confirm it yourself.\n"
    "Secrets come back as `[redacted]`. Never send that text as a value: leave the member out to keep what is stored.\n"
    "A secret field takes `secret://NAME` for a secret that is stored here, so that you never see its value.\n"
    "An error says in `fix` what to do next; `outcome_unknown` means look before you repeat."
)

HANDSHAKES: Final = frozenset({"2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"})
"""The revisions of the protocol that begin with `initialize`."""


def introduced(version: str) -> JsonObject:
    """The result of `initialize` for a client that speaks one of `HANDSHAKES`."""
    return {
        "protocolVersion": version,
        "capabilities": {
            "prompts": {"listChanged": False},
            "resources": {"subscribe": False, "listChanged": False},
            "tools": {"listChanged": False},
        },
        "serverInfo": {"name": NAME, "title": TITLE, "version": __version__},
        "instructions": INSTRUCTIONS,
    }


def listed(tools: Sequence[Tool]) -> JsonObject:
    """The result of `tools/list`, of which later revisions say more."""
    return {"tools": [_listed(tool) for tool in tools]}


def _listed(tool: Tool) -> JsonObject:
    hints = tool.annotations
    return {
        "name": tool.name,
        "description": tool.description,
        "inputSchema": tool.input_schema,
        "outputSchema": tool.output_schema,
        "annotations": {
            "readOnlyHint": hints.read_only,
            "destructiveHint": hints.destructive,
            "idempotentHint": hints.idempotent,
            "openWorldHint": hints.open_world,
        },
    }
