"""MCP over stdin and stdout: each message is one line of JSON.

On POSIX the lines are read and written on the event loop. The SDK's own `stdio_server` enters a thread for every line,
ignores malformed lines, and does not end on a signal while stdin is open. Windows cannot wait for these descriptors on
the event loop, so there `stdio_server` is used.
"""

from __future__ import annotations

import codecs
import json
import os
import select
import sys
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import anyio
import anyio.lowlevel
import anyio.to_thread
from anyio.abc import ObjectReceiveStream, ObjectSendStream
from mcp.shared.message import SessionMessage
from mcp_types import (
    INTERNAL_ERROR,
    INVALID_REQUEST,
    PARSE_ERROR,
    ErrorData,
    JSONRPCError,
    JSONRPCNotification,
    JSONRPCResponse,
    jsonrpc_message_adapter,
)
from pydantic import ValidationError

from connector_mcp.engine.engine import Engine
from connector_mcp.json_values import is_array, is_object
from connector_mcp.transport.mcp.server import build_server
from connector_mcp.transport.process import ending_signal, exempt_from_garbage_collection, logging_to_stderr
from connector_mcp.transport.streams import Readable, Writable, has_invalid_id, throttled
from connector_mcp.upstream.client import warm_up

MAX_LINE: Final = 16 * 1024 * 1024
"""Bytes of the longest line that is read."""

MESSAGES_AT_START: Final = 2
"""Messages that a client waits for before it calls a tool: the answers to the handshake and to `tools/list`."""

CLOSING: Final = 1.0
"""Seconds in which the rest of a line is written when the server ends."""

WINDOWS_LIMITS: Final = (
    "On Windows, malformed lines get no answer, and Ctrl-C ends the server without waiting for calls in flight."
)

_CHUNK: Final = 1 << 16


async def serve_stdio(engine: Engine) -> int:
    """Serve one client until it closes stdin or stdout, or a signal ends the server; return the exit status.

    Calls in flight are cancelled then, and have ended when this returns. The status is 0 at the end of the stream and
    on SIGTERM, 130 on SIGINT.

    Raises:
        ConnectorError: The store does not give the key that seals questions.
    """
    request_state_key = await engine.request_state_key()
    status = 0
    started = anyio.Event()

    async def end_on_signal() -> None:
        nonlocal status
        status = await ending_signal()
        tasks.cancel_scope.cancel()

    async def warm_up_once_started() -> None:
        # The first call would otherwise wait for the HTTP client to be imported, and so would the start.
        await started.wait()
        if not engine.settings.sandbox:
            await anyio.to_thread.run_sync(warm_up, abandon_on_cancel=True)
        exempt_from_garbage_collection()

    with logging_to_stderr(engine.scrub, engine.settings.log_level, engine.settings.log_format):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(end_on_signal)
            tasks.start_soon(warm_up_once_started)
            server = build_server(engine, request_state_key=request_state_key)
            async with _standard_streams(started, tasks.cancel_scope.cancel) as (read, write):
                await server.run(*throttled(read, write), server.create_initialization_options())
            tasks.cancel_scope.cancel()
    return status


@asynccontextmanager
async def _standard_streams(
    started: anyio.Event, on_gone: Callable[[], None]
) -> AsyncGenerator[tuple[Readable, Writable]]:
    """The streams of this process. Meanwhile, whatever else is printed to stdout goes to stderr."""
    if sys.platform == "win32":
        from mcp.server.stdio import stdio_server

        print(WINDOWS_LIMITS, file=sys.stderr)  # noqa: T201 - logging may be set to errors only
        async with stdio_server() as streams:
            yield streams
        return
    sys.stdout.flush()
    private = os.dup(1)
    try:
        os.dup2(2, 1)
        writer = LineWriter(private, started, on_gone)
        yield LineReader(0, writer), writer
    finally:
        sys.stdout.flush()
        os.dup2(private, 1)
        os.close(private)


class LineWriter(ObjectSendStream[SessionMessage]):
    """Writes messages to a descriptor, each as one whole line, even if the task that sends it is cancelled midway.

    The descriptor stays in blocking mode, which it may share with other processes. So only as much is written at once
    as a descriptor that is ready takes without blocking. `started` is set after the first `MESSAGES_AT_START` messages.
    When the other end is closed, `on_gone` is called and the stream counts as broken.
    """

    def __init__(self, descriptor: int, started: anyio.Event, on_gone: Callable[[], None]) -> None:
        self._descriptor = descriptor
        self._started = started
        self._on_gone = on_gone
        self._ready = select.poll()
        self._ready.register(descriptor, select.POLLOUT)
        self._lock = anyio.Lock(fast_acquire=True)
        self._unwritten = bytearray()
        self._messages = 0
        self._broken = False
        self._closed = False

    async def send(self, item: SessionMessage) -> None:
        """Write a message; waits while the client does not read.

        Raises:
            BrokenResourceError: The client has closed its end.
            ClosedResourceError: The stream was closed before.
        """
        if self._closed:
            raise anyio.ClosedResourceError
        self._unwritten += _encode(item)
        await self._write()
        self._messages += 1
        if self._messages == MESSAGES_AT_START:
            self._started.set()

    async def aclose(self) -> None:
        """Write the rest of a line that was begun, and nothing after it."""
        self._closed = True
        with suppress(anyio.BrokenResourceError), anyio.move_on_after(CLOSING, shield=True):
            await self._write()

    async def _write(self) -> None:
        async with self._lock:
            while self._unwritten and not self._broken:
                if not self._ready.poll(0):
                    await anyio.wait_writable(self._descriptor)
                    continue
                try:
                    # A pipe that is ready takes this much without blocking, and maybe no more.
                    del self._unwritten[: os.write(self._descriptor, self._unwritten[: select.PIPE_BUF])]
                except OSError:
                    self._broken = True
                    self._on_gone()
        if self._broken:
            self._unwritten.clear()
            raise anyio.BrokenResourceError


class LineReader(ObjectReceiveStream[SessionMessage | Exception]):
    """Reads messages from a descriptor. A line that is not a message is answered with an error through `writer`."""

    def __init__(self, descriptor: int, writer: LineWriter) -> None:
        self._descriptor = descriptor
        self._writer = writer
        self._lines: deque[bytes | None] = deque()
        self._begun = bytearray()
        self._is_too_long = False
        self._ended = False

    async def receive(self) -> SessionMessage | Exception:
        """Return the next message.

        Raises:
            EndOfStream: The client has closed its end.
        """
        while True:
            line = await self._next_line()
            message = _error(None, INVALID_REQUEST, "This line is too long.") if line is None else parse_line(line)
            if isinstance(message, SessionMessage):
                return message
            if message is not None:
                with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
                    await self._writer.send(SessionMessage(message))

    async def aclose(self) -> None:
        """Read no further."""
        self._ended = True
        self._lines.clear()

    async def _next_line(self) -> bytes | None:
        """The next line; None for one that is longer than `MAX_LINE`."""
        while not self._lines:
            if self._ended:
                raise anyio.EndOfStream
            chunk = await self._read()
            *ends, begun = chunk.split(b"\n")
            for end in ends:
                self._append(end)
                self._end_line()
            self._append(begun)
            if not chunk:
                self._ended = True
                self._end_line()
        return self._lines.popleft()

    def _append(self, part: bytes) -> None:
        self._begun += part
        if len(self._begun) > MAX_LINE:
            self._is_too_long = True
            self._begun.clear()

    def _end_line(self) -> None:
        self._lines.append(None if self._is_too_long else bytes(self._begun))
        self._begun, self._is_too_long = bytearray(), False

    async def _read(self) -> bytes:
        try:
            await anyio.wait_readable(self._descriptor)
        except PermissionError:
            # Regular files and the null device are always ready, and Linux refuses to wait for them.
            await anyio.lowlevel.checkpoint()
        try:
            return os.read(self._descriptor, _CHUNK)
        except OSError:
            return b""


def parse_line(line: bytes) -> SessionMessage | JSONRPCError | None:
    """Return the message of a line, or the error to answer it with; None for a line that gets no answer.

    Blank lines get no answer. Nor do malformed answers to a question: an error with their id would look like the answer
    to a request of the client.
    """
    # A shell on Windows can begin what it pipes with a byte order mark.
    line = line.removeprefix(codecs.BOM_UTF8)
    try:
        message = jsonrpc_message_adapter.validate_json(line, by_name=False)
    except ValidationError:
        return _refuse(line)
    # The SDK takes a request with an invalid id for a notification, and the client would wait forever.
    if isinstance(message, JSONRPCNotification) and b'"id"' in line and has_invalid_id(json.loads(line)):
        return _error(None, INVALID_REQUEST, "An id must be an integer or a string.")
    return SessionMessage(message)


def _refuse(line: bytes) -> JSONRPCError | None:
    if not line.strip():
        return None
    try:
        # More lenient than the SDK's parser: a line that is not valid text may still have an id to answer to.
        value: Any = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError):
        return _error(None, PARSE_ERROR, "This line is not JSON in UTF-8.")
    if is_array(value):
        return _error(None, INVALID_REQUEST, "Batches are not supported: send each message on a line of its own.")
    if not is_object(value):
        return _error(None, INVALID_REQUEST, "This line is not a JSON-RPC 2.0 message.")
    if "method" not in value and ("result" in value or "error" in value):
        return None
    identifier = value.get("id")
    has_id = isinstance(identifier, int | str) and not isinstance(identifier, bool) and _is_text(identifier)
    reason = "This line is not a JSON-RPC 2.0 message." if _is_text(value) else "A string holds a lone surrogate."
    return _error(identifier if has_id else None, INVALID_REQUEST, reason)


def _is_text(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _encode(item: SessionMessage) -> bytes:
    message = item.message
    try:
        return message.model_dump_json(by_alias=True, exclude_unset=True).encode() + b"\n"
    except ValueError:
        if not isinstance(message, JSONRPCResponse | JSONRPCError):
            raise
        # The client must not be left waiting.
        error = _error(message.id, INTERNAL_ERROR, "The answer holds text that cannot be encoded.")
        return error.model_dump_json(by_alias=True, exclude_unset=True).encode() + b"\n"


def _error(identifier: int | str | None, code: int, message: str) -> JSONRPCError:
    return JSONRPCError(jsonrpc="2.0", id=identifier, error=ErrorData(code=code, message=message))
