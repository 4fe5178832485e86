"""Who watches the calls of this process, as the settings say."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

from connector_mcp import __version__
from connector_mcp.config.settings import Settings
from connector_mcp.engine.caller import TransportName
from connector_mcp.telemetry.observer import NULL_OBSERVER, Observer


@asynccontextmanager
async def observed(
    settings: Settings, environ: Mapping[str, str], transport: TransportName
) -> AsyncGenerator[Observer]:
    """The observer of a server. What it has to export has left, or was given up, when the context is closed.

    Raises:
        Misconfigured: Spans are wanted and cannot be exported.
    """
    with_metrics = transport == "http" and settings.metrics != "off"
    if not with_metrics and not settings.otel:
        yield NULL_OBSERVER
        return
    metrics = spans = None
    async with AsyncExitStack() as open_until_the_end:
        # Imported only where they are used: Prometheus' library takes 50 ms to import, OpenTelemetry's SDK 100 ms.
        if with_metrics:
            from connector_mcp.telemetry.metrics import Metrics

            metrics = Metrics(__version__)
        if settings.otel:
            from connector_mcp.telemetry.spans import Spans, exporting

            provider = await open_until_the_end.enter_async_context(exporting(environ, __version__))
            spans = Spans(provider, __version__)
        yield Observer(metrics, spans)
