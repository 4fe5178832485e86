"""What is asked of ConductorOne, in the order of tools/list."""

from connector_mcp.operations.conductorone.connectors import GetConnector, ListConnectors
from connector_mcp.operations.conductorone.update_connector import UpdateConnector

OPERATIONS = (UpdateConnector, ListConnectors, GetConnector)
