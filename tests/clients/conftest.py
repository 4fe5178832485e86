"""The server under test as processes, and clients attached to it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.clients.attached import SECONDS, Connection, Server, TypeScriptClient, attach

SERVE = (sys.executable, "-m", "connector_mcp", "serve", "--sandbox", "--toolsets", "all")
FIXTURES = (sys.executable, "-m", "tests.clients.fixture_server")
ROOT = Path(__file__).parents[2]

CONNECTIONS = (
    *(Connection(1, transport, "legacy") for transport in ("stdio", "http", "sse")),
    *(Connection(2, transport, "2026-07-28") for transport in ("stdio", "http")),
    Connection(2, "sse", "legacy"),
)


@pytest.fixture(scope="session")
def stdio_server(tmp_path_factory: pytest.TempPathFactory) -> Server:
    """The command of a server; over stdio a deletion is asked for as it is set out of the box."""
    return Server(SERVE, process_environment(tmp_path_factory.mktemp("stdio")))


@pytest.fixture(scope="session")
def http_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that listens, and asks for deletions as the one on stdio does."""
    environment = process_environment(tmp_path_factory.mktemp("http"))
    with _listening((*SERVE, "--http", "--port", "0", "--policy", "destroy=ask"), environment) as origin:
        yield Server(SERVE, environment, origin)


@pytest.fixture(scope="module")
def fixture_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of what the conformance suite wants to call, behind our transport; it speaks HTTP only."""
    environment = process_environment(tmp_path_factory.mktemp("fixtures"))
    with _listening(FIXTURES, environment) as origin:
        yield Server(FIXTURES, environment, origin)


@pytest.fixture(scope="module", params=CONNECTIONS, ids=str)
async def client(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncGenerator[TypeScriptClient]:
    """Each client in turn, with a person who can be asked. Tests share it, so each makes what it changes."""
    connection: Connection = request.param
    server = request.getfixturevalue("stdio_server" if connection.transport == "stdio" else "http_server")
    log = tmp_path_factory.mktemp("client") / "stderr"
    async with attach(connection, server, log, elicitation=True) as attached:
        yield attached
    assert "Traceback" not in log.read_text()


@pytest.fixture(params=[each for each in CONNECTIONS if each.transport == "http"], ids=str)
async def client_that_cannot_ask(request: Any, http_server: Server, tmp_path: Path) -> AsyncGenerator[TypeScriptClient]:
    """Each client over Streamable HTTP, without a person who can be asked."""
    async with attach(request.param, http_server, tmp_path / "stderr", elicitation=False) as attached:
        yield attached


@contextmanager
def _listening(command: tuple[str, ...], environment: Mapping[str, str]) -> Iterator[str]:
    """The origin of a server that ends well when it is told to, and has nothing to say but its address."""
    with subprocess.Popen(command, env=environment, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        overdue = threading.Timer(SECONDS, process.kill)
        overdue.start()
        try:
            ready = process.stderr.readline()
            overdue.cancel()
            assert ready.startswith("Serving http://"), ready
            yield ready.split()[1].removesuffix("/mcp")
            process.send_signal(signal.SIGTERM)
            _, log = process.communicate(timeout=SECONDS)
            assert (process.returncode, log) == (0, "")
        finally:
            overdue.cancel()
            process.kill()


def process_environment(folder: Path) -> Mapping[str, str]:
    """What the server needs of this process's environment, and a state directory of its own."""
    inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    # These clients answer at once.
    own = {"CONNECTOR_MCP_STATE_DIR": str(folder / "state"), "CONNECTOR_MCP_ASK_READING_TIME": "0"}
    return {**inherited, **own}
