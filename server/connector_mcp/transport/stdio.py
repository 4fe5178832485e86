"""MCP over stdin and stdout."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import anyio
import anyio.to_thread
from mcp.server.lowlevel.server import Server
from mcp.server.stdio import stdio_server

from connector_mcp.engine.call import Engine
from connector_mcp.transport.line_calls import LineCalls
from connector_mcp.transport.logs import logging_to_stderr
from connector_mcp.transport.message_output import MessageOutput
from connector_mcp.transport.server import build_server
from connector_mcp.transport.signals import ending_signal
from connector_mcp.transport.standard_streams import MessageInput, stdout_set_aside
from connector_mcp.upstream.wire import warm_up

if TYPE_CHECKING:
    from connector_mcp.telemetry.spans import Spans

ANSWERS_AT_START: Final = 2
"""How many answers a client waits for before it calls a tool: to the handshake and to tools/list."""


async def serve_stdio(engine: Engine, *, spans: Spans | None = None) -> int:
    """Serve one client until it closes stdin or stdout, or a signal ends the server; the exit status.

    Either way the calls in flight are cancelled, and have ended when this returns. 0 at the end of the stream and on
    SIGTERM, 130 on SIGINT. With `spans` every request has one.

    Raises:
        ConnectorError: The store does not give the key that seals questions.
    """
    server = build_server(engine, request_state_key=await engine.request_state_key(), spans=spans)
    status = 0
    answers = 0
    settled = anyio.Event()

    def on_answer() -> None:
        nonlocal answers
        answers += 1
        if answers == ANSWERS_AT_START:
            settled.set()

    async def warm_up_once_settled() -> None:
        # The first call would otherwise wait 0.25 s for the HTTP client, and the start if it were imported there.
        await settled.wait()
        await anyio.to_thread.run_sync(warm_up, abandon_on_cancel=True)

    async def end_on_signal() -> None:
        nonlocal status
        status = await ending_signal()
        tasks.cancel_scope.cancel()

    with logging_to_stderr(engine.scrub, engine.settings.log_level, engine.settings.log_format):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(end_on_signal)
            if not engine.settings.sandbox:
                tasks.start_soon(warm_up_once_settled)
            await _serve(server, tasks.cancel_scope.cancel, on_answer)
            tasks.cancel_scope.cancel()
    return status


async def _serve(server: Server[dict[str, Any]], on_gone: Callable[[], None], on_answer: Callable[[], None]) -> None:
    """Serve this process's stdin and stdout until the first is at its end.

    `on_gone` is called when the client has closed the other end of stdout, `on_answer` after each answer.
    """
    options = server.create_initialization_options()
    if sys.platform == "win32":
        async with stdio_server() as (read, write):
            await server.run(read, write, options)
        return
    with stdout_set_aside() as private:
        output = MessageOutput(private, on_gone, on_answer)
        calls = LineCalls(server, output)
        source = MessageInput(0, output, calls.take)
        try:
            async with calls:
                await server.run(source, output, options)
        finally:
            await source.aclose()
            output.abandon()
