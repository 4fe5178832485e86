"""The measurements. Each runs all servers in turn, in short rounds, so that they share what disturbs the machine."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Final

from benchmarks.http_clients import REVISIONS, HttpClient, SseClient
from benchmarks.results import Comparison, Figures, compare, interleave
from benchmarks.servers import SLOW, Field, ServerCommand
from benchmarks.stdio_client import StdioSession, processor_seconds

IN_FLIGHT: Final = 64
SSE_CLIENTS: Final = 16
Clients = Sequence[HttpClient] | Sequence[SseClient]


@dataclass(frozen=True)
class Effort:
    """How many rounds, and calls in each, are measured."""

    starts: int
    read_rounds: int
    reads: int
    flood_rounds: int
    flood: int
    memory_calls: int
    http_rounds: int
    http_calls: int


FULL: Final = Effort(9, 10, 40, 6, 320, 4_000, 4, 640)
SMOKE: Final = Effort(1, 1, 5, 1, 64, 200, 1, 128)


def measure(field: Field, effort: Effort) -> Iterator[Comparison]:
    """Measure everything, one comparison at a time.

    Raises:
        MeasurementError: A server ended, or its answer was not the expected one.
    """
    yield from _cold_start(field, effort)
    with _sessions(field.servers) as sessions:
        yield from _reads(sessions, effort)
        yield from _flood(sessions, effort)
    with _sessions(field.behind_slow_upstream()) as sessions:
        yield from _slow_upstream(sessions, effort)
    yield from _memory(field, effort)
    for kind, count, floor in (
        (REVISIONS[0], IN_FLIGHT, 1.1),
        (REVISIONS[1], IN_FLIGHT, 1.4),
        ("SSE", SSE_CLIENTS, 1.1),
    ):
        yield from asyncio.run(_http(field, effort, kind, count, floor))


@contextmanager
def _sessions(servers: Mapping[str, ServerCommand]) -> Generator[dict[str, StdioSession]]:
    """An open session with each server. Its connections to the upstream are open, too."""
    with ExitStack() as stack:
        sessions = {name: stack.enter_context(StdioSession(server)) for name, server in servers.items()}
        for session in sessions.values():
            session.open()
            session.flood(IN_FLIGHT * 2, IN_FLIGHT)
        yield sessions


def _cold_start(field: Field, effort: Effort) -> Iterator[Comparison]:
    def start(server: ServerCommand) -> Figures:
        begin = time.perf_counter()
        with StdioSession(server) as session:
            session.open()
            listed = time.perf_counter() - begin
            session.call()
            return listed * 1e3, (time.perf_counter() - begin) * 1e3

    # The first start of each writes bytecode and fills the page cache.
    for server in field.servers.values():
        start(server)
    taken = interleave(field.servers, start, effort.starts)
    yield compare("cold start to tools/list", "ms", taken, 0, at_most=1.2)
    yield compare("cold start to the first call's answer", "ms", taken, 1, at_most=1.4)


def _reads(sessions: Mapping[str, StdioSession], effort: Effort) -> Iterator[Comparison]:
    def read(session: StdioSession) -> Figures:
        before = session.processor_seconds()
        median = statistics.median(session.call() for _ in range(effort.reads))
        return median * 1e3, (session.processor_seconds() - before) / effort.reads * 1e3

    taken = interleave(sessions, read, effort.read_rounds)
    yield compare("stdio read, processor time", "ms", taken, 1, at_most=0.6)
    yield compare("stdio read, p50", "ms", taken, 0)


def _flood(sessions: Mapping[str, StdioSession], effort: Effort) -> Iterator[Comparison]:
    def flood(session: StdioSession) -> Figures:
        return (effort.flood / session.flood(effort.flood, IN_FLIGHT),)

    taken = interleave(sessions, flood, effort.flood_rounds)
    yield compare("stdio, 64 in flight", "calls/s", taken, 0, at_least=1.8)


def _slow_upstream(sessions: Mapping[str, StdioSession], effort: Effort) -> Iterator[Comparison]:
    def flood(session: StdioSession) -> Figures:
        """The milliseconds that the server adds to a call with 8 in flight, and the share of the ideal with 64."""
        few, many = effort.flood // 4, effort.flood
        added = session.flood(few, 8) / (few / 8) - SLOW
        return added * 1e3, many * SLOW / IN_FLIGHT / session.flood(many, IN_FLIGHT)

    taken = interleave(sessions, flood, effort.flood_rounds)
    yield compare("upstream 50 ms, 8 in flight, added to a call", "ms", taken, 0, at_most=2.0, absolute=True)
    yield compare("upstream 50 ms, 64 in flight, share of the ideal", "", taken, 1, at_least=0.35, absolute=True)


def _memory(field: Field, effort: Effort) -> Iterator[Comparison]:
    def resident(server: ServerCommand) -> Figures:
        with StdioSession(server) as session:
            session.open()
            session.flood(effort.memory_calls // 8, IN_FLIGHT)
            early = session.resident_mebibytes()
            session.flood(effort.memory_calls - effort.memory_calls // 8, IN_FLIGHT)
            late = session.resident_mebibytes()
            return late, late - early

    taken = interleave(field.servers, resident, 1)
    yield compare("resident memory after 4,000 calls", "MiB", taken, 0, at_most=1.3)
    yield compare("growth from call 500 to 4,000", "MiB", taken, 1, at_most=0.5, absolute=True)


async def _http(field: Field, effort: Effort, kind: str, count: int, floor: float) -> list[Comparison]:
    taken: dict[str, list[Figures]] = {name: [] for name in field.servers}
    with ExitStack() as stack:
        running: dict[str, tuple[Clients, int]] = {}
        for name, server in field.servers.items():
            process, port = stack.enter_context(server.listening())
            clients: Clients = (
                [SseClient(port) for _ in range(count)]
                if kind == "SSE"
                else [HttpClient(port, kind) for _ in range(count)]
            )
            for client in clients:
                await client.open()
            running[name] = clients, process
        names = list(running)
        for number in range(effort.http_rounds + 1):
            for name in (*names[number % len(names) :], *names[: number % len(names)]):
                figures = await _http_round(*running[name], effort.http_calls)
                # The first round opens the connections to the upstream; it does not count.
                if number:
                    taken[name].append(figures)
        for clients, _ in running.values():
            for client in clients:
                client.close()
    title = f"SSE, {count} clients" if kind == "SSE" else f"/mcp {kind}, {count} clients"
    return [
        compare(title, "calls/s", taken, 0, at_least=floor),
        compare(f"{title}, processor time of a call", "ms", taken, 1),
    ]


async def _http_round(clients: Clients, process: int, calls: int) -> Figures:
    each = calls // len(clients)
    for client in clients:
        await client.reconnect()
    before, begin = processor_seconds(process), time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for client in clients:
            tasks.create_task(client.call(each))
    made = each * len(clients)
    return made / (time.perf_counter() - begin), (processor_seconds(process) - before) / made * 1e3
