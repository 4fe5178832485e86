"""A small engine with the interface of the real one, and servers around it."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from mcp import Client

from connector_mcp.config.settings import Settings
from connector_mcp.engine.caller import Caller, CallResult
from connector_mcp.engine.engine import UnknownTool
from connector_mcp.operations.catalog import catalog
from connector_mcp.operations.tool import Tool, tool_of
from connector_mcp.suggest import meant
from connector_mcp.telemetry.observer import NULL_OBSERVER
from connector_mcp.transport.auth.authorization import Callers
from connector_mcp.transport.auth.static_tokens import StaticToken, TokenFile
from connector_mcp.transport.http.addresses import PublicAddress
from connector_mcp.transport.http.app import http_app, serve_http
from connector_mcp.transport.http.host_guard import Reach
from connector_mcp.transport.mcp.server import build_server

KEY = b"k" * 32
SECRET = "marked-secret-value"

Behaviour = Callable[["FakeEngine", str, Mapping[str, Any], Caller], Awaitable[CallResult]]


async def who(engine: "FakeEngine", name: str, arguments: Mapping[str, Any], caller: Caller) -> CallResult:
    """Answers what the engine was told of the call."""
    content = {
        "tool": name,
        "arguments": dict(arguments),
        "principal": caller.principal,
        "client": caller.client,
        "transport": caller.transport,
        "scopes": None if caller.scopes is None else sorted(caller.scopes),
        "can_ask": caller.can_ask,
    }
    return CallResult(content, is_error=False)


async def hang(engine: "FakeEngine", name: str, arguments: Mapping[str, Any], caller: Caller) -> CallResult:
    """Says that it has begun, then goes on until it is cancelled, and keeps a record as the engine does."""
    engine.begun.set()
    await caller.progress("begun")
    try:
        await anyio.sleep_forever()
    finally:
        engine.record("cancelled")
    raise AssertionError


@dataclass(frozen=True)
class AnsweringAnything(Tool):
    """A tool whose answers are about the call itself, which no real tool's output schema would pass."""

    @property
    def output_schema(self) -> dict[str, Any]:
        return {"type": "object"}


@cache
def _tools() -> dict[str, Tool]:
    operations = catalog(("vectorize",)).items()
    return {name: AnsweringAnything(**vars(tool_of(operation))) for name, operation in operations}


class FakeEngine:
    """What the transports use of `connector_mcp.engine.engine.Engine`."""

    def __init__(self, behaviour: Behaviour = who, *, audit: Path | None = None, ask_timeout: float = 300.0) -> None:
        self.settings = Settings(state_dir=Path("unused"), ask_timeout=ask_timeout)
        self.observer = NULL_OBSERVER
        self.behaviour = behaviour
        self.calls: list[str] = []
        self.begun = anyio.Event()
        self.records: list[str] = []
        self.waiting_ended = False
        self._audit = audit
        self._tools = _tools()

    def tools(self, caller: Caller | None = None, *, any_scope: bool = False) -> tuple[Tool, ...]:
        scopes = caller.scopes if caller and not any_scope else None
        tools = tuple(self._tools.values())
        return tools if scopes is None else tuple(tool for tool in tools if tool.annotations.read_only)

    def tool(self, name: str) -> Tool | None:
        return self._tools.get(name)

    def missing_scope(self, name: str, scopes: frozenset[str]) -> str | None:
        tool = self._tools.get(name)
        return "connectors:read" if tool and not scopes else None

    async def call(self, name: str, arguments: Mapping[str, Any], caller: Caller) -> CallResult:
        if name not in self._tools:
            raise UnknownTool(name, meant(name, self._tools))
        self.calls.append(name)
        return await self.behaviour(self, name, arguments, caller)

    async def request_state_key(self) -> bytes:
        return KEY

    def end_waiting(self) -> None:
        self.waiting_ended = True

    def scrub(self, text: str) -> str:
        return text.replace(SECRET, "[redacted]")

    def record(self, outcome: str) -> None:
        self.records.append(outcome)
        if self._audit is not None:
            with self._audit.open("a") as audit:
                audit.write(outcome)


@asynccontextmanager
async def serving(
    engine: FakeEngine, tokens: Sequence[StaticToken] = (), token_file: TokenFile | None = None, **options: Any
) -> AsyncGenerator[str]:
    """The address of a real HTTP server around an engine."""
    async with anyio.create_task_group() as tasks:

        async def serve(*, task_status: anyio.abc.TaskStatus[str]) -> None:
            arguments = {
                "host": "127.0.0.1",
                "port": 0,
                "grace": 0.2,
                "callers": Callers(tokens, token_file),
                **options,
            }
            await serve_http(engine, **arguments, task_status=task_status)

        try:
            yield await tasks.start(serve)
        finally:
            tasks.cancel_scope.cancel()


@asynccontextmanager
async def app_client(
    engine: Any, base_url: str = "http://127.0.0.1:8765", *, headers: dict[str, str] | None = None, **options: Any
) -> AsyncGenerator[httpx.AsyncClient]:
    """A client of the HTTP application around an engine, without a socket. The application answers to the base URL."""
    reach = Reach.for_address("127.0.0.1", 8765, hosts=PublicAddress.read(base_url).hosts)
    app = http_app(engine, request_state_key=KEY, reach=reach, **options)
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=base_url, headers=headers)
    async with app.router.lifespan_context(app), client:
        yield client


def client_of(engine: Any, mode: Any, callback: Any = None, **options: Any) -> Client:
    """A client of the MCP server around an engine, without a transport between them."""
    return Client(build_server(engine, request_state_key=KEY), mode=mode, elicitation_callback=callback, **options)


@pytest.fixture(params=["auto", "legacy"])
def mode(request: pytest.FixtureRequest) -> str:
    """Both eras of the protocol."""
    return request.param
