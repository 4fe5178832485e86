"""A span for every request of a client, within the trace that the client says it belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from mcp.server.context import CallNext, HandlerResult, ServerMiddleware, ServerRequestContext
from mcp.server.lowlevel.server import Server
from mcp_types.version import KNOWN_PROTOCOL_VERSIONS

from connector_mcp.engine.engine import Engine

if TYPE_CHECKING:
    from connector_mcp.telemetry.spans import Spans

PARENT: Final = "traceparent"

_HANDSHAKE: Final = "initialize"
_OTHER: Final = "other"


def traced(server: Server[dict[str, Any]], spans: Spans, engine: Engine) -> ServerMiddleware[dict[str, Any]]:
    """MCP middleware, to be the outermost. What a client names and we do not know has no name here.

    The client's span is that of `_meta.traceparent` (W3C Trace Context), else that of the HTTP header of this name.
    """

    async def trace(ctx: ServerRequestContext[dict[str, Any], Any], call_next: CallNext) -> HandlerResult:
        if ctx.request_id is None:
            return await call_next(ctx)
        known = ctx.method == _HANDSHAKE or server.get_request_handler(ctx.method) is not None
        tool = _tool(ctx, engine) if ctx.method == "tools/call" else None
        parent = _text(ctx.meta) or _text(getattr(ctx.request, "headers", None))
        version = ctx.protocol_version if ctx.protocol_version in KNOWN_PROTOCOL_VERSIONS else _OTHER
        with spans.request(ctx.method if known else _OTHER, tool, version, parent):
            return await call_next(ctx)

    return trace


def _tool(ctx: ServerRequestContext[dict[str, Any], Any], engine: Engine) -> str | None:
    name = (ctx.params or {}).get("name")
    return name if isinstance(name, str) and engine.tool(name) is not None else None


def _text(carrier: Mapping[str, Any] | None) -> str | None:
    value = None if carrier is None else carrier.get(PARENT)
    return value if isinstance(value, str) else None
