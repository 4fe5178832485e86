"""Two pictures of a run: calls a second over concurrency, and the share of each step in a call. Needs matplotlib."""

from __future__ import annotations

import importlib
import re
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.figures import Comparison

_CONCURRENCY = re.compile(r"(?P<face>read one connector|HTTP \S+), (?P<count>\d+) (in flight|clients)$")


def draw(comparisons: Sequence[Comparison], shares: Mapping[str, float], folder: Path) -> list[Path]:
    """Write `calls.png` and `steps.png` into the folder; their paths."""
    importlib.import_module("matplotlib").use("Agg")
    plot: Any = importlib.import_module("matplotlib.pyplot")
    folder.mkdir(parents=True, exist_ok=True)
    return [_calls(plot, comparisons, folder / "calls.png"), _steps(plot, shares, folder / "steps.png")]


def _calls(plot: Any, comparisons: Sequence[Comparison], path: Path) -> Path:
    lines: dict[str, dict[int, float]] = {}
    for comparison in comparisons:
        found = _CONCURRENCY.match(comparison.name)
        if found is None or comparison.unit != "calls/s":
            continue
        face = found["face"].replace("read one connector", "stdio")
        everyone = {"this server": comparison.ours, comparison.against: comparison.base, **comparison.others}
        for who, figures in everyone.items():
            lines.setdefault(f"{face}, {who}", {})[int(found["count"])] = statistics.median(figures)
    figure, axes = plot.subplots(figsize=(8, 5))
    for label, points in lines.items():
        style = "-o" if label.endswith("this server") else "--s"
        axes.plot(list(points), list(points.values()), style, label=label)
    axes.set_xscale("log", base=2)
    axes.set(xlabel="calls in flight", ylabel="calls a second", title="Reads of one connector")
    axes.legend(fontsize="small")
    figure.savefig(path, dpi=120, bbox_inches="tight")
    plot.close(figure)
    return path


def _steps(plot: Any, shares: Mapping[str, float], path: Path) -> Path:
    figure, axes = plot.subplots(figsize=(8, 3.5))
    axes.barh(list(shares)[::-1], [100 * share for share in shares.values()][::-1])
    axes.set(xlabel="% of a call in the engine", title="Steps of a read")
    figure.savefig(path, dpi=120, bbox_inches="tight")
    plot.close(figure)
    return path
