"""The Python SDK's client, attached."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
from mcp.client import Client
from mcp.client.context import ClientRequestContext
from mcp.client.sse import sse_client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.shared.exceptions import MCPError
from mcp_types import ElicitRequestFormParams, ElicitRequestParams, ElicitResult, TextContent

from tests.clients.attached import Connection, Outcome, Reply, Server

SECONDS = 60.0


class PythonClient:
    """See `attached.Attached`."""

    def __init__(self, client: Client, person: Person, tools: list[str]) -> None:
        self._client = client
        self._person = person
        self.protocol: str | None = client.protocol_version
        self.tools = tools

    async def call(self, tool: str, arguments: Mapping[str, Any], reply: Reply | None = None) -> Outcome:
        self._person.begin(reply)
        told: list[str | None] = []

        async def on_progress(progress: float, total: float | None, message: str | None) -> None:
            told.append(message)

        try:
            with anyio.fail_after(SECONDS):
                result = await self._client.call_tool(tool, dict(arguments), progress_callback=on_progress)
        except MCPError as error:
            return Outcome(raised=(error.error.code, error.error.message), questions=self._person.asked)
        (block,) = result.content
        assert isinstance(block, TextContent)
        shown = {"content": result.structured_content, "text": block.text, "is_error": bool(result.is_error)}
        return Outcome(**shown, questions=self._person.asked, progress=tuple(told))


class Person:
    """The person at the client. They decline unless a test has them accept."""

    def __init__(self) -> None:
        self._reply = Reply("decline")
        self.asked: tuple[str, ...] = ()

    def begin(self, reply: Reply | None) -> None:
        self._reply, self.asked = reply or Reply("decline"), ()

    async def answer(self, context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:
        assert isinstance(params, ElicitRequestFormParams)
        self.asked = (*self.asked, params.message)
        return ElicitResult(action=self._reply.action, content=dict(self._reply.content or {}) or None)


@asynccontextmanager
async def attach_python(connection: Connection, server: Server, log: Path, *, elicitation: bool) -> AsyncGenerator[Any]:
    """Connect and list the tools. What a server started for it writes to stderr goes to `log`."""
    person = Person()
    with log.open("w", encoding="utf-8") as errlog:
        match connection.transport:
            case "stdio":
                command, *arguments = server.command
                parameters = StdioServerParameters(command=command, args=arguments, env=dict(server.environment))
                target: Any = stdio_client(parameters, errlog=errlog)
            case "http":
                target = server.url("http")
            case "sse":
                target = sse_client(server.url("sse"))
        answer = person.answer if elicitation else None
        async with Client(target, mode=connection.era, elicitation_callback=answer) as client:
            with anyio.fail_after(SECONDS):
                listed = await client.list_tools()
            yield PythonClient(client, person, [tool.name for tool in listed.tools])
