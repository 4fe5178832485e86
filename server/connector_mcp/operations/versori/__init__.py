"""Versori: connectors of the Connect API v1."""

from connector_mcp.operations.versori.platform import VERSORI as PLATFORM

MODULES = ("connectors",)
"""The modules with operations, in the order of tools/list."""

__all__ = ["MODULES", "PLATFORM"]
