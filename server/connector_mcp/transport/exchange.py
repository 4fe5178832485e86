"""One call of a tool over HTTP, made in the task that brought it.

The SDK gives each POST a task group, three or more tasks and two queues between them, because any request may turn into
a stream. A call nearly never does, so here it is one await, whatever carries its answer. What that buys is in
benchmarks/README.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import anyio
from mcp.shared.message import ServerMessageMetadata
from mcp.shared.transport_context import TransportContext
from starlette.requests import Request

from connector_mcp.transport.back_channel import BackChannel
from connector_mcp.transport.direct_call import DirectCall


class Outlet(Protocol):
    """What carries the messages of a call to its client."""

    async def tell(self, message: bytes) -> None:
        """Send what comes before the answer; in silence where nobody is there any more."""
        ...


class Exchange(DirectCall):
    """A call that a POST has brought."""

    def __init__(
        self, request: Request, message: Mapping[str, Any], outlet: Outlet, channel: BackChannel | None = None
    ) -> None:
        super().__init__(message["id"], message["params"], channel)
        self.message_metadata = ServerMessageMetadata(request_context=request)
        self.scope = anyio.CancelScope()
        """What is within it ends when nobody wants the answer any more. `outcome` is to be awaited in it."""
        self._request = request
        self._outlet = outlet

    @property
    def transport(self) -> TransportContext:
        return TransportContext(
            kind="streamable-http", can_send_request=self._channel is not None, headers=self._request.headers
        )

    def stop(self) -> None:
        self.scope.cancel()

    async def _tell(self, message: bytes) -> None:
        await self._outlet.tell(message)

    async def _withdraw(self, message: bytes) -> None:
        with anyio.CancelScope(shield=True):
            await self._outlet.tell(message)
