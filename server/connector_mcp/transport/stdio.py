"""MCP over stdin and stdout."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import anyio
import anyio.to_thread

from connector_mcp.engine.engine import Engine
from connector_mcp.importing import imported
from connector_mcp.transport.greeting import Greeting, greet
from connector_mcp.transport.logs import logging_to_stderr
from connector_mcp.transport.signals import ending_signal
from connector_mcp.upstream.client import warm_up

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
    request_state_key = await engine.request_state_key()
    status = 0
    answers = 0
    settled = anyio.Event()

    def on_answer() -> None:
        nonlocal answers
        answers += 1
        if answers == ANSWERS_AT_START:
            settled.set()

    async def warm_up_once_settled() -> None:
        # The first call would otherwise wait for what speaks HTTP, and the start if it were imported there.
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
            # Spans are made of every request, so the SDK has to see each.
            greeting = Greeting() if spans else await greet(engine.tools)
            if greeting.listed:
                on_answer()
            # Here the SDK comes in, with the signals that end the server heeded as soon as it is there.
            imported("connector_mcp.transport.stdio_session")
            from connector_mcp.transport.stdio_session import serve_session

            gone = tasks.cancel_scope.cancel
            await serve_session(engine, request_state_key, greeting, on_gone=gone, on_answer=on_answer, spans=spans)
            tasks.cancel_scope.cancel()
    return status
