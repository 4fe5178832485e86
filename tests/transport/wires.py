"""A client that says raw messages over stdio, `/mcp` or `/sse`, in either era of the protocol."""

import asyncio
import json
import os
import select
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx2
from anyio.abc import TaskGroup
from mcp.server.lowlevel.server import Server

from connector_mcp.transport.mcp.server import build_server
from connector_mcp.transport.mcp.tools import CallsInFlight
from connector_mcp.transport.stdio import LineReader, LineWriter
from connector_mcp.transport.streams import throttled
from tests.end_to_end.faces import INITIALIZE, META
from tests.transport.conftest import KEY, serving

WIRES = [(transport, era) for transport in ("stdio", "/mcp", "/sse") for era in ("legacy", "modern")]
TOOL = "vectorize_get_source_connectors"
ACCEPT = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}


class Wire:
    """One connection. `say` sends messages, `hear` returns the next one from the server, whatever carries it."""

    def __init__(self, transport: str, era: str) -> None:
        self.transport = transport
        self.modern = era == "modern"
        self.capabilities: dict[str, Any] = {}
        self.session: dict[str, str] = {}
        self.statuses: list[int] = []
        self.inbox = asyncio.Queue[dict[str, Any]]()

    async def say(self, *messages: dict[str, Any]) -> None:
        for message in messages:
            await self.send_body(json.dumps({"jsonrpc": "2.0", **message}).encode(), message)

    async def send_body(self, body: bytes, message: Any = None) -> None:
        raise NotImplementedError

    async def hear(self) -> dict[str, Any]:
        with anyio.fail_after(120):
            return await self.inbox.get()

    async def ask(self, message: dict[str, Any]) -> dict[str, Any]:
        await self.say(message)
        return await self.hear()

    async def open(self, capabilities: dict[str, Any] | None = None) -> dict[str, Any]:
        """Do what comes before the first call; the server's introduction of itself."""
        self.capabilities = capabilities or {}
        if self.modern:
            return await self.ask({"id": "open", "method": "server/discover", "params": self.params()})
        params = {**INITIALIZE, "capabilities": self.capabilities}
        opened = await self.ask({"id": "open", "method": "initialize", "params": params})
        await self.say({"method": "notifications/initialized"})
        return opened

    def params(self, **more: Any) -> dict[str, Any]:
        meta = more.pop("_meta", {})
        if self.modern:
            meta |= {**META, "io.modelcontextprotocol/clientCapabilities": self.capabilities}
        return {**more, **({"_meta": meta} if meta else {})}

    def call(self, identifier: Any = 1, tool: str = TOOL, **more: Any) -> dict[str, Any]:
        params = self.params(name=tool, **{"arguments": {}, **more})
        return {"id": identifier, "method": "tools/call", "params": params}


class StdioWire(Wire):
    def __init__(self, transport: str, era: str) -> None:
        super().__init__(transport, era)
        self.their_in, self.to_us = os.pipe()
        self.from_us, self.their_out = os.pipe()

    async def serve(self, server: Server[Any]) -> None:
        writer = LineWriter(self.their_out, anyio.Event(), lambda: None)
        streams = throttled(LineReader(self.their_in, writer), writer)
        await server.run(*streams, server.create_initialization_options())

    async def send_body(self, body: bytes, message: Any = None) -> None:
        line = body + b"\n"
        # More could block the loop in which the server reads.
        for start in range(0, len(line), select.PIPE_BUF):
            await anyio.wait_writable(self.to_us)
            os.write(self.to_us, line[start : start + select.PIPE_BUF])

    async def listen(self) -> None:
        text = b""
        while True:
            await anyio.wait_readable(self.from_us)
            *lines, text = (text + os.read(self.from_us, 1 << 16)).split(b"\n")
            for line in lines:
                self.inbox.put_nowait(json.loads(line))


class HttpWire(Wire):
    def __init__(self, transport: str, era: str, http: httpx2.AsyncClient, tasks: TaskGroup) -> None:
        super().__init__(transport, era)
        self.http = http
        self.address = "/mcp"
        self._tasks = tasks

    async def listen(self, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        async with self.http.stream("GET", "/sse") as stream:
            async for line in stream.aiter_lines():
                if line.startswith("data: /"):
                    self.address = line.removeprefix("data: ")
                    task_status.started()
                elif line.startswith("data: "):
                    self.inbox.put_nowait(json.loads(line.removeprefix("data: ")))

    async def send_body(self, body: bytes, message: Any = None) -> None:
        if self.transport == "/mcp":
            await self._tasks.start(self.post, body, message or {})
        else:
            self.statuses.append((await self.http.post(self.address, content=body, headers=ACCEPT)).status_code)

    async def post(
        self,
        body: bytes,
        message: dict[str, Any],
        *,
        task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
    ) -> None:
        headers = {**ACCEPT, **self.session}
        if self.modern:
            headers |= {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": message.get("method", "")}
            headers |= {"Mcp-Name": message["params"]["name"]} if message.get("method") == "tools/call" else {}
        request = self.http.build_request("POST", self.address, content=body, headers=headers)
        if message.get("method") in {"tools/call", "tools/list"}:
            task_status.started()
        answer = await self.http.send(request, stream=True)
        self.statuses.append(answer.status_code)
        if message.get("method") == "initialize" and "mcp-session-id" in answer.headers:
            self.session = {"Mcp-Session-Id": answer.headers["mcp-session-id"]}
        if answer.headers.get("content-type", "").startswith("application/json"):
            await answer.aread()
            if answer.text:
                self.inbox.put_nowait(answer.json())
        else:
            async for line in answer.aiter_lines():
                if line.startswith("data: "):
                    self.inbox.put_nowait(json.loads(line.removeprefix("data: ")))
        await answer.aclose()
        if message.get("method") not in {"tools/call", "tools/list"}:
            task_status.started()


@asynccontextmanager
async def connected(
    engine: Any, wire: tuple[str, str], *, most: int = 256, token: str | None = None, **options: Any
) -> AsyncGenerator[Wire]:
    """A client of a server around this engine, which has said nothing yet."""
    transport, era = wire
    if transport == "stdio":
        client = StdioWire(transport, era)
        server = build_server(engine, request_state_key=KEY, calls=CallsInFlight(most))
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(client.serve, server)
                tasks.start_soon(client.listen)
                yield client
                tasks.cancel_scope.cancel()
        finally:
            for descriptor in (client.their_in, client.to_us, client.from_us, client.their_out):
                os.close(descriptor)
        return
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with (
        serving(engine, **options) as address,
        httpx2.AsyncClient(base_url=address, headers=headers, timeout=None) as http,
        anyio.create_task_group() as tasks,
    ):
        client = HttpWire(transport, era, http, tasks)
        if transport == "/sse":
            await tasks.start(client.listen)
        yield client
        tasks.cancel_scope.cancel()
