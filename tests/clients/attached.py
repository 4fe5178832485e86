"""The TypeScript SDK's clients, attached to the server: `client.mjs` in a Node process, and what it shows."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import anyio
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

from tests.clients.node import HERE, node

SECONDS = 180.0
LONGEST_LINE = 1_000_000
Transport = Literal["stdio", "http", "sse"]
Era = Literal["legacy", "2026-07-28"]


@dataclass(frozen=True)
class Reply:
    """What the person at the client answers to whatever is asked during a call."""

    action: Literal["accept", "decline", "cancel"]
    content: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Outcome:
    """What a client shows of one call: a result, or the code and message of the failure that it raised instead."""

    content: dict[str, Any] = field(default_factory=dict[str, Any])
    text: str = ""
    is_error: bool = False
    raised: tuple[int | None, str] | None = None
    questions: tuple[str, ...] = ()
    progress: tuple[str | None, ...] = ()

    @property
    def error_code(self) -> str | None:
        """The code of a failure that reached the model as a result."""
        return self.content["error"]["code"] if self.is_error else None


@dataclass(frozen=True)
class Connection:
    """Which version of the SDK speaks which era of the protocol over which transport."""

    sdk: Literal[1, 2]
    transport: Transport
    era: Era

    def __str__(self) -> str:
        return f"typescript-{self.sdk}, {self.transport}, {self.era}"


@dataclass(frozen=True)
class Server:
    """How to reach the server: a command to start for stdio, an origin for the others."""

    command: tuple[str, ...]
    environment: Mapping[str, str]
    origin: str = ""

    def url(self, transport: Transport) -> str:
        return f"{self.origin}/{'sse' if transport == 'sse' else 'mcp'}"


class TypeScriptClient:
    """A connected client. `protocol` is the version that was agreed on, where the client tells; `tools` are listed."""

    def __init__(self, process: Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._stdin = process.stdin
        self._lines = BufferedByteReceiveStream(process.stdout)
        self.protocol: str | None = None
        self.tools: list[str] = []

    async def connected(self) -> None:
        """Wait until it is; then it has listed the tools."""
        told = await self._line()
        self.protocol, self.tools = told["protocol"], told["tools"]

    async def call(self, tool: str, arguments: Mapping[str, Any], reply: Reply | None = None) -> Outcome:
        command: dict[str, Any] = {"call": {"name": tool, "arguments": dict(arguments)}}
        if reply is not None:
            content = {} if reply.content is None else {"content": dict(reply.content)}
            command["reply"] = {"action": reply.action, **content}
        await self._stdin.send(json.dumps(command).encode() + b"\n")
        told = await self._line()
        seen = {"questions": tuple(told["questions"]), "progress": tuple(told["progress"])}
        if "failure" in told:
            return Outcome(raised=(told["failure"]["code"], told["failure"]["message"]), **seen)
        result = told["result"]
        (block,) = result["content"]
        is_error = bool(result.get("isError"))
        return Outcome(content=result["structuredContent"], text=block["text"], is_error=is_error, **seen)

    async def close(self) -> None:
        """Let it disconnect and end."""
        await self._stdin.aclose()

    async def _line(self) -> dict[str, Any]:
        with anyio.fail_after(SECONDS):
            return json.loads(await self._lines.receive_until(b"\n", LONGEST_LINE))


@asynccontextmanager
async def attach(at: Connection, server: Server, log: Path, *, elicitation: bool) -> AsyncGenerator[TypeScriptClient]:
    """Connect and list the tools. What Node and a server started for it write to stderr goes to `log`."""
    options = {"sdk": at.sdk, "transport": at.transport, "era": at.era, "elicitation": elicitation}
    options |= {"url": server.url(at.transport), "command": server.command, "env": dict(server.environment)}
    with log.open("wb") as stderr:
        command = [node(), "client.mjs", json.dumps(options)]
        async with await anyio.open_process(command, cwd=HERE, stderr=stderr) as process:
            client = TypeScriptClient(process)
            await client.connected()
            yield client
            await client.close()
            with anyio.fail_after(SECONDS):
                assert await process.wait() == 0
