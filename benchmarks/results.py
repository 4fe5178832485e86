"""Results: the figures of all servers in each round, the ratios of each round, and the table."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

Subject = TypeVar("Subject")
Figures = tuple[float, ...]


@dataclass(frozen=True)
class Comparison:
    """One property of all servers. Figure n of each server belongs to round n.

    `figures` has this server first and the bare server second. `at_most` and `at_least` bound the ratio to the bare
    server, or this server's own figure where `absolute` is set.
    """

    name: str
    unit: str
    figures: Mapping[str, Figures]
    at_most: float | None = None
    at_least: float | None = None
    absolute: bool = False

    @property
    def ratios(self) -> dict[str, Figures]:
        """The ratios of each round to the bare server. A disturbance of the machine affects all of a round."""
        names = list(self.figures)
        base = self.figures[names[1]]
        return {
            name: tuple(ours / bare if bare else 0.0 for ours, bare in zip(self.figures[name], base, strict=True))
            for name in (names[0], *names[2:])
        }

    @property
    def met(self) -> bool | None:
        """Whether the median is within the floor; None where there is none."""
        if self.at_most is None and self.at_least is None:
            return None
        values = next(iter((self.figures if self.absolute else self.ratios).values()))
        median = statistics.median(values)
        return (self.at_most is None or median <= self.at_most) and (self.at_least is None or median >= self.at_least)

    @property
    def floor(self) -> str:
        unit = f" {self.unit}" if self.absolute else ""
        if self.at_most is not None:
            return f"<= {self.at_most:g}{unit}"
        return "" if self.at_least is None else f">= {self.at_least:g}{unit}"

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "unit": self.unit,
            "figures": self.figures,
            "ratios": self.ratios,
            "floor": self.floor,
            "met": self.met,
        }

    def row(self) -> tuple[str, ...]:
        ours, bare = list(self.figures.values())[:2]
        ratios = {name: _spread(values) for name, values in self.ratios.items()}
        ratio = "" if self.absolute else ratios.pop(next(iter(ratios)))
        others = "; ".join(f"{name}: {ratio}" for name, ratio in ratios.items()) if not self.absolute else ""
        verdict = {True: "met", False: "MISSED", None: ""}[self.met]
        return (
            self.name,
            f"{_spread(ours)} {self.unit}",
            f"{_spread(bare)} {self.unit}",
            ratio,
            self.floor,
            verdict,
            others,
        )


def interleave(
    subjects: Mapping[str, Subject], measure: Callable[[Subject], Figures], rounds: int
) -> dict[str, list[Figures]]:
    """Measure all subjects in each round. Each round starts with another subject."""
    names = list(subjects)
    taken: dict[str, list[Figures]] = {name: [] for name in names}
    for number in range(rounds):
        first = number % len(names)
        for name in (*names[first:], *names[:first]):
            taken[name].append(measure(subjects[name]))
    return taken


def compare(name: str, unit: str, taken: Mapping[str, Sequence[Figures]], column: int, **bounds: Any) -> Comparison:
    """The comparison of one column of the figures."""
    return Comparison(name, unit, {who: tuple(row[column] for row in rows) for who, rows in taken.items()}, **bounds)


def table(comparisons: Sequence[Comparison], columns: Sequence[str] = ()) -> str:
    """Medians, with the lowest and highest round. The ratio is the median of the rounds' own ratios."""
    columns = columns or ("", *list(comparisons[0].figures)[:2], "ratio", "floor", "", "other")
    rows = [columns, *(comparison.row() for comparison in comparisons)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(columns))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])


def _spread(values: Sequence[float]) -> str:
    middle, lowest, highest = (
        f"{value:.0f}" if abs(value) >= 100 else f"{value:.2f}"
        for value in (statistics.median(values), min(values), max(values))
    )
    return middle if lowest == highest else f"{middle} ({lowest} to {highest})"
