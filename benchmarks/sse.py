"""A client of the older transport: a stream that answers come on, and a connection on which the requests go out."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final

from benchmarks.client import PROTOCOL, AnswerError
from benchmarks.contestants import GET
from benchmarks.upstream import CONNECTOR_ID

_PROOF: Final = b"contracts-7"
_END: Final = b"\r\n\r\n"


class SseClient:
    """One session over `/sse`."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._head = b""

    async def open(self) -> None:
        """Open the stream and shake hands."""
        self._stream, self._stream_out = await asyncio.open_connection("127.0.0.1", self._port)
        self._stream_out.write(f"GET /sse HTTP/1.1\r\nhost: 127.0.0.1:{self._port}\r\n\r\n".encode())
        event = await self._event(b"/messages/")
        address = next(line for line in event.decode().splitlines() if line.startswith("data:"))[5:].strip()
        self._head = (
            f"POST {address} HTTP/1.1\r\nhost: 127.0.0.1:{self._port}\r\ncontent-type: application/json\r\n"
            "content-length: "
        ).encode()
        await self.connect()
        hello = {"protocolVersion": PROTOCOL, "capabilities": {}, "clientInfo": {"name": "benchmark", "version": "1"}}
        await self._post({"method": "initialize", "params": hello, "id": 0})
        await self._event(b"serverInfo")
        await self._post({"method": "notifications/initialized"})

    async def reconnect(self) -> None:
        """A fresh connection for the requests: a server may close one that was idle."""
        self._out.close()
        await self.connect()

    async def connect(self) -> None:
        """Open the connection for the requests."""
        self._in, self._out = await asyncio.open_connection("127.0.0.1", self._port)

    async def call(self, count: int) -> None:
        """So many calls, one after the other."""
        params = {"name": GET.tool, "arguments": {"source_connector_id": CONNECTOR_ID}}
        for _ in range(count):
            await self._post({"method": "tools/call", "params": params, "id": 1})
            await self._event(_PROOF)

    def close(self) -> None:
        self._out.close()
        self._stream_out.close()

    async def _post(self, message: dict[str, Any]) -> None:
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        self._out.write(self._head + b"%d" % len(body) + _END + body)
        head = await self._in.readuntil(_END)
        if b" 202 " not in head.partition(b"\r\n")[0]:
            raise AnswerError(f"not taken: {head!r}")
        length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
        await self._in.readexactly(int(length or b"0"))

    async def _event(self, proof: bytes) -> bytes:
        """The next event that is one; pings and the framing of chunks are read over."""
        while True:
            event = await self._stream.readuntil(_END)
            if b"data:" in event:
                if proof not in event:
                    raise AnswerError(f"not the answer that was to be measured: {event[:500]!r}")
                return event
