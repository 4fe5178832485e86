"""OpenTelemetry spans of client requests, of the steps of calls and of requests to platforms.

Attributes are names, codes and numbers from closed sets, and ids made by this server. No argument, answer, address with
an id or text of an exception is ever put into a span, so that nothing has to be redacted.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Final

from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, StatusCode, TracerProvider, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from connector_mcp.errors import ConnectorError
from connector_mcp.telemetry.events import Attempt, EndedCall, Ending, StepName

SCOPE: Final = "connector_mcp"

_PARENT: Final = "traceparent"


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
