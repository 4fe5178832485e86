"""The servers that are compared and the upstream that they share."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.client import Session, ToolCall
from benchmarks.upstream import CONNECTOR_ID, ORGANIZATION

_HERE: Final = Path(__file__).parent
_OURS: Final = ("CONNECTOR_MCP_", "VECTORIZE_", "LOGTO_", "VERSORI_", "CONDUCTORONE_", "PYTHON")
"""Beginnings of the variables that a run must not inherit: they would change what is measured."""

GET: Final = ToolCall.of(
    "vectorize_get_source_connector", {"source_connector_id": CONNECTOR_ID}, proof='"bucket-name":"contracts-7"'
)
LIST: Final = ToolCall.of("vectorize_get_source_connectors", {"limit": 20}, proof='"Contracts of region 19"')


@dataclass(frozen=True)
class Contestant:
    """A server: how it is started, and with which variables."""

    command: tuple[str, ...]
    environment: Mapping[str, str]
    directory: Path

    def start(self) -> Session:
        """A process of its own, to which nothing was said yet."""
        return Session(self.command, self.environment, self.directory)


@dataclass(frozen=True)
class Pair:
    """The two that are compared."""

    ours: Contestant
    bare: Contestant


@contextmanager
def contestants() -> Generator[Pair]:
    """This server with its defaults, and the bare one, both with the same upstream."""
    with tempfile.TemporaryDirectory(prefix="connector-mcp-benchmark-") as directory, _upstream() as port:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
        environment = inherited | {
            "VECTORIZE_API_KEY": "benchmark-key-0123456789",
            "VECTORIZE_ORGANIZATION_ID": ORGANIZATION,
            "VECTORIZE_BASE_URL": f"http://127.0.0.1:{port}/v1",
        }
        settings = {
            "CONNECTOR_MCP_STATE_DIR": f"{directory}/state",
            # The client-side rate limit works as ever, but must not be what is measured.
            "CONNECTOR_MCP_REQUESTS_PER_SECOND": "1000000",
        }
        where = Path(directory)
        yield Pair(
            ours=Contestant((sys.executable, "-m", "connector_mcp", "serve"), environment | settings, where),
            bare=Contestant((sys.executable, str(_HERE / "bare_server.py")), environment, where),
        )


@contextmanager
def _upstream() -> Generator[int]:
    with subprocess.Popen(
        (sys.executable, str(_HERE / "upstream.py")), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.terminate()
