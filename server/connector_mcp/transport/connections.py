"""Connections whose clients are slow: each has so long to send a head, to send a body, and to read what it is sent.

uvicorn's own time limit is for connections on which nothing happens between two requests. One byte now and then, or an
answer that is never read, would hold any other connection, and what it occupies, for ever.
"""

from __future__ import annotations

import asyncio
from typing import Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_BYTES: Final = 16_384
"""Largest head of a request; there is room in it for a token with many claims."""

_FULL: Final = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 5\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_HEAD_TOO_LARGE: Final = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
)


def bounded_protocol(*, patience: float, most: int) -> type[H11Protocol]:
    """uvicorn's protocol, for at most so many connections.

    One is cut when its client needs more than `patience` seconds for the head of a request, for its body, or to take
    what was written to it.
    """

    class BoundedProtocol(H11Protocol):
        _reading: asyncio.TimerHandle | None = None
        _reading_what: object = None
        _writing: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            if len(self.connections) > most:
                transport.write(_FULL)
                transport.close()
                return
            # Whatever the system does not take at once counts as not read; a call waits for it before it writes more.
            transport.set_write_buffer_limits(high=0)
            self._read_by_and_by(h11.IDLE)

        def connection_lost(self, exc: Exception | None) -> None:
            self._read_by_and_by(None)
            self._stop_writing_timer()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            if self.transport.is_closing():
                return
            # h11 keeps to its limit only while a head is not complete, and one that comes in one piece always is.
            if len(data) > HEAD_BYTES and self.conn.their_state is h11.IDLE and _head_is_longer(data):
                self.transport.write(_HEAD_TOO_LARGE)
                self.transport.close()
                return
            super().data_received(data)

        def handle_events(self) -> None:
            super().handle_events()
            state = self.conn.their_state
            head_has_begun = state is h11.IDLE and bool(self.conn.trailing_data[0])
            self._read_by_and_by(state if head_has_begun or state is h11.SEND_BODY else None)

        def pause_writing(self) -> None:
            super().pause_writing()
            self._stop_writing_timer()
            self._writing = self.loop.call_later(patience, self.transport.abort)

        def resume_writing(self) -> None:
            super().resume_writing()
            self._stop_writing_timer()

        def _read_by_and_by(self, what: object) -> None:
            """Wait for this part of a request; one that is waited for already gets no more time."""
            if what is self._reading_what:
                return
            if self._reading is not None:
                self._reading.cancel()
                self._reading = None
            self._reading_what = what
            if what is not None:
                self._reading = self.loop.call_later(patience, self.transport.abort)

        def _stop_writing_timer(self) -> None:
            if self._writing is not None:
                self._writing.cancel()
                self._writing = None

    return BoundedProtocol


def _head_is_longer(data: bytes) -> bool:
    return data.find(b"\r\n\r\n", 0, HEAD_BYTES) < 0
