"""The queue as it changes, told to open pages as server-sent events."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Awaitable, Callable

import anyio
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from connector_mcp.engine.approval.queue import Approvals
from connector_mcp.errors import StoreUnavailable

SECONDS = 1.5
"""How often the queue is looked at while anybody watches."""

HEARTBEAT_SECONDS = 15.0
"""After how long a quiet stream says that it is there, so that nothing between it and the browser closes it."""

STREAMS = 64
"""Streams that are open at once."""

_HEAD = {
    "type": "http.response.start",
    "status": 200,
    "headers": [
        (b"content-type", b"text/event-stream; charset=utf-8"),
        (b"x-accel-buffering", b"no"),
    ],
}


class Watch:
    """Looks at the queue once for all who ask within `SECONDS`."""

    def __init__(self, approvals: Approvals, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._approvals = approvals
        self._clock = clock
        self._one_at_a_time = anyio.Lock()
        self._looked_at = -SECONDS
        self._state = ("", 0)

    async def state(self) -> tuple[str, int]:
        """A text that changes with the queue, and how many calls wait.

        Raises:
            StoreUnavailable: The queue cannot be read.
        """
        async with self._one_at_a_time:
            if self._clock() - self._looked_at >= SECONDS:
                live = await self._approvals.list()
                seen = "\n".join(f"{approval.id} {approval.status}" for approval in live)
                waiting = sum(approval.status == "pending" for approval in live)
                self._state = (hashlib.sha256(seen.encode()).hexdigest()[:16], waiting)
                self._looked_at = self._clock()
            return self._state


class Streams:
    """The open streams."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._open = 0

    async def serve(
        self, scope: Scope, receive: Receive, send: Send, *, may_go_on: Callable[[], Awaitable[bool]]
    ) -> None:
        """Tell of changes until the browser has gone, or may no longer know.

        Ends as well when the store cannot be read; the browser then comes again.
        """
        if self._open >= STREAMS:
            full = PlainTextResponse("Too many pages watch; reload instead.", 503, {"Retry-After": "30"})
            await full(scope, receive, send)
            return
        self._open += 1
        try:
            async with anyio.create_task_group() as tasks:

                async def until_gone() -> None:
                    while (await receive())["type"] != "http.disconnect":
                        pass
                    tasks.cancel_scope.cancel()

                tasks.start_soon(until_gone)
                await send(_HEAD)
                await self._tell(send, may_go_on)
                tasks.cancel_scope.cancel()
        finally:
            self._open -= 1

    async def _tell(self, send: Send, may_go_on: Callable[[], Awaitable[bool]]) -> None:
        told, silent = None, 0.0
        text = "retry: 5000\n\n"
        try:
            while await may_go_on():
                state = await self._watch.state()
                if state != told:
                    version, waiting = told = state
                    text += f"event: queue\nid: {version}\ndata: {waiting}\n\n"
                elif silent >= HEARTBEAT_SECONDS:
                    text = ":\n\n"
                if text:
                    await send({"type": "http.response.body", "body": text.encode(), "more_body": True})
                    text, silent = "", 0.0
                await anyio.sleep(SECONDS)
                silent += SECONDS
            text = "event: ended\ndata:\n\n"
        except StoreUnavailable:
            text = ""
        await send({"type": "http.response.body", "body": text.encode(), "more_body": False})
