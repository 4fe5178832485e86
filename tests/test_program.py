"""Messages name a command by the path with which a person can run it."""

from __future__ import annotations

import ast
import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from connector_mcp.errors import Blocked
from connector_mcp.program import absolute_command, is_temporary, program, runnable
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


@pytest.fixture
def kept_by_uv(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder of the installed metadata in an environment that uv made for one run."""
    (tmp_path / "CACHEDIR.TAG").touch()
    own = tmp_path / "archive-v0" / "x1"
    installed = own / "connector_mcp-9.1.dist-info"
    installed.mkdir(parents=True)
    metadata = "Metadata-Version: 2.4\nName: connector-mcp\nVersion: 9.1\n"
    metadata += "Provides-Extra: near\nProvides-Extra: far\nProvides-Extra: windows\n"
    metadata += "Requires-Dist: pytest[x]<99,>=1; extra == 'near'\nRequires-Dist: absent>=2; extra == 'far'\n"
    metadata += "Requires-Dist: pytest>=2; (platform_system != 'Windows') and extra == 'far'\n"
    metadata += "Requires-Dist: absent; (platform_system == 'Windows') and extra == 'windows'\n"
    (installed / "METADATA").write_text(metadata)
    monkeypatch.syspath_prepend(own)
    monkeypatch.setattr(sys, "prefix", str(own))
    monkeypatch.setattr(sys, "base_prefix", "/opt/python")
    monkeypatch.setenv("UV", sys.executable)
    return installed


@pytest.mark.parametrize(
    ("origin", "source"),
    [
        (None, "connector-mcp[near]==9.1"),
        ({"url": "file:///a.whl", "archive_info": {}}, "connector-mcp[near] @ file:///a.whl"),
        ({"url": "file:///clone", "dir_info": {}}, "connector-mcp[near] @ file:///clone"),
        (
            {
                "url": "https://git.example/x",
                "vcs_info": {"vcs": "git", "commit_id": "c0ffee", "requested_revision": "v"},
            },
            "connector-mcp[near] @ git+https://git.example/x@c0ffee",
        ),
    ],
)
def test_a_run_that_uv_forgets_is_named_by_what_uv_installed(
    kept_by_uv: Path, origin: dict[str, object] | None, source: str
) -> None:
    if origin:
        (kept_by_uv / "direct_url.json").write_text(json.dumps(origin))
    command = (sys.executable, "tool", "run", "--python", "/opt/python", "--from", source, "connector-mcp")
    assert absolute_command() == command
    # Its script is on the PATH of this process, and on no other.
    assert shutil.which("connector-mcp")
    assert program() == shlex.join(command)


@pytest.mark.parametrize(("folder", "temporary"), [("venvs/connector-mcp", False), ("0f1e2d", True)])
def test_pipx_keeps_only_what_it_installed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, folder: str, temporary: bool
) -> None:
    own = tmp_path / folder
    own.mkdir(parents=True)
    (own / "pipx_metadata.json").touch()
    (own / "CACHEDIR.TAG").touch()
    monkeypatch.setattr(sys, "prefix", str(own))
    assert is_temporary() is temporary


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
