"""The measurements over stdio. Each runs everybody in turn, in short rounds."""

from __future__ import annotations

import statistics
import sys
import time
import urllib.request
from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from benchmarks.client import AnswerError, Session, ToolCall
from benchmarks.contestants import GET, LIST, OURS, SLOW, Contestant, Field
from benchmarks.figures import Comparison
from benchmarks.rounds import compared, in_turn

IN_FLIGHT: Final = 64
FIRST_CALLS: Final = 500
ALL_CALLS: Final = 4_000
OPERATIONS: Final = 24
"""Those of all platforms, and the local one."""
COPIES: Final = 5
OTHER_PLATFORMS: Final = {
    "LOGTO_ENDPOINT": "https://logto.invalid",
    "LOGTO_APP_ID": "benchmark",
    "LOGTO_APP_SECRET": "benchmark-secret-0123456789",
    "VERSORI_API_KEY": "benchmark-key-0123456789",
    "CONDUCTORONE_CLIENT_ID": "benchmark@conductorone.invalid/pcc",
    "CONDUCTORONE_CLIENT_SECRET": "benchmark-secret-0123456789",
}
"""What lets them be served; none of them is called."""

_MIB: Final = 1024 * 1024
_WARM_UP: Final = 100
_VARIANT: Final = str(Path(__file__).parent / "variant_server.py")


@dataclass(frozen=True)
class Effort:
    """How much is measured."""

    read_rounds: int
    reads: int
    flood_rounds: int
    flood: int
    starts: int
    memory_rounds: int
    http_rounds: int
    http_calls: int


QUICK: Final = Effort(10, 40, 6, 320, 9, 1, 4, 640)
THOROUGH: Final = Effort(40, 100, 20, 640, 31, 5, 12, 1280)


def measure(field: Field, effort: Effort) -> Iterator[Comparison]:
    """Everything over stdio, a comparison at a time.

    Raises:
        AnswerError: A server ended or gave an answer that is not the one to be measured.
    """
    yield from _cold_start(field.everyone, effort)
    with _opened(field.everyone) as sessions:
        for call in (GET, LIST):
            for session in sessions.values():
                session.flood(call, _WARM_UP, 1)
        yield from _reads(sessions, GET, "read one connector", effort)
        yield from _reads(sessions, LIST, "list 20 connectors", effort)
        for in_flight in (4, 16, IN_FLIGHT):
            yield from _floods(sessions, in_flight, effort)
    yield from _waits(field, effort)
    yield from _memory(field.everyone, effort)
    yield from _recording(field.ours, effort)
    yield from _registry(field.ours, effort)


@contextmanager
def _opened(everyone: tuple[Contestant, ...]) -> Generator[dict[str, Session]]:
    with ExitStack() as stack:
        sessions = {each.name: stack.enter_context(each.start()) for each in everyone}
        for session in sessions.values():
            _open(session)
        yield sessions


def _named(everyone: tuple[Contestant, ...]) -> dict[str, Contestant]:
    return {each.name: each for each in everyone}


def _cold_start(everyone: tuple[Contestant, ...], effort: Effort) -> Iterator[Comparison]:
    # The first start of each writes bytecode and fills the page cache.
    for contestant in everyone:
        _start(contestant)
    taken = in_turn(_named(everyone), _start, effort.starts)
    yield compared("cold start to tools/list", "ms", taken, 0, most=0.9)
    yield compared("  processor time of it", "ms", taken, 1)
    yield compared("cold start to the first call's answer", "ms", taken, 2, most=1.0)
    yield compared("  processor time of it", "ms", taken, 3)


def _start(contestant: Contestant) -> tuple[float, ...]:
    begun = time.perf_counter()
    with contestant.start() as session:
        _open(session)
        listed = time.perf_counter() - begun, session.processor_seconds()
        session.call(GET)
        called = time.perf_counter() - begun, session.processor_seconds()
        return tuple(seconds * 1e3 for seconds in (*listed, *called))


def _reads(sessions: Mapping[str, Session], call: ToolCall, name: str, effort: Effort) -> Iterator[Comparison]:
    def reads(session: Session) -> tuple[float, ...]:
        before = session.processor_seconds()
        taken = statistics.median(session.call(call) for _ in range(effort.reads))
        return taken * 1e3, (session.processor_seconds() - before) / effort.reads * 1e3

    taken = in_turn(sessions, reads, effort.read_rounds)
    most = 0.5 if call is GET else None
    yield compared(f"{name}, 1 in flight, p50", "ms", taken, 0, most=most)
    yield compared("  processor time of it", "ms", taken, 1, most=most)


def _floods(sessions: Mapping[str, Session], in_flight: int, effort: Effort) -> Iterator[Comparison]:
    def flood(session: Session) -> tuple[float, ...]:
        before = session.processor_seconds()
        taken = session.flood(GET, effort.flood, in_flight)
        return effort.flood / taken, (session.processor_seconds() - before) / effort.flood * 1e3

    # The first burst opens the connections.
    for session in sessions.values():
        session.flood(GET, in_flight * 2, in_flight)
    taken = in_turn(sessions, flood, effort.flood_rounds)
    least = 4.0 if in_flight == IN_FLIGHT else None
    yield compared(f"read one connector, {in_flight} in flight", "calls/s", taken, 0, least=least)
    yield compared("  processor time of one call", "ms", taken, 1)


def _waits(field: Field, effort: Effort) -> Iterator[Comparison]:
    """With an upstream that takes its time: what share of what is possible is reached, and how many wait at once."""
    ideal = IN_FLIGHT / SLOW
    with _opened(field.late()) as sessions:

        def flood(session: Session) -> tuple[float, ...]:
            calls = IN_FLIGHT * 8
            _most_at_once(field)
            speed = calls / session.flood(GET, calls, IN_FLIGHT)
            return speed, ideal, float(_most_at_once(field)), float(IN_FLIGHT)

        for session in sessions.values():
            session.flood(GET, IN_FLIGHT * 2, IN_FLIGHT)
        taken = in_turn(sessions, flood, effort.flood_rounds)
    rows = taken[OURS]
    name = f"{IN_FLIGHT} in flight, upstream {SLOW * 1e3:.0f} ms"
    yield compared(name, "calls/s", taken, 0)
    for column, what, unit, least in ((0, "share of what is possible", "calls/s", 0.8), (2, "at once", "", 1.0)):
        ours, possible = tuple(row[column] for row in rows), tuple(row[column + 1] for row in rows)
        yield Comparison(f"  {what}", unit, ours, possible, least=least, against="possible")


def _most_at_once(field: Field) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{field.slow_port}/most", timeout=10) as answer:
        return int(answer.read())


def _memory(everyone: tuple[Contestant, ...], effort: Effort) -> Iterator[Comparison]:
    def resident(contestant: Contestant) -> tuple[float, ...]:
        with contestant.start() as session:
            return _resident(session)

    taken = in_turn(_named(everyone), resident, effort.memory_rounds)
    yield compared("resident memory at start", "MiB", taken, 0, most=1.2)
    yield compared(f"resident memory after {FIRST_CALLS} calls", "MiB", taken, 1)
    yield compared(f"resident memory after {ALL_CALLS} calls", "MiB", taken, 2)
    grown = {who: [(last - first,) for _, first, last in rows] for who, rows in taken.items()}
    # What the allocator's own unrest may be.
    yield compared(f"  growth from call {FIRST_CALLS} on", "MiB", grown, 0, allowed=0.5)


def _resident(session: Session) -> tuple[float, ...]:
    """Memory at the start, after the first calls and after all of them, reads and lists in turn."""
    _open(session)
    start = session.resident_bytes()
    for call in (GET, LIST):
        session.flood(call, FIRST_CALLS // 2, IN_FLIGHT)
    first = session.resident_bytes()
    for _ in range((ALL_CALLS - FIRST_CALLS) // FIRST_CALLS):
        for call in (GET, LIST):
            session.flood(call, FIRST_CALLS // 2, IN_FLIGHT)
    return start / _MIB, first / _MIB, session.resident_bytes() / _MIB


def _recording(ours: Contestant, effort: Effort) -> Iterator[Comparison]:
    with _opened((_variant(ours, "recorded", 1), _variant(ours, "unrecorded", 1, "--unrecorded"))) as sessions:
        for comparison in list(_floods(sessions, IN_FLIGHT, effort))[:1]:
            yield replace(comparison, name="the same with the audit log, and without", least=0.9)


def _registry(ours: Contestant, effort: Effort) -> Iterator[Comparison]:
    every = ours.with_variables(**OTHER_PLATFORMS)
    pair = _named((_variant(every, "many operations", COPIES), _variant(every, "today's operations", 1)))
    for variant in pair.values():
        _start(variant)
    taken = in_turn(pair, _start, effort.starts)
    yield compared(f"cold start with {OPERATIONS * COPIES} operations, and with {OPERATIONS}", "ms", taken, 0, most=1.1)
    yield compared("  to the first call's answer", "ms", taken, 2)

    def lists(session: Session) -> tuple[float, ...]:
        listed = [session.list_tools() for _ in range(10)]
        return statistics.median(seconds for seconds, _ in listed) * 1e3, listed[0][1] / 1024

    with _opened(tuple(pair.values())) as sessions:
        taken = in_turn(sessions, lists, effort.flood_rounds)
    yield compared("  tools/list", "ms", taken, 0, most=1.1)
    yield compared("  length of the list", "KiB", taken, 1)


def _variant(ours: Contestant, name: str, *arguments: object) -> Contestant:
    command = (sys.executable, _VARIANT, *map(str, arguments))
    variant = ours.with_variables(CONNECTOR_MCP_STATE_DIR=str(ours.directory / name.replace(" ", "-")))
    return replace(variant, name=name, command=command)


def _open(session: Session) -> None:
    lacking = {GET.tool, LIST.tool}.difference(session.open())
    if lacking:
        raise AnswerError(f"tools/list lacks {', '.join(sorted(lacking))}")
