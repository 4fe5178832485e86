"""HTTP requests in flight: their time limits, whether their clients are still there, and how a server ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import anyio
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from connector_mcp.transport.mcp.elicitation import PRESENCE, Presence
from connector_mcp.transport.mcp.tools import CallsInFlight

ANSWERING: Final = 3.0
"""Seconds in which calls that were cut short are answered before their connections are closed."""

_DISCONNECT: Final[Message] = {"type": "http.disconnect"}


class BodyTimeout(Exception):
    """The client did not send the whole body in time."""


class OpenRequest:
    """One HTTP request in flight, with `receive` and `send` for the application.

    The client has `timeout` seconds to send the body, and as long to read each part of the answer. A request is hung up
    on by telling the application that its client has gone: it then ends as it does for any client. Cancelling it would
    leave the SDK's streams open.
    """

    def __init__(self, is_post: bool, receive: Receive, send: Send, timeout: float) -> None:
        self.is_post = is_post
        self.presence = Presence()
        self.is_answering = False
        self.is_answered = False
        self.is_hung_up = False
        self._receive = receive
        self._send = send
        self._timeout = timeout
        self._body_deadline: float | None = anyio.current_time() + timeout
        self._receiving: set[anyio.CancelScope] = set()

    async def receive(self) -> Message:
        """Return the next ASGI event.

        Raises:
            BodyTimeout: The client took too long to send the body.
        """
        if self.is_hung_up:
            return _DISCONNECT
        deadline = float("inf") if self._body_deadline is None else self._body_deadline
        with anyio.CancelScope(deadline=deadline) as scope:
            self._receiving.add(scope)
            try:
                message = await self._receive()
            finally:
                self._receiving.discard(scope)
            if message["type"] == "http.disconnect":
                self.presence.gone = True
            elif not message.get("more_body", False):
                self._body_deadline = None
            return message
        if self.is_hung_up:
            return _DISCONNECT
        raise BodyTimeout

    async def send(self, message: Message) -> None:
        """Send an ASGI event. If the client does not read it in time, it counts as gone."""
        if self.presence.gone and self.is_hung_up:
            return
        self.is_answering = True
        with anyio.move_on_after(self._timeout) as scope:
            await self._send(message)
            self.is_answered = message["type"] == "http.response.body" and not message.get("more_body", False)
        if scope.cancelled_caught:
            self.presence.gone = True
            self.hang_up()

    def hang_up(self) -> None:
        """Tell the application that the client has gone."""
        self.is_hung_up = True
        for scope in tuple(self._receiving):
            scope.cancel()


class Drain:
    """The requests and calls of an HTTP server, and its orderly end: calls get some time, endless streams are cut.

    `end_waiting` answers the calls that only wait for a decision, which would use up the time of the others. `calls`
    belongs to the MCP server and is set with it. `timeout` is the time limit of `OpenRequest`.
    """

    def __init__(self, end_waiting: Callable[[], None] | None = None) -> None:
        self.calls = CallsInFlight()
        self.timeout = 30.0
        self.has_begun = False
        """True once the server is ending and should get no new requests."""
        self._end_waiting = end_waiting
        self._open: set[OpenRequest] = set()
        self._is_hanging_up = False
        self._one_ended = anyio.Event()

    def requests(self, app: ASGIApp) -> ASGIApp:
        """Wrap an ASGI application so that its requests are known and can be ended."""

        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            request = OpenRequest(scope["method"] == "POST", receive, send, self.timeout)
            if self._is_hanging_up:
                request.hang_up()
            self._open.add(request)
            try:
                await app({**scope, PRESENCE: request.presence}, request.receive, request.send)
                if self._is_hanging_up and not request.is_answered:
                    await self._finish(request, scope, receive, send)
            except BodyTimeout:
                if not request.is_answering:
                    late = PlainTextResponse("The request body took too long.", 408, {"Connection": "close"})
                    await late(scope, receive, send)
            finally:
                self._open.discard(request)
                self._one_ended.set()

        return serve

    async def end(self, grace: float) -> None:
        """Let calls and their answers finish for up to `grace` seconds, then cut short what is left.

        Calls that are cut short are answered so. Then every request is hung up on.
        """
        self.has_begun = True
        if self._end_waiting is not None:
            self._end_waiting()
        with anyio.move_on_after(grace):
            await self._answered()
        if self.calls.cut_short():
            with anyio.move_on_after(ANSWERING):
                await self._answered()
        self._is_hanging_up = True
        for request in tuple(self._open):
            request.hang_up()
        await self._none_open(posts_only=False)

    async def _answered(self) -> None:
        await self.calls.wait_until_idle()
        await self._none_open(posts_only=True)

    async def _none_open(self, *, posts_only: bool) -> None:
        while any(request.is_post or not posts_only for request in self._open):
            self._one_ended = anyio.Event()
            await self._one_ended.wait()

    async def _finish(self, request: OpenRequest, scope: Scope, receive: Receive, send: Send) -> None:
        if request.is_answering:
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        else:
            await PlainTextResponse("The server is ending.", 503)(scope, receive, send)
