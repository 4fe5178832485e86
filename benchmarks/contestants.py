"""The servers that are compared and the upstreams that they share."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from benchmarks.client import Session, ToolCall
from benchmarks.upstream import CONNECTOR_ID, ORGANIZATION

OURS: Final = "this server"
BARE: Final = "bare server"
FASTMCP: Final = "fastmcp"

SLOW: Final = 0.05
"""Seconds that the slow upstream takes for an answer."""

_HERE: Final = Path(__file__).parent
_INHERITED: Final = ("CONNECTOR_MCP_", "VECTORIZE_", "LOGTO_", "VERSORI_", "CONDUCTORONE_", "PYTHON")
"""Beginnings of the variables that a run must not inherit: they would change what is measured."""

GET: Final = ToolCall.of(
    "vectorize_get_source_connector", {"source_connector_id": CONNECTOR_ID}, proof='"bucket-name":"contracts-7"'
)
LIST: Final = ToolCall.of("vectorize_get_source_connectors", {"limit": 20}, proof='"Contracts of region 19"')


@dataclass(frozen=True)
class Contestant:
    """A server: how it is started, and with which variables. `calls` are what is called GET and LIST elsewhere."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    directory: Path
    speaks_http: bool = True

    @property
    def ours(self) -> bool:
        """Whether it is this project, of whichever commit."""
        return "connector_mcp" in self.command

    def start(self) -> Session:
        """A process of its own, to which nothing was said yet."""
        return Session(self.command, self.environment, self.directory)

    def with_variables(self, **variables: str) -> Contestant:
        """The same with other variables."""
        return replace(self, environment={**self.environment, **variables})


@dataclass(frozen=True)
class Field:
    """All who are compared: this server first, the bare one second, then those that were asked for."""

    everyone: tuple[Contestant, ...]
    slow_port: int

    @property
    def ours(self) -> Contestant:
        return self.everyone[0]

    def late(self) -> tuple[Contestant, ...]:
        """The same with an upstream that takes its time."""
        address = f"http://127.0.0.1:{self.slow_port}/v1"
        return tuple(each.with_variables(VECTORIZE_BASE_URL=address) for each in self.everyone)


@contextmanager
def contestants(*, against: str | None = None, fastmcp: str | None = None) -> Generator[Field]:
    """This server with its defaults and the bare one, with the same upstream.

    `against` adds this server as it was at a revision, `fastmcp` a server of that library under the Python at that
    path.
    """
    with ExitStack() as stack:
        where = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="connector-mcp-benchmark-")))
        port, slow_port = stack.enter_context(_upstream()), stack.enter_context(_upstream(SLOW))
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(_INHERITED)}
        environment = inherited | {
            "VECTORIZE_API_KEY": "benchmark-key-0123456789",
            "VECTORIZE_ORGANIZATION_ID": ORGANIZATION,
            "VECTORIZE_BASE_URL": f"http://127.0.0.1:{port}/v1",
        }
        settings = environment | {
            "CONNECTOR_MCP_STATE_DIR": f"{where}/state",
            # The client-side rate limit works as ever, but must not be what is measured.
            "CONNECTOR_MCP_REQUESTS_PER_SECOND": "1000000",
        }
        serve = (sys.executable, "-m", "connector_mcp", "serve")
        everyone = [
            Contestant(OURS, serve, settings, where),
            Contestant(BARE, (sys.executable, str(_HERE / "bare_server.py")), environment, where),
        ]
        if against is not None:
            source = stack.enter_context(_checked_out(against, where / "against"))
            before = settings | {"PYTHONPATH": str(source), "CONNECTOR_MCP_STATE_DIR": f"{where}/state-against"}
            everyone.append(Contestant(against, serve, before, where))
        if fastmcp is not None:
            command = (fastmcp, str(_HERE / "fastmcp_server.py"))
            everyone.append(Contestant(FASTMCP, command, environment, where, speaks_http=False))
        yield Field(tuple(everyone), slow_port)


@contextmanager
def _upstream(delay: float = 0.0) -> Generator[int]:
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
    """The sources of a revision, run with the packages that are installed now."""
    subprocess.run(("git", "worktree", "add", "--detach", str(folder), revision), cwd=_HERE, check=True)
    try:
        yield folder / "server"
    finally:
        subprocess.run(("git", "worktree", "remove", "--force", str(folder)), cwd=_HERE, check=False)
