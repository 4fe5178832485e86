"""What is asked of Versori, in the order of tools/list."""

from connector_mcp.operations.versori.connectors import GetConnector, ListConnectors, UpdateConnector

OPERATIONS = (UpdateConnector, ListConnectors, GetConnector)
