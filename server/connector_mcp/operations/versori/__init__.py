"""Versori: connectors of the Connect API v1."""

from connector_mcp.operations.versori.platform import VERSORI as PLATFORM

__all__ = ["PLATFORM"]
