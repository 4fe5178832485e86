"""nginx as a process, in front of servers that a test starts."""

from __future__ import annotations

import itertools
import os
import shutil
import socket
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

# Below the ports that the system gives to sockets without one, and of each worker its own.
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 20
_PORTS = itertools.cycle(range(20_000 + 500 * _WORKER, 20_500 + 500 * _WORKER))


def free_port() -> int:
    """Return a port of loopback that no other test gets before a process listens on it."""
    for port in _PORTS:
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise AssertionError


def nginx(folder: Path, http: str) -> list[str]:
    """A command that runs nginx with this in its `http` block. Without nginx the test is skipped; in CI it fails."""
    found = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail("nginx is not installed")
        pytest.skip("nginx is not installed")
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "\n".join(f"{kind}_temp_path {folder / kind};" for kind in kinds)
    (folder / "nginx.conf").write_text(
        f"daemon off; pid {folder / 'nginx.pid'}; error_log stderr notice;\n"
        f"events {{ worker_connections 512; }}\nhttp {{\naccess_log off;\n{temporary}\n{http}\n}}\n"
    )
    return [found, "-p", str(folder), "-c", str(folder / "nginx.conf")]


NGINX_RUNS = "start worker process "


def until_said(process: subprocess.Popen[str], sign: str) -> None:
    """Wait until a process has written this to stderr."""
    said: list[str] = []
    assert process.stderr is not None
    for line in process.stderr:
        said.append(line)
        if sign in line:
            return
    pytest.fail(f"{process.args} ended with {process.wait()}:\n{''.join(said)}")
