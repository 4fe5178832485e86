"""A real server under load: it ends with twenty slow calls in flight, and serves others beside two thousand streams."""

from __future__ import annotations

import asyncio
import json
import re
import resource
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import aclosing, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from anyio.abc import Process
from mcp.client import Client
from mcp.client.sse import sse_client

from connector_mcp.audit.check import verify_log
from connector_mcp.audit.reader import AuditReader
from connector_mcp.sandbox.app import Sandbox
from connector_mcp.state.sqlite import SqliteDatabase
from tests.end_to_end.faces import INITIALIZE, META, http_process, message, modern, post, served
from tests.records import audited

pytestmark = pytest.mark.anyio

CREATE = "vectorize_create_source_connector"
READ = "vectorize_get_source_connectors"
NAMES = [f"{era}-{fate}-{number}" for era in ("modern", "legacy") for fate in ("slow", "stuck") for number in range(5)]

STREAMS = 2_000
FEWEST_STREAMS = 1_000
"""The fewest streams to test with, on a machine that allows few open files."""

STREAM_BYTES = 200_000
NEW_STREAM_BYTES = 40_000
"""What a stream may add after others have been closed, because their memory is used again."""

SERVER_BYTES = 500_000_000


@dataclass
class SlowUpstream:
    """A sandbox with slow creations: they are answered once `release` is set, or never, as their name says."""

    sandbox: Sandbox
    created: list[str] = field(default_factory=list)
    all_reached: anyio.Event = field(default_factory=anyio.Event)
    release: anyio.Event = field(default_factory=anyio.Event)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["method"] != "POST":
            await self.sandbox.app()(scope, receive, send)
            return
        request = await receive()
        assert not request.get("more_body")
        name = json.loads(request["body"])["name"]
        self.created.append(name)
        if len(self.created) == len(NAMES):
            self.all_reached.set()
        if "stuck" in name:
            await receive()  # the next thing to come is the end of the connection
            return
        await self.release.wait()
        unread = [request]

        async def replayed() -> Any:
            return unread.pop() if unread else await receive()

        await self.sandbox.app()(scope, replayed, send)


def creation(name: str, **extra: Any) -> dict[str, Any]:
    arguments = {"connectors": [{"name": name, "type": "FILE_UPLOAD"}]}
    return message("tools/call", NAMES.index(name) + 2, name=CREATE, arguments=arguments, **extra)


async def until_refused(origin: str) -> None:
    """Wait until the server takes no new connection, which is how it begins to end."""
    async with httpx.AsyncClient(headers={"connection": "close"}) as client:
        while True:
            try:
                await client.get(f"{origin}/healthz")
            except httpx.TransportError:
                return


async def test_a_server_that_is_told_to_end_answers_the_calls_that_finish_and_loses_none(tmp_path: Path) -> None:
    sandbox = Sandbox()
    upstream = SlowUpstream(sandbox)
    answers: dict[str, str] = {}
    async with served(upstream) as platform:
        environ = sandbox.variables("vectorize", platform) | {"CONNECTOR_MCP_STATE_DIR": str(tmp_path)}
        async with http_process(environ) as (process, origin):
            begun = await post(origin, message("initialize", **INITIALIZE))
            legacy = {"mcp-session-id": begun.headers["mcp-session-id"], "mcp-protocol-version": "2025-11-25"}
            await post(origin, {"jsonrpc": "2.0", "method": "notifications/initialized"}, **legacy)

            async def call(name: str) -> None:
                is_modern = name.startswith("modern")
                sent = creation(name, _meta=META) if is_modern else creation(name)
                try:
                    answer = await post(origin, sent, **(modern(CREATE) if is_modern else legacy))
                except httpx.RemoteProtocolError:
                    answers[name] = "closed"
                    return
                answers[name] = f"{answer.status_code} {answer.text}"

            with anyio.fail_after(300):
                async with anyio.create_task_group() as group:
                    for name in NAMES:
                        group.start_soon(call, name)
                    await upstream.all_reached.wait()
                    process.send_signal(signal.SIGTERM)
                    await until_refused(origin)
                    upstream.release.set()
                assert await process.wait() == 0
    sandbox.close()

    assert sorted(upstream.created) == sorted(NAMES)
    for name in NAMES:
        status, _, text = answers[name].partition(" ")
        assert status == "200"
        assert (rf"\"name\":\"{name}\"" if "slow" in name else "outcome_unknown") in text
    records = audited(tmp_path)
    outcomes = Counter((record["phase"], record["outcome"]) for record in records)
    assert outcomes == {("begun", "begun"): 20, ("ended", "ok"): 10, ("ended", "cancelled"): 10}
    assert {record["call_id"] for record in records[:20]} == {record["call_id"] for record in records[20:]}
    with closing(SqliteDatabase(tmp_path / "records.db")) as database:
        assert verify_log(AuditReader(database)).problems == []


@contextmanager
def open_files(wanted: int) -> Iterator[int]:
    """How many files this process and those it starts may have open meanwhile: as many as wanted, if it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = max(soft, wanted if hard == resource.RLIM_INFINITY else min(wanted, hard))
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    try:
        yield allowed
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Streams:
    """Raw connections to one server, each with an event stream on which nothing comes."""

    def __init__(self, origin: str) -> None:
        self._host = origin.removeprefix("http://")
        self._open: list[asyncio.StreamWriter] = []

    async def open(self, many: int) -> None:
        """Open so many more, a fiftieth of them at `/mcp` in sessions of their own and the others at `/sse`."""
        for _ in range(0, many, 100):
            async with anyio.create_task_group() as group:
                for number in range(100):
                    group.start_soon(self._in_a_session if number % 50 == 0 else self._at_sse)

    async def aclose(self) -> None:
        for writer in self._open:
            writer.close()
        for writer in self._open:
            with suppress(ConnectionError):
                await writer.wait_closed()
        self._open.clear()

    async def _at_sse(self) -> None:
        reader, writer = await self._connect()
        writer.write(self._head("GET /sse"))
        await reader.readuntil(b"session_id=")

    async def _in_a_session(self) -> None:
        reader, writer = await self._connect()
        body = json.dumps(message("initialize", **INITIALIZE))
        length = f"Content-Length: {len(body)}"
        writer.write(self._head("POST /mcp", "Content-Type: application/json", length) + body.encode())
        found = re.search(rb"mcp-session-id: (\w+)", await reader.readuntil(b"\r\n\r\n"))
        assert found is not None
        await reader.readuntil(b"\r\n0\r\n\r\n")
        writer.write(self._head("GET /mcp", f"Mcp-Session-Id: {found[1].decode()}"))
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, _, port = self._host.partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        self._open.append(writer)
        return reader, writer

    def _head(self, line: str, *lines: str) -> bytes:
        accept = "Accept: application/json, text/event-stream"
        return "\r\n".join([f"{line} HTTP/1.1", f"Host: {self._host}", accept, *lines, "", ""]).encode()


def resident_bytes(process: Process) -> int:
    found = re.search(r"^VmRSS:\s+(\d+) kB$", Path(f"/proc/{process.pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


def open_of(process: Process) -> int:
    return len(list(Path(f"/proc/{process.pid}/fd").iterdir()))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read in Linux's way")
async def test_beside_two_thousand_idle_streams_others_are_served_and_memory_is_bounded(tmp_path: Path) -> None:
    environ = {"CONNECTOR_MCP_STATE_DIR": str(tmp_path), "CONNECTOR_MCP_HTTP_MAX_SESSIONS": str(2 * STREAMS)}
    with open_files(STREAMS + 500) as allowed:
        many = min(STREAMS, (allowed - 300) // 100 * 100)
        assert many >= FEWEST_STREAMS
        async with http_process(environ, "--sandbox") as (process, origin), aclosing(Streams(origin)) as streams:
            before, unused = resident_bytes(process), open_of(process)
            with anyio.fail_after(600):
                await streams.open(many)
                assert open_of(process) >= many
                used = resident_bytes(process)
                assert (used - before) / many < STREAM_BYTES
                assert used < SERVER_BYTES

                for target in (f"{origin}/mcp", sse_client(f"{origin}/sse")):
                    for mode in ("auto", "legacy") if isinstance(target, str) else ("legacy",):
                        async with Client(target, mode=mode) as client:
                            for _ in range(10):
                                assert not (await client.call_tool(READ, {})).is_error
                await streams.aclose()

                # What is served meanwhile shows that the server goes on while it puts two thousand streams away.
                async with Client(f"{origin}/mcp") as client:
                    while open_of(process) > unused + 10:
                        assert not (await client.call_tool(READ, {})).is_error
                used = resident_bytes(process)
                await streams.open(many // 10)
                assert resident_bytes(process) < used + many // 10 * NEW_STREAM_BYTES
            process.send_signal(signal.SIGTERM)
            with anyio.fail_after(300):
                assert await process.wait() == 0
