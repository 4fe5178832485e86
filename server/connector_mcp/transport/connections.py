"""Connections whose clients are slow: each has so long to send a head, to send a body, and to read what it is sent.

uvicorn's own time limit is for connections on which nothing happens between two requests. One byte now and then, or an
answer that is never read, would hold any other connection, and what it occupies, for ever.
"""

from __future__ import annotations

import asyncio
from typing import Final, Literal

HEAD_BYTES: Final = 16_384
"""Largest head of a request; there is room in it for a token with many claims."""

Part = Literal["head", "body"]

_FULL: Final = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 5\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_HEAD_TOO_LARGE: Final = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
)


class Patience:
    """How long one connection may keep the server waiting."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self._transport = transport
        self._loop = loop
        self._seconds = seconds
        self._reading: asyncio.TimerHandle | None = None
        self._awaited: Part | None = None
        self._writing: asyncio.TimerHandle | None = None
        # Whatever the system does not take at once counts as not read; a call waits for it before it writes more.
        transport.set_write_buffer_limits(high=0)
        self.wait_for("head")

    def wait_for(self, part: Part | None) -> None:
        """Wait for this part of a request, or for none; one that is waited for already gets no more time."""
        if part == self._awaited:
            return
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None
        self._awaited = part
        if part is not None:
            self._reading = self._loop.call_later(self._seconds, self._transport.abort)

    def stop_reading(self, is_stopped: bool) -> None:
        """The client does not take what is written to it, or takes it again."""
        if self._writing is not None:
            self._writing.cancel()
            self._writing = None
        if is_stopped:
            self._writing = self._loop.call_later(self._seconds, self._transport.abort)

    def end(self) -> None:
        """The connection is over."""
        self.wait_for(None)
        self.stop_reading(False)


def is_one_too_many(transport: asyncio.Transport, connections: int, most: int) -> bool:
    """Turn a connection away where there are too many already."""
    if connections <= most:
        return False
    transport.write(_FULL)
    transport.close()
    return True


def has_large_head(transport: asyncio.Transport, data: bytes) -> bool:
    """Turn a request away whose head does not end where one must, at the beginning of its first bytes.

    Parsers keep to their limits only while a head is not complete, and one that comes in one piece always is.
    """
    if len(data) <= HEAD_BYTES or data.find(b"\r\n\r\n", 0, HEAD_BYTES) >= 0:
        return False
    transport.write(_HEAD_TOO_LARGE)
    transport.close()
    return True
