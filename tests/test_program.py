"""Messages name a command by the path with which a person can run it."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from connector_mcp.errors import Blocked
from connector_mcp.program import program, runnable
from tests.documents import PACKAGE

TOLD = "Run `connector-mcp approvals list`, or ask the operator of connector-mcp."


@pytest.fixture
def off_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))


def test_on_the_path_the_name_is_enough() -> None:
    assert program() == "connector-mcp"
    assert runnable(TOLD) == TOLD


@pytest.mark.usefixtures("off_path")
def test_elsewhere_every_error_names_a_command_that_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fix = Blocked("No.", fix=TOLD).fix
    started = fix.split("`")[1].removesuffix(" approvals list")
    assert fix == TOLD.replace("`connector-mcp", f"`{started}")
    assert subprocess.check_output(f"{started} --version", shell=True, text=True).startswith("connector-mcp")  # noqa: S602

    script = tmp_path / "an installation" / "connector-mcp"
    script.parent.mkdir()
    script.write_text("")
    monkeypatch.setattr(sys, "argv", [str(script)])
    assert program() == f"'{script}'"
    monkeypatch.setattr(sys, "argv", ["pytest"])
    monkeypatch.setattr(sys, "executable", "/no/venv/bin/python")
    assert program() == "/no/venv/bin/python -m connector_mcp"
    assert shutil.which("connector-mcp") is None


def texts(node: ast.AST, named: bool = False) -> Iterator[tuple[str, bool]]:
    """Each text of a module that is no docstring, and whether it is a fix or goes through `runnable`."""
    if isinstance(node, ast.keyword):
        named = named or node.arg == "fix"
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        named = named or node.func.id == "runnable"
    elif isinstance(node, ast.Assign):
        named = named or ast.unparse(node.targets[0]) in ("fix", "_STORE", "_ALL_SETTINGS")
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value, named
    for child in ast.iter_child_nodes(node):
        yield from texts(child, named)


def test_every_message_that_names_a_command_names_one_that_can_be_run() -> None:
    found = [
        (path.name, *text)
        for path in sorted(PACKAGE.rglob("*.py"))
        for text in texts(ast.parse(path.read_text("utf-8")))
        if "`connector-mcp " in text[0]
    ]
    assert len(found) > 20
    assert [(name, text) for name, text, named in found if not named] == []
