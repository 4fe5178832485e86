"""The bundle for Claude Desktop, dist/connector-mcp.mcpb: the package with a manifest, which the client starts with uv.

python -m tools.bundle               write dist/connector-mcp/ and pack it
python -m tools.bundle --unpacked    write dist/connector-mcp/ only

`mcpb`, the vendor's program, validates and packs it. It is one of the packages of tests/clients.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tomlkit

from connector_mcp.config.settings import variable_name
from connector_mcp.operations.platform import Variable
from connector_mcp.transport.mcp.server import TITLE
from tools.listing import DESCRIPTION, platform_variables
from tools.project import ICON, ROOT, Project

MCPB = ROOT / "tests/clients/node_modules/@anthropic-ai/mcpb/dist/cli/cli.js"
DIST = ROOT / "dist"
SWITCHES = {
    "sandbox": ("Sandbox", "Emulate every platform. Nothing real is read or changed, and no credentials are needed."),
    "read_only": ("Read only", "Serve reads only."),
}
PACKAGE = "server/connector_mcp"
ENTRY_POINT = "serve.py"

_SERVE = '''\
"""Start the server over stdio, for a client that runs this file and not the command of the manifest."""

import sys

from connector_mcp.cli.main import main

if __name__ == "__main__":
    sys.argv[1:] = ["serve"]
    main()
'''


def manifest(project: Project) -> dict[str, Any]:
    """Return the manifest: every variable of every platform is asked for, and secrets are kept as such."""
    asked = {variable.name.lower(): _option(title, variable) for title, variable in platform_variables()}
    for name, (title, description) in SWITCHES.items():
        asked[name] = {"type": "boolean", "title": title, "description": description, "default": False}
    env = {variable.name: f"${{user_config.{variable.name.lower()}}}" for _, variable in platform_variables()}
    env |= {variable_name(name): f"${{user_config.{name}}}" for name in SWITCHES}
    return {
        "manifest_version": "0.4",
        "name": project.name,
        "display_name": TITLE,
        "version": project.version,
        "description": DESCRIPTION,
        "long_description": f"{project.description} Fill in the fields of one platform or more; the rest stays empty.",
        "author": {"name": "The connector-mcp project", "url": project.address},
        "repository": {"type": "git", "url": project.address},
        "homepage": project.address,
        "documentation": project.urls["Documentation"],
        "support": project.urls["Issues"],
        "icon": Path(ICON).name,
        "icons": [{"src": Path(ICON).name, "size": "512x512"}],
        "server": {
            "type": "uv",
            "entry_point": ENTRY_POINT,
            "mcp_config": {
                "command": "uv",
                "args": ["run", "--directory", "${__dirname}", project.name, "serve"],
                "env": env,
            },
        },
        "tools_generated": True,
        "prompts_generated": True,
        "keywords": project.keywords,
        "license": project.license,
        # Windows is not tested.
        "compatibility": {"platforms": ["darwin", "linux"], "runtimes": {"python": project.requires_python}},
        "user_config": asked,
    }


def write_bundle(target: Path) -> None:
    """Write the folder that is packed, in the place of what was there."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(ROOT / PACKAGE, target / PACKAGE, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("LICENSE", "README.md", ICON):
        shutil.copy(ROOT / name, target)
    (target / ENTRY_POINT).write_text(_SERVE, "utf-8")
    (target / "pyproject.toml").write_text(_pyproject(), "utf-8")
    text = json.dumps(manifest(Project.read()), indent=2, ensure_ascii=False)
    (target / "manifest.json").write_text(f"{text}\n", "utf-8")


def pack(folder: Path) -> Path:
    """Validate and pack a folder with the vendor's program, and return the file beside it."""
    if not MCPB.exists():
        raise FileNotFoundError(f"{MCPB} is not there. Run `npm ci --prefix tests/clients`.")
    file = folder.with_suffix(".mcpb")
    for command in (["validate", str(folder)], ["pack", str(folder), str(file)]):
        subprocess.run(["node", str(MCPB), *command], check=True, stdin=subprocess.DEVNULL)  # noqa: S603, S607
    return file


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.bundle", description="Write the bundle for Claude Desktop.")
    parser.add_argument("--unpacked", action="store_true", help="only write the folder")
    parser.add_argument("--out", type=Path, default=DIST, help="where to write; by default dist/")
    options = parser.parse_args(arguments)
    folder: Path = options.out / Project.read().name
    write_bundle(folder)
    print(folder if options.unpacked else pack(folder))
    return 0


def _pyproject() -> str:
    """Return pyproject.toml without what only developers need: uv would install it too."""
    given = tomlkit.parse((ROOT / "pyproject.toml").read_text("utf-8"))
    kept = tomlkit.document()
    for name in ("build-system", "project"):
        kept.add(name, given[name])
    wheel = {"hatch": {"build": {"targets": {"wheel": {"packages": [PACKAGE]}}}}}
    kept.add("tool", tomlkit.item(wheel))
    return tomlkit.dumps(kept)


def _option(title: str, variable: Variable) -> dict[str, Any]:
    # An empty value counts as unset; without a default, clients may hand on the placeholder.
    return {
        "type": "string",
        "title": variable.name,
        "description": f"{title}: {variable.help}",
        "default": variable.default or "",
        "required": False,
        "sensitive": variable.secret,
    }


if __name__ == "__main__":
    sys.exit(main())
