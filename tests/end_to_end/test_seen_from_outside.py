"""A call over HTTP is found in the log, the audit log and the caller's trace. The metrics of a real server."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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
from connector_mcp.telemetry.export import Spans
from connector_mcp.telemetry.observer import Observer
from tests.end_to_end.faces import SERVE, serving
from tests.records import audited

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TOOL = "logto_list_connectors"
TOKEN = "t0ken-of-prometheus"


@pytest.mark.anyio
@pytest.mark.parametrize(("face", "era"), [("/mcp", "auto"), ("/mcp", "legacy"), ("/sse", "legacy")])
@pytest.mark.parametrize("given", ["req-1", "forged {} id"])
async def test_a_call_is_found_again_by_its_ids(face: str, era: str, given: str, tmp_path: Path, capsys: Any) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    spans = Spans(provider)
    settings = Settings.load({}, sandbox=True, state_dir=tmp_path, log_level="DEBUG", log_format="json")
    headers = {"X-Request-ID": given, "traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}
    async with (
        open_engine(settings, {}, "http", observer=Observer(spans=spans)) as engine,
        serving(engine) as origin,
        httpx2.AsyncClient(headers=headers) as http,
    ):
        sse, mcp = (
            sse_client(f"{origin}/sse", headers=headers),
            streamable_http_client(f"{origin}/mcp", http_client=http),
        )
        async with Client(sse if face == "/sse" else mcp, mode=era) as client:
            assert not (await client.call_tool(TOOL, {})).is_error
    (record,) = audited(tmp_path)
    logged = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    lines = [line for line in logged if line["logger"] == "connector_mcp.upstream"]
    assert lines
    assert {line["call_id"] for line in lines} == {record["call_id"]}
    (request_id,) = {line["request_id"] for line in lines}
    assert (request_id == given) is (given == "req-1")
    assert "forged" not in request_id
    (call,) = [span for span in exporter.get_finished_spans() if span.name == f"tools/call {TOOL}"]
    assert format_trace_id(call.context.trace_id) == TRACE
    assert (call.attributes or {})["connector_mcp.call_id"] == record["call_id"]


@pytest.fixture
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of a real process with this value of CONNECTOR_MCP_METRICS."""
    settings = {"STATE_DIR": str(tmp_path), "HTTP_TOKEN": TOKEN, "METRICS": request.param}
    environ = {f"CONNECTOR_MCP_{name}": value for name, value in settings.items()}
    command = [*SERVE, "--http", "--sandbox", "--port", "0"]
    with subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        yield process.stderr.readline().split()[1].removesuffix("/mcp")
        process.terminate()


@pytest.mark.parametrize(
    ("server", "without", "with_token"),
    [("token", 401, 200), ("open", 200, 200), ("off", 401, 404)],
    indirect=["server"],
)
def test_access_to_the_metrics_is_a_setting(server: str, without: int, with_token: int) -> None:
    assert httpx.get(f"{server}/readyz").json()["status"] == "ready"
    assert httpx.get(f"{server}/metrics").status_code == without
    answer = httpx.get(f"{server}/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == with_token
    assert ("connector_mcp_build_info" in answer.text) is (with_token == 200)
