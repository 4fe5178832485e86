"""Count the files and functions of connector_mcp that one deletion enters.

    python -m tools.trace_call

A client of the handshake era attaches over stdio to a server, which reaches a sandbox in this process over HTTP. The
client reads once to warm up. Then it deletes a connector, and its person types the confirmation. What the server enters
between request and answer is counted.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import anyio
import uvicorn
from mcp.client import Client
from mcp.client.context import ClientRequestContext
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp_types import ElicitRequestParams, ElicitResult

from connector_mcp.sandbox.app import Sandbox
from connector_mcp.sandbox.seed import PLATFORMS, VECTORIZE_S3

MAX_FILES = 50
MAX_FUNCTIONS = 400
_NAME = "Product documents"
_TARGET = {"source_connector_id": VECTORIZE_S3}
_TIMEOUT = 300


@dataclass(frozen=True)
class Trace:
    """The entered functions, each with its file below the package."""

    functions: tuple[tuple[str, str], ...]

    @property
    def files(self) -> tuple[str, ...]:
        return tuple(sorted({file for file, _ in self.functions}))


@asynccontextmanager
async def served_sandbox() -> AsyncGenerator[dict[str, str]]:
    """Serve a sandbox and yield the environment variables with which a server uses it."""
    sandbox = Sandbox()
    server = uvicorn.Server(uvicorn.Config(sandbox.app(), log_config=None, lifespan="off"))
    with closing(sandbox), socket.create_server(("127.0.0.1", 0)) as listener:
        origin = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.serve, [listener])
            yield {name: value for each in PLATFORMS for name, value in sandbox.variables(each, origin).items()}
            server.should_exit = True


async def trace_deletion() -> Trace:
    """Perform one deletion and return what the server entered.

    Raises:
        RuntimeError: A call failed, or the person was not asked.
    """
    asked: list[str] = []

    async def type_the_name(context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:
        asked.append(params.message)
        return ElicitResult(action="accept", content={"confirm": _NAME})

    with tempfile.TemporaryDirectory() as state, socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(_TIMEOUT)
        environ = {"CONNECTOR_MCP_STATE_DIR": state, "HOME": state, "PATH": os.environ.get("PATH", "")}
        # The client here answers at once, which no person does.
        environ["CONNECTOR_MCP_ASK_READING_TIME"] = "0"
        arguments = [str(Path(__file__).with_name("traced_server.py")), str(listener.getsockname()[1])]
        with anyio.fail_after(_TIMEOUT):
            async with (
                served_sandbox() as variables,
                Client(
                    stdio_client(
                        StdioServerParameters(command=sys.executable, args=arguments, env=environ | variables)
                    ),
                    mode="legacy",
                    elicitation_callback=type_the_name,
                ) as client,
            ):
                control, _ = listener.accept()
                with control, control.makefile("rw") as lines:
                    await _call(client, "vectorize_get_source_connector")
                    _command(lines, "start")
                    await _call(client, "vectorize_delete_source_connector")
                    entered = json.loads(_command(lines, "stop"))
    if len(asked) != 1:
        raise RuntimeError(f"The person was asked {len(asked)} times instead of once.")
    return Trace(tuple((file, function) for file, function in entered))


async def _call(client: Client, tool: str) -> None:
    result = await client.call_tool(tool, _TARGET)
    if result.is_error:
        raise RuntimeError(f"{tool} failed: {result.content}")


def _command(lines: TextIO, command: str) -> str:
    lines.write(command + "\n")
    lines.flush()
    return lines.readline()


def main() -> int:
    """Print the counts and what was entered; 1 when a bound is exceeded."""
    trace = anyio.run(trace_deletion)
    for file in trace.files:
        print(file)
        for entered, function in trace.functions:
            if entered == file:
                print(f"    {function}")
    print(f"{len(trace.files)} files (at most {MAX_FILES}), {len(trace.functions)} functions (at most {MAX_FUNCTIONS})")
    return 0 if len(trace.files) <= MAX_FILES and len(trace.functions) <= MAX_FUNCTIONS else 1


if __name__ == "__main__":
    sys.exit(main())
