"""A real PostgreSQL server for one test process, in a folder of its own."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

PASSWORD = "pass-word-that-is-never-shown"
"""Needed over TCP, not over the socket."""

UNSAFE = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")
"""For tests in which the machine does not lose its power."""


def program(name: str) -> str:
    """Return the path of a PostgreSQL program; Debian keeps them out of PATH."""
    folders = [str(folder) for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]
    found = shutil.which(name, path=os.pathsep.join([*folders, os.environ.get("PATH", os.defpath)]))
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail("postgresql is not installed")
        pytest.skip("postgresql is not installed")
    return found


def user() -> Mapping[str, Any]:
    """Return options that run a process as a user that PostgreSQL accepts: it refuses root."""
    if os.geteuid() != 0:
        return {}
    names = {entry.pw_name for entry in pwd.getpwall()}
    found = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
    return {"user": found.pw_uid, "group": found.pw_gid, "extra_groups": []}


@dataclass
class PostgresServer:
    """A server that can be killed, frozen and started again."""

    folder: Path
    options: tuple[str, ...] = UNSAFE
    port: int = 5432
    """The port over TCP if there is one; also a part of the socket's name."""
    process: subprocess.Popen[str] | None = field(default=None, repr=False)
    _frozen: list[int] = field(default_factory=list, repr=False)
    _numbers: itertools.count[int] = field(default_factory=itertools.count, repr=False)

    def url(self, database: str = "postgres") -> str:
        """Return the address over the socket, with the patience that a busy machine takes."""
        return f"postgresql://postgres@/{database}?host={self.folder}&port={self.port}&connect_timeout=60"

    def tcp_url(self, database: str = "postgres", password: str = f":{PASSWORD}") -> str:
        """Return the address over TCP, which works if the options have `listen_addresses`."""
        return f"postgresql://postgres{password}@127.0.0.1:{self.port}/{database}?sslmode=disable"

    def new_database(self) -> str:
        """Create an empty database and return its name."""
        name = f"test_{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name}")
        return name

    def connect(self, database: str = "postgres") -> psycopg.Connection[dict[str, Any]]:
        """Begin a session, which is one transaction."""
        return psycopg.Connection[dict[str, Any]].connect(self.url(database), row_factory=dict_row)

    def execute(self, sql: str, database: str = "postgres") -> list[dict[str, Any]]:
        with self.connect(database) as connection:
            connection.autocommit = True
            cursor = connection.execute(sql.encode())
            return cursor.fetchall() if cursor.description else []

    def start(self) -> None:
        """Return once the server takes connections."""
        settings = (f"unix_socket_directories={self.folder}", f"port={self.port}", "listen_addresses=", *self.options)
        told = [part for setting in settings for part in ("-c", setting)]
        self.process = subprocess.Popen(
            [program("postgres"), "-D", str(self.folder / "data"), *told],
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
            **user(),
        )
        assert self.process.stderr is not None
        said: list[str] = []
        for line in self.process.stderr:
            said.append(line)
            if "ready to accept connections" in line:
                # What it says from now on is not read, and must not fill a pipe.
                self.process.stderr.close()
                return
        pytest.fail("".join(said))

    def stop(self) -> None:
        """Stop at once, as a crash does: the next start recovers from the log."""
        if self.process is not None:
            self.thaw()
            self.process.send_signal(signal.SIGQUIT)
            self.process.wait()
            self.process = None

    def freeze(self) -> None:
        """Let every process of the server hang, so that it takes connections and answers nothing."""
        assert self.process is not None
        with psycopg.connect(self.url(), autocommit=True) as connection:
            os.kill(self.process.pid, signal.SIGSTOP)
            backends = connection.execute("SELECT pid FROM pg_stat_activity").fetchall()
            self._frozen = [self.process.pid, *(pid for (pid,) in backends)]
            for pid in self._frozen[1:]:
                os.kill(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        frozen, self._frozen = self._frozen, []
        for pid in frozen:
            os.kill(pid, signal.SIGCONT)

    def end_sessions(self, database: str) -> None:
        """End every connection to a database from the server's side, and return when they have ended."""
        others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        self.execute(f"SELECT pg_terminate_backend(pid, 10000) {others}", database)


@dataclass(frozen=True)
class PostgresFixture:
    """An empty database of a running server, which the test leaves running."""

    server: PostgresServer
    name: str

    @property
    def url(self) -> str:
        return self.server.url(self.name)

    def execute(self, sql: str) -> list[dict[str, Any]]:
        return self.server.execute(sql, self.name)


@contextmanager
def postgres_server(*options: str, port: int = 5432) -> Generator[PostgresServer]:
    """Run a server for as long as the context is open; `options` replace `UNSAFE`."""
    initdb = program("initdb")
    # The name of a socket may have some hundred characters, which the folders of tests soon exceed.
    with tempfile.TemporaryDirectory(prefix="postgres-", dir="/tmp") as name:
        folder = Path(name)
        (folder / "password").write_text(PASSWORD)
        own = user()
        if own:
            for path in (folder, folder / "password"):
                os.chown(path, own["user"], own["group"])
        told = [initdb, "-D", str(folder / "data"), "--no-sync", "--username=postgres", "--encoding=UTF8"]
        access = ["--auth-local=trust", "--auth-host=scram-sha-256", f"--pwfile={folder / 'password'}"]
        subprocess.run(
            [*told, "--locale=C", "--wal-segsize=1", *access], check=True, capture_output=True, cwd=folder, **own
        )
        server = PostgresServer(folder, options or UNSAFE, port)
        server.start()
        try:
            yield server
        finally:
            server.stop()
