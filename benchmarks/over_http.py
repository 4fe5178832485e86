"""Calls over HTTP: many keep-alive clients against each server, in both revisions of the protocol and over SSE."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import IO, Any, Final

from benchmarks.client import AnswerError, clock_of
from benchmarks.contestants import GET, Contestant, Field
from benchmarks.figures import Comparison
from benchmarks.issuer import issuer
from benchmarks.measures import IN_FLIGHT, Effort
from benchmarks.rounds import compared
from benchmarks.sse import SseClient
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
def served(contestant: Contestant) -> Generator[Served]:
    """The contestant over HTTP, on a port of its own choosing."""
    ours = contestant.ours
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

    def __init__(self, port: int, revision: str, token: str | None) -> None:
        self._port = port
        self._modern = revision == REVISIONS[1]
        self._headers = {"mcp-protocol-version": revision}
        self._headers |= {"authorization": f"Bearer {token}"} if token else {}
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

    async def reconnect(self) -> None:
        """A fresh connection: a server may close one that was idle while another server was measured."""
        self.close()
        await self.connect()

    async def connect(self) -> None:
        """Open the connection."""
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


TOKEN: Final = "benchmark-token-0123456789abcdef"  # noqa: S105 - guards nothing
SSE_CLIENTS: Final = 16

Clients = Sequence[Client] | Sequence[SseClient]


def measure_http(field: Field, effort: Effort) -> Iterator[Comparison]:
    """Both revisions without authorization and with a static or a signed token, then SSE; a comparison at a time."""
    everyone = [each for each in field.everyone if each.speaks_http]
    for number, revision in enumerate(REVISIONS):
        for clients in (1, 8, IN_FLIGHT):
            least = 4.0 if clients == IN_FLIGHT else None
            yield from asyncio.run(_compare(everyone, effort, revision, clients, least=least))
        with issuer() as issued:
            kind, token, variables = (
                ("bearer token", TOKEN, {"CONNECTOR_MCP_HTTP_TOKEN": TOKEN})
                if not number
                else ("JWT", issued.token, issued.variables)
            )
            variables["CONNECTOR_MCP_HTTP_REQUESTS_PER_MINUTE"] = "10000000"
            guarded = [each.with_variables(**variables) if each.ours else each for each in everyone]
            yield from asyncio.run(_compare(guarded, effort, revision, IN_FLIGHT, least=0.8, token=token, shown=kind))
    yield from asyncio.run(_compare(everyone, effort, "SSE", SSE_CLIENTS, least=2.0))


async def _compare(
    everyone: Sequence[Contestant],
    effort: Effort,
    revision: str,
    count: int,
    *,
    least: float | None = None,
    token: str | None = None,
    shown: str = "",
) -> list[Comparison]:
    taken: dict[str, list[tuple[float, float]]] = {each.name: [] for each in everyone}
    with ExitStack() as stack:
        all_clients: dict[str, tuple[Clients, Served]] = {}
        for each in everyone:
            server = stack.enter_context(served(each))
            clients = (
                [SseClient(server.port) for _ in range(count)]
                if revision == "SSE"
                else [Client(server.port, revision, token) for _ in range(count)]
            )
            for client in clients:
                await client.open()
            all_clients[each.name] = clients, server
        names = list(all_clients)
        for number in range(effort.http_rounds + 1):
            for name in (*names[number % len(names) :], *names[: number % len(names)]):
                figures = await _round(*all_clients[name], effort.http_calls)
                # The first round opens the connections to the upstream, and is not counted.
                if number:
                    taken[name].append(figures)
        for clients, _ in all_clients.values():
            for client in clients:
                client.close()
    kind = "SSE" if revision == "SSE" else f"HTTP {revision}"
    guarded = f", {shown}" if token else ""
    return [
        compared(f"{kind}, {count} clients{guarded}", "calls/s", taken, 0, least=least),
        compared("  processor time of one call", "ms", taken, 1),
    ]


async def _round(clients: Clients, server: Served, calls: int) -> tuple[float, float]:
    each = max(1, calls // max(len(clients), 8))
    for client in clients:
        await client.reconnect()
    before, begun = clock_of(server.process.pid), time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for client in clients:
            tasks.create_task(client.call(each))
    made = each * len(clients)
    return made / (time.perf_counter() - begun), (clock_of(server.process.pid) - before) / made * 1e3
