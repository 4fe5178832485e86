"""The server's faces, each reached the way a client reaches it, over one sandbox that is served on a socket."""

from __future__ import annotations

import re
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import httpx
import uvicorn
from anyio.abc import Process
from mcp.client import Client
from mcp.client.sse import sse_client
from mcp.client.stdio import StdioServerParameters, stdio_client

from connector_mcp.composition.engine import open_engine
from connector_mcp.composition.storage import open_database
from connector_mcp.config.settings import Settings
from connector_mcp.engine.approval.queue import Approvals
from connector_mcp.engine.engine import Engine
from connector_mcp.sandbox.app import Sandbox
from connector_mcp.transport.http.app import serve_http
from connector_mcp.transport.mcp.server import build_server

PLATFORMS = ("vectorize", "logto", "versori", "conductorone")
FACES = ("stdio auto", "stdio legacy", "http auto", "http legacy", "sse legacy")
SERVE = (sys.executable, "-m", "connector_mcp", "serve")
INITIALIZE = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": INITIALIZE["clientInfo"],
    "io.modelcontextprotocol/clientCapabilities": {},
}
"""What a client of the 2026-07-28 revision sends with each request."""


NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For clients that need none: to load the certificates of authorities takes longer than a request."""


def message(method: str, number: int = 1, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": params}


def modern(tool: str) -> dict[str, str]:
    """The headers of a 2026-07-28 call of a tool."""
    return {"mcp-protocol-version": "2026-07-28", "mcp-method": "tools/call", "mcp-name": tool}


def s3_connectors(name: str) -> dict[str, Any]:
    """The arguments that create one source connector."""
    config = {"access-key": "a", "secret-key": "s", "bucket-name": "docs", "archiver": False}
    return {"connectors": [{"name": name, "type": "AWS_S3", "config": config}]}


async def post(origin: str, sent: Mapping[str, Any], **headers: str) -> httpx.Response:
    """Post one message on a connection of its own."""
    accept = {"accept": "application/json, text/event-stream"}
    async with httpx.AsyncClient(timeout=180, verify=NO_TLS) as http:
        return await http.post(f"{origin}/mcp", json=sent, headers=accept | headers)


async def decide(settings: Settings, approval: str, *, approve: bool = True, reason: str | None = None) -> None:
    """What the operator's command does once the operator has typed the name."""
    async with aclosing(open_database(settings)) as database:
        await Approvals(database, ttl=3600.0).decide(approval, approve, "operator ops", reason)


async def address(process: Process) -> str:
    """The origin that a server process announces on stderr."""
    said = ""
    assert process.stderr is not None
    async for part in process.stderr:
        said += part.decode()
        if found := re.search(r"http://127\.0\.0\.1:\d+", said):
            return found[0]
    raise AssertionError(f"the server ended:\n{said}")


@asynccontextmanager
async def http_process(environ: Mapping[str, str], *arguments: str) -> AsyncIterator[tuple[Process, str]]:
    """`serve --http` as a process, by default on a free port, and its origin. Warnings end it."""
    command = [*SERVE, "--http", "--port", "0", *arguments]
    environ = {"PYTHONWARNINGS": "error", **environ}
    async with await anyio.open_process(command, stdin=subprocess.DEVNULL, env=environ) as process:
        try:
            with anyio.fail_after(300):
                origin = await address(process)
            yield process, origin
        finally:
            end(process)


def end(process: Process) -> None:
    """Kill a process that still runs."""
    if process.returncode is None:
        process.kill()


def stdio(environ: Mapping[str, str], **options: Any) -> AbstractAsyncContextManager[Any]:
    """The transport of a client to a server process with this environment; warnings end that process."""
    environ = {"PYTHONWARNINGS": "error", **environ}
    return stdio_client(StdioServerParameters(command=SERVE[0], args=list(SERVE[1:]), env=environ), **options)


@dataclass
class World:
    """A served sandbox, and the environment in which a server uses it."""

    sandbox: Sandbox
    environ: dict[str, str]
    state: Path

    def writes(self) -> list[tuple[str, str]]:
        """What has been changed upstream so far, as method and path; tokens and other reads by POST do not count."""
        return [
            (request.method, request.raw_path)
            for request in self.sandbox.requests
            if request.method != "GET" and not request.raw_path.endswith(("/token", "/authorization-uri"))
        ]


@asynccontextmanager
async def served(app: Any, **options: Any) -> AsyncIterator[str]:
    """An ASGI application on a free loopback port; its origin. `options` are uvicorn's."""
    listener = socket.create_server(("127.0.0.1", 0))
    # Otherwise the body of each answer waits 40 ms for the acknowledgement of its head.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    options = {"log_config": None, "access_log": False, "lifespan": "off", "timeout_graceful_shutdown": 1, **options}
    # A request on an idle connection must not meet its end.
    options["timeout_keep_alive"] = 3600
    config = uvicorn.Config(app, **options)
    server = uvicorn.Server(config)
    # It would put the handlers of signals back in another order than servers beside it, and leave one of theirs.
    vars(server)["capture_signals"] = nullcontext
    with listener:
        async with anyio.create_task_group() as group:
            group.start_soon(server.serve, [listener])
            try:
                yield f"http://127.0.0.1:{listener.getsockname()[1]}"
            finally:
                server.should_exit = True


@asynccontextmanager
async def serving(engine: Engine, **options: Any) -> AsyncIterator[str]:
    """An engine that is served over HTTP in this process, on a free port; its origin."""
    async with anyio.create_task_group() as tasks:
        yield await tasks.start(partial(serve_http, engine, "127.0.0.1", 0, **options))
        tasks.cancel_scope.cancel()


def all_variables(sandbox: Sandbox, origin: str) -> dict[str, str]:
    """The variables of all platforms of a served sandbox."""
    return {name: value for platform in PLATFORMS for name, value in sandbox.variables(platform, origin).items()}


@asynccontextmanager
async def world(state: Path) -> AsyncIterator[World]:
    sandbox = Sandbox()
    try:
        async with served(sandbox.app()) as origin:
            # These clients answer at once.
            environ = {"CONNECTOR_MCP_STATE_DIR": str(state), "CONNECTOR_MCP_ASK_READING_TIME": "0"}
            yield World(sandbox, environ | all_variables(sandbox, origin), state)
    finally:
        sandbox.close()


@asynccontextmanager
async def attached(
    settings: Settings, environ: Mapping[str, str] | None = None, **options: Any
) -> AsyncIterator[Client]:
    """A client of a server in this process, with no transport between them. `options` are the client's."""
    async with open_engine(settings, environ or {}, "stdio") as engine:
        server = build_server(engine, request_state_key=await engine.request_state_key())
        async with Client(server, **options) as connected:
            yield connected


@asynccontextmanager
async def client(face: str, environ: Mapping[str, str], **options: Any) -> AsyncIterator[Client]:
    """A client of the SDK, connected to a server with this environment through this face."""
    transport, _, era = face.partition(" ")
    if transport == "stdio":
        async with Client(stdio(environ), mode=era, **options) as connected:
            yield connected
        return
    settings = Settings.load(environ)
    async with open_engine(settings, environ, "http") as engine, serving(engine) as origin:
        target = sse_client(f"{origin}/sse") if transport == "sse" else f"{origin}/mcp"
        async with Client(target, mode=era, **options) as connected:
            yield connected
