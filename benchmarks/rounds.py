"""Rounds: everybody is measured in turn, and who begins changes from round to round."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from benchmarks.figures import Comparison

Who = TypeVar("Who")
Figures = tuple[float, ...]
Taken = Mapping[str, Sequence[Figures]]
"""What was measured: for each by name, the figures of each round."""


def in_turn(everyone: Mapping[str, Who], take: Callable[[Who], Figures], rounds: int) -> Taken:
    """Measure each so many times."""
    names = list(everyone)
    taken: dict[str, list[Figures]] = {name: [] for name in names}
    for number in range(rounds):
        first = number % len(names)
        for name in (*names[first:], *names[:first]):
            taken[name].append(take(everyone[name]))
    return taken


def compared(name: str, unit: str, taken: Taken, column: int, **bounds: Any) -> Comparison:
    """A column of the figures: the first is this server, the second what it is compared with."""
    ours, base, *others = ((who, tuple(row[column] for row in rows)) for who, rows in taken.items())
    return Comparison(name, unit, ours[1], base[1], dict(others), against=base[0], **bounds)
