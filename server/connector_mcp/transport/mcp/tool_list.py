"""The answer to `tools/list`, made once for each set of tools and revision of the protocol.

The SDK validates and dumps every tool three times over for each list. Its answer is kept and given again, as what it
lets a middleware answer with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import orjson
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp_types import ListToolsResult, PaginatedRequestParams, RequestId

from connector_mcp.operations.tool import Tool
from connector_mcp.transport.in_order import is_in_order
from connector_mcp.transport.lines import answer_of, encode_answer
from connector_mcp.transport.mcp.server_info import listed

METHOD: Final = "tools/list"

_Context = ServerRequestContext[dict[str, Any], Any]
_Key = tuple[str, tuple[str, ...]]


class ToolList:
    """Lists the tools that `tools` gives for a request. A tool's name stands for all of it: no tool changes."""

    def __init__(self, tools: Callable[[_Context], Sequence[Tool]]) -> None:
        self._tools = tools
        # As many as there are different scopes and revisions: clients cannot make it grow.
        self._kept: dict[_Key, dict[str, Any]] = {}

    async def list_tools(self, ctx: _Context, params: PaginatedRequestParams | None) -> ListToolsResult:
        """The list, for the SDK to make an answer of."""
        return ListToolsResult.model_validate(listed(self._tools(ctx)), by_name=False)

    async def from_memory(self, ctx: _Context, call_next: CallNext) -> HandlerResult:
        """MCP middleware, to be the innermost: the answer that the SDK made before, where it would make the same.

        What the SDK would refuse it still sees: a request before the handshake, or one that is malformed.
        """
        if ctx.method != METHOD or ctx.request_id is None or not is_in_order(ctx):
            return await call_next(ctx)
        key = ctx.protocol_version, tuple(tool.name for tool in self._tools(ctx))
        kept = self._kept.get(key)
        if kept is not None:
            return kept
        answer = await call_next(ctx)
        if isinstance(answer, dict):
            self._kept[key] = answer
        return answer


class EncodedList:
    """The lines of answers that a `ToolList` gives, each encoded once: to encode 126 tools takes 190 us, to copy 10."""

    def __init__(self) -> None:
        self._tools: object = None
        self._encoded = b""

    def line(self, identifier: RequestId, result: dict[str, Any]) -> bytes:
        """The line that answers a request with this result."""
        # What is kept is copied on its way, but not what is in it.
        if self._tools is None or result.get("tools") is not self._tools:
            try:
                self._encoded = orjson.dumps(result)
            except TypeError:
                return encode_answer(identifier, result)
            self._tools = result.get("tools")
        return answer_of(identifier, self._encoded)
