"""What the number of platforms and of tools costs.

`find_connectors` over all platforms beside the same over each platform alone: an engine in this process over a
sandbox that answers every request late. The start of a server over stdio with all
toolsets, beside the default ones.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path
from typing import Final
from unittest import mock

import httpx

from benchmarks.results import Comparison, Figures, compare, interleave
from benchmarks.servers import MeasurementError, ServerCommand, inherited_environment
from benchmarks.stdio_client import StdioSession
from connector_mcp.composition.engine import open_engine
from connector_mcp.composition.health import LocalCaller
from connector_mcp.config.settings import Settings
from connector_mcp.engine.engine import Engine
from connector_mcp.operations.catalog import PLATFORMS
from connector_mcp.sandbox.app import Sandbox

LATENCY: Final = 0.1
"""Seconds before a platform answers."""
ROUNDS: Final = 8
STARTS: Final = 9
ALL_PLATFORMS: Final = "all platforms"
SLOWEST: Final = "the slowest alone"
ALL_TOOLSETS: Final = "all toolsets"
DEFAULT: Final = "the default"


class _Late(httpx.AsyncBaseTransport):
    def __init__(self, platform: httpx.AsyncBaseTransport) -> None:
        self._platform = platform

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(LATENCY)
        return await self._platform.handle_async_request(request)


async def _seconds(engine: Engine, platform: str | None) -> float:
    begin = time.perf_counter()
    arguments = {} if platform is None else {"platform": platform}
    result = await engine.call("find_connectors", arguments, LocalCaller())
    if result.is_error or result.content["meta"].get("warnings"):
        raise MeasurementError(f"unexpected answer: {result.content}")
    return time.perf_counter() - begin


async def find_connectors(folder: Path, rounds: int) -> Comparison:
    """Compare `find_connectors` over all platforms with the slowest platform of each round."""
    transport = Sandbox.transport
    taken: dict[str, list[Figures]] = {ALL_PLATFORMS: [], SLOWEST: []}
    environ = {
        "CONNECTOR_MCP_SANDBOX": "true",
        "CONNECTOR_MCP_STATE_DIR": str(folder),
        "CONNECTOR_MCP_REQUESTS_PER_SECOND": "1000000",
    }

    def late(sandbox: Sandbox, platform: str) -> httpx.AsyncBaseTransport:
        return _Late(transport(sandbox, platform))

    with mock.patch.object(Sandbox, "transport", late):
        async with open_engine(Settings.load(environ), environ, "stdio") as engine:
            for number in range(rounds + 1):
                whole = await _seconds(engine, None)
                alone = [await _seconds(engine, platform) for platform in PLATFORMS]
                # The first round imports, and gets the access tokens; it does not count.
                if number:
                    taken[ALL_PLATFORMS].append((whole * 1e3,))
                    taken[SLOWEST].append((max(alone) * 1e3,))
    return compare("find_connectors", "ms", taken, 0, at_most=1.2)


def _start(server: ServerCommand) -> Figures:
    begin = time.perf_counter()
    with StdioSession(server) as session:
        session.open()
        return ((time.perf_counter() - begin) * 1e3,)


def cold_start(folder: Path, starts: int) -> Comparison:
    """Compare the time from the start of a process to the list of its tools."""
    command = (sys.executable, "-m", "connector_mcp", "serve", "--sandbox")
    environment = {**inherited_environment(), "CONNECTOR_MCP_STATE_DIR": str(folder)}
    servers = {
        name: ServerCommand(command, {**environment, "CONNECTOR_MCP_TOOLSETS": toolsets}, folder)
        for name, toolsets in ((ALL_TOOLSETS, "all"), (DEFAULT, "default"))
    }
    # The first start of each writes bytecode and fills the page cache.
    for server in servers.values():
        _start(server)
    return compare("start to tools/list", "ms", interleave(servers, _start, starts), 0, at_most=1.25)


def measure(*, smoke: bool) -> list[Comparison]:
    """Compare all platforms with the slowest alone, and the start with all toolsets with that with the default ones."""
    with tempfile.TemporaryDirectory(prefix="connector-mcp-benchmark-") as folder:
        found = asyncio.run(find_connectors(Path(folder), 1 if smoke else ROUNDS))
        return [found, cold_start(Path(folder), 1 if smoke else STARTS)]
