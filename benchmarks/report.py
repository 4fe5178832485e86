"""The comparison as a table for people and as JSON for programs."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from benchmarks.figures import Comparison, Spread

_COLUMNS: Final = ("", "this server", "bare server", "ratio", "target", "", "others, to the bare server")
_PACKAGES: Final = ("mcp", "httpx2", "orjson", "pydantic", "uvicorn", "uvloop", "httptools")


def table(comparisons: Sequence[Comparison]) -> str:
    """Medians with the lowest and the highest round; the ratio is the median of the rounds' own ratios."""
    rows = [_COLUMNS, *(_row(comparison) for comparison in comparisons)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])


def document(comparisons: Sequence[Comparison], *, mode: str, seconds: float) -> dict[str, Any]:
    """The same, and what it was measured on."""
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "mode": mode,
        "seconds": round(seconds, 1),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors",
        "load_average": round(os.getloadavg()[0], 2),
        "packages": {name: _version(name) for name in _PACKAGES},
        "comparisons": [comparison.as_dict() for comparison in comparisons],
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _row(comparison: Comparison) -> tuple[str, ...]:
    ratio = comparison.ratio
    base = f"{_spread(Spread.of(comparison.base))} {comparison.unit}"
    others = (f"{name}: {_spread(of)}" for name, of in comparison.ratios_of_others.items())
    return (
        comparison.name,
        f"{_spread(Spread.of(comparison.ours))} {comparison.unit}",
        base if comparison.against == "bare server" else f"{base} ({comparison.against})",
        _spread(ratio) if ratio else "",
        comparison.bound,
        {True: "met", False: "MISSED", None: ""}[comparison.met],
        "; ".join(others),
    )


def _spread(spread: Spread) -> str:
    middle, lowest, highest = (_number(value) for value in (spread.median, spread.lowest, spread.highest))
    return middle if lowest == highest else f"{middle} ({lowest} to {highest})"


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.2f}"
