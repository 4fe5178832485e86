"""`tools/list` and `tools/call`: the engine's tools and results in the form of the protocol."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Awaitable, Callable
from typing import Any, Final, Literal

import anyio
from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS, CallToolRequestParams, InputRequiredResult, PaginatedRequestParams

from connector_mcp.engine.caller import AnswerDue, CallResult, TransportName
from connector_mcp.engine.engine import Engine, UnknownTool
from connector_mcp.engine.results import clean_strings, encode_bytes
from connector_mcp.errors import ConnectorError, Internal, OutcomeUnknown, RateLimited
from connector_mcp.json_values import JsonObject, members
from connector_mcp.operations.tool import Tool
from connector_mcp.telemetry.log_lines import Trace
from connector_mcp.text import clean
from connector_mcp.transport.mcp.elicitation import McpCaller, elicitation_result

MAX_CALLS: Final = 256
"""Tool calls that one server runs at the same time, unless told otherwise."""

RETRY_AFTER: Final = 1
"""Seconds after which one of many calls is likely to have ended."""

_COMPLETE: Final = {"resultType": "complete"}
"""A member of each result in the 2026-07-28 protocol. For earlier protocols the SDK leaves it out."""

Context = ServerRequestContext[dict[str, Any], Any]

logger = logging.getLogger(__name__)


class CallsInFlight:
    """The tool calls that are running, on every transport: how many there may be, and how they are ended early.

    A call beyond the bound is refused. It does not wait: a waiting call could keep the server from reading the answer
    to a question that a running call has asked.
    """

    def __init__(self, most: int = MAX_CALLS) -> None:
        self._most = most
        self._scopes: set[anyio.CancelScope] = set()
        self._idle: anyio.Event | None = None

    @property
    def is_full(self) -> bool:
        """True if another call would be refused."""
        return len(self._scopes) >= self._most

    async def run(self, call: Callable[[], Awaitable[JsonObject | InputRequiredResult]]) -> Any:
        """Run a call and return its result, or the error result of a call that was refused or cut short."""
        if self.is_full:
            message = "The server is already running as many calls as it takes. Nothing was done."
            fix = "Make the same call again in a moment."
            return _failed(RateLimited(message, fix=fix, retry_after=RETRY_AFTER))
        with anyio.CancelScope() as scope:
            self._scopes.add(scope)
            try:
                return await call()
            finally:
                self._scopes.discard(scope)
                if not self._scopes and self._idle is not None:
                    self._idle.set()
                    self._idle = None
        message = "The server ended before this call did, so its outcome is not known."
        fix = "Read the target, and make the same call again only if the change was not made."
        return _failed(OutcomeUnknown(message, fix=fix))

    def cut_short(self) -> bool:
        """Cancel all running calls, which are answered with `outcome_unknown`; return whether there were any."""
        for scope in tuple(self._scopes):
            scope.cancel()
        return bool(self._scopes)

    async def wait_until_idle(self) -> None:
        """Wait until no call is running."""
        while self._scopes:
            if self._idle is None:
                self._idle = anyio.Event()
            await self._idle.wait()


class ToolHandlers:
    """The handlers of `tools/list` and `tools/call`. Their results are the protocol's JSON as dictionaries.

    No failure of a call becomes a protocol error, because many clients hide those from the model. The exceptions are a
    tool that does not exist and a request state that this server did not seal.
    """

    def __init__(self, engine: Engine, transport: TransportName, calls: CallsInFlight) -> None:
        self._engine = engine
        self._transport: TransportName = transport
        self._calls = calls

    async def list_tools(self, ctx: Context, params: PaginatedRequestParams) -> JsonObject:
        """List the tools that the policy allows, and the scopes that the caller has or can get."""
        listed = [tool.as_dict() for tool in self.seen(ctx)]
        if self._engine.settings.result_content == "text":
            # Clients refuse a result without structured content where a schema promises some.
            listed = [{key: value for key, value in tool.items() if key != "outputSchema"} for tool in listed]
        return {"tools": listed, **_COMPLETE}

    def seen(self, ctx: Context) -> tuple[Tool, ...]:
        """The tools that the policy allows, and the scopes that the caller has or can get."""
        return self._visible(self._caller(ctx))

    async def call_tool(self, ctx: Context, params: CallToolRequestParams) -> Any:
        """Call a tool, within the bound on calls in flight."""
        return await self._calls.run(lambda: self._call(ctx, params))

    def input_schema(self, name: str) -> JsonObject | None:
        """Return a tool's input schema. Without this, every 2026-07-28 call over HTTP would list all tools first."""
        tool = self._engine.tool(name)
        return tool.input_schema if tool else None

    async def _call(self, ctx: Context, params: CallToolRequestParams) -> JsonObject | InputRequiredResult:
        engine, caller = self._engine, self._caller(ctx, params)
        try:
            result = await engine.call(params.name, params.arguments or {}, caller)
            missing = members(result.content.get("error")).get("scope")
            if missing and any(tool.name == params.name for tool in engine.tools()):
                caller.note_missing_scope(missing)
            return _tool_result(result, engine.settings.result_content)
        except AnswerDue as due:
            return elicitation_result(due)
        except UnknownTool as unknown:
            data = {"candidates": unknown.candidates} if unknown.candidates else None
            raise MCPError(INVALID_PARAMS, unknown.message, data) from None
        except Exception as error:  # noqa: BLE001 - the outermost boundary: logged here, not shown to the client
            trace = Trace.of(traceback.format_exception(error), engine.scrub)
            logger.error("a call of %s failed%s", clean(params.name, 64), trace)
            message = "The server failed unexpectedly. Whether anything was changed is not known."
            fix = "Read the target before you repeat the call. The operator finds the cause in the server's log."
            return _failed(Internal(message, fix=fix))

    def _visible(self, caller: McpCaller) -> tuple[Tool, ...]:
        return self._engine.tools(caller, any_scope=caller.can_step_up)

    def _caller(self, ctx: Context, params: CallToolRequestParams | None = None) -> McpCaller:
        ask_timeout = self._engine.settings.ask_timeout
        return McpCaller(ctx, params, transport=self._transport, ask_timeout=ask_timeout)


def _tool_result(result: CallResult, form: Literal["both", "text", "structured"] = "both") -> JsonObject:
    """Return the structured content, the same as text for clients and models that read only text, or both.

    An error always has both, because some clients show a person only the text.
    """
    content = result.content
    try:
        text = (result.encoded or encode_bytes(content)).decode()
    except UnicodeDecodeError:
        # A lone surrogate is valid in JSON and cannot be encoded: sent, it would end a stdio connection.
        content = clean_strings(content)
        text = encode_bytes(content).decode()
    told: JsonObject = {"content": [], "structuredContent": content, "isError": result.is_error, **_COMPLETE}
    if form != "structured" or result.is_error:
        told["content"] = [{"type": "text", "text": text}]
    if form == "text" and not result.is_error:
        del told["structuredContent"]
    return told


def _failed(error: ConnectorError) -> JsonObject:
    return _tool_result(CallResult({"error": error.as_dict()}, is_error=True))
