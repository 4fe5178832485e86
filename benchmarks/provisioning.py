"""A manifest of 1,000 connectors, planned and applied.

An engine in this process talks to the sandbox in another one, which answers every request after 50 ms. At most 20
requests are in flight, and the client-side rate is lifted. Sources are created, then a key of each config is changed.

What latency and limits alone dictate is worked out from the requests that the platform counted, read-backs and checks
included: 50 ms for each further page of a list, because only the page before names it, and 50 ms for every 20 of all
other requests. The ratio is that of the time of plan and apply together to this time.

Beside it stands the naive loop: for one connector after the other a call that creates it and one that checks it. It
is measured with a part of the connectors, and multiplied.
"""

from __future__ import annotations

import asyncio
import json
import math
import resource
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, Final

from benchmarks.results import Comparison, Figures, compare
from benchmarks.servers import SLOW, MeasurementError
from connector_mcp.composition.engine import open_engine
from connector_mcp.composition.health import LocalCaller
from connector_mcp.config.settings import Settings
from connector_mcp.engine.engine import Engine
from connector_mcp.sandbox import seed

IN_FLIGHT: Final = 20
TAKEN: Final = "plan and apply"
DICTATED: Final = "latency and limits alone"
NAIVE: Final = "naive loop of calls"
CREATE: Final = "vectorize_create_source_connector"
UPDATE: Final = "vectorize_update_source_connector"
VERSIONS: Final = (1, 2)
"""Of each config: that which is created, and that to which it is changed."""


@dataclass(frozen=True)
class Effort:
    """How many connectors, with how many the memory and the naive loop are measured, and how many rounds."""

    connectors: int
    few: int
    naive: int
    rounds: int


FULL: Final = Effort(1_000, 250, 100, 3)
SMOKE: Final = Effort(40, 20, 5, 1)


def _manifest(name: str, count: int, version: int) -> dict[str, Any]:
    return {"name": name, "sources": {f"site-{number}": _source(name, number, version) for number in range(count)}}


def _source(name: str, number: int, version: int) -> dict[str, Any]:
    config = {"seed-urls": [f"https://{number}.example.com/{version}"]}
    return {"name": f"{name} {number}", "type": "WEB_CRAWLER", "config": config}


class _Bench:
    def __init__(self, engine: Engine, port: int) -> None:
        self._engine = engine
        self._port = port

    async def call(self, tool: str, arguments: dict[str, Any]) -> Any:
        """The data of a call that succeeded."""
        result = await self._engine.call(tool, arguments, LocalCaller())
        if result.is_error:
            raise MeasurementError(f"unexpected answer: {result.content}")
        return result.content["data"]

    async def provision(self, manifest: dict[str, Any]) -> tuple[float, float]:
        """Plan and apply. The seconds that it took, and those that latency and limits dictate."""
        await self.dictated()
        begin = time.perf_counter()
        plan = await self.call("plan_connectors", {"manifest": manifest})
        if plan["changes"] != len(manifest["sources"]):
            raise MeasurementError(f"unexpected plan: {plan['counts']}")
        while (applied := await self.call("apply_plan", {"plan_id": plan["plan_id"]}))["status"] != "done":
            if applied["status"] != "in_progress":
                raise MeasurementError(f"unexpected answer: {applied}")
        return time.perf_counter() - begin, await self.dictated()

    async def naive(self, name: str, count: int) -> tuple[float, float]:
        """The seconds of single calls that create one connector after the other, and of those that change them."""
        begin, made = time.perf_counter(), list[str]()
        for number in range(count):
            (row,) = await self.call(CREATE, {"connectors": [_source(name, number, 1)]})
            made.append(row["id"])
            await self._check(row["id"])
        created = time.perf_counter()
        for number, identifier in enumerate(made):
            config = _source(name, number, 2)["config"]
            await self.call(UPDATE, {"source_connector_id": identifier, "config": config})
            await self._check(identifier)
        return created - begin, time.perf_counter() - created

    async def _check(self, identifier: str) -> None:
        await self.call("check_connector", {"platform": "vectorize", "kind": "source connector", "id": identifier})

    async def dictated(self) -> float:
        """The seconds that the requests since the last time dictate."""
        with await asyncio.to_thread(urllib.request.urlopen, f"http://127.0.0.1:{self._port}/count") as answer:
            requests, pages = json.load(answer)
        return (pages + math.ceil((requests - pages) / IN_FLIGHT)) * SLOW


@contextmanager
def _platform() -> Generator[int]:
    command = (sys.executable, "-m", "benchmarks.late_sandbox", str(SLOW))
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.terminate()


@asynccontextmanager
async def _bench() -> AsyncGenerator[_Bench]:
    with tempfile.TemporaryDirectory(prefix="connector-mcp-benchmark-") as folder, _platform() as port:
        environ = {
            **seed.variables("vectorize", f"http://127.0.0.1:{port}", create_body="object"),
            "CONNECTOR_MCP_STATE_DIR": folder,
            "CONNECTOR_MCP_POLICY": "create=allow,update=allow",
            "CONNECTOR_MCP_REQUESTS_PER_SECOND": "1000000",
            "CONNECTOR_MCP_UPSTREAM_CONCURRENCY": str(IN_FLIGHT),
        }
        async with open_engine(Settings.load(environ), environ, "cli") as engine:
            bench = _Bench(engine, port)
            # It imports, and opens the connections.
            await bench.provision(_manifest("warm-up", IN_FLIGHT, 1))
            await bench.naive("naive-warm-up", 1)
            yield bench


def _peak() -> float:
    """The largest resident memory of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(*, smoke: bool) -> list[Comparison]:
    """Measure creations and changes beside the naive loop, and the memory that they take."""
    return asyncio.run(_measure(SMOKE if smoke else FULL))


async def _measure(effort: Effort) -> list[Comparison]:
    taken = {action: {name: list[Figures]() for name in (TAKEN, DICTATED, NAIVE)} for action in ("create", "change")}
    few = many = 0.0
    for _ in range(effort.rounds):
        async with _bench() as bench:
            if not few:
                for version in VERSIONS:
                    await bench.provision(_manifest("few", effort.few, version))
                few = _peak()
            for version, rows in zip(VERSIONS, taken.values(), strict=True):
                seconds, dictated = await bench.provision(_manifest("many", effort.connectors, version))
                rows[TAKEN].append((seconds,))
                rows[DICTATED].append((dictated,))
            for seconds, rows in zip(await bench.naive("naive", effort.naive), taken.values(), strict=True):
                rows[NAIVE].append((seconds * effort.connectors / effort.naive,))
        many = _peak()
    memory = {f"{effort.connectors} connectors": [(many,)], f"{effort.few} connectors": [(few,)]}
    return [
        *(compare(f"{action} {effort.connectors}", "s", rows, 0, at_most=1.3) for action, rows in taken.items()),
        compare("largest resident memory", "MiB", memory, 0, at_most=1.6),
    ]
