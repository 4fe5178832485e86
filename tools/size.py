"""Print the Python lines and files of each package, and compare the totals with their budgets.

    python -m tools.size

The exit status is 1 when a budget is exceeded.
"""

from __future__ import annotations

import statistics
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "server" / "connector_mcp"
LONGEST_MODULE = 420
SHORTEST_MODULE = 60


@dataclass(frozen=True)
class Module:
    """A Python file and its number of lines."""

    path: Path
    lines: int

    @property
    def is_small(self) -> bool:
        """Whether the module is so short that it needs a reason. An `__init__.py` never does."""
        return self.lines < SHORTEST_MODULE and self.path.name != "__init__.py"


@dataclass(frozen=True)
class Budget:
    """A bound on the lines of a part of the repository, and on its files where there is one."""

    what: str
    modules: list[Module]
    max_lines: int
    max_files: int | None = None

    @property
    def lines(self) -> int:
        return sum(module.lines for module in self.modules)

    @property
    def is_exceeded(self) -> bool:
        return self.lines > self.max_lines or (self.max_files is not None and len(self.modules) > self.max_files)


def modules_below(folder: Path) -> list[Module]:
    """All Python files below a folder, sorted by path, without those of installed Node packages."""
    own = (path for path in sorted(folder.rglob("*.py")) if "node_modules" not in path.parts)
    return [Module(path, len(path.read_text("utf-8").splitlines())) for path in own]


def budgets() -> list[Budget]:
    """The budgets of the package and of its tests."""
    everything = modules_below(PACKAGE)
    core = [each for each in everything if _part(each) not in ("operations", "sandbox")]
    return [
        Budget("the package", everything, 24_500, 160),
        Budget("outside operations/ and sandbox/", core, 19_000, 120),
        Budget("tests", modules_below(ROOT / "tests"), 29_500),
    ]


def main() -> int:
    """Print the report; the exit status."""
    parts: dict[str, list[Module]] = {}
    for module in modules_below(PACKAGE):
        parts.setdefault(_part(module), []).append(module)
    for folder in ("tools", "benchmarks", "tests"):
        parts[f"{folder}/"] = modules_below(ROOT / folder)
    print(f"{'package':<16}{'files':>7}{'lines':>8}{'median':>8}{f'over {LONGEST_MODULE}':>10}{'under 60':>10}")
    for name, modules in parts.items():
        lengths = [module.lines for module in modules]
        over = sum(length > LONGEST_MODULE for length in lengths)
        small = sum(module.is_small for module in modules)
        median = round(statistics.median(lengths))
        print(f"{name:<16}{len(modules):>7}{sum(lengths):>8}{median:>8}{over:>10}{small:>10}")
    print()
    for module in modules_below(PACKAGE):
        if module.lines > LONGEST_MODULE or module.is_small:
            reason = "under" if module.is_small else "over"
            print(f"{reason:<6}{module.lines:>5}  {module.path.relative_to(PACKAGE)}")
    print()
    for budget in (given := budgets()):
        files = "" if budget.max_files is None else f", {len(budget.modules)} of {budget.max_files} files"
        verdict = "EXCEEDED" if budget.is_exceeded else "within budget"
        print(f"{budget.what}: {budget.lines} of {budget.max_lines} lines{files}: {verdict}")
    return 1 if any(budget.is_exceeded for budget in given) else 0


def _part(module: Module) -> str:
    return module.path.relative_to(PACKAGE).parts[0]


if __name__ == "__main__":
    sys.exit(main())
