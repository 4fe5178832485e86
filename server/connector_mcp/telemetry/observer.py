"""Passes events of calls to metrics and spans, if there are any.

Without metrics and spans an event costs almost nothing, and neither the library of Prometheus nor that of OpenTelemetry
is imported.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Final

from connector_mcp.telemetry.events import (
    CALL_ID,
    HTTP_REQUEST,
    MCP_OPERATION,
    Attempt,
    Attributes,
    DurationMetric,
    EndedCall,
    Ending,
    StepName,
)

if TYPE_CHECKING:
    from connector_mcp.telemetry.export import ExportedMetrics, Spans
    from connector_mcp.telemetry.metrics import Metrics

_NOTHING: Final = nullcontext()


class Observer:
    """Passes events on. Safe for concurrent calls on one event loop."""

    def __init__(
        self, metrics: Metrics | None = None, spans: Spans | None = None, exported: ExportedMetrics | None = None
    ) -> None:
        self.metrics = metrics
        self.spans = spans
        self._recorders = [each for each in (metrics, exported) if each is not None]
        self.listens: Final = spans is not None or bool(self._recorders)

    @contextmanager
    def operation(self, attributes: dict[str, str], traceparent: str | None) -> Generator[None]:
        """Measure a request or notification of a client. The caller may add to its attributes until it ends."""
        started = time.perf_counter()
        with _NOTHING if self.spans is None else self.spans.operation(attributes, traceparent):
            try:
                yield
            finally:
                self._record(MCP_OPERATION, started, attributes)

    def _record(self, metric: DurationMetric, started: float, attributes: Attributes) -> None:
        seconds = time.perf_counter() - started
        for each in self._recorders:
            each.record(metric, seconds, attributes)

    @contextmanager
    def call(self, call_id: str) -> Generator[None]:
        """Mark a running call. Log lines inside of the context carry its id."""
        outer = CALL_ID.set(call_id)
        try:
            with _NOTHING if self.metrics is None else self.metrics.calls_in_flight.track_inprogress():
                yield
        finally:
            CALL_ID.reset(outer)

    def step(self, name: StepName) -> AbstractContextManager[None]:
        """Mark a step of a call."""
        return _NOTHING if self.spans is None else self.spans.step(name)

    def call_ended(self, call: EndedCall) -> None:
        """Report a call that is over."""
        if self.metrics is not None:
            self.metrics.call_ended(call)
        if self.spans is not None:
            self.spans.call_ended(call)

    def tool_unknown(self) -> None:
        """Report a call of a tool that does not exist. Its name is the caller's, so it is left out."""
        if self.metrics is not None:
            self.metrics.unknown_tools.inc()

    def approval_changed(self, state: str) -> None:
        """Report an approval that was requested (`pending`) or reached another state."""
        if self.metrics is not None:
            self.metrics.approval_changes.labels(state).inc()

    def store_failed(self, operation: str) -> None:
        """Report a failed operation of the store or of the audit log."""
        if self.metrics is not None:
            self.metrics.store_errors.labels(operation).inc()

    @contextmanager
    def attempt(self, attempt: Attempt) -> Generator[Ending]:
        """Mark a request to a platform. The caller sets the ending's status."""
        ending = Ending()
        if not self.listens:
            yield ending
            return
        started = time.perf_counter()
        counted = _NOTHING if self.metrics is None else self.metrics.attempt(attempt)
        traced = _NOTHING if self.spans is None else self.spans.attempt(attempt, ending)
        with counted, traced:
            try:
                yield ending
            finally:
                self._record(HTTP_REQUEST, started, attempt.attributes | ending.attributes)

    def minting(self, platform: str) -> AbstractContextManager[None]:
        """Mark the request for an access token."""
        return _NOTHING if self.metrics is None else self.metrics.minting(platform)


NULL_OBSERVER: Final = Observer()
"""An observer without metrics and spans."""
