"""MCP over stdin and stdout."""

from __future__ import annotations

import anyio

from connector_mcp.engine.call import Engine
from connector_mcp.transport.logs import logging_to_stderr
from connector_mcp.transport.server import build_server
from connector_mcp.transport.signals import ending_signal
from connector_mcp.transport.standard_streams import standard_streams


async def serve_stdio(engine: Engine) -> int:
    """Serve one client until it closes stdin or stdout, or a signal ends the server; the exit status.

    Either way the calls in flight are cancelled, and have ended when this returns. 0 at the end of the stream and on
    SIGTERM, 130 on SIGINT.

    Raises:
        ConnectorError: The store does not give the key that seals questions.
    """
    server = build_server(engine, request_state_key=await engine.request_state_key())
    status = 0

    async def end_on_signal() -> None:
        nonlocal status
        status = await ending_signal()
        tasks.cancel_scope.cancel()

    with logging_to_stderr(engine.scrub, engine.settings.log_level):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(end_on_signal)
            async with standard_streams(tasks.cancel_scope.cancel, lambda: None) as (read, write):
                await server.run(read, write, server.create_initialization_options())
            tasks.cancel_scope.cancel()
    return status
