"""The engine as an MCP server for both eras of the protocol: tools, connector types as resources, prompts.

The official SDK reads and answers every message. What a transport adds lies outside of this module.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from mcp.server.caching import CacheHint
from mcp.server.context import CallNext, HandlerResult, ServerMiddleware
from mcp.server.lowlevel.server import Server
from mcp.server.request_state import RequestStateBoundary, RequestStateSecurity
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_PARAMS,
    CallToolRequestParams,
    CompleteRequestParams,
    CompleteResult,
    GetPromptRequestParams,
    GetPromptResult,
    ListPromptsResult,
    ListResourcesResult,
    ListResourceTemplatesResult,
    PaginatedRequestParams,
    ReadResourceRequestParams,
    ReadResourceResult,
)
from mcp_types.methods import SPEC_CLIENT_METHODS, SPEC_CLIENT_NOTIFICATION_METHODS
from mcp_types.version import KNOWN_PROTOCOL_VERSIONS
from pydantic import ValidationError

from connector_mcp import __version__
from connector_mcp.engine.caller import TransportName
from connector_mcp.engine.engine import Engine
from connector_mcp.transport.mcp import resources, server_info
from connector_mcp.transport.mcp.elicitation import principal_of
from connector_mcp.transport.mcp.tools import CallsInFlight, Context, ToolHandlers

NAME: Final = "connector-mcp"
TITLE: Final = "Connectors"

REQUEST_STATE_TTL: Final = 600.0
"""Seconds in which a question of the 2026-07-28 protocol may be answered."""

_MINUTE: Final = CacheHint(ttl_ms=60_000, scope="private")
_TRACE_PARENT: Final = "traceparent"
_OTHER: Final = "_OTHER"
_METHODS: Final = SPEC_CLIENT_METHODS | SPEC_CLIENT_NOTIFICATION_METHODS
_PIPE: Final = {"network.transport": "pipe"}
_HTTP_VERSIONS: Final = ("1.0", "1.1", "2", "3")
_PLAIN_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


def build_server(
    engine: Engine,
    *,
    request_state_key: bytes,
    transport: TransportName = "stdio",
    calls: CallsInFlight | None = None,
) -> Server[dict[str, Any]]:
    """Build the MCP server of an engine.

    `request_state_key` (32 random bytes or more) seals the state of questions; processes that take up each other's
    questions share it. `calls` bounds the tool calls in flight. Ending the server, or a connection to it, does not
    close the engine.
    """

    tools = ToolHandlers(engine, transport, calls or CallsInFlight())

    async def list_resources(ctx: Context, params: PaginatedRequestParams | None) -> ListResourcesResult:
        return ListResourcesResult(resources=resources.list_resources(tools.seen(ctx)))

    async def list_templates(ctx: Context, params: PaginatedRequestParams | None) -> ListResourceTemplatesResult:
        return ListResourceTemplatesResult(resource_templates=[resources.TEMPLATE])

    async def read_resource(ctx: Context, params: ReadResourceRequestParams) -> ReadResourceResult:
        return resources.read_resource(params.uri, tools.seen(ctx))

    async def list_prompts(ctx: Context, params: PaginatedRequestParams | None) -> ListPromptsResult:
        return server_info.list_prompts(tools.seen(ctx))

    async def get_prompt(ctx: Context, params: GetPromptRequestParams) -> GetPromptResult:
        return server_info.get_prompt(params.name, params.arguments, tools.seen(ctx))

    async def complete(ctx: Context, params: CompleteRequestParams) -> CompleteResult:
        given = params.context.arguments if params.context else None
        found = server_info.complete(params.argument.name, params.argument.value, given, tools.seen(ctx))
        return CompleteResult(completion=found)

    server = Server[dict[str, Any]](
        NAME,
        version=__version__,
        title=TITLE,
        icons=[server_info.ICON],
        instructions=server_info.instructions(engine.tools()),
        cache_hints={
            "tools/list": _MINUTE,
            "prompts/list": _MINUTE,
            "resources/list": _MINUTE,
            "resources/templates/list": CacheHint(ttl_ms=3_600_000, scope="public"),
            "resources/read": CacheHint(ttl_ms=3_600_000, scope="private"),
        },
        get_tool_input_schema=tools.input_schema,
        on_list_resources=list_resources,
        on_list_resource_templates=list_templates,
        on_read_resource=read_resource,
        on_list_prompts=list_prompts,
        on_get_prompt=get_prompt,
        on_completion=complete,
    )
    # Registered here and not above because these handlers return dictionaries.
    server.add_request_handler("tools/list", PaginatedRequestParams, tools.list_tools)
    server.add_request_handler("tools/call", CallToolRequestParams, tools.call_tool)
    security = RequestStateSecurity(keys=[request_state_key], ttl=REQUEST_STATE_TTL, bind_principal=principal_of)
    boundary = RequestStateBoundary(security, default_audience=NAME)
    # The SDK's own tracing is left out: it names spans by whatever a client sends, and records what exceptions say.
    server.middleware = [_observing(engine, transport), boundary] if engine.observer.listens else [boundary]
    return server


def _observing(engine: Engine, transport: TransportName) -> ServerMiddleware[dict[str, Any]]:
    """Measure every request and notification, with the attributes of the OpenTelemetry conventions for MCP.

    A span is part of the trace that the client names in `_meta` or in the HTTP header. Session ids and addresses of
    clients are left out on purpose.
    """

    async def observe(ctx: Context, call_next: CallNext) -> HandlerResult:
        attributes = _attributes(ctx, engine, transport)
        parent = _trace_parent(ctx.meta) or _trace_parent(getattr(ctx.request, "headers", None))
        with engine.observer.operation(attributes, parent):
            try:
                result = await call_next(ctx)
            except (MCPError, ValidationError) as error:
                code = error.error.code if isinstance(error, MCPError) else INVALID_PARAMS
                attributes |= {"error.type": str(code), "rpc.response.status_code": str(code)}
                raise
            except Exception:
                attributes["error.type"] = _OTHER
                raise
            except BaseException:
                attributes["error.type"] = "cancelled"
                raise
            if ctx.method == "resources/read":
                # What could be read is an address of this server, and not any text.
                attributes["mcp.resource.uri"] = str((ctx.params or {}).get("uri"))
            if isinstance(result, dict) and result.get("isError") is True:
                attributes["error.type"] = "tool_error"
            return result

    return observe


def _attributes(ctx: Context, engine: Engine, transport: TransportName) -> dict[str, str]:
    """Return what is known at the beginning. Clients may send anything: what is not known is `_OTHER` or left out."""
    given = (ctx.params or {}).get("name")
    name = given if isinstance(given, str) else ""
    attributes = {
        "mcp.method.name": ctx.method if ctx.method in _METHODS else _OTHER,
        "mcp.protocol.version": ctx.protocol_version if ctx.protocol_version in KNOWN_PROTOCOL_VERSIONS else _OTHER,
        **({"network.transport": "tcp", "network.protocol.name": "http"} if transport == "http" else _PIPE),
    }
    if ctx.request_id is not None and _PLAIN_ID.fullmatch(str(ctx.request_id)):
        attributes["jsonrpc.request.id"] = str(ctx.request_id)
    if ctx.method == "tools/call":
        attributes["gen_ai.operation.name"] = "execute_tool"
        if engine.tool(name) is not None:
            attributes["gen_ai.tool.name"] = name
    elif ctx.method == "prompts/get" and name in {skill.name for skill in resources.all_skills()}:
        attributes["gen_ai.prompt.name"] = name
    if (version := getattr(ctx.request, "scope", {}).get("http_version")) in _HTTP_VERSIONS:
        attributes["network.protocol.version"] = version
    return attributes


def _trace_parent(carrier: Mapping[str, Any] | None) -> str | None:
    value = None if carrier is None else carrier.get(_TRACE_PARENT)
    return value if isinstance(value, str) else None
