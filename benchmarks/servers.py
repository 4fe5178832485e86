"""The servers that are compared, and their upstreams."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Final

from benchmarks.upstream import ORGANIZATION

SLOW: Final = 0.05
"""Seconds before the slow upstream answers."""

_HERE: Final = Path(__file__).parent
_NOT_INHERITED: Final = ("CONNECTOR_MCP_", "VECTORIZE_", "LOGTO_", "VERSORI_", "CONDUCTORONE_", "PYTHON")
"""Prefixes of variables that would change what is measured."""


class MeasurementError(Exception):
    """A server ended, or its answer was not the expected one."""


@dataclass(frozen=True)
class ServerCommand:
    """How a server is started."""

    command: tuple[str, ...]
    environment: Mapping[str, str]
    directory: Path

    @property
    def is_bare(self) -> bool:
        return "connector_mcp" not in self.command

    @contextmanager
    def listening(self) -> Generator[tuple[int, int]]:
        """Run the server over HTTP; its process id and its port."""
        with subprocess.Popen(
            (*self.command, "--http", *(() if self.is_bare else ("--port", "0"))),
            env=self.environment,
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if self.is_bare else subprocess.DEVNULL,
            stderr=subprocess.DEVNULL if self.is_bare else subprocess.PIPE,
        ) as process:
            try:
                yield process.pid, _announced_port(process.stdout or process.stderr)
            finally:
                process.kill()


@dataclass(frozen=True)
class Field:
    """All servers that are compared, by name: this server first, the bare one second."""

    servers: Mapping[str, ServerCommand]
    slow_port: int

    def behind_slow_upstream(self) -> dict[str, ServerCommand]:
        """The same servers with the slow upstream."""
        slow = {"VECTORIZE_BASE_URL": f"http://127.0.0.1:{self.slow_port}/v1"}
        return {
            name: replace(server, environment={**server.environment, **slow}) for name, server in self.servers.items()
        }


def inherited_environment() -> dict[str, str]:
    """This process's environment without the variables that would change what is measured."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_NOT_INHERITED)}


@contextmanager
def servers(against: str | None = None) -> Generator[Field]:
    """This server with its defaults, the bare one, and this server at the commit `against`, with the same upstream."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="connector-mcp-benchmark-")))
        port, slow_port = stack.enter_context(upstream()), stack.enter_context(upstream(SLOW))
        environment = inherited_environment() | {
            "VECTORIZE_API_KEY": "benchmark-key-0123456789",
            "VECTORIZE_ORGANIZATION_ID": ORGANIZATION,
            "VECTORIZE_BASE_URL": f"http://127.0.0.1:{port}/v1",
        }
        settings = environment | {
            "CONNECTOR_MCP_STATE_DIR": f"{folder}/state",
            # The client-side rate limit works as usual, but must not be what is measured.
            "CONNECTOR_MCP_REQUESTS_PER_SECOND": "1000000",
        }
        serve = (sys.executable, "-m", "connector_mcp", "serve")
        compared = {
            "this server": ServerCommand(serve, settings, folder),
            "bare server": ServerCommand((sys.executable, str(_HERE / "bare_server.py")), environment, folder),
        }
        if against is not None:
            source = stack.enter_context(_checked_out(against, folder / "against"))
            earlier = settings | {"PYTHONPATH": str(source), "CONNECTOR_MCP_STATE_DIR": f"{folder}/state-against"}
            compared[against] = ServerCommand(serve, earlier, folder)
        yield Field(compared, slow_port)


def _announced_port(stream: IO[bytes] | None) -> int:
    assert stream is not None
    for line in iter(stream.readline, b""):
        port: str = line.decode().partition("/mcp")[0].rpartition(":")[2].strip()
        if port.isdigit():
            return int(port)
    raise MeasurementError("the server ended before it listened")


@contextmanager
def upstream(delay: float = 0.0) -> Generator[int]:
    """Run the upstream; its port."""
    with subprocess.Popen(
        (sys.executable, str(_HERE / "upstream.py"), str(delay)), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.terminate()


@contextmanager
def _checked_out(revision: str, folder: Path) -> Generator[Path]:
    """The sources of a commit. They run with the packages that are installed now."""
    subprocess.run(("git", "worktree", "add", "--detach", str(folder), revision), cwd=_HERE, check=True)
    try:
        yield folder / "server"
    finally:
        subprocess.run(("git", "worktree", "remove", "--force", str(folder)), cwd=_HERE, check=False)
