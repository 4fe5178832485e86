"""Bringing an HTTP server to its end: calls in flight get their time, endless streams are cut off."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

import anyio
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from connector_mcp.errors import OutcomeUnknown
from connector_mcp.transport.http.limits import error_result
from connector_mcp.transport.mcp.elicitation import PRESENCE, Presence

ANSWERING: Final = 1.0
"""Seconds in which calls that were cut short are answered, before their connections are closed."""


class InFlight:
    """How many of something are going on."""

    def __init__(self) -> None:
        self._count = 0
        # Made for who waits: one for each call would be a twentieth of what is spent on it here.
        self._none: anyio.Event | None = None

    def __enter__(self) -> None:
        self._count += 1

    def __exit__(self, *_: object) -> None:
        self._count -= 1
        if not self._count and self._none is not None:
            self._none.set()
            self._none = None

    async def none(self) -> None:
        """Wait until there is none."""
        while self._count:
            if self._none is None:
                self._none = anyio.Event()
            await self._none.wait()


class Drain:
    """Knows the tool calls and HTTP requests in flight, and ends them.

    It is middleware twice: `count_calls` on the MCP server, `requests` around the ASGI application.
    """

    def __init__(self, end_waiting: Callable[[], None] | None = None) -> None:
        """`end_waiting` answers the calls that only wait, which would use up the others' time."""
        self._end_waiting = end_waiting
        self._calls = InFlight()
        self._running: set[anyio.CancelScope] = set()
        self._posts = InFlight()
        self._requests = InFlight()
        self.has_begun = False
        """Whether the server is ending, so that nobody new should come."""
        self._waiting: set[asyncio.Task[Any]] = set()
        self._hung_up_on: set[asyncio.Task[Any]] = set()
        self.hanging_up = anyio.Event()
        """Set when the time of the calls in flight is over."""

    async def count_calls(self, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        """MCP middleware that counts the calls of tools, whichever HTTP request carries their answer.

        A call that is cut short is answered that its outcome is not known.
        """
        if ctx.method != "tools/call":
            return await call_next(ctx)
        with self._calls, anyio.CancelScope() as running:
            self._running.add(running)
            try:
                return await call_next(ctx)
            finally:
                self._running.discard(running)
        return error_result(_cut_short())

    def requests(self, app: ASGIApp) -> ASGIApp:
        """The application, with its requests known and endable."""

        async def known(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
            elif scope["method"] == "POST":
                with self._requests, self._posts:
                    await self._serve(app, scope, receive, send)
            else:
                with self._requests:
                    await self._serve(app, scope, receive, send)

        return known

    async def end(self, grace: float) -> None:
        """Let calls and their answers finish for up to `grace` seconds, then end what is left.

        Calls are cut short and answered so, then every request is hung up on.
        """
        self.has_begun = True
        if self._end_waiting is not None:
            self._end_waiting()
        with anyio.move_on_after(grace):
            await self._calls.none()
            await self._posts.none()
        for running in tuple(self._running):
            running.cancel()
        with anyio.move_on_after(ANSWERING if self._running else 0):
            await self._calls.none()
            await self._posts.none()
        self.hanging_up.set()
        for waiting in tuple(self._waiting):
            self._hung_up_on.add(waiting)
            waiting.cancel()
        await self._requests.none()

    async def _serve(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        started = completed = False
        presence = Presence()

        async def watched(message: Message) -> None:
            nonlocal started, completed
            started = started or message["type"] == "http.response.start"
            completed = message["type"] == "http.response.body" and not message.get("more_body", False)
            await send(message)

        await app({**scope, PRESENCE: presence}, self._until_hung_up(receive, presence), watched)
        if self.hanging_up.is_set() and not completed:
            if started:
                await send({"type": "http.response.body", "body": b"", "more_body": False})
            else:
                await PlainTextResponse("The server is ending.", 503)(scope, receive, send)

    def _until_hung_up(self, receive: Receive, presence: Presence) -> Receive:
        """Tells the application that the client has gone, once we hang up: it then ends as it does when that is so.

        To cancel it instead would leave the SDK's streams open.
        """

        async def received() -> Message:
            task = asyncio.current_task()
            if self.hanging_up.is_set() or task is None:
                return {"type": "http.disconnect"}
            # Not a cancel scope of anyio's, which would cost a fiftieth of a call.
            self._waiting.add(task)
            try:
                message = await receive()
            except asyncio.CancelledError:
                if task not in self._hung_up_on:
                    raise
                self._hung_up_on.discard(task)
                task.uncancel()
                return {"type": "http.disconnect"}
            finally:
                self._waiting.discard(task)
            if message["type"] == "http.disconnect":
                presence.gone = True
            return message

        return received


def _cut_short() -> OutcomeUnknown:
    return OutcomeUnknown(
        "The server ended before this call did, so what came of it is not known.",
        fix="Read what it was about, and make the same call again only if it has not been done.",
    )
