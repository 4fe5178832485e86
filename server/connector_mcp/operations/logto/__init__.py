"""Logto: connectors and the factories that they are made from."""

from connector_mcp.operations.logto.connector_creation import CreateConnector
from connector_mcp.operations.logto.connector_factories import GetConnectorFactory, ListConnectorFactories
from connector_mcp.operations.logto.connector_update import UpdateConnector
from connector_mcp.operations.logto.connector_use import CreateConnectorAuthorizationUri, CreateConnectorTest
from connector_mcp.operations.logto.connectors import DeleteConnector, GetConnector, ListConnectors
from connector_mcp.operations.logto.platform import LOGTO as PLATFORM

__all__ = ["OPERATIONS", "PLATFORM"]

OPERATIONS = (
    ListConnectors,
    CreateConnector,
    GetConnector,
    UpdateConnector,
    DeleteConnector,
    CreateConnectorTest,
    CreateConnectorAuthorizationUri,
    ListConnectorFactories,
    GetConnectorFactory,
)
