"""stdin and stdout as the pair of streams that `Server.run` takes, on the event loop itself, on POSIX.

What it buys over `mcp.server.stdio.stdio_server`: no thread is entered for a line (figures in
benchmarks/README.md), a server that was told to end does so at once although its client keeps stdin open, and broken
input is answered: see `lines`.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections import deque
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, Self

import anyio
import anyio.lowlevel
from mcp.shared.message import SessionMessage
from mcp_types import JSONRPCError

from connector_mcp.transport.lines import decode, message_of
from connector_mcp.transport.message_output import MessageOutput

CHUNK = 1 << 16
"""Bytes that are read, or written, before the event loop gets its turn again."""

MOST_AHEAD = 256
"""Messages that are read ahead of the SDK; a client that sends more has to wait."""


class MessageInput:
    """The messages of `unread` and of a descriptor. Lines that are none are answered through `output`.

    `take` is shown the object of each line as it comes in. What it says to be its own is not given out.
    """

    def __init__(
        self,
        descriptor: int,
        output: MessageOutput,
        take: Callable[[dict[str, Any]], bool] | None = None,
        *,
        unread: bytes = b"",
    ) -> None:
        self._descriptor = descriptor
        self._output = output
        self._take = take
        self._unread = unread
        self._loop = asyncio.get_running_loop()
        self._read: deque[SessionMessage | JSONRPCError] = deque()
        self._begun: list[bytes] = []
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
            while not self._read:
                if self._ended:
                    raise anyio.EndOfStream
                await self._more()
            read = self._read.popleft()
            if isinstance(read, SessionMessage):
                return read
            with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
                await self._output.send(SessionMessage(read))

    async def aclose(self) -> None:
        """Read no further."""
        self._ended = True
        self._stop()
        self._wake()

    async def _more(self) -> None:
        if self._unread:
            unread, self._unread = self._unread, b""
            self._split(unread)
            return
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
        self._split(chunk)
        if not chunk:
            self._ended = True
            self._hear(b"".join(self._begun))
        if self._ended or len(self._read) >= MOST_AHEAD:
            self._stop()
        if self._read or self._ended:
            self._wake()

    def _split(self, chunk: bytes) -> None:
        first, *others = chunk.split(b"\n")
        self._begun.append(first)
        for part in others:
            self._hear(b"".join(self._begun))
            self._begun = [part]

    def _hear(self, line: bytes) -> None:
        read = decode(line)
        if isinstance(read, dict):
            if self._take is not None and self._take(read):
                return
            read = message_of(read, line)
        if read is not None:
            self._read.append(read)

    def _stop(self) -> None:
        if self._listening:
            self._listening = False
            self._loop.remove_reader(self._descriptor)

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.done():
            waiting.set_result(None)


@contextmanager
def stdout_set_aside() -> Generator[int]:
    """A private copy of stdout. While it lasts whatever else is printed goes to stderr: it must not break a frame."""
    sys.stdout.flush()
    private = os.dup(1)
    try:
        os.dup2(2, 1)
        yield private
    finally:
        sys.stdout.flush()
        os.dup2(private, 1)
        os.close(private)
