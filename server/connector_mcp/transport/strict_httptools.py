"""httptools as a parser that lets in nothing that h11 refuses.

The C parser is strict about what ends a message, and lax where h11 is not: it leaves white space around the values of
headers, has no bound for what is not body, and adds trailers to headers that were checked already. This makes up for
each.
"""

from __future__ import annotations

import asyncio
from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from connector_mcp.transport.connections import Patience, has_large_head, is_one_too_many
from connector_mcp.transport.gathering import GatheringTransport

MOST_FRAMING: Final = 64 * 1024
"""Bytes of a request beyond its body and as much again: request line, headers, trailers, sizes of chunks. As h11's."""


def bounded_protocol(*, patience: float, most: int) -> type[asyncio.Protocol]:
    """What uvicorn is to take as its `http`: connections of which there are at most so many.

    One is cut when its client needs more than `patience` seconds for the head of a request, for its body, or to take
    what was written to it.
    """

    class StrictProtocol(HttpToolsProtocol):
        _patience: Patience | None = None
        _framing = 0
        _between = True
        _in_head = True

        def connection_made(self, transport: asyncio.Transport) -> None:
            transport = GatheringTransport(transport, self.loop)
            super().connection_made(transport)
            if not is_one_too_many(transport, len(self.connections), most):
                self._patience = Patience(transport, self.loop, patience)

        def connection_lost(self, exc: Exception | None) -> None:
            if self._patience is not None:
                self._patience.end()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            if self.transport.is_closing() or (self._between and has_large_head(self.transport, data)):
                return
            self._framing += len(data)
            super().data_received(data)
            if self._framing > MOST_FRAMING and not self.transport.is_closing():
                if self._in_head:
                    self.send_400_response("Too much around the body of the request.")
                else:
                    # Its answer may be under way.
                    self.transport.close()

        def on_message_begin(self) -> None:
            self._between, self._in_head = False, True
            if self._patience is not None:
                self._patience.wait_for("head")
            super().on_message_begin()

        def on_header(self, name: bytes, value: bytes) -> None:
            if self._in_head:
                super().on_header(name, value.strip(b" \t"))

        def on_headers_complete(self) -> None:
            self._in_head = False
            if self._patience is not None:
                self._patience.wait_for("body")
            super().on_headers_complete()

        def on_body(self, body: bytes) -> None:
            self._framing -= 2 * len(body)
            super().on_body(body)

        def on_message_complete(self) -> None:
            self._framing, self._between = 0, True
            if self._patience is not None:
                self._patience.wait_for(None)
            super().on_message_complete()

        def pause_writing(self) -> None:
            super().pause_writing()
            if self._patience is not None:
                self._patience.stop_reading(True)

        def resume_writing(self) -> None:
            super().resume_writing()
            if self._patience is not None:
                self._patience.stop_reading(False)

    return StrictProtocol
