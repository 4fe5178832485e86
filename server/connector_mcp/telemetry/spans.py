"""OpenTelemetry spans of client requests, of the steps of calls and of requests to platforms, and their export.

Attributes are names, codes and numbers from closed sets, and ids made by this server. No argument, answer, address with
an id or text of an exception is ever put into a span, so that nothing has to be redacted.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Final

import anyio
import anyio.to_thread
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, StatusCode, TracerProvider, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from connector_mcp.errors import ConnectorError, Misconfigured
from connector_mcp.telemetry.events import Attempt, EndedCall, Ending, StepName

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider as ExportingProvider

SCOPE: Final = "connector_mcp"

SETTING: Final = "CONNECTOR_MCP_OTEL"

FLUSH_SECONDS: Final = 5.0
"""How long the export of the last spans may take when the server ends."""

_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_PROTOCOL: Final = "http/protobuf"

_NO_FAILURE: Final = frozenset({"ok", "asked"})
_PARENT: Final = "traceparent"


class Spans:
    """Makes spans with a provider's tracer. The caller closes the provider."""

    def __init__(self, provider: TracerProvider, version: str | None = None) -> None:
        self._tracer = provider.get_tracer(SCOPE, version)
        self._propagator = TraceContextTextMapPropagator()

    @contextmanager
    def request(self, method: str, tool: str | None, version: str, traceparent: str | None) -> Generator[None]:
        """Make the span of a client's request, inside the client's trace if it names one.

        `method` and `tool` must be known names, not text from the client.
        """
        attributes = {"mcp.method.name": method, "mcp.protocol.version": version}
        if tool is not None:
            attributes |= {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": tool}
        # `tracestate` is left out: it is free text from the caller.
        context = self._propagator.extract({_PARENT: traceparent}) if traceparent else None
        name = method if tool is None else f"{method} {tool}"
        with self._started(name, SpanKind.SERVER, attributes, context) as span:
            try:
                yield
            except Exception:
                span.set_status(StatusCode.ERROR)
                raise

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
        if call.outcome not in _NO_FAILURE:
            _fail(span, call.outcome)

    @contextmanager
    def attempt(self, attempt: Attempt, ending: Ending) -> Generator[None]:
        """Make the span of a request to a platform. The trace is not propagated to the platform."""
        attributes: dict[str, str | int] = {
            "http.request.method": attempt.method,
            "url.template": attempt.template,
            "server.address": attempt.host,
            "server.port": attempt.port,
            "connector_mcp.platform": attempt.platform,
        }
        if attempt.resends:
            attributes["http.request.resend_count"] = attempt.resends
        with self._started(f"{attempt.method} {attempt.template}", SpanKind.CLIENT, attributes) as span:
            try:
                yield
            finally:
                if isinstance(ending.status, int):
                    span.set_attribute("http.response.status_code", ending.status)
                    if ending.status >= 400:
                        _fail(span, str(ending.status))
                else:
                    _fail(span, ending.status)

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


@asynccontextmanager
async def exporting(environ: Mapping[str, str], version: str) -> AsyncGenerator[ExportingProvider]:
    """Open a provider that exports spans in batches, from a thread. It is not made the global provider.

    If the collector is unreachable, spans are lost and nothing else.

    Raises:
        Misconfigured: No endpoint is set, another protocol is asked for, or the extra is not installed.
    """
    provider = _open_provider(environ, version)
    try:
        yield provider
    finally:
        with anyio.CancelScope(shield=True), anyio.move_on_after(FLUSH_SECONDS):
            await anyio.to_thread.run_sync(provider.shutdown, abandon_on_cancel=True)


def _open_provider(environ: Mapping[str, str], version: str) -> ExportingProvider:
    if not any(environ.get(name) for name in _ENDPOINTS):
        raise Misconfigured(
            f"{SETTING} is on, but no collector is configured.",
            fix=f"Set {_ENDPOINTS[1]} to the collector's address, such as http://localhost:4318, or unset {SETTING}.",
        )
    for name in _PROTOCOLS:
        if environ.get(name, _PROTOCOL) != _PROTOCOL:
            raise Misconfigured(
                f"{name} names a protocol that is not supported.",
                fix=f"Set {name}={_PROTOCOL} or unset it, and use the collector's port for it (usually 4318).",
            )
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        raise Misconfigured(
            f"{SETTING} is on, but the packages that export spans are not installed.",
            fix=f"Install it with `pip install 'connector-mcp[otel]'`, or unset {SETTING}.",
        ) from None
    defaults = Resource.create({"service.name": "connector-mcp", "service.version": version})
    # The operator's OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES take precedence.
    provider = TracerProvider(resource=defaults.merge(OTELResourceDetector().detect()), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider
