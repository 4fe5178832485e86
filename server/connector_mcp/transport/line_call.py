"""One call of a tool over stdio, from its line to the line that answers it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final

import anyio
from mcp.server.runner import ServerRunner, modern_error_data
from mcp.shared.dispatcher import CallOptions
from mcp.shared.exceptions import MCPError, NoBackChannelError
from mcp.shared.jsonrpc_dispatcher import progress_token_from_params
from mcp.shared.transport_context import TransportContext
from mcp_types import CONNECTION_CLOSED, ErrorData, JSONRPCNotification, JSONRPCRequest, RequestId

from connector_mcp.transport.back_channel import BackChannel
from connector_mcp.transport.lines import encode, encode_error
from connector_mcp.transport.message_output import MessageOutput

_CLOSED: Final = ErrorData(code=CONNECTION_CLOSED, message="Connection closed")

_ANSWERS_ONLY: Final = TransportContext(kind="stdio", can_send_request=False)
_BOTH_WAYS: Final = TransportContext(kind="stdio", can_send_request=True)

Encode = Callable[[RequestId, dict[str, Any]], bytes]
"""What makes of a request's id and result the line that answers it."""


class LineCall:
    """A request and its answer; the `mcp.shared.dispatcher.DispatchContext` of the request.

    With a `channel` (before 2026-07-28) the client can be asked. A request that the client cancels is not answered.
    """

    message_metadata = None

    def __init__(
        self,
        identifier: RequestId,
        params: Mapping[str, Any] | None,
        output: MessageOutput,
        channel: BackChannel | None,
        encode: Encode,
    ) -> None:
        self.request_id: RequestId = identifier
        self.transport = _ANSWERS_ONLY if channel is None else _BOTH_WAYS
        self._params = params
        self._output = output
        self._channel = channel
        self._encode = encode
        self._scope: anyio.CancelScope | None = None
        self._cancel_requested: anyio.Event | None = None
        self._cancelled = False
        self._stopped = False
        self._closed = False

    @property
    def cancel_requested(self) -> anyio.Event:
        if self._cancel_requested is None:
            self._cancel_requested = anyio.Event()
            if self._cancelled:
                self._cancel_requested.set()
        return self._cancel_requested

    @property
    def can_send_request(self) -> bool:
        return self._channel is not None and not self._closed

    async def run(self, runner: ServerRunner[dict[str, Any]], method: str) -> None:
        """Have `runner` do what is requested, and write the outcome."""
        answer: bytes | None = None
        with anyio.CancelScope() as self._scope:
            if not self._stopped:
                try:
                    answer = self._encode(self.request_id, await runner.on_request(self, method, self._params))
                except Exception as error:  # noqa: BLE001 - logged and made harmless by the SDK's own rule
                    answer = encode_error(self.request_id, modern_error_data(error))
        self._closed = True
        if not self._cancelled:
            self._output.answer(answer or encode_error(self.request_id, _CLOSED))

    def cancel(self) -> None:
        """The client does not want the answer any more."""
        self._cancelled = True
        self.cancel_requested.set()
        self.stop()

    def stop(self) -> None:
        """The connection ends."""
        self._stopped = True
        if self._scope is not None:
            self._scope.cancel()

    async def notify(self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None) -> None:
        """Tell the client something on the way to the answer."""
        if self._closed:
            return
        told = JSONRPCNotification(jsonrpc="2.0", method=method)
        if params is not None:
            told.params = dict(params)
        self._output.write(encode(told))
        try:
            await self._output.written()
        except anyio.BrokenResourceError:
            # As in the SDK: that nobody hears it is no matter of the call's.
            return

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
            MCPError: It answered with an error, or is gone.
        """
        channel = self._channel
        if channel is None or self._closed:
            raise NoBackChannelError(method)
        identifier, answer = channel.expect()
        asked = JSONRPCRequest(jsonrpc="2.0", id=identifier, method=method)
        if params is not None:
            asked.params = dict(params)
        try:
            self._output.write(encode(asked))
            await self._output.written()
            return await answer
        except anyio.BrokenResourceError:
            raise MCPError(code=CONNECTION_CLOSED, message=_CLOSED.message) from None
        except asyncio.CancelledError:
            reason = {"requestId": identifier, "reason": "caller cancelled"}
            withdrawn = JSONRPCNotification(jsonrpc="2.0", method="notifications/cancelled", params=reason)
            self._output.write(encode(withdrawn))
            raise
        finally:
            channel.expect_no_more(identifier)
