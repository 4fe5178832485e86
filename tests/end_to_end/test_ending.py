"""A signal ends the real server with a call in flight: cleanly, with its audit record, and with MCP alone on stdout.

Where nothing can be clean, the record that was written before the change is what is left.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from anyio.abc import Process

from connector_mcp.audit.check import snapshot, verify_log
from tests.end_to_end.recording import RecordingServer, recording_server

ENDINGS = [(signal.SIGTERM, 0), (signal.SIGINT, 130)]
CALL = {"name": "vectorize_get_source_connectors", "arguments": {}}
INITIALIZE = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}


def environment(recorder: RecordingServer, state: Path) -> dict[str, str]:
    return {
        "VECTORIZE_API_KEY": "key",
        "VECTORIZE_ORGANIZATION_ID": "org",
        "VECTORIZE_BASE_URL": f"{recorder.origin}/v1",
        "CONNECTOR_MCP_STATE_DIR": str(state),
    }


async def start(recorder: RecordingServer, state: Path, *arguments: str) -> Process:
    return await anyio.open_process(
        [sys.executable, "-m", "connector_mcp", "serve", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(recorder, state),
    )


async def begin(process: Process, call: dict[str, Any]) -> None:
    """Shake hands over stdio and make one call, without waiting for its answer."""
    assert process.stdin is not None
    for message in (
        {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": INITIALIZE},
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": call},
    ):
        await process.stdin.send(json.dumps(message).encode() + b"\n")


async def all_of(stream: Any) -> str:
    return b"".join([chunk async for chunk in stream]).decode()


def audited(state: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (state / "audit.jsonl").read_text().splitlines()]


@pytest.mark.anyio
@pytest.mark.parametrize(("ending", "status"), ENDINGS)
async def test_a_signal_ends_the_stdio_server_though_stdin_stays_open(ending: int, status: int, tmp_path: Path) -> None:
    async with recording_server() as recorder:
        recorder.silent = True
        process = await start(recorder, tmp_path)
        await begin(process, CALL)
        with anyio.fail_after(30):
            await recorder.reached.wait()
            process.send_signal(ending)
            assert await process.wait() == status
        output = await all_of(process.stdout)
        assert [json.loads(line)["jsonrpc"] for line in output.splitlines()].count("2.0") >= 1
        assert "Traceback" not in await all_of(process.stderr)
        await process.aclose()
    assert [(record["tool"], record["outcome"]) for record in audited(tmp_path)] == [(CALL["name"], "cancelled")]


@pytest.mark.anyio
@pytest.mark.parametrize(("ending", "status"), ENDINGS)
async def test_a_signal_ends_the_http_server_with_a_call_in_flight(ending: int, status: int, tmp_path: Path) -> None:
    async with recording_server() as recorder:
        recorder.silent = True
        process = await start(recorder, tmp_path, "--http", "--port", "0")
        assert process.stderr is not None
        with anyio.fail_after(60):
            said = ""
            while not (found := re.search(r"http://127\.0\.0\.1:\d+", said)):
                said += (await process.stderr.receive()).decode()
            async with anyio.create_task_group() as group:
                group.start_soon(post, found[0])
                await recorder.reached.wait()
                process.send_signal(ending)
                assert await process.wait() == status
        assert await all_of(process.stdout) == ""
        await process.aclose()
    assert [(record["tool"], record["outcome"]) for record in audited(tmp_path)] == [(CALL["name"], "cancelled")]


@pytest.mark.anyio
async def test_a_server_that_is_killed_while_a_change_is_on_its_way_leaves_its_beginning(tmp_path: Path) -> None:
    connectors = [{"name": "f", "type": "FILE_UPLOAD"}]
    change = {"name": "vectorize_create_source_connector", "arguments": {"connectors": connectors}}
    async with recording_server() as recorder:
        recorder.silent = True
        process = await start(recorder, tmp_path)
        await begin(process, change)
        with anyio.fail_after(30):
            await recorder.reached.wait()
            process.kill()
            assert await process.wait() == -signal.SIGKILL
        await process.aclose()
    (record,) = audited(tmp_path)
    assert (record["tool"], record["phase"], record["outcome"]) == (change["name"], "begun", "begun")
    with snapshot(tmp_path / "audit.jsonl") as log:
        verdict = verify_log(log)
    assert verdict.intact
    assert record["call_id"] in verdict.notes[0]


async def post(origin: str) -> None:
    """One 2026-07-28 call, which never gets its answer."""
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": INITIALIZE["clientInfo"],
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": CALL | {"_meta": meta}}
    headers = {
        "accept": "application/json, text/event-stream",
        "mcp-protocol-version": "2026-07-28",
        "mcp-method": "tools/call",
        "mcp-name": str(CALL["name"]),
    }
    async with httpx.AsyncClient(timeout=60) as client:
        try:
            answer = await client.post(f"{origin}/mcp", json=message, headers=headers)
        except httpx.HTTPError:
            return
    assert answer.status_code != 400, answer.text
