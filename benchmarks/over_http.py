"""Calls over Streamable HTTP: many keep-alive clients against either server, in both revisions of the protocol.

python -m benchmarks.over_http [--clients 64] [--calls 2000] [--rounds 5]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any, Final

from benchmarks.client import AnswerError, clock_of
from benchmarks.contestants import GET, Contestant, contestants
from benchmarks.figures import Comparison
from benchmarks.report import table
from benchmarks.upstream import CONNECTOR_ID

REVISIONS: Final = ("2025-11-25", "2026-07-28")
_PROOF: Final = b"contracts-7"
_CLIENT: Final = {"name": "benchmark", "version": "1"}


@dataclass(frozen=True)
class Served:
    """A server that listens."""

    process: subprocess.Popen[bytes]
    port: int


@contextmanager
def served(contestant: Contestant, *, ours: bool) -> Generator[Served]:
    """The contestant over HTTP, on a port of its own choosing."""
    command = (*contestant.command, "--http", *(("--port", "0") if ours else ()))
    with subprocess.Popen(
        command,
        env=contestant.environment,
        cwd=contestant.directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL if ours else subprocess.PIPE,
        stderr=subprocess.PIPE if ours else subprocess.DEVNULL,
    ) as process:
        try:
            yield Served(process, _port(process.stderr if ours else process.stdout))
        finally:
            process.kill()


def _port(stream: IO[bytes] | None) -> int:
    assert stream is not None
    for line in iter(stream.readline, b""):
        said: str = line.decode().partition("/mcp")[0].rpartition(":")[2].strip() or line.decode().strip()
        if said.isdigit():
            return int(said)
    raise AnswerError("the server ended before it listened")


class Client:
    """One keep-alive connection with a session of its own where the revision has sessions."""

    def __init__(self, port: int, revision: str) -> None:
        self._port = port
        self._modern = revision == REVISIONS[1]
        self._headers = {"mcp-protocol-version": revision}
        self._body = b""

    async def open(self) -> None:
        """Connect, and shake hands where the revision does."""
        await self.connect()
        params: dict[str, Any] = {"name": GET.tool, "arguments": {"source_connector_id": CONNECTOR_ID}}
        if self._modern:
            self._headers |= {"mcp-method": "tools/call", "mcp-name": GET.tool}
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

    async def connect(self) -> None:
        """A fresh connection: a server may close one that was idle while the other server was measured."""
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)

    async def call(self, count: int) -> None:
        """So many calls, one after the other."""
        for _ in range(count):
            _, answer = await self._post(self._body)
            if _PROOF not in answer:
                raise AnswerError(f"not the answer that was to be measured: {answer[:500]!r}")

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


def _message(method: str, params: Mapping[str, Any] | None, number: int | None) -> bytes:
    message: dict[str, Any] = {"jsonrpc": "2.0", "method": method}
    message |= {} if params is None else {"params": dict(params)}
    return json.dumps(message | ({} if number is None else {"id": number})).encode()


async def _round(clients: list[Client], calls: int, server: Served) -> tuple[float, float]:
    for client in clients:
        client.close()
        await client.connect()
    before, begun = clock_of(server.process.pid), time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for client in clients:
            tasks.create_task(client.call(calls // len(clients)))
    made = calls // len(clients) * len(clients)
    return made / (time.perf_counter() - begun), (clock_of(server.process.pid) - before) / made * 1e3


async def _compare(ours: Served, bare: Served, revision: str, options: argparse.Namespace) -> list[Comparison]:
    us, it = ([Client(server.port, revision) for _ in range(options.clients)] for server in (ours, bare))
    for client in (*us, *it):
        await client.open()
    rows: list[tuple[tuple[float, float], tuple[float, float]]] = []
    for number in range(options.rounds + 1):
        # The first round opens the connections to the upstream, and is not counted.
        if number % 2:
            second = await _round(it, options.calls, bare)
            rows.append((await _round(us, options.calls, ours), second))
        else:
            rows.append((await _round(us, options.calls, ours), await _round(it, options.calls, bare)))
    for client in (*us, *it):
        client.close()
    columns = [(tuple(row[0][at] for row in rows[1:]), tuple(row[1][at] for row in rows[1:])) for at in (0, 1)]
    return [
        Comparison(f"HTTP {revision}, {options.clients} clients", "calls/s", *columns[0]),
        Comparison("  processor time of one call", "ms", *columns[1]),
    ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.over_http")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--calls", type=int, default=1280)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    comparisons: list[Comparison] = []
    with contestants() as pair:
        for revision in REVISIONS:
            with served(pair.ours, ours=True) as ours, served(pair.bare, ours=False) as bare:
                comparisons += asyncio.run(_compare(ours, bare, revision, options))
    print(table(comparisons))


if __name__ == "__main__":
    main()
