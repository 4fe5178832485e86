"""Vectorize: connectors, the users of multi-user ones, uploaded files, and the pipelines that make them work."""

from connector_mcp.operations.vectorize.platform import VECTORIZE as PLATFORM

MODULES = (
    "source_connectors",
    "source_users",
    "destination_connectors",
    "ai_platform_connectors",
    "pipelines",
    "uploads",
)
"""The modules with operations, in the order of tools/list."""

__all__ = ["MODULES", "PLATFORM"]
