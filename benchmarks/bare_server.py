"""The bare server: Vectorize's eight operations on the SDK's low-level server, with nothing between.

It has no validation, policy, redaction, audit or retries: arguments go to httpx2 unchanged, and the platform's response
goes back as structured content and as text, which is the form of this project's results too.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from dataclasses import dataclass, field
from typing import Any, Final

import anyio
import httpx2
import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server

Context = ServerRequestContext[dict[str, Any], Any]

STRING: Final = {"type": "string"}
OBJECT: Final = {"type": "object"}
USER: Final = {"user_id": STRING, "selected_files": OBJECT, "refresh_token": STRING, "access_token": STRING}


@dataclass(frozen=True)
class Route:
    """An operation: its request, and which arguments go into the body and the query."""

    method: str
    path: str
    description: str
    body: dict[str, Any] = field(default_factory=dict[str, Any])
    query: dict[str, Any] = field(default_factory=dict[str, Any])
    required: tuple[str, ...] = ()


SOURCES: Final = "/connectors/sources"
SOURCE: Final = SOURCES + "/{source_connector_id}"
USERS: Final = SOURCE + "/users"

ROUTES: Final = {
    "vectorize_get_source_connectors": Route(
        "GET",
        SOURCES,
        "List source connectors.",
        query={"workspace_id": STRING, "limit": {"type": "integer"}, "cursor": STRING},
    ),
    "vectorize_create_source_connector": Route(
        "POST",
        SOURCES,
        "Create a source connector.",
        body={"name": STRING, "type": STRING, "config": OBJECT},
        query={"workspace_id": STRING},
        required=("name", "type"),
    ),
    "vectorize_get_source_connector": Route("GET", SOURCE, "Get a source connector."),
    "vectorize_update_source_connector": Route(
        "PATCH", SOURCE, "Update a source connector.", body={"config": OBJECT}, required=("config",)
    ),
    "vectorize_delete_source_connector": Route("DELETE", SOURCE, "Delete a source connector."),
    "vectorize_add_user_to_source_connector": Route(
        "POST", USERS, "Add a user to a source connector.", body=USER, required=("user_id", "selected_files")
    ),
    "vectorize_update_user_in_source_connector": Route(
        "PATCH", USERS, "Update a user of a source connector.", body=USER, required=("user_id",)
    ),
    "vectorize_delete_user_from_source_connector": Route(
        "DELETE", USERS, "Remove a user from a source connector.", body={"user_id": STRING}, required=("user_id",)
    ),
}

WIRE_NAMES: Final = {
    "workspace_id": "workspaceId",
    "cursor": "nextToken",
    "user_id": "userId",
    "selected_files": "selectedFiles",
    "refresh_token": "refreshToken",
    "access_token": "accessToken",
}


def _tool(name: str, route: Route) -> types.Tool:
    path = {"source_connector_id": STRING} if "{" in route.path else {}
    return types.Tool(
        name=name,
        description=route.description,
        input_schema={
            "type": "object",
            "properties": path | route.query | route.body,
            "required": [*path, *route.required],
        },
    )


def _renamed(arguments: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    return {WIRE_NAMES.get(name, name): value for name, value in arguments.items() if name in wanted}


async def main(http: bool = False) -> None:
    """Serve one client over stdio, or many over HTTP with the defaults of uvicorn and the SDK; prints its address."""
    organization = os.environ["VECTORIZE_ORGANIZATION_ID"]
    tools = [_tool(name, route) for name, route in ROUTES.items()]
    client = httpx2.AsyncClient(
        base_url=f"{os.environ['VECTORIZE_BASE_URL']}/org/{organization}",
        headers={"Authorization": f"Bearer {os.environ['VECTORIZE_API_KEY']}"},
        limits=httpx2.Limits(max_connections=64, max_keepalive_connections=64),
        # Loading the certificate authorities takes 100 ms. Over loopback no server needs them, and this project's
        # server does not load them before its first https call.
        verify=False,
    )

    async def list_tools(ctx: Context, params: types.PaginatedRequestParams | None) -> types.ListToolsResult:
        return types.ListToolsResult(tools=tools)

    async def call_tool(ctx: Context, params: types.CallToolRequestParams) -> types.CallToolResult:
        route, arguments = ROUTES[params.name], params.arguments or {}
        response = await client.request(
            route.method,
            route.path.format(**arguments),
            params=_renamed(arguments, route.query) or None,
            json=_renamed(arguments, route.body) or None,
        )
        data = response.json()
        text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
        return types.CallToolResult(
            content=[types.TextContent(text=text)], structured_content=data, is_error=response.status_code >= 400
        )

    schemas = {tool.name: tool.input_schema for tool in tools}
    server = Server[dict[str, Any]](
        "bare", on_list_tools=list_tools, on_call_tool=call_tool, get_tool_input_schema=schemas.get
    )
    if http:
        async with client:
            await _serve_http(server)
        return
    async with client, stdio_server() as (read, write):
        await server.run(read, write, server.create_initialization_options())


async def _serve_http(server: Server[dict[str, Any]]) -> None:
    # Imported here because they would slow down the start over stdio.
    import uvicorn
    from mcp.server.sse import SseServerTransport
    from starlette.routing import Mount, Route
    from starlette.types import ASGIApp, Receive, Scope, Send

    class _Endpoint:
        """Starlette takes an object that is not a function for an ASGI application."""

        def __init__(self, app: ASGIApp) -> None:
            self._app = app

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            await self._app(scope, receive, send)

    app = server.streamable_http_app()
    transport = SseServerTransport("/messages/")

    async def sse(scope: Scope, receive: Receive, send: Send) -> None:
        async with transport.connect_sse(scope, receive, send) as (read, write):
            await server.run(read, write, server.create_initialization_options())

    app.router.routes += [Route("/sse", _Endpoint(sse)), Mount("/messages/", app=transport.handle_post_message)]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(f"http://127.0.0.1:{listener.getsockname()[1]}/mcp", flush=True)
        # uvicorn's own defaults where nothing else is installed.
        config = uvicorn.Config(app, log_config=None, access_log=False, loop="asyncio", http="h11", ws="none")
        await uvicorn.Server(config).serve(sockets=[listener])


if __name__ == "__main__":
    anyio.run(main, "--http" in sys.argv[1:])
