"""The engine as an MCP server: tools, the connector types as resources, prompts, and calls.

Whatever a transport adds lies outside of this module. No failure of a call leaves it as a protocol error, because many
clients hide those from the model: the exceptions are a tool that does not exist and a request state that is not ours.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final

from mcp.server.caching import CacheHint
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel.server import Server
from mcp.server.request_state import RequestStateBoundary, RequestStateSecurity
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_PARAMS,
    CallToolRequestParams,
    CallToolResult,
    GetPromptRequestParams,
    GetPromptResult,
    InputRequiredResult,
    ListPromptsResult,
    ListResourcesResult,
    ListResourceTemplatesResult,
    PaginatedRequestParams,
    ReadResourceRequestParams,
    ReadResourceResult,
    TextContent,
)

from connector_mcp import __version__
from connector_mcp.engine.call import Engine, UnknownTool
from connector_mcp.engine.caller import AnswerDue, CallResult, TransportName
from connector_mcp.engine.results import clean_strings, encode
from connector_mcp.errors import Internal
from connector_mcp.transport import connector_type_resources, prompts
from connector_mcp.transport.introduction import INSTRUCTIONS, NAME, TITLE
from connector_mcp.transport.questions import McpCaller, principal_of, returned_question
from connector_mcp.transport.tool_list import ToolList
from connector_mcp.transport.tracing import traced
from connector_mcp.upstream.text import clean

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
    listing = ToolList(lambda ctx: engine.tools(McpCaller(ctx, transport=transport, ask_timeout=ask_timeout)))

    def input_schema(name: str) -> dict[str, Any] | None:
        tool = engine.tool(name)
        return tool.input_schema if tool else None

    async def call_tool(ctx: Context, params: CallToolRequestParams) -> CallToolResult | InputRequiredResult:
        caller = McpCaller(ctx, params, transport=transport, ask_timeout=ask_timeout)
        try:
            return _wire_result(await engine.call(params.name, params.arguments or {}, caller))
        except AnswerDue as due:
            return returned_question(due)
        except UnknownTool:
            raise _unknown_tool(params.name, [tool.name for tool in engine.tools(caller)]) from None
        except Exception as error:  # noqa: BLE001 - the outermost boundary: logged here, told to nobody
            return _wire_result(_fault(engine, params.name, error))

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
        on_call_tool=call_tool,
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
    return server


def _wire_result(result: CallResult) -> CallToolResult:
    """The structured content, and the same as text for clients and models that read only that."""
    content, text = result.content, encode(result.content)
    try:
        text.encode()
    except UnicodeEncodeError:
        # Half a surrogate pair is valid in JSON and in no encoding: sent, it would end a stdio connection.
        content = clean_strings(content)
        text = encode(content)
    return CallToolResult(
        content=[TextContent(text=text)],
        structured_content=content,
        is_error=result.is_error,
    )


def _fault(engine: Engine, tool: str, error: Exception) -> CallResult:
    logger.error("a call of %s failed:\n%s", clean(tool, 64), engine.scrub("".join(traceback.format_exception(error))))
    answer = Internal(
        "The server failed in a way that it did not foresee. Whether anything was changed is not known.",
        fix="Read the target before you repeat the call. The operator finds the cause in the server's log.",
    )
    return CallResult({"error": answer.as_dict()}, is_error=True)


def _unknown_tool(name: str, known: list[str]) -> MCPError:
    near = get_close_matches(name, known, n=1)
    hint = f" Did you mean {near[0]}?" if near else " Call tools/list for those there are."
    data: Mapping[str, Any] = {"nearest": near[0]} if near else {}
    return MCPError(INVALID_PARAMS, f"Unknown tool: {clean(name, 64)}.{hint}", data or None)


def _platforms(engine: Engine) -> list[str]:
    """The platforms that are on, in the order of their tools."""
    return list(dict.fromkeys(tool.operation.on.name for tool in engine.tools() if tool.operation.on))
