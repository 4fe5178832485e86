"""A signal ends the real server with a call in flight: cleanly, with its audit record, and with MCP alone on stdout.

Where nothing can be clean, the record that was written before the change is what is left.
"""

from __future__ import annotations

import json
import signal
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.abc import Process

from connector_mcp.audit.check import verify_log
from connector_mcp.audit.reader import AuditReader
from connector_mcp.state.sqlite import SqliteDatabase
from tests.end_to_end.faces import INITIALIZE, SERVE, message
from tests.end_to_end.recording import RecordingServer, environment, recording_server
from tests.records import audited

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

ENDINGS = [(signal.SIGTERM, 0), (signal.SIGINT, 130)]
CALL: dict[str, Any] = {"name": "vectorize_get_source_connectors", "arguments": {}}


async def begin(recorder: RecordingServer, state: Path, call: dict[str, Any]) -> Process:
    """Start a server, shake hands over stdio and make one call, without waiting for its answer."""
    environ = environment(recorder.origin) | {"CONNECTOR_MCP_STATE_DIR": str(state)}
    process = await anyio.open_process(SERVE, env=environ)
    assert process.stdin is not None
    initialized = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    for each in (message("initialize", **INITIALIZE), initialized, message("tools/call", 2, **call)):
        await process.stdin.send(json.dumps(each).encode() + b"\n")
    return process


async def all_of(stream: Any) -> str:
    return b"".join([chunk async for chunk in stream]).decode()


@pytest.mark.parametrize(("ending", "status"), ENDINGS)
async def test_a_signal_ends_the_stdio_server_though_stdin_stays_open(ending: int, status: int, tmp_path: Path) -> None:
    async with recording_server() as recorder:
        recorder.silent = True
        process = await begin(recorder, tmp_path, CALL)
        with anyio.fail_after(300):
            await recorder.reached.wait()
            process.send_signal(ending)
            assert await process.wait() == status
        output = await all_of(process.stdout)
        assert [json.loads(line)["jsonrpc"] for line in output.splitlines()].count("2.0") >= 1
        assert "Traceback" not in await all_of(process.stderr)
        await process.aclose()
    assert [(record["tool"], record["outcome"]) for record in audited(tmp_path)] == [(CALL["name"], "cancelled")]


async def test_a_server_killed_during_a_change_leaves_the_record_of_its_beginning(tmp_path: Path) -> None:
    connectors = [{"name": "f", "type": "FILE_UPLOAD"}]
    change = {"name": "vectorize_create_source_connector", "arguments": {"connectors": connectors}}
    async with recording_server() as recorder:
        recorder.silent = True
        process = await begin(recorder, tmp_path, change)
        with anyio.fail_after(300):
            await recorder.reached.wait()
            process.kill()
            assert await process.wait() == -signal.SIGKILL
        await process.aclose()
    (record,) = audited(tmp_path)
    assert (record["tool"], record["phase"], record["outcome"]) == (change["name"], "begun", "begun")
    with closing(SqliteDatabase(tmp_path / "records.db")) as database:
        verdict = verify_log(AuditReader(database))
    assert verdict.intact
    assert record["call_id"] in verdict.notes[0]
