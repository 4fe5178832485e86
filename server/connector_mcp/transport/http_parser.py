"""Who takes HTTP requests apart: httptools where it is installed, which is C, and otherwise h11, which is Python.

The C parser is strict about what ends a message, and lax where h11 is not: it leaves white space around the values of
headers, has no bound for what is not body, and adds trailers to headers that were checked already. This makes up for
each, so that neither parser lets in what the other refuses.
"""

from __future__ import annotations

import asyncio
from importlib.util import find_spec
from typing import Final, Literal

MOST_FRAMING: Final = 64 * 1024
"""Bytes of a request beyond its body and as much again: request line, headers, trailers, sizes of chunks. As h11's."""


def http_parser() -> Literal["h11"] | type[asyncio.Protocol]:
    """What uvicorn is to take as its `http`."""
    if find_spec("httptools") is None:
        return "h11"
    # Not at the top: it imports httptools.
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

    class StrictProtocol(HttpToolsProtocol):
        _framing = 0
        _in_head = True

        def data_received(self, data: bytes) -> None:
            if self.transport.is_closing():
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
            self._in_head = True
            super().on_message_begin()

        def on_header(self, name: bytes, value: bytes) -> None:
            if self._in_head:
                super().on_header(name, value.strip(b" \t"))

        def on_headers_complete(self) -> None:
            self._in_head = False
            super().on_headers_complete()

        def on_body(self, body: bytes) -> None:
            self._framing -= 2 * len(body)
            super().on_body(body)

        def on_message_complete(self) -> None:
            self._framing = 0
            super().on_message_complete()

    return StrictProtocol
