"""OpenTelemetry spans of requests, of the steps of calls and of what is sent to platforms.

Attributes are names, codes and numbers from closed sets, and ids of our own making. No argument, answer, address with
an id in it or text of an exception is ever given to a span, so there is nothing to scrub.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType
from typing import Final

from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, StatusCode, TracerProvider, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from connector_mcp.errors import ConnectorError
from connector_mcp.telemetry.observer import Attempt, EndedCall, Ending, StepName

SCOPE: Final = "connector_mcp"

_NO_FAILURE: Final = frozenset({"ok", "asked"})
_PARENT: Final = "traceparent"


class Spans:
    """Makes spans with a provider's tracer. The provider stays the caller's."""

    def __init__(self, provider: TracerProvider, version: str | None = None) -> None:
        self._tracer = provider.get_tracer(SCOPE, version)
        self._propagator = TraceContextTextMapPropagator()

    @contextmanager
    def request(self, method: str, tool: str | None, version: str, traceparent: str | None) -> Generator[None]:
        """The span of one request of a client, within the client's own trace where it names one.

        `method` and `tool` are known names, not whatever the client sent.
        """
        attributes = {"mcp.method.name": method, "mcp.protocol.version": version}
        if tool is not None:
            attributes |= {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": tool}
        # `tracestate` is left out: it is free text of the caller's, and nothing here reads it.
        context = self._propagator.extract({_PARENT: traceparent}) if traceparent else None
        name = method if tool is None else f"{method} {tool}"
        with self._started(name, SpanKind.SERVER, attributes, context) as span:
            try:
                yield
            except Exception:
                span.set_status(StatusCode.ERROR)
                raise

    def step(self, name: StepName) -> Step:
        """The span of one step of a call. A failure of the call that ends it is named by its code."""
        return Step(self._started(name, SpanKind.INTERNAL))

    def call_ended(self, call: EndedCall) -> None:
        """Say on the request's span what became of its call."""
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
        """The span of one HTTP request. Its URL is the template, and the platform is not told of our trace."""
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
        # The library would write down what an exception says, which is no text of ours.
        return self._tracer.start_as_current_span(
            name, context, kind, attributes, record_exception=False, set_status_on_exception=False
        )


class Step:
    """The context of one step, for `with` and for `async with`."""

    __slots__ = ("_span", "_started")

    def __init__(self, started: AbstractContextManager[Span]) -> None:
        self._started = started
        self._span: Span | None = None

    def __enter__(self) -> None:
        self._span = self._started.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._span is not None and isinstance(error, ConnectorError):
            _fail(self._span, error.code)
        self._started.__exit__(kind, error, trace)

    async def __aenter__(self) -> None:
        self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)


def _fail(span: Span, code: str) -> None:
    span.set_attribute("error.type", code)
    span.set_status(StatusCode.ERROR)
