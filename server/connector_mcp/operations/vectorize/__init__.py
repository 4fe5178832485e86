"""Vectorize: source connectors and the users of multi-user ones."""

from connector_mcp.operations.vectorize.platform import VECTORIZE as PLATFORM

__all__ = ["PLATFORM"]
