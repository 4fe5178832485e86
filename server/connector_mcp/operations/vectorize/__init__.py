"""Vectorize: source connectors and the users of multi-user ones."""

from connector_mcp.operations.vectorize.platform import VECTORIZE as PLATFORM

MODULES = ("source_connectors", "source_users")
"""The modules with operations, in the order of tools/list."""

__all__ = ["MODULES", "PLATFORM"]
