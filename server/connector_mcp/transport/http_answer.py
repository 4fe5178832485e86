"""What answers one call over Streamable HTTP: a response of JSON, or of events where something is told before the end.

It is a stream only when there is something to tell before the answer: a notification, a question, or a sign of life.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import anyio
from anyio.abc import TaskGroup
from mcp.server.runner import ServerRunner
from mcp.shared.inbound import ERROR_CODE_HTTP_STATUS
from mcp_types import ErrorData
from starlette.types import Message, Receive, Send

from connector_mcp.transport.exchange import Exchange
from connector_mcp.transport.lines import encode_answer, encode_error

WATCH_AFTER: Final = 0.25
"""Seconds after which it is watched whether the client is still there. Most calls have ended by then, and a task that
watches costs a tenth of a call."""

SIGN_OF_LIFE: Final = 15.0
"""Seconds of silence that a proxy is expected to bear."""

REQUEST_CANCELLED: Final = -32800
"""What the SDK answers a cancelled request with where the revision ends a request only with an answer."""

Header = tuple[bytes, bytes]

_JSON: Final = (b"content-type", b"application/json")
_EVENTS: Final = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
]


class HttpAnswer:
    """The response to one POST, which has these `headers` beside its own."""

    def __init__(self, receive: Receive, send: Send, headers: Sequence[Header] = ()) -> None:
        self._receive = receive
        self._send = send
        self._headers = headers
        self._streams = False
        self._closed = False
        self._watch: anyio.CancelScope | None = None

    async def make(
        self,
        exchange: Exchange,
        runner: ServerRunner[dict[str, Any]],
        tasks: TaskGroup,
        hanging_up: anyio.Event | None = None,
    ) -> None:
        """Have the call done and answer it.

        A call of 2026-07-28 is cancelled when the client hangs up. One before goes on, as it does in the SDK, until
        the server ends, which sets `hanging_up`.
        """

        def begin_to_watch() -> None:
            tasks.start_soon(self._watch_over, exchange, hanging_up)

        timer = asyncio.get_running_loop().call_later(WATCH_AFTER, begin_to_watch)
        outcome: dict[str, Any] | ErrorData | None = None
        try:
            with exchange.scope:
                outcome = await exchange.outcome(runner)
        finally:
            self._closed = True
            timer.cancel()
            if self._watch is not None:
                self._watch.cancel()
        if outcome is None and exchange.is_cancelled:
            outcome = ErrorData(code=REQUEST_CANCELLED, message="Request cancelled")
        if isinstance(outcome, ErrorData):
            status = 200 if hanging_up else ERROR_CODE_HTTP_STATUS.get(outcome.code, 200)
            await self._finish(encode_error(exchange.request_id, outcome), status)
        elif outcome is not None:
            await self._finish(encode_answer(exchange.request_id, outcome))

    async def tell(self, message: bytes) -> None:
        """Send what comes before the answer."""
        await self._begin_stream()
        await self._send(body_of(event_of(message), more=True))
        # What is sent to a client that has gone is done at once: whoever watches for that must get a turn.
        await asyncio.sleep(0)

    async def _finish(self, text: bytes, status: int = 200) -> None:
        if self._streams:
            await self._send(body_of(event_of(text), more=False))
            return
        headers = [_JSON, (b"content-length", b"%d" % len(text)), *self._headers]
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        await self._send(body_of(text, more=False))

    async def _begin_stream(self) -> None:
        if not self._streams:
            self._streams = True
            headers = [*_EVENTS, *self._headers]
            await self._send({"type": "http.response.start", "status": 200, "headers": headers})

    async def _watch_over(self, exchange: Exchange, until: anyio.Event | None) -> None:
        with anyio.CancelScope() as self._watch:
            if self._closed:
                return
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._show_life)
                while (await self._receive())["type"] != "http.disconnect":
                    pass
                if until is not None:
                    await until.wait()
                exchange.scope.cancel()
                tasks.cancel_scope.cancel()

    async def _show_life(self) -> None:
        while True:
            await anyio.sleep(SIGN_OF_LIFE)
            await self._begin_stream()
            await self._send(body_of(b": ping\r\n\r\n", more=True))


def event_of(message: bytes) -> bytes:
    """A message, which may end with a line feed, as an event of a stream."""
    return b"event: message\r\ndata: %b\r\n\r\n" % message.rstrip(b"\n")


def body_of(text: bytes, *, more: bool) -> Message:
    """The ASGI event that sends this."""
    return {"type": "http.response.body", "body": text, "more_body": more}
