"""stdin and stdout as the pair of streams that `Server.run` takes, on the event loop itself, on POSIX.

What it buys over `mcp.server.stdio.stdio_server`: no thread is entered for a line (figures in
benchmarks/README.md), a server that was told to end does so at once although its client keeps stdin open, and broken
input is answered: see `lines`.
"""

from __future__ import annotations

import asyncio
import os
import select
import sys
from collections import deque
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from types import TracebackType
from typing import Self

import anyio
import anyio.lowlevel
from mcp.server.stdio import stdio_server
from mcp.shared._stream_protocols import ReadStream, WriteStream
from mcp.shared.message import SessionMessage
from mcp_types import INTERNAL_ERROR, ErrorData, JSONRPCError, JSONRPCResponse, RequestId

from connector_mcp.transport.greeting import Greeting
from connector_mcp.transport.lines import decode, encode

CHUNK = 1 << 16
"""Bytes that are read, or written, before the event loop gets its turn again."""

MOST_LINES = 256
"""Lines that are read ahead of the server; a client that sends more has to wait."""


class MessageInput:
    """The messages of `unread` and of a descriptor. Lines that are none are answered through `output`."""

    def __init__(self, descriptor: int, output: MessageOutput, unread: bytes = b"") -> None:
        self._descriptor = descriptor
        self._output = output
        self._loop = asyncio.get_running_loop()
        *lines, begun = unread.split(b"\n")
        self._lines: deque[bytes] = deque(lines)
        self._begun: list[bytes] = [begun]
        self._ended = False
        self._listening = False
        self._waiting: asyncio.Future[None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        await self.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SessionMessage | Exception:
        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None

    async def receive(self) -> SessionMessage | Exception:
        """The next message.

        Raises:
            EndOfStream: The client has closed its end.
        """
        while True:
            while not self._lines:
                if self._ended:
                    raise anyio.EndOfStream
                await self._more()
            read = decode(self._lines.popleft())
            if isinstance(read, SessionMessage):
                return read
            if read is not None:
                with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
                    await self._output.send(SessionMessage(read))

    async def aclose(self) -> None:
        """Read no further."""
        self._ended = True
        self._stop()
        self._wake()

    async def _more(self) -> None:
        if not self._listening:
            try:
                self._loop.add_reader(self._descriptor, self._readable)
            except PermissionError:
                # Files and the null device cannot be waited for; they are always ready.
                await anyio.lowlevel.checkpoint()
                self._readable()
                return
            self._listening = True
        self._waiting = self._loop.create_future()
        await self._waiting

    def _readable(self) -> None:
        try:
            chunk = os.read(self._descriptor, CHUNK)
        except BlockingIOError:
            return
        except OSError:
            chunk = b""
        first, *others = chunk.split(b"\n")
        self._begun.append(first)
        for part in others:
            self._lines.append(b"".join(self._begun))
            self._begun = [part]
        if not chunk:
            self._ended = True
            self._lines.append(b"".join(self._begun))
        if self._ended or len(self._lines) >= MOST_LINES:
            self._stop()
        if self._lines or self._ended:
            self._wake()

    def _stop(self) -> None:
        if self._listening:
            self._listening = False
            self._loop.remove_reader(self._descriptor)

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.done():
            waiting.set_result(None)


class MessageOutput:
    """Writes messages to a descriptor, each as one whole line, also where whoever sent it is cancelled midway.

    When nobody reads any more, `on_gone` is called and the stream counts as broken. `on_answer` is called after each
    answer to a request. The first answer to the request `answered` is not written: the client has it.
    """

    def __init__(
        self,
        descriptor: int,
        on_gone: Callable[[], None],
        on_answer: Callable[[], None],
        answered: RequestId | None = None,
    ) -> None:
        self._descriptor = descriptor
        self._on_gone = on_gone
        self._on_answer = on_answer
        self._answered = answered
        self._loop = asyncio.get_running_loop()
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)
        self._pending: deque[memoryview] = deque()
        self._drained: asyncio.Future[None] | None = None
        self._listening = False
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
        try:
            line = encode(message)
        except ValueError:
            if not isinstance(message, JSONRPCResponse):
                raise
            # An answer that cannot be written down must not leave the client waiting.
            said = ErrorData(code=INTERNAL_ERROR, message="The answer holds text that cannot be encoded.")
            line = encode(JSONRPCError(jsonrpc="2.0", id=message.id, error=said))
        self._pending.append(memoryview(line))
        if not self._listening:
            self._flush()
        await self._until_written()
        if isinstance(message, JSONRPCResponse):
            self._on_answer()

    async def aclose(self) -> None:
        """Write what is left, and nothing after it."""
        self._closed = True
        with suppress(anyio.BrokenResourceError):
            await self._until_written()

    def abandon(self) -> None:
        """Leave the event loop, whatever is left."""
        self._closed = True
        self._pending.clear()
        self._listen(False)
        self._wake()

    async def _until_written(self) -> None:
        while self._pending and not self._gone:
            if self._drained is None:
                self._drained = self._loop.create_future()
            # Shared by all who wait: one of them being cancelled must not wake the others.
            await asyncio.shield(self._drained)
        if self._gone:
            raise anyio.BrokenResourceError

    def _flush(self) -> None:
        allowed = CHUNK
        try:
            while self._pending and allowed > 0 and self._poll.poll(0):
                # A pipe that is ready takes this much without blocking the event loop, and may not take more.
                written = os.write(self._descriptor, self._pending[0][: select.PIPE_BUF])
                allowed -= written
                if written == len(self._pending[0]):
                    self._pending.popleft()
                else:
                    self._pending[0] = self._pending[0][written:]
        except BlockingIOError:
            pass
        except OSError:
            self._gone = True
            self._pending.clear()
            self._on_gone()
        self._listen(bool(self._pending))
        if not self._pending:
            self._wake()

    def _listen(self, wanted: bool) -> None:
        if wanted and not self._listening:
            try:
                self._loop.add_writer(self._descriptor, self._flush)
            except PermissionError:
                # A file, which is always ready.
                self._loop.call_soon(self._flush)
            else:
                self._listening = True
        elif self._listening and not wanted:
            self._listening = False
            self._loop.remove_writer(self._descriptor)

    def _wake(self) -> None:
        drained, self._drained = self._drained, None
        if drained is not None and not drained.done():
            drained.set_result(None)


@asynccontextmanager
async def standard_streams(
    on_gone: Callable[[], None], on_answer: Callable[[], None], greeting: Greeting
) -> AsyncGenerator[tuple[ReadStream[SessionMessage | Exception], WriteStream[SessionMessage]]]:
    """MCP over the process's stdin and stdout; while it lasts, whatever else is printed goes to stderr.

    `on_gone` is called when the client has closed the other end of stdout, `on_answer` after each answer. What the
    greeting has left unread comes first.
    """
    if sys.platform == "win32":
        async with stdio_server() as streams:
            yield streams
        return
    with _stdout_set_aside() as private:
        output = MessageOutput(private, on_gone, on_answer, greeting.answered)
        source = MessageInput(0, output, greeting.unread)
        try:
            yield source, output
        finally:
            await source.aclose()
            output.abandon()


@contextmanager
def _stdout_set_aside() -> Generator[int]:
    """A private copy of stdout, with the public descriptor pointing at stderr: a stray print must not break a frame."""
    sys.stdout.flush()
    private = os.dup(1)
    try:
        os.dup2(2, 1)
        yield private
    finally:
        sys.stdout.flush()
        os.dup2(private, 1)
        os.close(private)
