"""The cheapest possible client of a stdio server: lines of JSON made beforehand, written to and read from pipes.

Every server is driven by the same code, in the `initialize` era of the protocol (2025-11-25), which all of them speak.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

PROTOCOL: Final = "2025-11-25"
LONGEST_SESSION: Final = 300.0
"""Seconds after which a server is taken to hang, and is killed."""

_CPUCLOCK_SCHED: Final = 2
_KIB: Final = 1024


class AnswerError(Exception):
    """A server answered something else than what was to be measured, or nothing."""


@dataclass(frozen=True)
class ToolCall:
    """A `tools/call`, ready to be numbered, and a piece of text that its answer holds only where it succeeded."""

    tool: str
    head: bytes
    tail: bytes
    proof: bytes

    @classmethod
    def of(cls, tool: str, arguments: Mapping[str, Any], *, proof: str) -> Self:
        head, tail = _message("tools/call", {"name": tool, "arguments": dict(arguments)}, "NUMBER").split(b'"NUMBER"')
        return cls(tool, head, tail, proof.encode())

    def numbered(self, number: int) -> bytes:
        return b"%b%d%b" % (self.head, number, self.tail)


def clock_of(process: int) -> float:
    """Seconds of processor time that a process has used, in all its threads."""
    # What clock_getcpuclockid(3) computes for another process; the standard library does not wrap it.
    return time.clock_gettime((~process << 3) | _CPUCLOCK_SCHED)


class Session:
    """A server process and the one client that talks to it, from before `initialize` on."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], directory: Path) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the session
        self._number = 0
        self._process = subprocess.Popen(
            command,
            env=environment,
            cwd=directory,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in, self._out = self._process.stdin, self._process.stdout
        self._watchdog = threading.Timer(LONGEST_SESSION, self._process.kill)
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

    def open(self) -> list[str]:
        """Say hello and ask for the tools in one go; returns their names once the list is there."""
        hello = {"protocolVersion": PROTOCOL, "capabilities": {}, "clientInfo": {"name": "benchmark", "version": "1"}}
        self._write(
            _message("initialize", hello, "hello")
            + _message("notifications/initialized", None)
            + _message("tools/list", {}, "tools")
        )
        self._read(b'"hello"')
        listed: dict[str, Any] = json.loads(self._read(b'"tools"'))
        return [tool["name"] for tool in listed["result"]["tools"]]

    def call(self, wanted: ToolCall) -> float:
        """Make one call and wait for its answer; the seconds that it took."""
        self._number += 1
        line = wanted.numbered(self._number)
        begun = time.perf_counter()
        self._write(line)
        self._read(wanted.proof)
        return time.perf_counter() - begun

    def list_tools(self) -> tuple[float, int]:
        """Ask for the tools again; the seconds that it took, and the bytes of the answer."""
        begun = time.perf_counter()
        self._write(_message("tools/list", {}, "tools"))
        answer = self._read(b'"tools"')
        return time.perf_counter() - begun, len(answer)

    def flood(self, wanted: ToolCall, count: int, in_flight: int) -> float:
        """Make `count` calls with so many in flight throughout; the seconds from the first to the last answer."""
        first, last = self._number + 1, self._number + count
        self._number = last
        begun = time.perf_counter()
        self._write(b"".join(wanted.numbered(number) for number in range(first, min(first + in_flight, last + 1))))
        for number in range(first, last + 1):
            self._read(wanted.proof)
            if number + in_flight <= last:
                self._write(wanted.numbered(number + in_flight))
        return time.perf_counter() - begun

    def processor_seconds(self) -> float:
        """Processor time that the server has used, in all its threads, those that have ended included."""
        return clock_of(self._process.pid)

    def resident_bytes(self) -> int:
        """Memory of the server that is in RAM, shared libraries included."""
        for line in Path(f"/proc/{self._process.pid}/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * _KIB
        raise AnswerError("the server has ended")

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

    def _unexpected(self, line: bytes) -> AnswerError:
        if line:
            return AnswerError(f"not the answer that was to be measured: {line.decode(errors='replace')[:2000]}")
        self._errors.seek(0, os.SEEK_SET)
        return AnswerError(f"the server ended: {self._errors.read().decode(errors='replace')[-2000:]}")


def _message(method: str, params: Mapping[str, Any] | None, number: str | None = None) -> bytes:
    message: dict[str, Any] = {"jsonrpc": "2.0"}
    if number is not None:
        message["id"] = number
    message["method"] = method
    if params is not None:
        message["params"] = dict(params)
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"
