"""Versori: connectors of the Connect API v1."""

from connector_mcp.operations.versori.connectors import GetConnector, ListConnectors, UpdateConnector
from connector_mcp.operations.versori.platform import VERSORI as PLATFORM

__all__ = ["OPERATIONS", "PLATFORM"]

OPERATIONS = (UpdateConnector, ListConnectors, GetConnector)
