"""One client over stdin and stdout, from what its greeting has left to its end, with the SDK."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from mcp.server.stdio import stdio_server

from connector_mcp.engine.engine import Engine
from connector_mcp.transport.greeting import Greeting
from connector_mcp.transport.line_calls import LineCalls
from connector_mcp.transport.mcp.server import build_server
from connector_mcp.transport.message_output import MessageOutput
from connector_mcp.transport.standard_streams import MessageInput, stdout_set_aside

if TYPE_CHECKING:
    from connector_mcp.telemetry.spans import Spans


async def serve_session(
    engine: Engine,
    request_state_key: bytes,
    greeting: Greeting,
    *,
    on_gone: Callable[[], None],
    on_answer: Callable[[], None],
    spans: Spans | None,
) -> None:
    """Serve this process's stdin and stdout until the first is at its end.

    `on_gone` is called when the client has closed the other end of stdout, `on_answer` after each answer.
    """
    server = build_server(engine, request_state_key=request_state_key, spans=spans)
    options = server.create_initialization_options()
    if sys.platform == "win32":
        async with stdio_server() as (read, write):
            await server.run(read, write, options)
        return
    with stdout_set_aside() as private:
        output = MessageOutput(private, on_gone, on_answer, greeting.answered)
        calls = LineCalls(server, output)
        source = MessageInput(0, output, calls.take, unread=greeting.unread)
        try:
            async with calls:
                await server.run(source, output, options)
        finally:
            await source.aclose()
            output.abandon()
