"""A server over the sandbox, in this process, with metrics and spans."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from mcp import Client
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from connector_mcp.composition.engine import open_engine
from connector_mcp.config.settings import Settings
from connector_mcp.engine.caller import TransportName
from connector_mcp.engine.engine import Engine
from connector_mcp.telemetry.export import ExportedMetrics, Spans
from connector_mcp.telemetry.metrics import Metrics
from connector_mcp.telemetry.observer import Observer
from connector_mcp.transport.mcp.server import build_server

Series = dict[tuple[str, ...], float]


def read_samples(text: str) -> dict[str, Series]:
    """Read samples by name, then by label values in the order of the label names."""
    samples: dict[str, Series] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = tuple(value for _, value in sorted(sample.labels.items()))
            samples.setdefault(sample.name.removeprefix("connector_mcp_"), {})[labels] = sample.value
    return samples


@dataclass
class Watched:
    """An engine with its metrics and spans, for Prometheus and for OpenTelemetry."""

    engine: Engine
    metrics: Metrics
    spans: Spans
    exporter: InMemorySpanExporter
    reader: InMemoryMetricReader

    @property
    def exposition(self) -> str:
        return generate_latest(self.metrics.registry).decode()

    def samples(self) -> dict[str, Series]:
        return read_samples(self.exposition)

    @property
    def finished(self) -> tuple[ReadableSpan, ...]:
        return self.exporter.get_finished_spans()

    def client(self, mode: str, transport: TransportName = "http", **options: Any) -> Client:
        server = build_server(self.engine, request_state_key=b"k" * 32, transport=transport)
        return Client(server, mode=mode, **options)


WatchedMaker = Callable[..., AbstractAsyncContextManager[Watched]]


@pytest.fixture
def watch(tmp_path: Path) -> WatchedMaker:
    """Make an observed engine over the sandbox, with these settings."""

    @asynccontextmanager
    async def make(**settings: Any) -> AsyncIterator[Watched]:
        exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        metrics, spans, reader = Metrics("0.test"), Spans(provider), InMemoryMetricReader()
        meters = MeterProvider([reader], shutdown_on_exit=False)
        observer = Observer(metrics, spans, ExportedMetrics(meters))
        loaded = Settings.load({}, **{"sandbox": True, "state_dir": tmp_path, **settings})
        async with open_engine(loaded, {}, "http", observer=observer) as engine:
            yield Watched(engine, metrics, spans, exporter, reader)
        provider.shutdown()
        meters.shutdown()

    return make


@pytest.fixture(params=["auto", "legacy"])
def mode(request: pytest.FixtureRequest) -> str:
    """Both eras of the protocol."""
    return request.param


@pytest.fixture
def samples_of() -> Callable[[str], dict[str, Series]]:
    return read_samples
