"""The export of spans, and settings that stop the start."""

from __future__ import annotations

import sys

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from connector_mcp.composition.engine import open_observer
from connector_mcp.config.settings import Settings
from connector_mcp.errors import Misconfigured
from connector_mcp.telemetry.observer import NULL_OBSERVER
from tests.end_to_end.faces import served

pytestmark = pytest.mark.anyio

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({}, "OTEL_EXPORTER_OTLP_ENDPOINT"),
        ({**ENDPOINT, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "OTEL_EXPORTER_OTLP_PROTOCOL"),
    ],
)
async def test_a_wrong_export_setting_stops_the_start(environ: dict[str, str], named: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        async with open_observer(Settings(otel=True), environ, "stdio"):
            pass
    assert named in caught.value.fix


async def test_without_the_extra_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(Misconfigured) as caught:
        async with open_observer(Settings(otel=True), ENDPOINT, "stdio"):
            pass
    assert "connector-mcp[otel]" in caught.value.fix


async def test_the_standard_variables_alone_export_nothing() -> None:
    async with open_observer(Settings(), ENDPOINT, "stdio") as observer:
        assert observer is NULL_OBSERVER
    async with open_observer(Settings(metrics="off"), ENDPOINT, "http") as observer:
        assert observer is NULL_OBSERVER


async def test_only_servers_over_http_have_metrics() -> None:
    async with open_observer(Settings(), {}, "http") as observer:
        assert observer.metrics is not None
        assert observer.spans is None


async def test_spans_reach_the_collector_before_the_server_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    bodies: list[bytes] = []

    async def take(request: Request) -> Response:
        bodies.append(await request.body())
        return Response(b"", media_type="application/x-protobuf")

    async with served(Starlette(routes=[Route("/v1/traces", take, methods=["POST"])])) as origin:
        environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": origin, "OTEL_SERVICE_NAME": "of-team-a"}
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        async with open_observer(Settings(otel=True), environ, "stdio") as observer:
            with observer.step("validate"):
                pass
    (body,) = bodies
    assert b"validate" in body
    assert b"of-team-a" in body
    assert b"connector_mcp" in body
