"""What the package imports of the protocol's libraries: their public seams and nothing else."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "server" / "connector_mcp"

PUBLIC = (
    "mcp.server.lowlevel",
    "mcp.server.context",
    "mcp.server.caching",
    "mcp.server.request_state",
    "mcp.server.streamable_http_manager",
    "mcp.server.sse",
    "mcp.server.stdio",
    "mcp.server.transport_security",
    "mcp.server.auth",
    "mcp.shared.message",
    "mcp.shared.exceptions",
    "mcp_types",
    "uvicorn",
)


def test_only_public_modules_of_the_sdk_and_of_uvicorn_are_imported() -> None:
    private: list[str] = []
    for module in PACKAGE.rglob("*.py"):
        # The client of the demo is no part of the server.
        if "demo" in module.parts or module.stem == "demo":
            continue
        for node in ast.walk(ast.parse(module.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module]
            for name in names:
                if name.split(".")[0] not in {"mcp", "mcp_types", "uvicorn"}:
                    continue
                if name in {"mcp_types", "mcp_types.version", "mcp_types.methods", "uvicorn"}:
                    continue
                if not name.startswith(tuple(f"{each}." for each in PUBLIC[:-2])) and name not in PUBLIC:
                    private.append(f"{module.relative_to(PACKAGE)}: {name}")
    assert private == []
