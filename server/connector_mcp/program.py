"""The command that starts this program, for messages that name one of its commands.

Most installations are in a virtual environment that no shell has on its PATH.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

NAME: Final = "connector-mcp"


def absolute_command() -> tuple[str, ...]:
    """Return the arguments that start this program from any directory and with any PATH.

    A run of `uvx` is started again by uv from the same source, because its environment may be removed any time.
    """
    uv = os.environ.get("UV")
    if uv and is_temporary() and Path(uv).is_file():
        # Without a Python named, uv looks on a PATH that the caller need not have, and downloads one.
        return (uv, "tool", "run", "--python", sys.base_prefix, "--from", _source(), NAME)
    for script in (Path(sys.argv[0]), Path(sys.executable).with_name(NAME)):
        if script.stem == NAME and script.is_file():
            return (str(script.absolute()),)
    return (sys.executable, "-m", "connector_mcp")


def program() -> str:
    """Return `connector-mcp` if it is on the PATH of a shell, or else how to start it by its absolute path."""
    # Both are needed only for messages.
    import shlex
    import shutil

    found = shutil.which(NAME)
    # A temporary environment puts itself on the PATH of this process only.
    return NAME if found and not is_temporary() else shlex.join(absolute_command())


def is_temporary() -> bool:
    """Return whether uv or pipx made the environment of this process for one run, and may remove it."""
    own = Path(sys.prefix)
    of_pipx = (own / "pipx_metadata.json").exists() and own.parent.name != "venvs"
    return of_pipx or any((folder / "CACHEDIR.TAG").exists() for folder in own.parents)


def _source() -> str:
    """Return what was installed as a requirement: the same file, commit or version, with the extras that are here."""
    import json
    import re
    from importlib.metadata import distribution, distributions

    own = distribution(NAME)
    present = {each.name for each in distributions()}
    optional = (re.match(r"([\w.-]+).*; .*extra == '(\w+)'", each) for each in own.requires or ())
    lacking = {each[2] for each in optional if each and each[1] not in present}
    extras = ",".join(extra for extra in own.metadata.get_all("Provides-Extra") or () if extra not in lacking)
    name = f"{NAME}[{extras}]" if extras else NAME
    origin = json.loads(own.read_text("direct_url.json") or "{}")
    if not origin:
        return f"{name}=={own.version}"
    vcs = origin.get("vcs_info")
    return f"{name} @ {vcs['vcs']}+{origin['url']}@{vcs['commit_id']}" if vcs else f"{name} @ {origin['url']}"


def runnable(text: str) -> str:
    """Return the text with each command in backquotes, such as `connector-mcp doctor`, as it can be run here."""
    return text.replace(f"`{NAME} ", f"`{program()} ") if f"`{NAME} " in text else text
