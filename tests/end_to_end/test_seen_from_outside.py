"""A call over HTTP, found again in the log, the audit log and the caller's trace; and the pages of a real server."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import anyio
import httpx
import httpx2
import pytest
from mcp import Client
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import format_trace_id

from connector_mcp.composition.engine import open_engine
from connector_mcp.config.settings import Settings
from connector_mcp.telemetry.observer import Observer
from connector_mcp.telemetry.spans import Spans
from connector_mcp.transport.http.app import serve_http

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TOOL = "logto_list_connectors"
TOKEN = "t0ken-of-prometheus"


@pytest.mark.anyio
@pytest.mark.parametrize(("face", "era"), [("/mcp", "auto"), ("/mcp", "legacy"), ("/sse", "legacy")])
@pytest.mark.parametrize("given", ["req-1", "forged {} id"])
async def test_a_call_is_found_again_by_its_ids(
    face: str, era: str, given: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    spans = Spans(provider)
    settings = Settings.load({}, sandbox=True, state_dir=tmp_path, log_level="DEBUG", log_format="json")
    headers = {"X-Request-ID": given, "traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}
    async with (
        open_engine(settings, {}, "http", observer=Observer(spans=spans)) as engine,
        anyio.create_task_group() as group,
    ):
        address = await group.start(
            lambda *, task_status: serve_http(engine, "127.0.0.1", 0, spans=spans, task_status=task_status)
        )
        async with httpx2.AsyncClient(headers=headers) as http:
            target = (
                sse_client(address + face, headers=headers)
                if face == "/sse"
                else streamable_http_client(address + face, http_client=http)
            )
            async with Client(target, mode=era) as client:
                assert not (await client.call_tool(TOOL, {})).is_error
        group.cancel_scope.cancel()
    (audited,) = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    logged = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    lines = [line for line in logged if line["logger"] == "connector_mcp.upstream"]
    assert lines
    assert {line["call_id"] for line in lines} == {audited["call_id"]}
    ids = {line["request_id"] for line in lines}
    assert len(ids) == 1
    assert (ids == {given}) is (given == "req-1")
    assert all("forged" not in request_id for request_id in ids)
    (call,) = [span for span in exporter.get_finished_spans() if span.name == f"tools/call {TOOL}"]
    assert format_trace_id(call.context.trace_id) == TRACE
    assert (call.attributes or {})["connector_mcp.call_id"] == audited["call_id"]


@pytest.fixture
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of a real process with this value of CONNECTOR_MCP_METRICS."""
    environ = {
        "CONNECTOR_MCP_STATE_DIR": str(tmp_path),
        "CONNECTOR_MCP_HTTP_TOKEN": TOKEN,
        "CONNECTOR_MCP_METRICS": request.param,
    }
    command = [sys.executable, "-m", "connector_mcp", "serve", "--http", "--sandbox", "--port", "0"]
    with subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        yield process.stderr.readline().split()[1].removesuffix("/mcp")
        process.terminate()


@pytest.mark.parametrize(
    ("server", "without", "with_token"),
    [("token", 401, 200), ("open", 200, 200), ("off", 401, 404)],
    indirect=["server"],
)
def test_who_may_read_the_metrics_is_a_setting(server: str, without: int, with_token: int) -> None:
    assert httpx.get(f"{server}/readyz").json()["status"] == "ready"
    assert httpx.get(f"{server}/metrics").status_code == without
    answer = httpx.get(f"{server}/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == with_token
    assert ("connector_mcp_build_info" in answer.text) is (with_token == 200)
