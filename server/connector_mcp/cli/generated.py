"""Files that are generated from the declarations: written anew, or compared with what is there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import click

from connector_mcp.cli.output import Failure


def drifted(root: Path, wanted: Mapping[str, str], *, pattern: str | None = None) -> list[str]:
    """Paths below `root` that are missing, differ or, matching the pattern, should not be there; sorted."""
    stale = _present(root, pattern) - wanted.keys() if pattern else set[str]()
    different = {path for path, text in wanted.items() if _text(root / path) != text}
    return sorted(stale | different)


def write(root: Path, wanted: Mapping[str, str], *, pattern: str | None = None) -> list[str]:
    """Make the files below `root` those wanted, and remove stale ones; the paths that changed."""
    changed = drifted(root, wanted, pattern=pattern)
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


def write_or_check(
    root: Path, wanted: Mapping[str, str], *, pattern: str | None = None, check: bool, verb: str
) -> None:
    """The body of a generating command.

    Raises:
        Failure: `check` is set and files have drifted; the message names them.
    """
    if not check:
        changed = write(root, wanted, pattern=pattern)
        click.echo(f"{len(wanted)} files in {root}, {len(changed)} changed")
        return
    changed = drifted(root, wanted, pattern=pattern)
    if changed:
        names = ", ".join(str(root / path) for path in changed)
        raise Failure(f"Not what the declarations give: {names}.", fix=f"Run `make {verb}` and review the difference.")
    click.echo(f"{len(wanted)} files in {root} are what the declarations give")


def _present(root: Path, pattern: str) -> set[str]:
    return {file.relative_to(root).as_posix() for file in root.glob(pattern) if file.is_file()}


def _text(file: Path) -> str | None:
    try:
        return file.read_text(encoding="utf-8")
    except (FileNotFoundError, UnicodeDecodeError):
        return None
