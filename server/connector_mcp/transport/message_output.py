"""Messages to a descriptor, on the event loop itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

import anyio
from mcp.shared.message import SessionMessage
from mcp_types import JSONRPCResponse, RequestId

from connector_mcp.transport.lines import encode
from connector_mcp.transport.sinks import sink_of

CHUNK = 1 << 20
"""Bytes that are written before the event loop gets its turn again."""


class MessageOutput:
    """Writes messages to a descriptor, each as one whole line, also where whoever sent it is cancelled midway.

    When nobody reads any more, `on_gone` is called and the stream counts as broken. `on_answer` is called after each
    answer to a request. The first that is sent to the request `answered` is not written: the client has it.
    """

    def __init__(
        self,
        descriptor: int,
        on_gone: Callable[[], None],
        on_answer: Callable[[], None],
        answered: RequestId | None = None,
    ) -> None:
        self._sink = sink_of(descriptor)
        self._on_gone = on_gone
        self._on_answer = on_answer
        self._answered = answered
        self._loop = asyncio.get_running_loop()
        self._pending: list[memoryview] = []
        self._drained: asyncio.Future[None] | None = None
        self._listening = False
        self._due = False
        self._gone = False
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        await self.aclose()

    async def send(self, item: SessionMessage, /) -> None:
        """Write a message; waits while the client does not read.

        Raises:
            BrokenResourceError: Nobody reads.
            ClosedResourceError: The stream was closed before.
        """
        if self._closed:
            raise anyio.ClosedResourceError
        message = item.message
        if self._answered is not None and isinstance(message, JSONRPCResponse) and message.id == self._answered:
            self._answered = None
            self._on_answer()
            return
        self.write(encode(message))
        await self.written()
        if isinstance(message, JSONRPCResponse):
            self._on_answer()

    def answer(self, line: bytes) -> None:
        """Write the line of an answer, without waiting for that; in silence where nobody reads."""
        self.write(line)
        self._on_answer()

    def write(self, line: bytes) -> None:
        """Write a line, without waiting for that. What is written in one turn of the event loop goes out together."""
        if not self._gone:
            self._pending.append(memoryview(line))
            if not self._listening and not self._due:
                self._due = True
                self._loop.call_soon(self._flush)

    async def aclose(self) -> None:
        """Write what is left, and send nothing after it."""
        self._closed = True
        if not self._listening:
            self._flush()
        with suppress(anyio.BrokenResourceError):
            await self.written()

    def abandon(self) -> None:
        """Leave the event loop, whatever is left."""
        self._closed = True
        self._pending.clear()
        self._gone = True
        self._listen(False)
        self._sink.close()
        self._wake()

    async def written(self) -> None:
        """Wait until all is written.

        Raises:
            BrokenResourceError: Nobody reads.
        """
        while self._pending and not self._gone:
            if self._drained is None:
                self._drained = self._loop.create_future()
            # Shared by all who wait: one of them being cancelled must not wake the others.
            await asyncio.shield(self._drained)
        if self._gone:
            raise anyio.BrokenResourceError

    def _flush(self) -> None:
        self._due = False
        allowed = CHUNK
        try:
            while self._pending and allowed > 0:
                written = self._sink.write(self._pending)
                allowed -= written
                self._count_out(written)
        except BlockingIOError:
            pass
        except OSError:
            self._gone = True
            self._pending.clear()
            self._on_gone()
        self._listen(bool(self._pending))
        if not self._pending:
            self._wake()

    def _count_out(self, written: int) -> None:
        whole = 0
        for piece in self._pending:
            if written < len(piece):
                break
            written -= len(piece)
            whole += 1
        del self._pending[:whole]
        if written:
            self._pending[0] = self._pending[0][written:]

    def _listen(self, wanted: bool) -> None:
        if wanted and not self._listening:
            try:
                self._loop.add_writer(self._sink.descriptor, self._flush)
            except PermissionError:
                # A file, which is always ready.
                self._loop.call_soon(self._flush)
            else:
                self._listening = True
        elif self._listening and not wanted:
            self._listening = False
            self._loop.remove_writer(self._sink.descriptor)

    def _wake(self) -> None:
        drained, self._drained = self._drained, None
        if drained is not None and not drained.done():
            drained.set_result(None)
