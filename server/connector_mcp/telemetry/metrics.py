"""Prometheus metrics in a separate registry.

The values of every label come from a closed set: this code, the declarations or the operator's configuration. No label
holds a principal, an id, an argument or a text of a platform, so that a caller cannot make the number of series grow.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info
from prometheus_client.process_collector import ProcessCollector

from connector_mcp.telemetry.events import Attempt, EndedCall, Ending

CALL_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
"""Upper bounds of the buckets for calls. The longest are for calls in which a person was asked."""

UPSTREAM_SECONDS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """All metrics that `/metrics` shows. The exposition is made from `registry`."""

    def __init__(self, version: str) -> None:
        self.registry: Final = CollectorRegistry()
        counter = partial(Counter, registry=self.registry, namespace="connector_mcp")
        gauge = partial(Gauge, registry=self.registry, namespace="connector_mcp")
        seconds = partial(Histogram, registry=self.registry, namespace="connector_mcp")
        self._calls = counter("calls", "Calls that ended.", ("tool", "effect", "outcome"))
        self._call_seconds = seconds(
            "call_duration_seconds", "Time from a call's arrival to its answer.", ("tool",), buckets=CALL_SECONDS
        )
        self.calls_in_flight: Final = gauge("calls_in_flight", "Calls that run.")
        self.unknown_tools: Final = counter("unknown_tool_calls", "Calls of tools that do not exist.")
        self._decisions = counter("gate_decisions", "What the gate decided.", ("decision", "channel"))
        self.approval_changes: Final = counter(
            "approval_changes",
            "Approvals that reached a state in this process; pending is a call that was parked.",
            ("state",),
        )
        self._waiting = gauge("approvals", "Approvals in the store; NaN while it cannot be read.", ("state",))
        self._requests = counter(
            "upstream_requests", "Requests to platforms, each attempt by itself.", ("platform", "kind", "status")
        )
        self._request_seconds = seconds(
            "upstream_request_duration_seconds",
            "Time from sending a request to the end of its answer.",
            ("platform", "kind"),
            buckets=UPSTREAM_SECONDS,
        )
        self._requests_in_flight = gauge("upstream_requests_in_flight", "Requests under way.", ("platform",))
        self._retries = counter("upstream_retries", "Requests that were sent again.", ("platform",))
        self._tokens = counter("upstream_tokens", "Requests for access tokens.", ("platform", "outcome"))
        self.store_errors: Final = counter(
            "store_errors", "Failed operations of the store and of the audit log.", ("operation",)
        )
        Info("connector_mcp_build", "The running version.", registry=self.registry).info({"version": version})
        ProcessCollector(registry=self.registry)

    def call_ended(self, call: EndedCall) -> None:
        self._calls.labels(call.tool, call.effect, call.outcome).inc()
        self._call_seconds.labels(call.tool).observe(call.duration_ms / 1000)
        # Without a channel the call ended before the gate decided.
        if call.channel is not None:
            self._decisions.labels(call.decision, call.channel).inc()

    def set_waiting(self, waiting: Mapping[str, int] | None) -> None:
        """Set the number of approvals by state; None if the store cannot be read."""
        for state in ("pending", "approved", "denied"):
            self._waiting.labels(state).set(math.nan if waiting is None else waiting.get(state, 0))

    @contextmanager
    def attempt(self, attempt: Attempt, ending: Ending) -> Generator[None]:
        if attempt.resends:
            self._retries.labels(attempt.platform).inc()
        in_flight = self._requests_in_flight.labels(attempt.platform).track_inprogress()
        with in_flight, self._request_seconds.labels(attempt.platform, attempt.kind).time():
            try:
                yield
            finally:
                self._requests.labels(attempt.platform, attempt.kind, status_class(ending.status)).inc()

    @contextmanager
    def minting(self, platform: str) -> Generator[None]:
        outcome = "failed"
        try:
            yield
            outcome = "ok"
        finally:
            self._tokens.labels(platform, outcome).inc()


def status_class(status: int | str) -> str:
    """Return the class of an HTTP status, such as `2xx`, or why there is none: one of nine values."""
    if isinstance(status, int):
        return f"{status // 100}xx" if 100 <= status < 600 else "other"
    if status.endswith("Timeout"):
        return "timeout"
    return status if status == "cancelled" else "failed"
