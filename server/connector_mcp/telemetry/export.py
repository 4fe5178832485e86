"""Where spans go: an OTLP collector, as the standard `OTEL_*` variables name it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import anyio
import anyio.to_thread

from connector_mcp.errors import Misconfigured

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

SETTING: Final = "CONNECTOR_MCP_OTEL"

FLUSH_SECONDS: Final = 5.0
"""How long the last spans may take to leave when the server ends."""

_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_PROTOCOL: Final = "http/protobuf"


@asynccontextmanager
async def exporting(environ: Mapping[str, str], version: str) -> AsyncGenerator[TracerProvider]:
    """A provider whose spans are exported in batches, from a thread, for as long as the context is open.

    It is never made the process's global one. A collector that is away costs spans and nothing else.

    Raises:
        Misconfigured: No endpoint is set, another protocol is asked for, or the extra is not installed.
    """
    provider = _open(environ, version)
    try:
        yield provider
    finally:
        with anyio.CancelScope(shield=True), anyio.move_on_after(FLUSH_SECONDS):
            await anyio.to_thread.run_sync(provider.shutdown, abandon_on_cancel=True)


def _open(environ: Mapping[str, str], version: str) -> TracerProvider:
    if not any(environ.get(name) for name in _ENDPOINTS):
        raise Misconfigured(
            f"{SETTING} is on, but nothing says where spans are to go.",
            fix=f"Set {_ENDPOINTS[1]} to the collector, such as http://localhost:4318, or unset {SETTING}.",
        )
    for name in _PROTOCOLS:
        if environ.get(name, _PROTOCOL) != _PROTOCOL:
            raise Misconfigured(
                f"{name} asks for a protocol that spans are not exported with.",
                fix=f"Set {name}={_PROTOCOL}, or unset it, and name the collector's port for that (usually 4318).",
            )
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        raise Misconfigured(
            f"{SETTING} is on, but what exports spans is not installed.",
            fix=f"Install it with `pip install 'connector-mcp[otel]'`, or unset {SETTING}.",
        ) from None
    ours = Resource.create({"service.name": "connector-mcp", "service.version": version})
    # What the operator says in OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES comes before that.
    provider = TracerProvider(resource=ours.merge(OTELResourceDetector().detect()), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider
