"""One call of a tool that passes the SDK's transports by, whatever carries its messages."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Final

import anyio
from mcp.server.runner import ServerRunner, modern_error_data
from mcp.shared.dispatcher import CallOptions
from mcp.shared.exceptions import NoBackChannelError
from mcp.shared.jsonrpc_dispatcher import progress_token_from_params
from mcp.shared.message import MessageMetadata
from mcp.shared.transport_context import TransportContext
from mcp_types import ErrorData, JSONRPCNotification, JSONRPCRequest, RequestId

from connector_mcp.transport.back_channel import BackChannel
from connector_mcp.transport.lines import encode

METHOD: Final = "tools/call"


class DirectCall(ABC):
    """A request; the `mcp.shared.dispatcher.DispatchContext` of it. With a `channel` (before 2026-07-28) the client can
    be asked."""

    message_metadata: MessageMetadata = None

    def __init__(self, identifier: RequestId, params: Mapping[str, Any] | None, channel: BackChannel | None) -> None:
        self.request_id: RequestId = identifier
        self.is_cancelled = False
        """Whether the client has cancelled it by a notification."""
        self._params = params
        self._channel = channel
        self._cancel_requested: anyio.Event | None = None
        self._closed = False

    @property
    @abstractmethod
    def transport(self) -> TransportContext:
        """What carries the request."""

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

    def cancel(self) -> None:
        """The client does not want the answer any more."""
        self.is_cancelled = True
        if self._cancel_requested is not None:
            self._cancel_requested.set()
        self.stop()

    @abstractmethod
    def stop(self) -> None:
        """Nobody wants the answer any more: end what is under way."""

    async def outcome(self, runner: ServerRunner[dict[str, Any]], method: str = METHOD) -> dict[str, Any] | ErrorData:
        """Have `runner` do what is requested; the result, or the error to answer with."""
        try:
            return await runner.on_request(self, method, self._params)
        except Exception as error:  # noqa: BLE001 - logged and made harmless by the SDK's own rule
            return modern_error_data(error)
        finally:
            self._closed = True

    async def notify(self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None) -> None:
        """Tell the client something on the way to the answer."""
        if not self._closed:
            await self._tell(_notification(method, params))

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
            await self._tell(encode(asked))
            return await answer
        except asyncio.CancelledError:
            reason = {"requestId": identifier, "reason": "not waited for"}
            await self._withdraw(_notification("notifications/cancelled", reason))
            raise
        finally:
            channel.expect_no_more(identifier)

    @abstractmethod
    async def _tell(self, message: bytes) -> None:
        """Send what comes before the answer; in silence where nobody is there any more."""

    @abstractmethod
    async def _withdraw(self, message: bytes) -> None:
        """Send that a question needs no answer, although the task is being cancelled."""


def _notification(method: str, params: Mapping[str, Any] | None) -> bytes:
    told = JSONRPCNotification(jsonrpc="2.0", method=method)
    if params is not None:
        told.params = dict(params)
    return encode(told)
