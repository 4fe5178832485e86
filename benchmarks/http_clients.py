"""Minimal keep-alive clients of `/mcp` in both revisions of the protocol, and of `/sse`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any, Final

from benchmarks.servers import MeasurementError
from benchmarks.upstream import ARGUMENTS, PROOF, TOOL

REVISIONS: Final = ("2025-11-25", "2026-07-28")
_CLIENT: Final = {"name": "benchmark", "version": "1"}
_END: Final = b"\r\n\r\n"


class HttpClient:
    """One keep-alive connection, with a session of its own in the revision that has sessions."""

    def __init__(self, port: int, revision: str) -> None:
        self._port = port
        self._modern = revision == REVISIONS[1]
        self._headers = {"mcp-protocol-version": revision}
        self._body = b""

    async def open(self) -> None:
        """Connect, and initialize a session in the revision that has sessions."""
        await self.connect()
        params: dict[str, Any] = {"name": TOOL, "arguments": ARGUMENTS}
        if self._modern:
            self._headers |= {"mcp-method": "tools/call", "mcp-name": TOOL}
            params["_meta"] = {
                "io.modelcontextprotocol/protocolVersion": REVISIONS[1],
                "io.modelcontextprotocol/clientInfo": _CLIENT,
                "io.modelcontextprotocol/clientCapabilities": {},
            }
        else:
            hello = {"protocolVersion": REVISIONS[0], "capabilities": {}, "clientInfo": _CLIENT}
            headers, _ = await self._post(_message("initialize", hello, 0))
            self._headers["mcp-session-id"] = headers["mcp-session-id"]
            await self._post(_message("notifications/initialized", None, None))
        self._body = _message("tools/call", params, 1)

    async def reconnect(self) -> None:
        """Open a new connection: a server may close one that was idle while another was measured."""
        self.close()
        await self.connect()

    async def connect(self) -> None:
        """Open the connection."""
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)

    async def call(self, count: int) -> None:
        """Make calls one after the other."""
        for _ in range(count):
            _, answer = await self._post(self._body)
            if PROOF not in answer:
                raise MeasurementError(f"unexpected answer: {answer[:500]!r}")

    def close(self) -> None:
        self._writer.close()

    async def _post(self, body: bytes) -> tuple[Mapping[str, str], bytes]:
        head = {
            "host": f"127.0.0.1:{self._port}",
            "accept": "application/json, text/event-stream",
            "content-type": "application/json",
            "content-length": str(len(body)),
            **self._headers,
        }
        lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
        self._writer.write(f"POST /mcp HTTP/1.1\r\n{lines}\r\n".encode() + body)
        answered = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[1:-2]
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in answered)}
        if "content-length" in headers:
            return headers, await self._reader.readexactly(int(headers["content-length"]))
        chunks: list[bytes] = []
        while size := int(await self._reader.readline(), 16):
            chunks.append(await self._reader.readexactly(size + 2))
        await self._reader.readline()
        return headers, b"".join(chunks)


class SseClient:
    """One session over `/sse`: a stream for the answers, and a connection for the requests."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._head = b""

    async def open(self) -> None:
        """Open the stream and initialize the session."""
        self._stream, self._stream_out = await asyncio.open_connection("127.0.0.1", self._port)
        self._stream_out.write(f"GET /sse HTTP/1.1\r\nhost: 127.0.0.1:{self._port}\r\n\r\n".encode())
        event = await self._event(b"/messages/")
        address = next(line for line in event.decode().splitlines() if line.startswith("data:"))[5:].strip()
        self._head = (
            f"POST {address} HTTP/1.1\r\nhost: 127.0.0.1:{self._port}\r\ncontent-type: application/json\r\n"
            "content-length: "
        ).encode()
        await self.connect()
        hello = {"protocolVersion": REVISIONS[0], "capabilities": {}, "clientInfo": _CLIENT}
        await self._post(_message("initialize", hello, 0))
        await self._event(b"serverInfo")
        await self._post(_message("notifications/initialized", None, None))

    async def reconnect(self) -> None:
        """Open a new connection for the requests."""
        self._out.close()
        await self.connect()

    async def connect(self) -> None:
        """Open the connection for the requests."""
        self._in, self._out = await asyncio.open_connection("127.0.0.1", self._port)

    async def call(self, count: int) -> None:
        """Make calls one after the other."""
        body = _message("tools/call", {"name": TOOL, "arguments": ARGUMENTS}, 1)
        for _ in range(count):
            await self._post(body)
            await self._event(PROOF)

    def close(self) -> None:
        self._out.close()
        self._stream_out.close()

    async def _post(self, body: bytes) -> None:
        self._out.write(self._head + b"%d" % len(body) + _END + body)
        head = await self._in.readuntil(_END)
        if b" 202 " not in head.partition(b"\r\n")[0]:
            raise MeasurementError(f"not accepted: {head!r}")
        length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
        await self._in.readexactly(int(length or b"0"))

    async def _event(self, proof: bytes) -> bytes:
        """The next event with data. Pings and the framing of chunks are skipped."""
        while True:
            event = await self._stream.readuntil(_END)
            if b"data:" in event:
                if proof not in event:
                    raise MeasurementError(f"unexpected answer: {event[:500]!r}")
                return event


def _message(method: str, params: Mapping[str, Any] | None, number: int | None) -> bytes:
    message: dict[str, Any] = {"jsonrpc": "2.0", "method": method}
    message |= {} if params is None else {"params": dict(params)}
    return json.dumps(message | ({} if number is None else {"id": number})).encode()
