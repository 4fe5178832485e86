"""The size report counts lines and files, and fails beyond a budget."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import size
from tools.size import Budget, Module


def module(lines: int, name: str = "module.py") -> Module:
    return Module(Path(name), lines)


@pytest.mark.parametrize(
    ("lines", "files", "exceeded"), [([50, 50], 2, False), ([50, 51], 2, True), ([10, 10, 10], 2, True)]
)
def test_a_budget_bounds_lines_and_files(lines: list[int], files: int, exceeded: bool) -> None:
    assert Budget("part", [module(each) for each in lines], 100, files).is_exceeded is exceeded


def test_an_init_file_is_never_too_small() -> None:
    assert module(59).is_small
    assert not module(60).is_small
    assert not module(1, "__init__.py").is_small


@pytest.mark.parametrize(("allowed", "status"), [(10**6, 0), (1, 1)])
def test_the_exit_status_tells_whether_a_budget_is_exceeded(
    allowed: int, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(size, "budgets", lambda: [Budget("the package", [module(10)], allowed)])
    assert size.main() == status
    assert ("EXCEEDED" in capsys.readouterr().out) is (status == 1)
