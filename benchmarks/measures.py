"""The measurements. Each runs both servers in turn, in short rounds, and swaps who begins from round to round."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from benchmarks.client import AnswerError, Session, ToolCall
from benchmarks.contestants import GET, LIST, Contestant, Pair
from benchmarks.figures import Comparison

READ_TARGET: Final = 1.3
COLD_START_TARGET: Final = 1.25
MEMORY_TARGET: Final = 1.3
GROWTH_ALLOWED: Final = 0.5
"""MiB between the 500th and the 2,000th call that are taken for the allocator's own unrest."""

IN_FLIGHT: Final = 64
FIRST_CALLS: Final = 500
ALL_CALLS: Final = 2_000

_MIB: Final = 1024 * 1024
_WARM_UP: Final = 100

Figures = TypeVar("Figures")


@dataclass(frozen=True)
class Effort:
    """How much is measured."""

    read_rounds: int
    reads: int
    flood_rounds: int
    flood: int
    starts: int
    memory_rounds: int


QUICK: Final = Effort(read_rounds=12, reads=40, flood_rounds=6, flood=320, starts=9, memory_rounds=1)
THOROUGH: Final = Effort(read_rounds=40, reads=100, flood_rounds=20, flood=640, starts=31, memory_rounds=5)


def measure(pair: Pair, effort: Effort) -> Iterator[Comparison]:
    """Everything, a comparison at a time.

    Raises:
        AnswerError: A server ended or gave an answer that is not the one to be measured.
    """
    yield from _cold_start(pair, effort)
    with pair.ours.start() as ours, pair.bare.start() as bare:
        for session in (ours, bare):
            _open(session)
            for call in (GET, LIST):
                session.flood(call, _WARM_UP, 1)
        yield from _reads(ours, bare, GET, "read one connector", effort)
        yield from _reads(ours, bare, LIST, "list 20 connectors", effort)
        yield from _floods(ours, bare, effort)
    yield from _memory(pair, effort)


def _cold_start(pair: Pair, effort: Effort) -> Iterator[Comparison]:
    # The first start of each writes bytecode and fills the page cache.
    for contestant in (pair.ours, pair.bare):
        _start(contestant)
    ours, bare = _in_turn(lambda: _start(pair.ours), lambda: _start(pair.bare), effort.starts)
    yield Comparison("cold start to tools/list", "ms", _column(ours, 0), _column(bare, 0), target=COLD_START_TARGET)
    yield Comparison("  processor time of it", "ms", _column(ours, 1), _column(bare, 1))


def _start(contestant: Contestant) -> tuple[float, float]:
    begun = time.perf_counter()
    with contestant.start() as session:
        _open(session)
        return (time.perf_counter() - begun) * 1e3, session.processor_seconds() * 1e3


def _reads(ours: Session, bare: Session, call: ToolCall, name: str, effort: Effort) -> Iterator[Comparison]:
    def reads(session: Session) -> tuple[float, float]:
        before = session.processor_seconds()
        taken = statistics.median(session.call(call) for _ in range(effort.reads))
        return taken * 1e3, (session.processor_seconds() - before) / effort.reads * 1e3

    us, it = _in_turn(lambda: reads(ours), lambda: reads(bare), effort.read_rounds)
    yield Comparison(f"{name}, 1 in flight", "ms", _column(us, 0), _column(it, 0), target=READ_TARGET)
    yield Comparison("  processor time of it", "ms", _column(us, 1), _column(it, 1))


def _floods(ours: Session, bare: Session, effort: Effort) -> Iterator[Comparison]:
    def flood(session: Session) -> tuple[float, float]:
        before = session.processor_seconds()
        taken = session.flood(GET, effort.flood, IN_FLIGHT)
        return effort.flood / taken, (session.processor_seconds() - before) / effort.flood * 1e3

    # The first burst opens the connections.
    for session in (ours, bare):
        session.flood(GET, IN_FLIGHT * 2, IN_FLIGHT)
    us, it = _in_turn(lambda: flood(ours), lambda: flood(bare), effort.flood_rounds)
    yield Comparison(f"read one connector, {IN_FLIGHT} in flight", "calls/s", _column(us, 0), _column(it, 0))
    yield Comparison("  processor time of one call", "ms", _column(us, 1), _column(it, 1))


def _memory(pair: Pair, effort: Effort) -> Iterator[Comparison]:
    us: list[tuple[float, float, float]] = []
    it: list[tuple[float, float, float]] = []
    for _ in range(effort.memory_rounds):
        with pair.ours.start() as ours, pair.bare.start() as bare:
            us.append(_resident(ours))
            it.append(_resident(bare))
    for column, when in enumerate(("at start", f"after {FIRST_CALLS} calls", f"after {ALL_CALLS} calls")):
        target = MEMORY_TARGET if column == 2 else None
        yield Comparison(f"resident memory {when}", "MiB", _column(us, column), _column(it, column), target=target)
    grown = tuple(last - first for _, first, last in us), tuple(last - first for _, first, last in it)
    yield Comparison(f"  growth from call {FIRST_CALLS} on", "MiB", *grown, allowed=GROWTH_ALLOWED)


def _resident(session: Session) -> tuple[float, float, float]:
    """Memory at the start, after the first calls and after all of them, reads and lists in turn."""

    def call(count: int) -> None:
        for _ in range(count // 2):
            session.call(GET)
            session.call(LIST)

    _open(session)
    start = session.resident_bytes()
    call(FIRST_CALLS)
    first = session.resident_bytes()
    call(ALL_CALLS - FIRST_CALLS)
    return start / _MIB, first / _MIB, session.resident_bytes() / _MIB


def _open(session: Session) -> None:
    lacking = {GET.tool, LIST.tool}.difference(session.open())
    if lacking:
        raise AnswerError(f"tools/list lacks {', '.join(sorted(lacking))}")


def _in_turn(
    ours: Callable[[], Figures], bare: Callable[[], Figures], rounds: int
) -> tuple[list[Figures], list[Figures]]:
    us: list[Figures] = []
    it: list[Figures] = []
    for number in range(rounds):
        if number % 2:
            it.append(bare())
            us.append(ours())
        else:
            us.append(ours())
            it.append(bare())
    return us, it


def _column(rows: Sequence[tuple[float, ...]], index: int) -> tuple[float, ...]:
    return tuple(row[index] for row in rows)
