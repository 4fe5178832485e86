"""The export of spans and of the conventions' metrics to an OpenTelemetry collector."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Final

import anyio
import anyio.to_thread
from opentelemetry.metrics import MeterProvider

from connector_mcp.errors import Misconfigured
from connector_mcp.telemetry.conventions import DURATIONS, Attributes, DurationMetric
from connector_mcp.telemetry.spans import SCOPE, Spans

SETTING: Final = "CONNECTOR_MCP_OTEL"

FLUSH_SECONDS: Final = 5.0
"""How long the last export may take when the server ends."""

_ENDPOINT: Final = "OTEL_EXPORTER_OTLP_ENDPOINT"
_PROTOCOL: Final = "http/protobuf"


class ExportedMetrics:
    """Records duration metrics with a provider's meter. The caller closes the provider."""

    def __init__(self, provider: MeterProvider, version: str | None = None) -> None:
        meter = provider.get_meter(SCOPE, version)
        self._histograms = {
            metric: meter.create_histogram(
                metric.name, "s", metric.description, explicit_bucket_boundaries_advisory=metric.buckets
            )
            for metric in DURATIONS
        }

    def record(self, metric: DurationMetric, seconds: float, attributes: Attributes) -> None:
        own = {name: attributes[name] for name in metric.attributes if name in attributes}
        self._histograms[metric].record(seconds, own)


@asynccontextmanager
async def exporting(
    environ: Mapping[str, str], version: str
) -> AsyncGenerator[tuple[Spans | None, ExportedMetrics | None]]:
    """Export in batches, from threads: spans, metrics, or both, as the standard variables say.

    No provider is made the global one. If the collector is unreachable, spans and values are lost and nothing else.

    Raises:
        Misconfigured: No endpoint is set, another protocol is asked for, or the extra is not installed.
    """
    wanted = [signal for signal in ("TRACES", "METRICS") if _is_exported(signal, environ)]
    if not wanted:
        raise Misconfigured(
            f"{SETTING} is on, but no collector is configured.",
            fix=f"Set {_ENDPOINT} to the collector's address, such as http://localhost:4318, or unset {SETTING}.",
        )
    for name in ("OTEL_EXPORTER_OTLP_PROTOCOL", *(f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL" for signal in wanted)):
        if environ.get(name, _PROTOCOL) != _PROTOCOL:
            raise Misconfigured(
                f"{name} names a protocol that is not supported.",
                fix=f"Set {name}={_PROTOCOL} or unset it, and use the collector's port for it (usually 4318).",
            )
    try:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.metrics import MeterProvider as ExportingMeters
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        raise Misconfigured(
            f"{SETTING} is on, but the packages that export spans and metrics are not installed.",
            fix=f"Install it with `pip install 'connector-mcp[otel]'`, or unset {SETTING}.",
        ) from None
    defaults = Resource.create({"service.name": "connector-mcp", "service.version": version})
    # The operator's OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES take precedence.
    resource = defaults.merge(OTELResourceDetector().detect())
    traces = meters = None
    if "TRACES" in wanted:
        traces = TracerProvider(resource=resource, shutdown_on_exit=False)
        traces.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    if "METRICS" in wanted:
        reader = PeriodicExportingMetricReader(OTLPMetricExporter())
        meters = ExportingMeters([reader], resource, shutdown_on_exit=False)
    try:
        yield (Spans(traces, version) if traces else None, ExportedMetrics(meters, version) if meters else None)
    finally:
        with anyio.CancelScope(shield=True), anyio.move_on_after(FLUSH_SECONDS):
            for each in filter(None, (traces, meters)):
                await anyio.to_thread.run_sync(each.shutdown, abandon_on_cancel=True)


def _is_exported(signal: str, environ: Mapping[str, str]) -> bool:
    named = (_ENDPOINT, f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT")
    return environ.get(f"OTEL_{signal}_EXPORTER") != "none" and any(environ.get(name) for name in named)
