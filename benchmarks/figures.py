"""What was measured: figures of all servers, taken one after the other, and the ratios of each round."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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
    """One property of the servers, measured in rounds: figure n of `ours`, of `base` and of each of `others` belong
    together.

    `most` and `least` bound the ratio of ours to the base; `allowed` bounds ours by itself. None of them, and the
    figure is there to be looked at. The base is the bare server unless `against` names another.
    """

    name: str
    unit: str
    ours: tuple[float, ...]
    base: tuple[float, ...]
    others: Mapping[str, tuple[float, ...]] = field(default_factory=dict[str, tuple[float, ...]])
    most: float | None = None
    least: float | None = None
    allowed: float | None = None
    against: str = "bare server"

    def __post_init__(self) -> None:
        if not self.ours or any(len(self.ours) != len(figures) for figures in (self.base, *self.others.values())):
            raise ValueError(f"{self.name}: a round lacks one of its figures")

    @property
    def ratio(self) -> Spread | None:
        """Of each round. What disturbs the machine disturbs all of a round, so this is steadier than the figures."""
        return None if self.allowed is not None else self._ratio(self.ours)

    @property
    def ratios_of_others(self) -> dict[str, Spread]:
        """The same of those that take part beside this server and the base."""
        found = {name: self._ratio(figures) for name, figures in self.others.items()}
        return {name: ratio for name, ratio in found.items() if ratio is not None}

    @property
    def met(self) -> bool | None:
        """Whether the bound holds for the median; None where there is no bound."""
        if self.allowed is not None:
            return statistics.median(self.ours) <= self.allowed
        ratio = self.ratio
        if ratio is None or (self.most is None and self.least is None):
            return None
        return (self.most is None or ratio.median <= self.most) and (self.least is None or ratio.median >= self.least)

    @property
    def bound(self) -> str:
        """The bound in signs."""
        if self.allowed is not None:
            return f"<= {self.allowed:g} {self.unit}"
        if self.most is not None:
            return f"<= {self.most:g}"
        return "" if self.least is None else f">= {self.least:g}"

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "unit": self.unit,
            "rounds": len(self.ours),
            "against": self.against,
            "ours": Spread.of(self.ours).as_dict(),
            "base": Spread.of(self.base).as_dict(),
            "others": {name: Spread.of(figures).as_dict() for name, figures in self.others.items()},
            "ratio": self.ratio.as_dict() if self.ratio else None,
            "ratios_of_others": {name: ratio.as_dict() for name, ratio in self.ratios_of_others.items()},
            "bound": self.bound,
            "met": self.met,
        }

    def _ratio(self, figures: tuple[float, ...]) -> Spread | None:
        if not all(self.base):
            return None
        return Spread.of([figure / base for figure, base in zip(figures, self.base, strict=True)])
