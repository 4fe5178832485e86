"""`tools/call`: a call of the engine and its answer in the form of the wire.

The SDK makes a model of the parameters, and of the result a model, a dictionary, a model of its revision and another
dictionary. What it lets a middleware answer with is that last one, made here at once. It spares an eighth of what the
SDK and stdio take of a call: processor time of 2,000 calls, 64 in flight, of an engine that does nothing.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, Final

from mcp.server.context import CallNext, HandlerResult, ServerMiddleware, ServerRequestContext
from mcp.server.lowlevel.server import Server
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_PARAMS,
    SERVER_INFO_META_KEY,
    CallToolRequestParams,
    CallToolResult,
    InputRequiredResult,
)
from mcp_types.methods import serialize_server_result
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from connector_mcp.engine.caller import AnswerDue, CallResult, TransportName
from connector_mcp.engine.engine import Engine, UnknownTool
from connector_mcp.engine.results import clean_strings, encode_bytes
from connector_mcp.errors import Internal
from connector_mcp.json_values import JsonObject
from connector_mcp.text import clean
from connector_mcp.transport.in_order import is_in_order
from connector_mcp.transport.mcp.elicitation import McpCaller, returned_question

METHOD: Final = "tools/call"

# With others the request brings an answer to a question, or what a later revision of the protocol has added.
_ORDINARY: Final = frozenset({"name", "arguments", "_meta"})

logger = logging.getLogger(__name__)

_Context = ServerRequestContext[dict[str, Any], Any]


class ToolCalls:
    """Calls the tools of an engine."""

    def __init__(self, engine: Engine, transport: TransportName) -> None:
        self._engine = engine
        self._transport: TransportName = transport

    async def call_tool(self, ctx: _Context, params: CallToolRequestParams) -> CallToolResult | InputRequiredResult:
        """The answer to a call, for the SDK to bring into the form of the wire."""
        outcome = await self._outcome(params.name, params.arguments or {}, self._caller(ctx, params))
        if isinstance(outcome, AnswerDue):
            return returned_question(outcome)
        return CallToolResult.model_validate(_on_the_wire(outcome), by_name=False)

    def at_once(self, server: Server[dict[str, Any]]) -> ServerMiddleware[dict[str, Any]]:
        """MCP middleware, to be the innermost: what `server` would make of `call_tool`, where it would call that.

        What it would refuse it still sees, and whatever is rare: a request that brings the answer to a question.
        """
        meta = {SERVER_INFO_META_KEY: server.server_info_stamp}
        modern = {"resultType": "complete", "_meta": meta}

        async def answer(ctx: _Context, call_next: CallNext) -> HandlerResult:
            params = ctx.params
            if ctx.method != METHOD or ctx.request_id is None or not params or not _ORDINARY.issuperset(params):
                return await call_next(ctx)
            if not is_in_order(ctx) or ("_meta" in params and ctx.meta is None):
                return await call_next(ctx)
            # A copy, as the SDK's model has one: the request is looked at again once it has been answered.
            outcome = await self._outcome(params["name"], dict(params.get("arguments") or {}), self._caller(ctx))
            if isinstance(outcome, AnswerDue):
                asked = returned_question(outcome).model_dump(by_alias=True, mode="json", exclude_none=True)
                return {**serialize_server_result(METHOD, ctx.protocol_version, asked), "_meta": meta}
            result = _on_the_wire(outcome)
            return result | modern if ctx.protocol_version in MODERN_PROTOCOL_VERSIONS else result

        return answer

    def _caller(self, ctx: _Context, params: CallToolRequestParams | None = None) -> McpCaller:
        ask_timeout = self._engine.settings.ask_timeout
        return McpCaller(ctx, params, transport=self._transport, ask_timeout=ask_timeout)

    async def _outcome(self, name: str, arguments: JsonObject, caller: McpCaller) -> CallResult | AnswerDue:
        engine = self._engine
        try:
            return await engine.call(name, arguments, caller)
        except AnswerDue as due:
            return due
        except UnknownTool:
            raise _unknown_tool(name, [tool.name for tool in engine.tools(caller)]) from None
        except Exception as error:  # noqa: BLE001 - the outermost boundary: logged here, told to nobody
            return _fault(engine, name, error)


def _on_the_wire(result: CallResult) -> dict[str, Any]:
    """The structured content, and the same as text for clients and models that read only that."""
    content = result.content
    try:
        text = (result.encoded or encode_bytes(content)).decode()
    except UnicodeDecodeError:
        # Half a surrogate pair is valid in JSON and in no encoding: sent, it would end a stdio connection.
        content = clean_strings(content)
        text = encode_bytes(content).decode()
    shown = [{"text": text, "type": "text"}]
    return {"content": shown, "structuredContent": content, "isError": result.is_error}


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
