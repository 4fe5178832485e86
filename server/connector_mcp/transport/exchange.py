"""One call of a tool over HTTP, made in the task that brought it.

The SDK gives each POST a task group, three or more tasks and two queues between them, because any request may turn into
a stream. A call nearly never does, so here it is one await, whatever carries its answer. What that buys is in
benchmarks/README.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final, Protocol

import anyio
from mcp.server.runner import ServerRunner, modern_error_data
from mcp.shared.dispatcher import CallOptions
from mcp.shared.exceptions import NoBackChannelError
from mcp.shared.jsonrpc_dispatcher import progress_token_from_params
from mcp.shared.message import ServerMessageMetadata
from mcp.shared.transport_context import TransportContext
from mcp_types import ErrorData, JSONRPCNotification, JSONRPCRequest, RequestId
from starlette.requests import Request

from connector_mcp.transport.back_channel import BackChannel
from connector_mcp.transport.lines import encode

METHOD: Final = "tools/call"


class Outlet(Protocol):
    """What carries the messages of a call to its client."""

    async def tell(self, message: bytes) -> None:
        """Send what comes before the answer; in silence where nobody is there any more."""
        ...


class Exchange:
    """A call; the `mcp.shared.dispatcher.DispatchContext` of it. With a `channel` (before 2026-07-28) the client can be
    asked."""

    def __init__(
        self, request: Request, message: Mapping[str, Any], outlet: Outlet, channel: BackChannel | None = None
    ) -> None:
        self.request_id: RequestId = message["id"]
        self.message_metadata = ServerMessageMetadata(request_context=request)
        self.is_cancelled = False
        """Whether the client has cancelled it by a notification."""
        self.scope = anyio.CancelScope()
        """What is within it ends when nobody wants the answer any more."""
        self._params: Mapping[str, Any] = message["params"]
        self._request = request
        self._outlet = outlet
        self._channel = channel
        self._cancel_requested: anyio.Event | None = None
        self._closed = False

    @property
    def transport(self) -> TransportContext:
        return TransportContext(
            kind="streamable-http", can_send_request=self._channel is not None, headers=self._request.headers
        )

    @property
    def can_send_request(self) -> bool:
        return self._channel is not None and not self._closed

    @property
    def cancel_requested(self) -> anyio.Event:
        # Made for those who look: an event of anyio's costs as much as the rest of this object.
        if self._cancel_requested is None:
            self._cancel_requested = anyio.Event()
            if self.is_cancelled:
                self._cancel_requested.set()
        return self._cancel_requested

    async def outcome(self, runner: ServerRunner[dict[str, Any]]) -> dict[str, Any] | ErrorData:
        """Have `runner` do what is asked, within `scope`; the result, or the error to answer with."""
        try:
            return await runner.on_request(self, METHOD, self._params)
        except Exception as error:  # noqa: BLE001 - logged and made harmless by the SDK's own rule
            return modern_error_data(error)
        finally:
            self._closed = True

    def cancel(self) -> None:
        """The client does not want the answer any more."""
        self.is_cancelled = True
        if self._cancel_requested is not None:
            self._cancel_requested.set()
        self.scope.cancel()

    async def notify(self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None) -> None:
        """Tell the client something on the way to the answer."""
        if not self._closed:
            told = JSONRPCNotification(jsonrpc="2.0", method=method)
            if params is not None:
                told.params = dict(params)
            await self._outlet.tell(encode(told))

    async def progress(self, progress: float, total: float | None = None, message: str | None = None) -> None:
        """Tell the client how far the call is, where it asked to be told."""
        token = progress_token_from_params(self._params)
        if token is None:
            return
        params: dict[str, Any] = {"progressToken": token, "progress": progress}
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
        asked = JSONRPCRequest(jsonrpc="2.0", id=identifier, method=method)
        if params is not None:
            asked.params = dict(params)
        try:
            await self._outlet.tell(encode(asked))
            return await answer
        except asyncio.CancelledError:
            with anyio.CancelScope(shield=True):
                await self.notify("notifications/cancelled", {"requestId": identifier, "reason": "not waited for"})
            raise
        finally:
            channel.expect_no_more(identifier)
