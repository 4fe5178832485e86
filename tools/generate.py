"""Write the files that are generated from the declarations, or check that they are up to date.

python -m tools.generate schemas          write tool_schemas/<platform>/<tool>.json and manifest.schema.json
python -m tools.generate docs --check     compare the generated pages in docs/
python -m tools.generate listing          write server.json, and the repository's address wherever it stands
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from connector_mcp.provisioning.manifest import manifest_schema
from tools.listing import listing_files
from tools.operations_page import operations_page
from tools.pages import all_tools, errors_page, settings_page, tools_page

FOLDERS = {"schemas": "tool_schemas", "docs": "docs", "listing": "."}


def published_files() -> dict[str, str]:
    """Return path below `tool_schemas/` and text of every file of the contract."""
    files: dict[str, str] = {}
    for tool in all_tools():
        folder = tool.operation.on.name if tool.operation.on else "connectors"
        text = json.dumps(tool.as_dict(), indent=2, sort_keys=True, ensure_ascii=False)
        files[f"{folder}/{tool.name}.json"] = f"{text}\n"
    schema = json.dumps(manifest_schema(), indent=2, sort_keys=True, ensure_ascii=False)
    return files | {"manifest.schema.json": f"{schema}\n"}


def changed_paths(root: Path, wanted: Mapping[str, str], pattern: str | None = None) -> list[str]:
    """The sorted paths below `root` that are missing, differ, or match the pattern without being wanted."""
    stale = _present(root, pattern) - wanted.keys() if pattern else set[str]()
    return sorted(stale | {path for path, text in wanted.items() if _text(root / path) != text})


def write(root: Path, wanted: Mapping[str, str], pattern: str | None = None) -> list[str]:
    """Write the wanted files below `root`, remove stale ones, and return the paths that changed."""
    changed = changed_paths(root, wanted, pattern)
    for path in changed:
        file = root / path
        if path not in wanted:
            file.unlink()
            if not any(file.parent.iterdir()):
                file.parent.rmdir()
            continue
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(wanted[path], encoding="utf-8", newline="\n")
    return changed


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status: 1 when `--check` finds files that are not up to date."""
    description = "Write the files that are generated from the declarations."
    parser = argparse.ArgumentParser(prog="python -m tools.generate", description=description)
    parser.add_argument("what", choices=sorted(FOLDERS))
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a file is not up to date")
    parser.add_argument("--out", type=Path, help="the folder; for schemas, stale JSON files in it are removed")
    options = parser.parse_args(arguments)
    root: Path = options.out or Path(FOLDERS[options.what])
    if options.what == "schemas":
        wanted, pattern = published_files(), "*/*.json"
    elif options.what == "listing":
        wanted, pattern = listing_files(root), None
    else:
        wanted = {"tools.md": tools_page(), "operations.md": operations_page()}
        wanted |= {"configuration.md": settings_page(), "errors.md": errors_page()}
        pattern = None
    if not options.check:
        print(f"{len(wanted)} files in {root}, {len(write(root, wanted, pattern))} changed")
        return 0
    changed = changed_paths(root, wanted, pattern)
    if changed:
        names = ", ".join(str(root / path) for path in changed)
        print(f"Not up to date: {names}. Run `make {options.what}` and review the difference.", file=sys.stderr)
        return 1
    print(f"{len(wanted)} files in {root} are up to date")
    return 0


def _present(root: Path, pattern: str) -> set[str]:
    return {file.relative_to(root).as_posix() for file in root.glob(pattern) if file.is_file()}


def _text(file: Path) -> str | None:
    try:
        return file.read_text(encoding="utf-8")
    except (FileNotFoundError, UnicodeDecodeError):
        return None


if __name__ == "__main__":
    sys.exit(main())
