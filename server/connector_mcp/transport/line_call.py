"""One call of a tool over stdio, from its line to the line that answers it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

import anyio
from mcp.server.runner import ServerRunner
from mcp.shared.transport_context import TransportContext
from mcp_types import CONNECTION_CLOSED, ErrorData, RequestId

from connector_mcp.transport.back_channel import BackChannel
from connector_mcp.transport.direct_call import DirectCall
from connector_mcp.transport.lines import encode_error
from connector_mcp.transport.message_output import MessageOutput

_CLOSED: Final = ErrorData(code=CONNECTION_CLOSED, message="Connection closed")

_ANSWERS_ONLY: Final = TransportContext(kind="stdio", can_send_request=False)
_BOTH_WAYS: Final = TransportContext(kind="stdio", can_send_request=True)

Encode = Callable[[RequestId, dict[str, Any]], bytes]
"""What makes of a request's id and result the line that answers it."""


class LineCall(DirectCall):
    """A request that a line has brought. One that the client cancels is not answered."""

    def __init__(
        self,
        identifier: RequestId,
        params: Mapping[str, Any] | None,
        output: MessageOutput,
        channel: BackChannel | None,
        encode: Encode,
    ) -> None:
        super().__init__(identifier, params, channel)
        self._output = output
        self._encode = encode
        # Made within the task: a line comes in where there is none.
        self._scope: anyio.CancelScope | None = None
        self._stopped = False

    @property
    def transport(self) -> TransportContext:
        return _ANSWERS_ONLY if self._channel is None else _BOTH_WAYS

    async def run(self, runner: ServerRunner[dict[str, Any]], method: str) -> None:
        """Have `runner` do what is requested, and write the outcome."""
        outcome: dict[str, Any] | ErrorData = _CLOSED
        with anyio.CancelScope() as self._scope:
            if not self._stopped:
                outcome = await self.outcome(runner, method)
        if self.is_cancelled:
            return
        if isinstance(outcome, ErrorData):
            self._output.answer(encode_error(self.request_id, outcome))
        else:
            self._output.answer(self._encode(self.request_id, outcome))

    def stop(self) -> None:
        self._stopped = True
        if self._scope is not None:
            self._scope.cancel()

    async def _tell(self, message: bytes) -> None:
        self._output.write(message)
        # As in the SDK: that nobody hears it is no matter of the call's.
        with suppress(anyio.BrokenResourceError):
            await self._output.written()

    async def _withdraw(self, message: bytes) -> None:
        # Without waiting: a client that does not read must not keep the server from ending.
        self._output.write(message)
