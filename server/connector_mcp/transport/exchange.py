"""One call of a tool over HTTP, answered in the task that brought it.

The SDK gives each POST a task group, three or more tasks and two queues between them, because any request may turn into
a stream. A call nearly never does, so here it becomes one only when there is something to tell before the answer:
a notification, a question, or a sign of life. What that buys is in benchmarks/README.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, Final, Protocol

import anyio
from anyio.abc import TaskGroup
from mcp.server.runner import modern_error_data
from mcp.shared.dispatcher import CallOptions
from mcp.shared.exceptions import MCPError, NoBackChannelError
from mcp.shared.inbound import ERROR_CODE_HTTP_STATUS
from mcp.shared.jsonrpc_dispatcher import progress_token_from_params
from mcp.shared.message import ServerMessageMetadata
from mcp.shared.transport_context import TransportContext
from mcp_types import (
    INTERNAL_ERROR,
    ErrorData,
    JSONRPCError,
    JSONRPCNotification,
    JSONRPCRequest,
    JSONRPCResponse,
    RequestId,
)
from starlette.requests import Request
from starlette.types import Message, Send

from connector_mcp.transport.lines import encode

WATCH_AFTER: Final = 0.25
"""Seconds after which it is watched whether the client is still there. Most calls have ended by then, and a task that
watches costs a tenth of a call."""

SIGN_OF_LIFE: Final = 15.0
"""Seconds of silence that a proxy is expected to bear."""

REQUEST_CANCELLED: Final = -32800
"""What the SDK answers a cancelled request with where the revision ends a request only with an answer."""

Work = Callable[["Exchange"], Awaitable[dict[str, Any]]]


class BackChannel(Protocol):
    """A session in which a client can be asked something."""

    headers: list[tuple[bytes, bytes]]
    """What each answer of the session carries."""

    def expect(self) -> tuple[str, asyncio.Future[dict[str, Any]]]:
        """An id for a question, and what will be its answer (or an MCPError)."""
        ...

    def expect_no_more(self, identifier: str) -> None:
        """The answer to a question is not waited for any longer."""
        ...


class Exchange:
    """A call and its answer; the `mcp.shared.dispatcher.DispatchContext` of the call.

    With a `channel` (before 2026-07-28) the client can be asked, and the call goes on when the client hangs up, as it
    does in the SDK; without, hanging up cancels it. `hanging_up` is set when the server ends, which cancels either.
    """

    def __init__(
        self,
        request: Request,
        send: Send,
        message: Mapping[str, Any],
        *,
        tasks: TaskGroup,
        hanging_up: anyio.Event,
        channel: BackChannel | None = None,
    ) -> None:
        self.request_id: RequestId = message["id"]
        self.transport = TransportContext(
            kind="streamable-http", can_send_request=channel is not None, headers=request.headers
        )
        self.message_metadata = ServerMessageMetadata(request_context=request)
        self.cancel_requested = anyio.Event()
        self._progress_token = progress_token_from_params(message["params"])
        self._receive = request.receive
        self._send = send
        self._tasks = tasks
        self._hanging_up = hanging_up
        self._channel = channel
        self._scope = anyio.CancelScope()
        self._watch: anyio.CancelScope | None = None
        self._streams = False
        self._closed = False

    @property
    def can_send_request(self) -> bool:
        return self._channel is not None and not self._closed

    async def run(self, work: Work) -> None:
        """Do the work and send its outcome."""
        timer = asyncio.get_running_loop().call_later(WATCH_AFTER, self._begin_to_watch)
        answer: JSONRPCResponse | JSONRPCError | None = None
        try:
            with self._scope:
                answer = await self._outcome(work)
        finally:
            self._closed = True
            timer.cancel()
            if self._watch is not None:
                self._watch.cancel()
        if answer is None and self.cancel_requested.is_set():
            answer = self._error(ErrorData(code=REQUEST_CANCELLED, message="Request cancelled"))
        if answer is not None:
            await self._finish(answer)

    def cancel(self) -> None:
        """The client does not want the answer any more."""
        self.cancel_requested.set()
        self._scope.cancel()

    async def notify(self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None) -> None:
        """Tell the client something on the way to the answer."""
        if not self._closed:
            await self._stream(JSONRPCNotification(jsonrpc="2.0", method=method, params=_plain(params)))

    async def progress(self, progress: float, total: float | None = None, message: str | None = None) -> None:
        """Tell the client how far the call is, where it asked to be told."""
        if self._progress_token is None:
            return
        params: dict[str, Any] = {"progressToken": self._progress_token, "progress": progress}
        params |= {} if total is None else {"total": total}
        params |= {} if message is None else {"message": message}
        await self.notify("notifications/progress", params)

    async def send_raw_request(
        self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None
    ) -> dict[str, Any]:
        """Ask the client.

        Raises:
            NoBackChannelError: It cannot be asked, or not any more.
            MCPError: It answered with an error.
        """
        channel = self._channel
        if channel is None or self._closed:
            raise NoBackChannelError(method)
        identifier, answer = channel.expect()
        try:
            await self._stream(JSONRPCRequest(jsonrpc="2.0", id=identifier, method=method, params=_plain(params)))
            return await answer
        except asyncio.CancelledError:
            with anyio.CancelScope(shield=True):
                await self.notify("notifications/cancelled", {"requestId": identifier, "reason": "not waited for"})
            raise
        finally:
            channel.expect_no_more(identifier)

    async def _outcome(self, work: Work) -> JSONRPCResponse | JSONRPCError:
        try:
            return JSONRPCResponse(jsonrpc="2.0", id=self.request_id, result=await work(self))
        except Exception as error:  # noqa: BLE001 - logged and made harmless by the SDK's own rule
            return self._error(modern_error_data(error))

    def _error(self, error: ErrorData) -> JSONRPCError:
        return JSONRPCError(jsonrpc="2.0", id=self.request_id, error=error)

    async def _finish(self, answer: JSONRPCResponse | JSONRPCError) -> None:
        if self._streams:
            await self._send(_body(_event(self._encoded(answer)), more=False))
            return
        status = 200
        if isinstance(answer, JSONRPCError) and self._channel is None:
            status = ERROR_CODE_HTTP_STATUS.get(answer.error.code, status)
        text = self._encoded(answer)
        length = (b"content-length", b"%d" % len(text))
        await self._send(self._head(status, (b"content-type", b"application/json"), length))
        await self._send(_body(text, more=False))

    def _encoded(self, answer: JSONRPCResponse | JSONRPCError) -> bytes:
        try:
            return encode(answer)
        except ValueError:
            # An answer that cannot be written down must not leave the client waiting.
            said = ErrorData(code=INTERNAL_ERROR, message="The answer holds text that cannot be encoded.")
            return encode(self._error(said))

    async def _stream(self, message: JSONRPCRequest | JSONRPCNotification) -> None:
        await self._begin_stream()
        await self._send(_body(_event(encode(message)), more=True))
        # What is sent to a client that has gone is done at once: whoever watches for that must get a turn.
        await asyncio.sleep(0)

    async def _begin_stream(self) -> None:
        if not self._streams:
            self._streams = True
            kind, fresh = (b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache, no-transform")
            await self._send(self._head(200, kind, fresh, (b"x-accel-buffering", b"no")))

    def _head(self, status: int, *headers: tuple[bytes, bytes]) -> Message:
        own = self._channel.headers if self._channel else ()
        return {"type": "http.response.start", "status": status, "headers": [*headers, *own]}

    def _begin_to_watch(self) -> None:
        self._tasks.start_soon(self._watch_over)

    async def _watch_over(self) -> None:
        with anyio.CancelScope() as self._watch:
            if self._closed:
                return
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._show_life)
                while (await self._receive())["type"] != "http.disconnect":
                    pass
                if self._channel is not None:
                    await self._hanging_up.wait()
                self._scope.cancel()
                tasks.cancel_scope.cancel()

    async def _show_life(self) -> None:
        while True:
            await anyio.sleep(SIGN_OF_LIFE)
            await self._begin_stream()
            await self._send(_body(b": ping\r\n\r\n", more=True))


def _plain(params: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if params is None else dict(params)


def _event(text: bytes) -> bytes:
    return b"event: message\r\ndata: " + text.rstrip(b"\n") + b"\r\n\r\n"


def _body(text: bytes, *, more: bool) -> Message:
    return {"type": "http.response.body", "body": text, "more_body": more}


def settle(answer: asyncio.Future[dict[str, Any]], message: JSONRPCResponse | JSONRPCError) -> None:
    """Give a question what the client answered."""
    with suppress(asyncio.InvalidStateError):
        if isinstance(message, JSONRPCError):
            error = message.error
            answer.set_exception(MCPError(code=error.code, message=error.message, data=error.data))
        else:
            answer.set_result(message.result)
