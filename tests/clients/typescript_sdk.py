"""The TypeScript SDK's clients, attached: `client.mjs` in a Node process."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

from tests.clients.attached import Connection, Outcome, Reply, Server
from tests.clients.node import HERE, node

SECONDS = 60.0
LONGEST_LINE = 1_000_000


class TypeScriptClient:
    """See `attached.Attached`."""

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
async def attach_typescript(at: Connection, server: Server, log: Path, *, elicitation: bool) -> AsyncGenerator[Any]:
    """Connect and list the tools. What Node and a server started for it write to stderr goes to `log`."""
    sdk = 1 if at.sdk == "typescript-1" else 2
    options = {"sdk": sdk, "transport": at.transport, "era": at.era, "elicitation": elicitation}
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
