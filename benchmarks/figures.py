"""What was measured: pairs of figures, taken one after the other, and the ratios of the pairs."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Spread:
    """The middle of some figures and how far they lie apart."""

    median: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, figures: Sequence[float]) -> Spread:
        return cls(statistics.median(figures), min(figures), max(figures))

    def as_dict(self) -> dict[str, float]:
        return {"median": self.median, "min": self.lowest, "max": self.highest}


@dataclass(frozen=True)
class Comparison:
    """One property of both servers, measured in rounds: figure n of `ours` and of `bare` belong together.

    `target` bounds the ratio of ours to bare; `allowed` bounds ours by itself. Neither, and the figure is there to be
    looked at.
    """

    name: str
    unit: str
    ours: tuple[float, ...]
    bare: tuple[float, ...]
    target: float | None = None
    allowed: float | None = None

    def __post_init__(self) -> None:
        if not self.ours or len(self.ours) != len(self.bare):
            raise ValueError(f"{self.name}: a round lacks one of its two figures")

    @property
    def ratio(self) -> Spread | None:
        """Of each pair. What disturbs the machine disturbs both of a pair, so this is steadier than the figures."""
        if self.allowed is not None or not all(self.bare):
            return None
        return Spread.of([ours / bare for ours, bare in zip(self.ours, self.bare, strict=True)])

    @property
    def met(self) -> bool | None:
        """Whether the bound holds for the median; None where there is no bound."""
        if self.allowed is not None:
            return statistics.median(self.ours) <= self.allowed
        return None if self.target is None or self.ratio is None else self.ratio.median <= self.target

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "unit": self.unit,
            "rounds": len(self.ours),
            "ours": Spread.of(self.ours).as_dict(),
            "bare": Spread.of(self.bare).as_dict(),
            "ratio": self.ratio.as_dict() if self.ratio else None,
            "target": self.target,
            "allowed": self.allowed,
            "met": self.met,
        }
