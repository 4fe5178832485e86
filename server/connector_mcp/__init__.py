"""One MCP server for the connectors of Vectorize, Logto, Versori and ConductorOne."""

from importlib.metadata import version

__all__ = ["__version__"]

__version__ = version("connector-mcp")
