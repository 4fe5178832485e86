"""How a person starts this program, for messages that name one of its commands.

Most installations are in a virtual environment that no shell has on its PATH.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

NAME: Final = "connector-mcp"


def absolute_command() -> tuple[str, ...]:
    """Return the arguments that start this program from any directory and with any PATH."""
    for script in (Path(sys.argv[0]), Path(sys.executable).with_name(NAME)):
        if script.stem == NAME and script.is_file():
            return (str(script.absolute()),)
    return (sys.executable, "-m", "connector_mcp")


def program() -> str:
    """Return `connector-mcp` if it is on the PATH of this process, or else how to start it by its absolute path."""
    # Both are needed only for messages.
    import shlex
    import shutil

    return NAME if shutil.which(NAME) else shlex.join(absolute_command())


def runnable(text: str) -> str:
    """Return the text with each command in backquotes, such as `connector-mcp doctor`, as it can be run here."""
    return text.replace(f"`{NAME} ", f"`{program()} ") if f"`{NAME} " in text else text
