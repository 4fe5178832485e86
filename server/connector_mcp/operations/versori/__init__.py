"""Versori: connectors of the Connect API v1; systems, connections and projects of the Platform API v2."""

from connector_mcp.operations.versori.platform import VERSORI as PLATFORM

MODULES = (
    "connectors",
    "connectors_v1",
    "systems",
    "templates",
    "connections",
    "activations",
    "variables",
    "projects",
)
"""The modules with operations, in the order of tools/list."""

__all__ = ["MODULES", "PLATFORM"]
