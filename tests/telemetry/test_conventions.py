"""Metrics and spans have the names, attributes and buckets of the OpenTelemetry conventions, restated here."""

from __future__ import annotations

from typing import Any

import pytest
from mcp.shared.exceptions import MCPError
from mcp_types import EmptyResult, Request
from opentelemetry.sdk.metrics.export import Histogram, HistogramDataPoint, InMemoryMetricReader
from opentelemetry.trace import StatusCode

from tests.telemetry.test_metrics import durations

pytestmark = pytest.mark.anyio

READ = "logto_get_connector"
OPERATION = "mcp.server.operation.duration"

OF_A_METRIC = {
    "mcp.method.name", "error.type", "gen_ai.prompt.name", "gen_ai.tool.name", "rpc.response.status_code",
    "gen_ai.operation.name", "jsonrpc.protocol.version", "mcp.protocol.version", "network.protocol.name",
    "network.protocol.version", "network.transport",
}  # fmt: skip
"""The attributes of `mcp.server.operation.duration` in the conventions for MCP, without those to opt in to."""

OF_A_SPAN = OF_A_METRIC | {
    "jsonrpc.request.id", "mcp.resource.uri", "mcp.session.id", "client.address", "client.port",
}  # fmt: skip

BUCKETS = {
    OPERATION: (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120, 300),
    "http.client.request.duration": (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10),
}
OF_A_REQUEST = {
    "http.request.method", "server.address", "server.port", "error.type", "http.response.status_code",
    "network.protocol.name", "network.protocol.version", "url.scheme", "url.template",
}  # fmt: skip


def points(reader: InMemoryMetricReader, name: str) -> list[HistogramDataPoint]:
    data = reader.get_metrics_data()
    assert data is not None
    metrics = [each for one in data.resource_metrics for scope in one.scope_metrics for each in scope.metrics]
    (metric,) = [each for each in metrics if each.name == name]
    assert metric.unit == "s"
    assert isinstance(metric.data, Histogram)
    return list(metric.data.data_points)


async def use_everything(seen: Any, mode: str) -> None:
    """Make each kind of request, those that fail too, with text that must not become a label."""
    async with seen.client(mode) as client:
        await client.list_tools()
        await client.list_prompts()
        await client.list_resources()
        await client.read_resource("connector-type://logto")
        await client.get_prompt("set-up-sso", {})
        await client.call_tool("logto_list_connectors", {})
        await client.call_tool(READ, {"id": "marked-id"})
        for wrong in (
            client.call_tool("marked-tool", {}),
            client.get_prompt("marked-prompt", {}),
            client.read_resource("connector-type://marked"),
        ):
            with pytest.raises(MCPError):
                await wrong


async def test_the_metrics_and_spans_have_the_conventions_names_attributes_and_buckets(watch: Any, mode: str) -> None:
    async with watch() as seen:
        await use_everything(seen, mode)
        found = {name: points(seen.reader, name) for name in BUCKETS}
        spans = [span for span in seen.finished if "mcp.method.name" in (span.attributes or {})]
        exposition = seen.exposition
    for name, boundaries in BUCKETS.items():
        assert {tuple(point.explicit_bounds) for point in found[name]} == {boundaries}
    operations = [dict(point.attributes or {}) for point in found[OPERATION]]
    assert all(set(each) <= OF_A_METRIC for each in operations)
    additions = {"connector_mcp.platform", "connector_mcp.request.kind"}
    requests = found["http.client.request.duration"]
    assert all(set(point.attributes or {}) <= OF_A_REQUEST | additions for point in requests)
    told = ("mcp.method.name", "gen_ai.tool.name", "gen_ai.prompt.name", "error.type", "rpc.response.status_code")
    shown = {tuple(each.get(name) for name in told) for each in operations}
    assert shown >= {
        ("tools/list", None, None, None, None),
        ("prompts/list", None, None, None, None),
        ("prompts/get", None, "set-up-sso", None, None),
        ("prompts/get", None, None, "-32602", "-32602"),
        ("resources/read", None, None, None, None),
        ("resources/read", None, None, "-32602", "-32602"),
        ("tools/call", "logto_list_connectors", None, None, None),
        ("tools/call", READ, None, "tool_error", None),
        ("tools/call", None, None, "-32602", "-32602"),
    }
    assert {each["network.transport"] for each in operations} == {"tcp"}
    assert all((each["mcp.method.name"] == "tools/call") is ("gen_ai.operation.name" in each) for each in operations)
    for span in spans:
        ours = {name for name in span.attributes or {} if name.startswith("connector_mcp.")}
        assert set(span.attributes or {}) - ours <= OF_A_SPAN
        assert ("error.type" in (span.attributes or {})) is (span.status.status_code is StatusCode.ERROR)
    assert "connector-type://logto" in {(span.attributes or {}).get("mcp.resource.uri") for span in spans}
    left = repr(operations) + exposition + "".join(span.to_json() for span in spans)
    assert "marked" not in left


async def test_the_page_for_prometheus_has_the_same_values(watch: Any) -> None:
    async with watch() as seen:
        await use_everything(seen, "auto")
        exported = {
            (str((point.attributes or {})["mcp.method.name"]), str((point.attributes or {}).get("error.type", ""))): 0
            for point in points(seen.reader, OPERATION)
        }
        for point in points(seen.reader, OPERATION):
            attributes = point.attributes or {}
            exported[str(attributes["mcp.method.name"]), str(attributes.get("error.type", ""))] += point.count
        shown = durations(seen.metrics, "mcp_server_operation_duration", "mcp_method_name", "error_type")
    assert shown == exported


async def test_methods_that_do_not_exist_make_no_series(watch: Any) -> None:
    async with watch() as seen, seen.client("legacy") as client:
        for number in range(20):
            with pytest.raises(MCPError):
                await client.session.send_request(Request(method=f"marked/{number}", params=None), EmptyResult)
        methods = {(point.attributes or {})["mcp.method.name"] for point in points(seen.reader, OPERATION)}
    assert "_OTHER" in methods
    assert not any("marked" in str(each) for each in methods)


async def test_over_stdio_the_transport_is_a_pipe(watch: Any, mode: str) -> None:
    async with watch() as seen, seen.client(mode, "stdio") as client:
        await client.call_tool("logto_list_connectors", {})
        found = [dict(point.attributes or {}) for point in points(seen.reader, OPERATION)]
    assert {each["network.transport"] for each in found} == {"pipe"}
    assert all("network.protocol.name" not in each for each in found)
