"""A minimal client of a stdio server: JSON lines prepared in advance, written to and read from pipes."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from benchmarks.servers import MeasurementError, ServerCommand
from benchmarks.upstream import ARGUMENTS, PROOF, TOOL

PROTOCOL: Final = "2025-11-25"
_MAX_SESSION: Final = 300.0
"""Seconds after which a server is killed, because it hangs."""

_CPUCLOCK_SCHED: Final = 2


def processor_seconds(process: int) -> float:
    """Seconds of processor time that a process has used, in all its threads, including those that ended."""
    # The standard library does not wrap clock_getcpuclockid(3); this is what it computes for another process.
    return time.clock_gettime((~process << 3) | _CPUCLOCK_SCHED)


class StdioSession:
    """A server process and its one client."""

    def __init__(self, server: ServerCommand) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the session
        self._number = 0
        self._process = subprocess.Popen(
            server.command,
            env=server.environment,
            cwd=server.directory,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in, self._out = self._process.stdin, self._process.stdout
        self._watchdog = threading.Timer(_MAX_SESSION, self._process.kill)
        self._watchdog.daemon = True
        self._watchdog.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watchdog.cancel()
        self._process.kill()
        self._process.wait()
        self._in.close()
        self._out.close()
        self._errors.close()

    def open(self) -> None:
        """Initialize, list the tools, and wait for the list.

        Raises:
            MeasurementError: The tool that is measured is not in the list.
        """
        hello = {"protocolVersion": PROTOCOL, "capabilities": {}, "clientInfo": {"name": "benchmark", "version": "1"}}
        self._write(
            _message("initialize", hello, "hello")
            + _message("notifications/initialized", None)
            + _message("tools/list", {}, "tools")
        )
        self._read(b'"hello"')
        listed: dict[str, Any] = json.loads(self._read(b'"tools"'))
        if not any(tool["name"] == TOOL for tool in listed["result"]["tools"]):
            raise MeasurementError(f"tools/list lacks {TOOL}")

    def call(self) -> float:
        """Make one call and wait for its answer; the seconds that it took."""
        return self.flood(1, 1)

    def flood(self, count: int, in_flight: int) -> float:
        """Make calls with that many in flight throughout; the seconds that all took."""
        first, last = self._number + 1, self._number + count
        self._number = last
        start = time.perf_counter()
        self._write(b"".join(_call(number) for number in range(first, min(first + in_flight, last + 1))))
        for number in range(first, last + 1):
            self._read(PROOF)
            if number + in_flight <= last:
                self._write(_call(number + in_flight))
        return time.perf_counter() - start

    def processor_seconds(self) -> float:
        """The processor time that the server has used."""
        return processor_seconds(self._process.pid)

    def resident_mebibytes(self) -> float:
        """The server's memory in RAM, shared libraries included."""
        for line in Path(f"/proc/{self._process.pid}/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        raise MeasurementError("the server has ended")

    def _write(self, data: bytes) -> None:
        try:
            self._in.write(data)
            self._in.flush()
        except BrokenPipeError:
            raise self._unexpected(b"") from None

    def _read(self, proof: bytes) -> bytes:
        line = self._out.readline()
        if proof not in line:
            raise self._unexpected(line)
        return line

    def _unexpected(self, line: bytes) -> MeasurementError:
        if line:
            return MeasurementError(f"unexpected answer: {line.decode(errors='replace')[:2000]}")
        self._errors.seek(0, os.SEEK_SET)
        return MeasurementError(f"the server ended: {self._errors.read().decode(errors='replace')[-2000:]}")


def _call(number: int) -> bytes:
    return b"%b%d%b" % (_CALL[0], number, _CALL[1])


def _message(method: str, params: Mapping[str, Any] | None, number: str | None = None) -> bytes:
    message: dict[str, Any] = {"jsonrpc": "2.0"}
    if number is not None:
        message["id"] = number
    message["method"] = method
    if params is not None:
        message["params"] = dict(params)
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


_CALL: Final = _message("tools/call", {"name": TOOL, "arguments": ARGUMENTS}, "NUMBER").split(b'"NUMBER"')
