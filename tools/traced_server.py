"""Run `connector-mcp serve` and record which of its functions are entered between a `start` and a `stop`.

It has a file of its own because it runs in the server's process; tools/trace_call.py starts it with a port. It connects
there, answers `start` with an empty line, and `stop` with the entered functions as JSON: a list of file and name.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
from importlib import import_module
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import connector_mcp
from connector_mcp.cli.main import main
from connector_mcp.operations.catalog import catalog

PACKAGE = str(Path(connector_mcp.__file__).parent)


class Recorder:
    """The code objects that were entered while `recording` was set."""

    def __init__(self) -> None:
        self.recording = False
        self._entered: set[CodeType] = set()

    def profile(self, frame: FrameType, event: str, _argument: Any) -> None:
        if self.recording and event == "call":
            self._entered.add(frame.f_code)

    def serve(self, control: socket.socket) -> None:
        """Obey the commands on this connection until it ends."""
        with control, control.makefile("rw") as lines:
            for line in lines:
                self.recording = line.strip() == "start"
                lines.write((json.dumps(self._functions()) if line.strip() == "stop" else "") + "\n")
                lines.flush()

    def _functions(self) -> list[tuple[str, str]]:
        """The file and the name of each function; comprehensions and lambdas count, bodies of modules do not."""
        return sorted(
            (str(Path(code.co_filename).relative_to(PACKAGE)), f"{code.co_qualname}:{code.co_firstlineno}")
            for code in self._entered
            if code.co_filename.startswith(PACKAGE) and code.co_name != "<module>"
        )


if __name__ == "__main__":
    # Imported before anything is recorded, which would take seconds.
    catalog()
    import_module("connector_mcp.transport.stdio")
    recorder = Recorder()
    control = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
    threading.Thread(target=recorder.serve, args=(control,), daemon=True).start()
    threading.setprofile(recorder.profile)
    sys.setprofile(recorder.profile)
    sys.argv = ["connector-mcp", "serve"]
    main()
