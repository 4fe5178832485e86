"""Logto: connectors and the factories that they are made from."""

from connector_mcp.operations.logto.platform import LOGTO as PLATFORM

MODULES = ("connectors", "use", "factories")
"""The modules with operations, in the order of tools/list."""

__all__ = ["MODULES", "PLATFORM"]
