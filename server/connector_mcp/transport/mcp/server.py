"""The engine as an MCP server for both eras of the protocol: tools, connector types as resources, and prompts.

The official SDK reads and answers every message. What a transport adds lies outside of this module.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from mcp.server.caching import CacheHint
from mcp.server.context import CallNext, HandlerResult, ServerMiddleware
from mcp.server.lowlevel.server import Server
from mcp.server.request_state import RequestStateBoundary, RequestStateSecurity
from mcp_types import (
    CallToolRequestParams,
    GetPromptRequestParams,
    GetPromptResult,
    ListPromptsResult,
    ListResourcesResult,
    ListResourceTemplatesResult,
    PaginatedRequestParams,
    ReadResourceRequestParams,
    ReadResourceResult,
)
from mcp_types.version import KNOWN_PROTOCOL_VERSIONS

from connector_mcp import __version__
from connector_mcp.engine.caller import TransportName
from connector_mcp.engine.engine import Engine
from connector_mcp.transport.mcp import resources
from connector_mcp.transport.mcp.elicitation import principal_of
from connector_mcp.transport.mcp.tools import CallsInFlight, Context, ToolHandlers

if TYPE_CHECKING:
    from connector_mcp.telemetry.spans import Spans

NAME: Final = "connector-mcp"
TITLE: Final = "Connectors"

INSTRUCTIONS: Final = (
    "Provisions and looks after connectors on Vectorize, Logto, Versori and ConductorOne.\n"
    "Call describe_connector_type before you create a connector or change a config: it gives the exact schema, which "
    "members are secret, and an example.\n"
    "Calls that destroy or overwrite something are put to a person or parked for an operator; the result says which. "
    "Make the same call again, unchanged, once it is approved. You cannot confirm it yourself.\n"
    "Secrets come back as `[redacted]`. Never send that text as a value: leave the member out to keep what is stored.\n"
    "A secret field takes `secret://NAME` for a secret that is stored here, so that you never see its value.\n"
    "An error says in `fix` what to do next; `outcome_unknown` means look before you repeat."
)

REQUEST_STATE_TTL: Final = 600.0
"""Seconds in which a question of the 2026-07-28 protocol may be answered."""

_MINUTE: Final = CacheHint(ttl_ms=60_000, scope="private")
_TRACE_PARENT: Final = "traceparent"
_OTHER: Final = "other"


def build_server(
    engine: Engine,
    *,
    request_state_key: bytes,
    transport: TransportName = "stdio",
    calls: CallsInFlight | None = None,
    spans: Spans | None = None,
) -> Server[dict[str, Any]]:
    """Build the MCP server of an engine.

    `request_state_key` (32 random bytes or more) seals the state of questions; processes that take up each other's
    questions share it. `calls` bounds the tool calls in flight. With `spans`, every request has one. Ending the server,
    or a connection to it, does not close the engine.
    """

    async def list_resources(ctx: Context, params: PaginatedRequestParams | None) -> ListResourcesResult:
        return ListResourcesResult(resources=resources.indexes(_platforms(engine)))

    async def list_templates(ctx: Context, params: PaginatedRequestParams | None) -> ListResourceTemplatesResult:
        return ListResourceTemplatesResult(resource_templates=[resources.TEMPLATE])

    async def read_resource(ctx: Context, params: ReadResourceRequestParams) -> ReadResourceResult:
        return resources.read_resource(params.uri, _platforms(engine))

    async def list_prompts(ctx: Context, params: PaginatedRequestParams | None) -> ListPromptsResult:
        return resources.list_prompts(_platforms(engine))

    async def get_prompt(ctx: Context, params: GetPromptRequestParams) -> GetPromptResult:
        return resources.get_prompt(params.name, params.arguments, _platforms(engine))

    tools = ToolHandlers(engine, transport, calls or CallsInFlight())
    server = Server[dict[str, Any]](
        NAME,
        version=__version__,
        title=TITLE,
        instructions=INSTRUCTIONS,
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
    )
    # Registered here and not above because these handlers return dictionaries.
    server.add_request_handler("tools/list", PaginatedRequestParams, tools.list_tools)
    server.add_request_handler("tools/call", CallToolRequestParams, tools.call_tool)
    security = RequestStateSecurity(keys=[request_state_key], ttl=REQUEST_STATE_TTL, bind_principal=principal_of)
    boundary = RequestStateBoundary(security, default_audience=NAME)
    # The SDK's own tracing is left out: it names spans by whatever a client sends, and records what exceptions say.
    server.middleware = [boundary] if spans is None else [_tracing(server, spans, engine), boundary]
    return server


def _platforms(engine: Engine) -> list[str]:
    """The platforms that are on, in the order of their tools."""
    return list(dict.fromkeys(tool.operation.on.name for tool in engine.tools() if tool.operation.on))


def _tracing(server: Server[dict[str, Any]], spans: Spans, engine: Engine) -> ServerMiddleware[dict[str, Any]]:
    """Make a span of every request, within the trace that the client names in `_meta` or in the HTTP header.

    Methods, tools and versions that are not known here are called `other` or left out: clients may send anything.
    """

    async def trace(ctx: Context, call_next: CallNext) -> HandlerResult:
        if ctx.request_id is None:
            return await call_next(ctx)
        known = ctx.method == "initialize" or server.get_request_handler(ctx.method) is not None
        name = (ctx.params or {}).get("name") if ctx.method == "tools/call" else None
        tool = name if isinstance(name, str) and engine.tool(name) is not None else None
        parent = _trace_parent(ctx.meta) or _trace_parent(getattr(ctx.request, "headers", None))
        version = ctx.protocol_version if ctx.protocol_version in KNOWN_PROTOCOL_VERSIONS else _OTHER
        with spans.request(ctx.method if known else _OTHER, tool, version, parent):
            return await call_next(ctx)

    return trace


def _trace_parent(carrier: Mapping[str, Any] | None) -> str | None:
    value = None if carrier is None else carrier.get(_TRACE_PARENT)
    return value if isinstance(value, str) else None
