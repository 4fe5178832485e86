"""OpenTelemetry spans of client requests, steps of calls and requests to platforms, and their export to a collector.

Attributes are names, codes and numbers from closed sets, and ids made by this server. No argument, answer, address with
an id or text of an exception is ever put into a span, so that nothing has to be redacted.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from typing import Final

import anyio
import anyio.to_thread
from opentelemetry.context import Context
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import Span, SpanKind, StatusCode, TracerProvider, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from connector_mcp.errors import ConnectorError, Misconfigured
from connector_mcp.telemetry.events import (
    DURATIONS,
    Attempt,
    Attributes,
    DurationMetric,
    EndedCall,
    Ending,
    StepName,
)

SCOPE: Final = "connector_mcp"
SETTING: Final = "CONNECTOR_MCP_OTEL"

FLUSH_SECONDS: Final = 5.0
"""Seconds that the last export may take when the server ends."""

_PARENT: Final = "traceparent"
_ENDPOINT: Final = "OTEL_EXPORTER_OTLP_ENDPOINT"
_PROTOCOL: Final = "http/protobuf"


class Spans:
    """Makes spans with a provider's tracer. The caller closes the provider."""

    def __init__(self, provider: TracerProvider, version: str | None = None) -> None:
        self._tracer = provider.get_tracer(SCOPE, version)
        self._propagator = TraceContextTextMapPropagator()

    @contextmanager
    def operation(self, attributes: dict[str, str], traceparent: str | None) -> Generator[None]:
        """Make the span of a client's request or notification, inside the client's trace if it names one.

        Its name is made of the attributes at the beginning. Its attributes are those at the end.
        """
        # `tracestate` is left out: it is free text from the caller.
        context = self._propagator.extract({_PARENT: traceparent}) if traceparent else None
        named = ("mcp.method.name", "gen_ai.tool.name", "gen_ai.prompt.name")
        name = " ".join(attributes[each] for each in named if each in attributes)
        with self._started(name, SpanKind.SERVER, attributes, context) as span:
            try:
                yield
            finally:
                span.set_attributes(attributes)
                if "error.type" in attributes:
                    span.set_status(StatusCode.ERROR)

    @contextmanager
    def step(self, name: StepName) -> Generator[None]:
        """Make the span of a step of a call. A failure is recorded by its error code."""
        with self._started(name, SpanKind.INTERNAL) as span:
            try:
                yield
            except ConnectorError as error:
                _fail(span, error.code)
                raise

    def call_ended(self, call: EndedCall) -> None:
        """Add the outcome of a call to the span of its request."""
        span = get_current_span()
        span.set_attribute("connector_mcp.call_id", call.call_id)
        span.set_attribute("connector_mcp.effect", call.effect)
        span.set_attribute("connector_mcp.decision", call.decision)
        span.set_attribute("connector_mcp.outcome", call.outcome)
        span.set_attribute("connector_mcp.sandbox", call.sandbox)
        if call.channel is not None:
            span.set_attribute("connector_mcp.channel", call.channel)
        if call.platform is not None:
            span.set_attribute("connector_mcp.platform", call.platform)

    @contextmanager
    def attempt(self, attempt: Attempt, ending: Ending) -> Generator[None]:
        """Make the span of a request to a platform. The trace is not propagated to the platform."""
        name = f"{attempt.method} {attempt.template}"
        with self._started(name, SpanKind.CLIENT, attempt.attributes) as span:
            try:
                yield
            finally:
                span.set_attributes(ending.attributes)
                if "error.type" in ending.attributes:
                    span.set_status(StatusCode.ERROR)

    def _started(
        self,
        name: str,
        kind: SpanKind,
        attributes: Mapping[str, str | int] | None = None,
        context: Context | None = None,
    ) -> AbstractContextManager[Span]:
        # The library would record the text of an exception, which may come from a caller or a platform.
        return self._tracer.start_as_current_span(
            name, context, kind, attributes, record_exception=False, set_status_on_exception=False
        )


def _fail(span: Span, code: str) -> None:
    span.set_attribute("error.type", code)
    span.set_status(StatusCode.ERROR)


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
    wanted = exported_signals(environ)
    try:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.metrics import MeterProvider as ExportingMeters
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider as ExportingTracer
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
        traces = ExportingTracer(resource=resource, shutdown_on_exit=False)
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


def exported_signals(environ: Mapping[str, str]) -> list[str]:
    """Return what the standard variables ask to export: `TRACES`, `METRICS` or both.

    Raises:
        Misconfigured: No endpoint is set, or another protocol is asked for.
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
    return wanted


def _is_exported(signal: str, environ: Mapping[str, str]) -> bool:
    named = (_ENDPOINT, f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT")
    return environ.get(f"OTEL_{signal}_EXPORTER") != "none" and any(environ.get(name) for name in named)
