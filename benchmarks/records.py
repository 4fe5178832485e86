"""`python -m benchmarks.records`: what the audit log costs, over SQLite and PostgreSQL.

First a server and its client over stdio, beside the same server without an audit log, with a platform that answers at
once and one that takes 50 ms. Then an engine in this process, without a protocol around it. PostgreSQL is measured
where `CONNECTOR_MCP_BENCHMARK_STATE` has the address of an empty database.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final
from unittest import mock

from benchmarks.results import Comparison, Figures, compare, interleave, table
from benchmarks.servers import SLOW, MeasurementError, ServerCommand, inherited_environment, upstream
from benchmarks.stdio_client import StdioSession
from benchmarks.upstream import ARGUMENTS, ORGANIZATION, TOOL
from connector_mcp.audit.record import AuditRecord
from connector_mcp.audit.trail import AuditTrail, LockedChain
from connector_mcp.cli.main import main as run_command
from connector_mcp.composition import engine as composition
from connector_mcp.composition.health import LocalCaller
from connector_mcp.config.settings import Settings
from connector_mcp.engine.engine import Engine
from connector_mcp.state.database import Database, Transaction, Work

IN_FLIGHT: Final = 16
ROUNDS: Final = 15
CALLS: Final = 128
WITH: Final = "with the audit log"
WITHOUT: Final = "without"
COLUMNS: Final = ("", WITH, WITHOUT, "ratio", "floor", "", "")
CREATE: Final = "vectorize_create_source_connector"
_NUMBERS = itertools.count()


class _NoChain(LockedChain):
    def __init__(self) -> None:
        pass

    def append(self, *_: Any, **__: Any) -> None:
        pass


class _NoTrail(AuditTrail):
    """Runs what belongs to a record, and writes no record."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._records = database

    def lock(self, transaction: Transaction) -> LockedChain:
        return _NoChain()

    async def write(self, record: AuditRecord, also: Work[None] | None = None) -> None:
        if also is not None:
            await self._records.write(also)


def _calls(kind: str, count: int) -> Iterator[tuple[str, dict[str, Any]]]:
    for _ in range(count):
        if kind == "reads":
            yield TOOL, dict(ARGUMENTS)
        else:
            # Two equal creations are one call that is repeated.
            yield CREATE, {"connectors": [{"name": f"connector {next(_NUMBERS)}", "type": "FILE_UPLOAD"}]}


async def _round(engine: Engine, kind: str, count: int) -> Figures:
    """Calls a second, and the processor time of a call in milliseconds."""
    calls = _calls(kind, count)

    async def worker() -> None:
        for name, arguments in calls:
            result = await engine.call(name, arguments, LocalCaller())
            if result.is_error:
                raise MeasurementError(f"unexpected answer: {result.content}")

    before, begin = time.process_time(), time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(IN_FLIGHT):
            tasks.create_task(worker())
    return count / (time.perf_counter() - begin), (time.process_time() - before) / count * 1e3


@asynccontextmanager
async def _engines(environ: Mapping[str, str], folder: Path) -> AsyncGenerator[dict[str, Engine]]:
    async with AsyncExitStack() as stack:
        engines: dict[str, Engine] = {}
        for name, trail in ((WITH, AuditTrail), (WITHOUT, _NoTrail)):
            own = {**environ, "CONNECTOR_MCP_STATE_DIR": str(folder / name)}
            with mock.patch.object(composition, "AuditTrail", trail):
                opened = composition.open_engine(Settings.load(own), own, "stdio")
                engines[name] = await stack.enter_async_context(opened)
        yield engines


def measure_clients(environ: Mapping[str, str], where: str, folder: Path) -> Sequence[Comparison]:
    """Compare reads as a client over stdio makes them."""
    modules = {WITH: "connector_mcp", WITHOUT: "benchmarks.records"}
    with ExitStack() as stack:
        sessions: dict[str, StdioSession] = {}
        for name, module in modules.items():
            own = {"CONNECTOR_MCP_STATE_DIR": str(folder / name), "PYTHONPATH": str(Path(__file__).parents[1])}
            command = ServerCommand((sys.executable, "-m", module, "serve"), {**environ, **own}, folder.parent)
            sessions[name] = stack.enter_context(StdioSession(command))
            sessions[name].open()
            sessions[name].flood(CALLS, IN_FLIGHT)

        def read(session: StdioSession) -> Figures:
            before = session.processor_seconds()
            calls_a_second = CALLS / session.flood(CALLS, IN_FLIGHT)
            return calls_a_second, (session.processor_seconds() - before) / CALLS * 1e3

        taken = interleave(sessions, read, ROUNDS)
    return [
        compare(f"reads by a client, {where}", "calls/s", taken, 0, at_least=0.9),
        compare(f"reads by a client, {where}, processor time", "ms", taken, 1),
    ]


async def measure(environ: Mapping[str, str], where: str, folder: Path) -> Sequence[Comparison]:
    """Compare reads and allowed writes over one database."""
    comparisons: list[Comparison] = []
    async with _engines(environ, folder) as engines:
        for kind, floor in (("reads", 0.9), ("allowed writes", None)):
            taken: dict[str, list[Figures]] = {name: [] for name in engines}
            names = list(engines)
            for number in range(ROUNDS + 1):
                for name in names if number % 2 else names[::-1]:
                    figures = await _round(engines[name], kind, CALLS)
                    # The first round opens connections; it does not count.
                    if number:
                        taken[name].append(figures)
            comparisons.append(compare(f"{kind} over {where}", "calls/s", taken, 0, at_least=floor))
            comparisons.append(compare(f"{kind} over {where}, processor time", "ms", taken, 1))
    return comparisons


def main() -> None:
    """Measure, and print a table."""
    comparisons: list[Comparison] = []
    with (
        tempfile.TemporaryDirectory(prefix="connector-mcp-benchmark-") as folder,
        upstream() as port,
        upstream(SLOW) as slow_port,
    ):
        environ = {
            "VECTORIZE_API_KEY": "benchmark-key-0123456789",
            "VECTORIZE_ORGANIZATION_ID": ORGANIZATION,
            "VECTORIZE_BASE_URL": f"http://127.0.0.1:{port}/v1",
            "CONNECTOR_MCP_POLICY": "create=allow",
            "CONNECTOR_MCP_REQUESTS_PER_SECOND": "1000000",
        }
        state = os.environ.get("CONNECTOR_MCP_BENCHMARK_STATE")
        databases = {"SQLite": {}, **({"PostgreSQL": {"CONNECTOR_MCP_STATE": state}} if state else {})}
        for where, database in databases.items():
            own = environ | database
            slow = {"VECTORIZE_BASE_URL": f"http://127.0.0.1:{slow_port}/v1"}
            for name, others in ((where, {}), (f"{where}, platform takes 50 ms", slow)):
                comparisons += measure_clients(inherited_environment() | own | others, name, Path(folder) / name)
            comparisons += asyncio.run(measure(own, where, Path(folder) / where))
    print(table(comparisons, COLUMNS))


if __name__ == "__main__":
    if sys.argv[1:]:
        # The server without an audit log, with the arguments of `connector-mcp`.
        with mock.patch.object(composition, "AuditTrail", _NoTrail):
            run_command()
    else:
        main()
