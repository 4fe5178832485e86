"""The Vectorize API behind all servers: a loopback HTTP server of minimal cost.

It answers the read of one source connector and every creation with a prepared body, and anything else with 404. It runs
as a process of its own: the first line on stdout is its port, and it ends when its stdin does. With an argument it
answers that many seconds late.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any, Final

ORGANIZATION: Final = "org-benchmark"
CONNECTOR_ID: Final = "7f0c3c55-6f0a-4f6e-9d1e-000000000007"
TOOL: Final = "vectorize_get_source_connector"
ARGUMENTS: Final = {"source_connector_id": CONNECTOR_ID}
PROOF: Final = b"contracts-7"
"""Text that the answer to a call of the tool contains only if the call succeeded."""

_PATH: Final = f"/v1/org/{ORGANIZATION}/connectors/sources/{CONNECTOR_ID}"
_END: Final = b"\r\n\r\n"
_CONNECTOR: Final[dict[str, Any]] = {
    "id": CONNECTOR_ID,
    "type": "AWS_S3",
    "name": "Contracts of region 7",
    "configDoc": {
        "bucket-name": "contracts-7",
        "region": "eu-central-1",
        "prefix": "incoming/",
        "file-extensions": ["pdf", "doc,docx,gdoc,odt,rtf,epub", "txt", "md"],
        "idle-time": 300,
        "recursive": True,
    },
    "createdAt": "2025-08-17T09:21:44.120Z",
    "createdById": "5c1d6d4e-2a5b-4c5e-8f57-0d6e0c0f0a01",
    "lastUpdatedById": "5c1d6d4e-2a5b-4c5e-8f57-0d6e0c0f0a01",
    "createdByEmail": "data-team@example.com",
    "lastUpdatedByEmail": "data-team@example.com",
    "verificationStatus": "verified",
}


def _answer(status: str, body: object) -> bytes:
    text = json.dumps(body, separators=(",", ":")).encode()
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: {len(text)}\r\n"
        "X-Request-Id: 01JC0000000000000000000000\r\nCache-Control: no-store\r\nConnection: keep-alive\r\n\r\n"
    )
    return head.encode() + text


_FOUND: Final = _answer("200 OK", _CONNECTOR)
_CREATED: Final = _answer("200 OK", {"connector": {"name": _CONNECTOR["name"], "id": CONNECTOR_ID}})
_NOT_FOUND: Final = _answer("404 Not Found", {"error": "Not found"})


class Connection(asyncio.Protocol):
    """One keep-alive connection."""

    def __init__(self, delay: float) -> None:
        self._delay = delay
        self._incomplete = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        self._incomplete += data
        while (end := self._incomplete.find(_END)) >= 0:
            head = self._incomplete[:end]
            _, _, length = head.lower().partition(b"content-length:")
            whole = end + len(_END) + int(length.split(b"\r\n", 1)[0] or 0)
            if len(self._incomplete) < whole:
                return
            self._incomplete = self._incomplete[whole:]
            method, path, _ = head.split(b" ", 2)
            found = path.partition(b"?")[0] == _PATH.encode()
            answer = _CREATED if method == b"POST" else _FOUND if found else _NOT_FOUND
            if self._delay:
                asyncio.get_running_loop().call_later(self._delay, self._transport.write, answer)
            else:
                self._transport.write(answer)


async def _serve(delay: float) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(delay), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_serve(float(sys.argv[1]) if len(sys.argv) > 1 else 0.0))
