"""Logto: connectors and the factories that they are made from."""

from connector_mcp.operations.logto.platform import LOGTO as PLATFORM

__all__ = ["PLATFORM"]
