"""Real processes: how they end, and what they write where."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.abc import ByteReceiveStream, TaskStatus
from anyio.streams.text import TextReceiveStream
from mcp import Client
from mcp.client.sse import sse_client

from tests.end_to_end.faces import INITIALIZE, META

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

SERVER = Path(__file__).with_name("serve_fake.py")
TOOL = "vectorize_get_source_connectors"
CONNECTIONS = [("/mcp", "auto"), ("/mcp", "legacy"), ("/sse", "auto"), ("/sse", "legacy")]
HANDSHAKE = [{"id": 0, "method": "initialize", "params": INITIALIZE}, {"method": "notifications/initialized"}]


class Descriptor(ByteReceiveStream):
    """The end of a pipe that really closes: the one of a process object only looks away."""

    def __init__(self, file: FileIO) -> None:
        self._file = file

    async def receive(self, max_bytes: int = 65536) -> bytes:
        await anyio.wait_readable(self._file)
        return os.read(self._file.fileno(), max_bytes)

    async def aclose(self) -> None:
        self._file.close()


class Lines:
    """The lines of a process's stdout."""

    def __init__(self, stdout: ByteReceiveStream | None) -> None:
        assert stdout is not None
        self._chunks = TextReceiveStream(stdout)
        self._text = ""
        self.seen: list[str] = []

    async def next(self) -> str:
        while "\n" not in self._text:
            self._text += await self._chunks.receive()
        line, _, self._text = self._text.partition("\n")
        self.seen.append(line)
        return line

    async def rest(self) -> None:
        """Read on to the end."""
        with suppress(anyio.EndOfStream):
            while await self.next():
                pass
        assert self._text == ""


@asynccontextmanager
async def server(face: str, audit: Path) -> AsyncGenerator[anyio.abc.Process]:
    command = [sys.executable, str(SERVER), face, str(audit)]
    async with await anyio.open_process(command, stderr=subprocess.PIPE) as process:
        try:
            with anyio.fail_after(300):
                yield process
        finally:
            if process.returncode is None:
                process.kill()


async def send(process: anyio.abc.Process, *messages: dict[str, Any]) -> None:
    assert process.stdin is not None
    for message in messages:
        await process.stdin.send(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")


async def begin_a_call(process: anyio.abc.Process, lines: Lines, mode: str, *, opened: bool = True) -> None:
    """Call, and wait until the call says that it has begun; where not `opened`, with what opens the connection."""
    meta = {"progressToken": "p", **(META if mode == "auto" else {})}
    call = {"id": 1, "method": "tools/call", "params": {"name": TOOL, "arguments": {}, "_meta": meta}}
    opening = HANDSHAKE if mode == "legacy" else []
    if opened:
        await send(process, *opening, {"id": "list", "method": "tools/list", "params": {"_meta": meta}})
        while json.loads(await lines.next()).get("id") != "list":
            pass
        opening = []
    await send(process, *opening, call)
    while json.loads(await lines.next()).get("method") != "notifications/progress":
        pass


async def stderr_of(process: anyio.abc.Process) -> str:
    assert process.stderr is not None
    return "".join([chunk async for chunk in TextReceiveStream(process.stderr)])


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
async def test_a_signal_ends_stdio_with_a_call_in_flight_while_stdin_stays_open(
    tmp_path: Path, mode: str, number: signal.Signals, status: int
) -> None:
    audit = tmp_path / "audit"
    async with server("stdio", audit) as process:
        lines = Lines(process.stdout)
        await begin_a_call(process, lines, mode)
        process.send_signal(number)
        await lines.rest()
        assert await process.wait() == status
        errors = await stderr_of(process)
    assert audit.read_text() == "cancelled"
    assert all(json.loads(line)["jsonrpc"] == "2.0" for line in lines.seen)
    assert "printed by a careless library" in errors
    assert "the key is [redacted]" in errors
    assert "Traceback" not in errors


async def test_the_end_of_stdin_ends_stdio_with_a_call_in_flight(tmp_path: Path, mode: str) -> None:
    audit = tmp_path / "audit"
    async with server("stdio", audit) as process:
        lines = Lines(process.stdout)
        await begin_a_call(process, lines, mode)
        assert process.stdin is not None
        await process.stdin.aclose()
        await lines.rest()
        assert await process.wait() == 0
        assert "Traceback" not in await stderr_of(process)
    assert audit.read_text() == "cancelled"


async def test_a_client_that_no_longer_reads_ends_stdio(tmp_path: Path, mode: str) -> None:
    ours, theirs = os.pipe()
    command = [sys.executable, str(SERVER), "stdio", str(tmp_path / "audit")]
    async with await anyio.open_process(command, stdout=theirs, stderr=subprocess.PIPE) as process:
        os.close(theirs)
        with os.fdopen(ours, "rb", buffering=0) as stdout, anyio.fail_after(300):
            await begin_a_call(process, Lines(Descriptor(stdout)), mode, opened=False)
        with anyio.fail_after(300):
            ping = {"_meta": META} if mode == "auto" else {}
            await send(process, {"id": 2, "method": "tools/list", "params": ping})
            assert await process.wait() == 0
        assert "Traceback" not in await stderr_of(process)
    assert (tmp_path / "audit").read_text() == "cancelled"


async def test_long_messages_and_broken_ones_pass_stdio(tmp_path: Path) -> None:
    async with server("stdio", tmp_path / "audit") as process:
        lines = Lines(process.stdout)
        await send(process, *HANDSHAKE)
        assert process.stdin is not None
        await process.stdin.send(b'not json\n\n\xff\xfe\n{"jsonrpc": "2.0", "id": 5,')
        await process.stdin.send(b' "method": "ping"}\n')
        name = "ü" * 300_000
        await send(process, {"id": 6, "method": "tools/call", "params": {"name": name, "arguments": {}}})
        await send(process, {"id": 7, "method": "tools/list"})
        answers: dict[Any, Any] = {}
        while not {0, 5, 6, 7} <= answers.keys():
            answer = json.loads(await lines.next())
            answers[answer["id"]] = answer
        process.terminate()
        await lines.rest()
        assert await process.wait() == 0
        assert await stderr_of(process) == ""
    assert answers[5]["result"] == {}
    assert answers[6]["error"]["code"] == -32602
    assert len(json.dumps(answers[7])) > 4096


async def test_stdin_and_stdout_may_be_files(tmp_path: Path) -> None:
    request, answer = tmp_path / "in", tmp_path / "out"
    request.write_text(json.dumps({"jsonrpc": "2.0", **HANDSHAKE[0]}))
    with request.open("rb") as source, answer.open("wb") as sink:
        command = [sys.executable, str(SERVER), "stdio", str(tmp_path / "audit")]
        process = await anyio.run_process(command, stdin=source, stdout=sink, check=False)
    assert (process.returncode, process.stderr) == (0, b"")
    assert [json.loads(line)["id"] for line in answer.read_text().splitlines()] == [0]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
async def test_a_signal_ends_http_with_a_call_in_flight_on_every_path_and_in_both_eras(
    tmp_path: Path, number: signal.Signals, status: int
) -> None:
    audit = tmp_path / "audit"
    async with server("http", audit) as process:
        lines = Lines(process.stdout)
        address = await lines.next()

        async def call(face: str, mode: Any, *, task_status: TaskStatus[None]) -> None:
            async def on_progress(*_: object) -> None:
                task_status.started()

            transport = sse_client(address + face) if face == "/sse" else address + face
            # What the client makes of a server that ends is not looked at.
            with suppress(Exception):
                async with Client(transport, mode=mode) as client:
                    await client.call_tool(TOOL, {}, progress_callback=on_progress)

        async with anyio.create_task_group() as tasks:
            for face, mode in CONNECTIONS:
                await tasks.start(call, face, mode)
            process.send_signal(number)
            assert await process.wait() == status
            tasks.cancel_scope.cancel()
        errors = await stderr_of(process)
    assert audit.read_text() == "cancelled" * len(CONNECTIONS)
    assert "Traceback" not in errors
