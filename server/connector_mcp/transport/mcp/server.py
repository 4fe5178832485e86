"""The engine as an MCP server: tools, the connector types as resources, prompts, and calls.

Whatever a transport adds lies outside of this module. No failure of a call leaves it as a protocol error, because many
clients hide those from the model: the exceptions are a tool that does not exist and a request state that is not ours.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from mcp.server.caching import CacheHint
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel.server import Server
from mcp.server.request_state import RequestStateBoundary, RequestStateSecurity
from mcp_types import (
    GetPromptRequestParams,
    GetPromptResult,
    ListPromptsResult,
    ListResourcesResult,
    ListResourceTemplatesResult,
    PaginatedRequestParams,
    ReadResourceRequestParams,
    ReadResourceResult,
)

from connector_mcp import __version__
from connector_mcp.engine.caller import TransportName
from connector_mcp.engine.engine import Engine
from connector_mcp.transport.mcp import prompts
from connector_mcp.transport.mcp import resources as connector_type_resources
from connector_mcp.transport.mcp.elicitation import McpCaller, principal_of
from connector_mcp.transport.mcp.server_info import INSTRUCTIONS, NAME, TITLE
from connector_mcp.transport.mcp.tool_calls import ToolCalls
from connector_mcp.transport.mcp.tool_list import ToolList
from connector_mcp.transport.mcp.tracing import traced

if TYPE_CHECKING:
    from connector_mcp.telemetry.spans import Spans

REQUEST_STATE_TTL: Final = 600.0
"""Seconds in which a question of the 2026-07-28 protocol may be answered."""

logger = logging.getLogger(__name__)

Context = ServerRequestContext[dict[str, Any], Any]


def build_server(
    engine: Engine,
    *,
    request_state_key: bytes,
    transport: TransportName = "stdio",
    spans: Spans | None = None,
) -> Server[dict[str, Any]]:
    """The MCP server of an engine, for both eras of the protocol.

    `request_state_key` (32 random bytes or more) seals the state of questions; processes that are to take up each
    other's questions share it. The engine stays the caller's: ending the server, or a connection to it, closes
    nothing of it. With `spans` every request has one.
    """
    ask_timeout = engine.settings.ask_timeout
    calls = ToolCalls(engine, transport)
    listing = ToolList(lambda ctx: engine.tools(McpCaller(ctx, transport=transport, ask_timeout=ask_timeout)))

    def input_schema(name: str) -> dict[str, Any] | None:
        tool = engine.tool(name)
        return tool.input_schema if tool else None

    async def list_resources(ctx: Context, params: PaginatedRequestParams | None) -> ListResourcesResult:
        return ListResourcesResult(resources=connector_type_resources.indexes(_platforms(engine)))

    async def list_templates(ctx: Context, params: PaginatedRequestParams | None) -> ListResourceTemplatesResult:
        return ListResourceTemplatesResult(resource_templates=[connector_type_resources.TEMPLATE])

    async def read_resource(ctx: Context, params: ReadResourceRequestParams) -> ReadResourceResult:
        return connector_type_resources.read(params.uri, _platforms(engine))

    async def list_prompts(ctx: Context, params: PaginatedRequestParams | None) -> ListPromptsResult:
        return prompts.listed(_platforms(engine))

    async def get_prompt(ctx: Context, params: GetPromptRequestParams) -> GetPromptResult:
        return prompts.got(params.name, params.arguments, _platforms(engine))

    server = Server[dict[str, Any]](
        NAME,
        version=__version__,
        title=TITLE,
        instructions=INSTRUCTIONS,
        cache_hints={
            "tools/list": CacheHint(ttl_ms=60_000, scope="private"),
            "prompts/list": CacheHint(ttl_ms=60_000, scope="private"),
            "resources/list": CacheHint(ttl_ms=60_000, scope="private"),
            "resources/templates/list": CacheHint(ttl_ms=3_600_000, scope="public"),
            "resources/read": CacheHint(ttl_ms=3_600_000, scope="private"),
        },
        # Without it every call over HTTP in the 2026-07-28 protocol lists all tools first.
        get_tool_input_schema=input_schema,
        on_list_tools=listing.list_tools,
        on_call_tool=calls.call_tool,
        on_list_resources=list_resources,
        on_list_resource_templates=list_templates,
        on_read_resource=read_resource,
        on_list_prompts=list_prompts,
        on_get_prompt=get_prompt,
    )
    # The SDK's own tracing goes by whatever name a client sends, and writes down what exceptions say.
    server.middleware.clear()
    if spans is not None:
        server.middleware.append(traced(server, spans, engine))
    security = RequestStateSecurity(keys=[request_state_key], ttl=REQUEST_STATE_TTL, bind_principal=principal_of)
    server.middleware.append(RequestStateBoundary(security, default_audience=NAME))
    server.middleware.append(listing.from_memory)
    server.middleware.append(calls.at_once(server))
    return server


def _platforms(engine: Engine) -> list[str]:
    """The platforms that are on, in the order of their tools."""
    return list(dict.fromkeys(tool.operation.on.name for tool in engine.tools() if tool.operation.on))
