"""ConductorOne: the connectors of an app."""

from connector_mcp.operations.conductorone.platform import CONDUCTORONE as PLATFORM

MODULES = ("connectors", "catalog_schema")
"""The modules with operations, in the order of tools/list."""

__all__ = ["MODULES", "PLATFORM"]
