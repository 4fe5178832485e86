"""stdin and stdout as the streams of `mcp.server.stdio.stdio_server`, without threads, on POSIX.

The SDK's own streams read in a worker thread that nothing can interrupt: while a client keeps stdin open, a server
that was told to end cannot. These wait for the descriptors in the event loop instead, so that a cancelled server ends
at once, and a line costs no hop between threads.
"""

from __future__ import annotations

import os
import select
import sys
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
from mcp.server.stdio import stdio_server
from mcp.shared._stream_protocols import ReadStream, WriteStream
from mcp.shared.message import SessionMessage

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

CHUNK = 1 << 16


class LineInput(anyio.AsyncFile[str]):
    """The lines of a descriptor, decoded as UTF-8 with what is not UTF-8 replaced."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(sys.stdin)
        self._descriptor = descriptor
        self._lines: deque[bytes] = deque()
        self._begun: list[bytes] = []
        self._ended = False

    async def readline(self) -> str:
        """The next line with its line feed; empty at the end of the stream."""
        while not self._lines and not self._ended:
            await self._fill()
        return self._lines.popleft().decode("utf-8", "replace") if self._lines else ""

    async def _fill(self) -> None:
        await _ready(anyio.wait_readable, self._descriptor)
        try:
            chunk = os.read(self._descriptor, CHUNK)
        except BlockingIOError:
            return
        first, *others = chunk.split(b"\n")
        self._begun.append(first)
        for part in others:
            self._lines.append(b"".join(self._begun) + b"\n")
            self._begun = [part]
        if not chunk:
            self._ended = True
            last = b"".join(self._begun)
            self._lines.extend([last] if last else [])


class LineOutput(anyio.AsyncFile[str]):
    """Writes to a descriptor. When nobody reads it any more, `on_gone` is called and the stream counts as closed."""

    def __init__(self, descriptor: int, on_gone: Callable[[], None]) -> None:
        super().__init__(sys.stdout)
        self._descriptor = descriptor
        self._on_gone = on_gone

    async def write(self, b: ReadableBuffer | str) -> int:
        rest = memoryview(b.encode() if isinstance(b, str) else b)
        size = len(rest)
        while rest:
            await _ready(anyio.wait_writable, self._descriptor)
            try:
                # A pipe that is ready takes this much without blocking the event loop, and may not take more.
                rest = rest[os.write(self._descriptor, rest[: select.PIPE_BUF]) :]
            except BlockingIOError:
                continue
            except (BrokenPipeError, ConnectionResetError):
                self._on_gone()
                raise anyio.ClosedResourceError from None
        return size

    async def flush(self) -> None:
        """Nothing is held back."""


@asynccontextmanager
async def standard_streams(
    on_gone: Callable[[], None],
) -> AsyncGenerator[tuple[ReadStream[SessionMessage | Exception], WriteStream[SessionMessage]]]:
    """MCP over the process's stdin and stdout; while it lasts, whatever else is printed goes to stderr.

    `on_gone` is called when the client has closed the other end of stdout.
    """
    if sys.platform == "win32":
        async with stdio_server() as streams:
            yield streams
        return
    with _stdout_set_aside() as private:
        async with stdio_server(LineInput(0), LineOutput(private, on_gone)) as streams:
            yield streams


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


async def _ready(wait: Callable[[int], Awaitable[None]], descriptor: int) -> None:
    try:
        await wait(descriptor)
    except PermissionError:
        # Files and the null device cannot be waited for; they are always ready.
        await anyio.lowlevel.checkpoint()
