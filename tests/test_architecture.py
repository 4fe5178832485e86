"""The arrows of the design run one way: a module imports only what stands below it."""

from __future__ import annotations

import ast
from collections import Counter
from functools import cache
from pathlib import Path

from tests.for_each import for_each

PACKAGE = Path(__file__).parents[1] / "server" / "connector_mcp"

# Each part and what it may import of this package besides `ANYWHERE`. `connector_mcp` itself gives only the version.
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "input_text": set(),
    "program": set(),
    "text": set(),
    "json_values": set(),
    "suggest": set(),
    "operations": set(),
    "config": {"operations", "secrets"},
    "state": set(),
    "secrets": set(),
    "audit": {"state"},
    "telemetry": set(),
    "upstream": {"operations", "telemetry"},
    "sandbox": {"operations"},
    "engine": {"audit", "config", "operations", "secrets", "state", "telemetry", "upstream"},
    "provisioning": {"audit", "config", "engine", "operations", "secrets", "state", "telemetry"},
    "transport": {"config", "engine", "operations", "telemetry", "upstream"},
    "console": {"audit", "config", "engine", "operations", "provisioning", "state", "transport", "upstream"},
}
MAY_IMPORT["composition"] = set(MAY_IMPORT)
MAY_IMPORT["cli"] = set(MAY_IMPORT)
MAY_IMPORT |= {"__main__": {"cli"}, "__init__": set()}

ANYWHERE = {"errors", "input_text", "json_values", "program", "suggest", "text"}
"""Modules that import only each other; every part may use them."""

# The engine knows operations by their form, and transports know none: neither names a platform.
PLATFORMS = ("vectorize", "logto", "versori", "conductorone")


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


@cache
def imported(module: Path) -> list[str]:
    names: list[str] = []
    for node in ast.walk(ast.parse(module.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{module}: relative import"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def part(module: Path) -> str:
    return module.relative_to(PACKAGE).parts[0].removesuffix(".py")


@for_each("module", modules())
def test_a_module_imports_only_what_stands_below_it(module: Path) -> None:
    own = part(module)
    for name in imported(module):
        if not name.startswith("connector_mcp."):
            continue
        other = name.split(".")[1]
        if other == "__version__":
            continue
        assert other == own or other in MAY_IMPORT[own] | ANYWHERE, f"{own} imports {name}"


@for_each("folder", ["engine", "transport", "upstream", "state", "secrets", "telemetry"])
def test_nothing_between_declarations_and_command_line_names_a_platform(folder: str) -> None:
    for module in (PACKAGE / folder).rglob("*.py"):
        for name in imported(module):
            assert not any(f"operations.{platform}" in name for platform in PLATFORMS), f"{module.name}: {name}"


@for_each("package", ["mcp", "mcp_types", "starlette", "uvicorn"])
def test_only_transports_and_command_line_know_the_protocol(package: str) -> None:
    for folder in ("operations", "engine", "upstream", "state", "secrets", "telemetry"):
        for module in (PACKAGE / folder).rglob("*.py"):
            assert not any(name.split(".")[0] == package for name in imported(module)), module


def test_the_parts_of_a_call_run_side_by_side_in_one_way() -> None:
    """A task group would raise what fails in an exception group, which no call expects."""
    inside = [path for folder in ("engine", "provisioning") for path in (PACKAGE / folder).rglob("*.py")]
    groups = {path.name: path.read_text("utf-8").count("create_task_group(") for path in inside}
    assert {name: count for name, count in groups.items() if count} == {"across.py": 1, "approval_webhook.py": 1}


def test_every_module_can_be_read_in_one_sitting() -> None:
    long = {path.name: lines for path in modules() if (lines := len(path.read_text("utf-8").splitlines())) > 420}
    assert long == {}


def test_every_part_of_the_package_is_in_the_map() -> None:
    assert {part(module) for module in modules()} <= set(MAY_IMPORT)


@for_each("folder", sorted({path.parent for path in modules()}))
def test_no_folder_has_more_than_14_modules(folder: Path) -> None:
    assert len([path for path in folder.glob("*.py") if path.name != "__init__.py"]) <= 14


def test_a_class_name_occurs_once_outside_of_the_platforms_folders() -> None:
    names = Counter(
        node.name
        for path in modules()
        if not (path.relative_to(PACKAGE).parts[0] == "operations" and path.parent.name in PLATFORMS)
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.ClassDef)
    )
    assert [name for name, times in names.items() if times > 1] == []


def test_a_long_text_has_one_name() -> None:
    # The sandbox repeats some on purpose: it is written from the platforms' documents alone.
    values = Counter(
        node.value.value
        for path in modules()
        if path.relative_to(PACKAGE).parts[0] != "sandbox"
        for node in ast.parse(path.read_text("utf-8")).body
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Constant)
    )
    assert [value for value, times in values.items() if times > 1 and isinstance(value, str) and len(value) > 20] == []
