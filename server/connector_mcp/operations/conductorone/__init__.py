"""ConductorOne: the connectors of an app."""

from connector_mcp.operations.conductorone.platform import CONDUCTORONE as PLATFORM

__all__ = ["PLATFORM"]
