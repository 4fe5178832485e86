"""What is asked of Vectorize, in the order of tools/list."""

from connector_mcp.operations.vectorize.source_connectors import (
    CreateSourceConnector,
    DeleteSourceConnector,
    GetSourceConnector,
    GetSourceConnectors,
    UpdateSourceConnector,
)
from connector_mcp.operations.vectorize.source_users import (
    AddUserToSourceConnector,
    DeleteUserFromSourceConnector,
    UpdateUserInSourceConnector,
)

OPERATIONS = (
    GetSourceConnectors,
    CreateSourceConnector,
    GetSourceConnector,
    UpdateSourceConnector,
    DeleteSourceConnector,
    AddUserToSourceConnector,
    UpdateUserInSourceConnector,
    DeleteUserFromSourceConnector,
)
