"""Clients of `/mcp` in both revisions of the protocol, and of `/sse`, each on connections of its own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import aiohttp

from benchmarks.servers import MeasurementError
from benchmarks.upstream import ARGUMENTS, PROOF, TOOL

REVISIONS: Final = ("2025-11-25", "2026-07-28")
_CLIENT: Final = {"name": "benchmark", "version": "1"}
_HELLO: Final = {"protocolVersion": REVISIONS[0], "capabilities": {}, "clientInfo": _CLIENT}
_ACCEPT: Final = {"accept": "application/json, text/event-stream", "content-type": "application/json"}


class HttpClient:
    """One keep-alive connection, with a session of its own in the revision that has sessions."""

    def __init__(self, port: int, revision: str) -> None:
        self._origin = f"http://127.0.0.1:{port}"
        self._modern = revision == REVISIONS[1]
        self._headers = {**_ACCEPT, "mcp-protocol-version": revision}
        self._body = b""

    async def open(self) -> None:
        """Connect, and initialize a session in the revision that has sessions."""
        self._http = _connection(self._origin)
        params: dict[str, Any] = {"name": TOOL, "arguments": ARGUMENTS}
        if self._modern:
            self._headers |= {"mcp-method": "tools/call", "mcp-name": TOOL}
            params["_meta"] = {
                "io.modelcontextprotocol/protocolVersion": REVISIONS[1],
                "io.modelcontextprotocol/clientInfo": _CLIENT,
                "io.modelcontextprotocol/clientCapabilities": {},
            }
        else:
            headers, _ = await self._post(_message("initialize", _HELLO, 0))
            self._headers["mcp-session-id"] = headers["mcp-session-id"]
            await self._post(_message("notifications/initialized", None, None))
        self._body = _message("tools/call", params, 1)

    async def reconnect(self) -> None:
        """Open a new connection: a server may close one that was idle while another was measured."""
        await self.close()
        self._http = _connection(self._origin)

    async def call(self, count: int) -> None:
        """Make calls one after the other."""
        for _ in range(count):
            _, answer = await self._post(self._body)
            if PROOF not in answer:
                raise MeasurementError(f"unexpected answer: {answer[:500]!r}")

    async def close(self) -> None:
        """Close the connection."""
        await self._http.close()

    async def _post(self, body: bytes) -> tuple[Mapping[str, str], bytes]:
        async with self._http.post("/mcp", data=body, headers=self._headers) as answer:
            return answer.headers, await answer.read()


class SseClient:
    """One session over `/sse`: a stream for the answers, and a connection for the requests."""

    def __init__(self, port: int) -> None:
        self._origin = f"http://127.0.0.1:{port}"
        self._address = ""

    async def open(self) -> None:
        """Open the stream and initialize the session."""
        self._streaming, self._http = _connection(self._origin), _connection(self._origin)
        self._stream = await self._streaming.get("/sse")
        self._address = (await self._event(b"/messages/")).decode()
        await self._post(_message("initialize", _HELLO, 0))
        await self._event(b"serverInfo")
        await self._post(_message("notifications/initialized", None, None))

    async def reconnect(self) -> None:
        """Open a new connection for the requests."""
        await self._http.close()
        self._http = _connection(self._origin)

    async def call(self, count: int) -> None:
        """Make calls one after the other."""
        body = _message("tools/call", {"name": TOOL, "arguments": ARGUMENTS}, 1)
        for _ in range(count):
            await self._post(body)
            await self._event(PROOF)

    async def close(self) -> None:
        """Close the stream and the connection."""
        self._stream.close()
        await self._streaming.close()
        await self._http.close()

    async def _post(self, body: bytes) -> None:
        async with self._http.post(self._address, data=body, headers=_ACCEPT) as answer:
            if answer.status != 202:
                raise MeasurementError(f"not accepted: {answer.status}")

    async def _event(self, proof: bytes) -> bytes:
        """The data of the next event that has some; pings have none."""
        async for line in self._stream.content:
            if line.startswith(b"data:"):
                if proof not in line:
                    raise MeasurementError(f"unexpected answer: {line[:500]!r}")
                return line[5:].strip()
        raise MeasurementError("the stream ended")


def _connection(origin: str) -> aiohttp.ClientSession:
    timeout = aiohttp.ClientTimeout(total=None)
    return aiohttp.ClientSession(origin, connector=aiohttp.TCPConnector(limit=1), timeout=timeout)


def _message(method: str, params: Mapping[str, Any] | None, number: int | None) -> bytes:
    message: dict[str, Any] = {"jsonrpc": "2.0", "method": method}
    message |= {} if params is None else {"params": dict(params)}
    return json.dumps(message | ({} if number is None else {"id": number})).encode()
