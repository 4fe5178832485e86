"""Back-pressure for connections on which all messages share one stream: stdio and `/sse`.

The SDK starts a task for every request and puts no limit on them. A client that sends requests and never reads the
answers would grow the server's memory without end. So nothing more is read while a message waits to be written. The
answer to a question is read as soon as the client reads the question.
"""

from __future__ import annotations

import contextvars
from typing import Protocol

import anyio
from anyio.abc import ObjectReceiveStream, ObjectSendStream
from mcp.shared.message import SessionMessage

from connector_mcp.json_values import JsonObject


class Readable(Protocol):
    """A stream of messages from a client."""

    async def receive(self) -> SessionMessage | Exception: ...

    async def aclose(self) -> None: ...


class Writable(Protocol):
    """A stream of messages to a client."""

    async def send(self, item: SessionMessage, /) -> None: ...

    async def aclose(self) -> None: ...


class TrackedWriter(ObjectSendStream[SessionMessage]):
    """Passes messages on, and tracks whether one of them waits to be written."""

    def __init__(self, stream: Writable) -> None:
        self._stream = stream
        self._waiting = 0
        self._all_written: anyio.Event | None = None

    async def send(self, item: SessionMessage) -> None:
        self._waiting += 1
        try:
            await self._stream.send(item)
        finally:
            self._waiting -= 1
            if not self._waiting and self._all_written is not None:
                self._all_written.set()
                self._all_written = None

    async def wait_until_written(self) -> None:
        """Wait until no message waits to be written."""
        while self._waiting:
            if self._all_written is None:
                self._all_written = anyio.Event()
            await self._all_written.wait()

    async def aclose(self) -> None:
        await self._stream.aclose()


class ThrottledReader(ObjectReceiveStream[SessionMessage | Exception]):
    """Passes messages on, but reads none while a message waits to be written."""

    def __init__(self, stream: Readable, writer: TrackedWriter) -> None:
        self._stream = stream
        self._writer = writer

    @property
    def last_context(self) -> contextvars.Context | None:
        """The context of the task that sent the latest message, in which the SDK runs its handler."""
        return getattr(self._stream, "last_context", None)

    async def receive(self) -> SessionMessage | Exception:
        await self._writer.wait_until_written()
        return await self._stream.receive()

    async def aclose(self) -> None:
        await self._stream.aclose()


def throttled(read: Readable, write: Writable) -> tuple[ThrottledReader, TrackedWriter]:
    """Wrap a transport's pair of streams, in the form that `Server.run` takes."""
    writer = TrackedWriter(write)
    return ThrottledReader(read, writer), writer


def has_invalid_id(message: JsonObject) -> bool:
    """Check whether a request has an id that is neither an integer nor a string.

    Some clients send their notifications with an id of null, which is harmless.
    """
    identifier = message.get("id")
    if "method" not in message or "id" not in message:
        return False
    if identifier is None and str(message["method"]).startswith("notifications/"):
        return False
    return isinstance(identifier, bool) or not isinstance(identifier, int | str)
