"""The same eight operations as fastmcp makes them out of an OpenAPI document.

It alone needs fastmcp. It is run by its path, maybe under a Python of its own, so it imports nothing of this project
but its neighbour.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

from bare_server import ROUTES, Route


def _operation(name: str, route: Route) -> dict[str, Any]:
    path = [{"name": "source_connector_id", "in": "path", "required": True, "schema": {"type": "string"}}]
    query = [{"name": key, "in": "query", "schema": schema} for key, schema in route.query.items()]
    body = {"content": {"application/json": {"schema": {"type": "object", "properties": route.body}}}}
    return {
        "operationId": name,
        "summary": route.description,
        "parameters": [*(path if "{" in route.path else ()), *query],
        **({"requestBody": body} if route.body else {}),
        "responses": {"200": {"description": "What there is."}},
    }


def main() -> None:
    """Serve one client over stdio."""
    fastmcp: Any = importlib.import_module("fastmcp")
    # What fastmcp is made for, and brings.
    httpx2: Any = importlib.import_module("httpx2")
    paths: dict[str, dict[str, Any]] = {}
    for name, route in ROUTES.items():
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(name, route)
    client = httpx2.AsyncClient(
        base_url=f"{os.environ['VECTORIZE_BASE_URL']}/org/{os.environ['VECTORIZE_ORGANIZATION_ID']}",
        headers={"Authorization": f"Bearer {os.environ['VECTORIZE_API_KEY']}"},
        limits=httpx2.Limits(max_connections=64, max_keepalive_connections=64),
        verify=False,
    )
    document = {"openapi": "3.1.0", "info": {"title": "Vectorize", "version": "1"}, "paths": paths}
    fastmcp.FastMCP.from_openapi(document, client=client, name="fastmcp").run(show_banner=False)


if __name__ == "__main__":
    main()
