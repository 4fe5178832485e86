"""What is asked of Logto, in the order of tools/list."""

from connector_mcp.operations.logto.connector_creation import CreateConnector
from connector_mcp.operations.logto.connector_factories import GetConnectorFactory, ListConnectorFactories
from connector_mcp.operations.logto.connector_update import UpdateConnector
from connector_mcp.operations.logto.connector_use import CreateConnectorAuthorizationUri, CreateConnectorTest
from connector_mcp.operations.logto.connectors import DeleteConnector, GetConnector, ListConnectors

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
