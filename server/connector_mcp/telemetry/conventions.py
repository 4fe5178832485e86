"""The metrics that the OpenTelemetry conventions define: their names, attributes and buckets.

Those for MCP are in the repository open-telemetry/semantic-conventions-genai, those for HTTP clients in
open-telemetry/semantic-conventions. Attributes that begin with `connector_mcp.` are additions of this server.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

Attributes = Mapping[str, str | int]


@dataclass(frozen=True, slots=True)
class DurationMetric:
    """A histogram of seconds. What is measured may have further attributes, which are for spans only."""

    name: str
    description: str
    attributes: tuple[str, ...]
    buckets: tuple[float, ...]


MCP_OPERATION: Final = DurationMetric(
    "mcp.server.operation.duration",
    "Time from the arrival of an MCP request or notification to its answer.",
    (
        "mcp.method.name", "gen_ai.operation.name", "gen_ai.tool.name", "gen_ai.prompt.name", "error.type",
        "rpc.response.status_code", "mcp.protocol.version", "network.transport", "network.protocol.name",
        "network.protocol.version",
    ),
    (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0),
)  # fmt: skip

HTTP_REQUEST: Final = DurationMetric(
    "http.client.request.duration",
    "Time from sending a request to a platform to the end of its answer; each attempt by itself.",
    (
        "connector_mcp.platform", "connector_mcp.request.kind", "http.request.method", "http.response.status_code",
        "error.type", "server.address", "server.port",
    ),
    (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
)  # fmt: skip

DURATIONS: Final = (MCP_OPERATION, HTTP_REQUEST)
