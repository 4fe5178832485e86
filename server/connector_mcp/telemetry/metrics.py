"""Prometheus metrics in a separate registry.

The values of every label come from a closed set: this code, the declarations or the operator's configuration. No label
holds a principal, an id, an argument or a text of a platform, so that a caller cannot make the number of series grow.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info
from prometheus_client.process_collector import ProcessCollector

from connector_mcp.telemetry.events import DURATIONS, Attempt, Attributes, Backlog, DurationMetric, EndedCall


class Metrics:
    """All metrics that `/metrics` shows. The exposition is made from `registry`."""

    def __init__(self, version: str) -> None:
        self.registry: Final = CollectorRegistry()
        counter = partial(Counter, registry=self.registry, namespace="connector_mcp")
        gauge = partial(Gauge, registry=self.registry, namespace="connector_mcp")
        seconds = partial(Histogram, registry=self.registry)
        self._durations = {
            each: seconds(
                f"{_plain(each.name)}_seconds", each.description, map(_plain, each.attributes), buckets=each.buckets
            )
            for each in DURATIONS
        }
        self._calls = counter("calls", "Calls that ended.", ("tool", "effect", "outcome"))
        self.calls_in_flight: Final = gauge("calls_in_flight", "Calls that run.")
        self.unknown_tools: Final = counter("unknown_tool_calls", "Calls of tools that do not exist.")
        self._decisions = counter("gate_decisions", "What the gate decided.", ("decision", "channel"))
        self.approval_changes: Final = counter(
            "approval_changes",
            "Approvals that reached a state in this process; pending is a call that was parked.",
            ("state",),
        )
        self._waiting = gauge("approvals", "Approvals in the store; NaN while it cannot be read.", ("state",))
        self._oldest = gauge("approval_oldest_seconds", "Age of the oldest call that waits for an operator.")
        self._unexported = gauge("audit_unexported_records", "Audit records to be exported.", ("cursor",))
        where = ("connector_mcp_platform", "server_address", "server_port")
        self._active = gauge("http_client_active_requests", "Requests under way.", where, namespace="")
        self._waits = seconds("connector_mcp_upstream_wait_seconds", "Time before a request was sent.", ("platform",))
        self._retries = counter("upstream_retries", "Requests that were sent again.", ("platform",))
        self._tokens = counter("upstream_tokens", "Requests for access tokens.", ("platform", "outcome"))
        self.store_errors: Final = counter(
            "store_errors", "Failed operations of the store and of the audit log.", ("operation",)
        )
        for operation in ("read", "write", "audit"):
            # Alerts see a counter grow only if it was there before.
            self.store_errors.labels(operation)
        Info("connector_mcp_build", "The running version.", registry=self.registry).info({"version": version})
        ProcessCollector(registry=self.registry)

    def call_ended(self, call: EndedCall) -> None:
        self._calls.labels(call.tool, call.effect, call.outcome).inc()
        # Without a channel the call ended before the gate decided.
        if call.channel is not None:
            self._decisions.labels(call.decision, call.channel).inc()

    def record(self, metric: DurationMetric, seconds: float, attributes: Attributes) -> None:
        self._durations[metric].labels(*(attributes.get(name, "") for name in metric.attributes)).observe(seconds)

    def set_backlog(self, backlog: Backlog | None) -> None:
        """Set what waits in the database; None if it cannot be read."""
        for state in ("pending", "approved", "denied"):
            self._waiting.labels(state).set(math.nan if backlog is None else backlog.approvals.get(state, 0))
        self._oldest.set(math.nan if backlog is None else backlog.oldest_seconds)
        self._unexported.clear()
        for cursor, records in () if backlog is None else backlog.unexported.items():
            self._unexported.labels(cursor).set(records)

    def attempt(self, attempt: Attempt) -> AbstractContextManager[object]:
        if attempt.resends:
            self._retries.labels(attempt.platform).inc()
        self._waits.labels(attempt.platform).observe(attempt.waited)
        return self._active.labels(attempt.platform, attempt.host, attempt.port).track_inprogress()

    @contextmanager
    def minting(self, platform: str) -> Generator[None]:
        outcome = "failed"
        try:
            yield
            outcome = "ok"
        finally:
            self._tokens.labels(platform, outcome).inc()


def _plain(name: str) -> str:
    """Return the name that a metric or an attribute of OpenTelemetry has in Prometheus, without its unit."""
    return name.replace(".", "_")
