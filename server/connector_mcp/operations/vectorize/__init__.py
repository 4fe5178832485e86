"""Vectorize: source connectors and the users of multi-user ones."""

from connector_mcp.operations.vectorize.platform import VECTORIZE as PLATFORM
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

__all__ = ["OPERATIONS", "PLATFORM"]

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
