"""A real Redis server for one test process, on a unix socket of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from redis import Redis

PROGRAM = shutil.which("redis-server") or shutil.which("valkey-server")


def require_redis() -> str:
    """The program; without it the test is skipped, in CI it fails."""
    if PROGRAM is None:
        if os.environ.get("CI") == "true":
            pytest.fail("redis-server is not installed")
        pytest.skip("redis-server is not installed")
    return PROGRAM


@dataclass
class RedisServer:
    """A server that keeps every write, so that it can be killed and started again."""

    folder: Path
    options: tuple[str, ...] = ()
    process: subprocess.Popen[str] | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        return f"unix://{self.folder}/socket"

    def client(self) -> Redis:
        return Redis(unix_socket_path=f"{self.folder}/socket", decode_responses=True)

    def start(self) -> None:
        """Returns once the server takes connections."""
        told = ["--port", "0", "--unixsocket", f"{self.folder}/socket", "--dir", str(self.folder), "--save", ""]
        kept = ["--appendonly", "yes", "--appendfsync", "always", *self.options]
        self.process = subprocess.Popen([require_redis(), *told, *kept], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        said: list[str] = []
        for line in self.process.stdout:
            said.append(line)
            if "accept connections" in line:
                return
        pytest.fail("".join(said))

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None


@contextmanager
def redis_server(*options: str) -> Generator[RedisServer]:
    """A server for as long as the context is open."""
    require_redis()
    # The name of a socket may have some hundred characters, which the folders of tests soon exceed.
    with tempfile.TemporaryDirectory(prefix="redis-") as folder:
        server = RedisServer(Path(folder), options)
        server.start()
        try:
            yield server
        finally:
            server.kill()
