"""The command line as tests use it: in process, as a process of its own, and in a terminal."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from connector_mcp.cli.main import cli

OURS = ("CONNECTOR_MCP_", "VECTORIZE_", "LOGTO_", "VERSORI_", "CONDUCTORONE_")
PATIENCE = 180.0
"""Seconds after which a process that hangs is ended, so that its test fails."""
COMMAND = (sys.executable, "-m", "connector_mcp")


@dataclass(frozen=True)
class Ended:
    """A process that has ended: its status, and what it wrote."""

    status: int
    out: str
    err: str = ""


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, str]:
    """An environment without any configuration but a state directory of the test's own; also this process's."""
    for name in os.environ:
        if name.startswith(OURS):
            monkeypatch.delenv(name)
    monkeypatch.setenv("CONNECTOR_MCP_STATE_DIR", str(tmp_path / "state"))
    # The user who runs the tests may have a file of their own.
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return dict(os.environ)


@pytest.fixture
def run(environment: Mapping[str, str]) -> Callable[..., Result]:
    """Run a command in this process, where there is no terminal."""

    def invoke(*arguments: str, stdin: str = "", **variables: str) -> Result:
        return CliRunner().invoke(cli, list(arguments), input=stdin, env=variables, catch_exceptions=False)

    return invoke


@pytest.fixture
def spawn(environment: Mapping[str, str]) -> Callable[..., Ended]:
    """Run a command as a process with pipes as its streams."""

    def invoke(*arguments: str, stdin: str = "", **variables: str) -> Ended:
        command, env = [*COMMAND, *arguments], {**environment, **variables}
        done = subprocess.run(command, input=stdin, env=env, capture_output=True, text=True, timeout=PATIENCE)
        return Ended(done.returncode, done.stdout, done.stderr)

    return invoke


@pytest.fixture
def in_terminal(environment: Mapping[str, str]) -> Callable[..., Ended]:
    """Run a command as a process in a terminal of its own, and type lines into it."""

    def invoke(*arguments: str, typed: str = "") -> Ended:
        # A test types at once.
        with terminal({**environment, "CONNECTOR_MCP_ASK_READING_TIME": "0"}, *arguments) as (process, master):
            os.write(master, typed.encode())
            written = b"".join(chunks(master))
            status = process.wait(timeout=PATIENCE)
        return Ended(status, written.decode().replace("\r\n", "\n"))

    return invoke


@contextmanager
def terminal(
    environment: Mapping[str, str], *arguments: str, cwd: Path | None = None
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A command that runs in a terminal of its own: the process, and the descriptor to read and type with."""
    master, slave = pty.openpty()
    streams = {"stdin": slave, "stdout": slave, "stderr": slave, "start_new_session": True}
    with subprocess.Popen([*COMMAND, *arguments], env=environment, cwd=cwd, **streams) as process:
        os.close(slave)
        try:
            yield process, master
        finally:
            process.kill()
            os.close(master)


def read_until(master: int, end: str) -> str:
    """What is written to a terminal until it contains this text."""
    # A part may end within a character.
    written = b""
    while end.encode() not in written:
        assert select.select([master], [], [], PATIENCE)[0]
        written += os.read(master, 65_536)
    return written.decode(errors="ignore")


def chunks(descriptor: int) -> Iterator[bytes]:
    while select.select([descriptor], [], [], PATIENCE)[0]:
        try:
            chunk = os.read(descriptor, 65_536)
        except OSError:
            # Linux reports the end of a terminal as an error.
            return
        if not chunk:
            return
        yield chunk
    raise TimeoutError("the process neither wrote nor ended")
