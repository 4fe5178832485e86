"""ConductorOne: apps, their connectors, syncs, credentials and owners."""

from connector_mcp.operations.conductorone.platform import CONDUCTORONE as PLATFORM

MODULES = ("connectors", "connector_setup", "sync", "credentials", "apps", "owners", "catalog_schema")
"""The modules with operations, in the order of tools/list."""

__all__ = ["MODULES", "PLATFORM"]
