"""ConductorOne: the connectors of an app."""

from connector_mcp.operations.conductorone.connectors import GetConnector, ListConnectors
from connector_mcp.operations.conductorone.platform import CONDUCTORONE as PLATFORM
from connector_mcp.operations.conductorone.update_connector import UpdateConnector

__all__ = ["OPERATIONS", "PLATFORM"]

OPERATIONS = (UpdateConnector, ListConnectors, GetConnector)
