"""The Vectorize API of both servers: a loopback HTTP server that costs as little as one in Python can.

It answers the list and the read of source connectors with bodies made beforehand, and 404 to anything else. Run as a
process of its own; the first line on stdout is its port. It ends when its stdin does. With an argument it answers that
many seconds late. `GET /most` tells how many requests were waiting for an answer at once, and forgets it.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any, Final

ORGANIZATION: Final = "org-benchmark"
CONNECTOR_ID: Final = "7f0c3c55-6f0a-4f6e-9d1e-000000000007"
ROWS: Final = 20

_LIST: Final = f"/v1/org/{ORGANIZATION}/connectors/sources"
_END: Final = b"\r\n\r\n"


def _connector(number: int) -> dict[str, Any]:
    return {
        "id": f"7f0c3c55-6f0a-4f6e-9d1e-{number:012d}",
        "type": "AWS_S3",
        "name": f"Contracts of region {number}",
        "configDoc": {
            "bucket-name": f"contracts-{number}",
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


_ANSWERS: Final = {
    _LIST.encode(): _answer("200 OK", {"sourceConnectors": [_connector(number) for number in range(ROWS)]}),
    f"{_LIST}/{CONNECTOR_ID}".encode(): _answer("200 OK", _connector(7)),
}
_NOT_FOUND: Final = _answer("404 Not Found", {"error": "Not found"})


class Answers:
    """The answers, each after the delay."""

    def __init__(self, delay: float) -> None:
        self._delay = delay
        self._waiting = 0
        self._most = 0

    def give(self, target: bytes, transport: asyncio.Transport) -> None:
        if target == b"/most":
            transport.write(_answer("200 OK", self._most))
            self._most = 0
        elif self._delay:
            self._waiting += 1
            self._most = max(self._most, self._waiting)
            asyncio.get_running_loop().call_later(self._delay, self._write_late, target, transport)
        else:
            transport.write(_ANSWERS.get(target, _NOT_FOUND))

    def _write_late(self, target: bytes, transport: asyncio.Transport) -> None:
        self._waiting -= 1
        transport.write(_ANSWERS.get(target, _NOT_FOUND))


class Connection(asyncio.Protocol):
    """One kept-alive connection; requests have no body."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._begun = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        *requests, self._begun = (self._begun + data).split(_END)
        for request in requests:
            self._answers.give(request.split(b" ", 2)[1].partition(b"?")[0], self._transport)


async def _serve(delay: float) -> None:
    loop = asyncio.get_running_loop()
    answers = Answers(delay)
    server = await loop.create_server(lambda: Connection(answers), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_serve(float(sys.argv[1]) if len(sys.argv) > 1 else 0.0))
