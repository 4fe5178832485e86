"""The spans of a call: their tree, their trace, and that they contain no text of callers or platforms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx
import pytest
from mcp.server.lowlevel.server import Server
from mcp.shared.exceptions import MCPError
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode, format_trace_id

from connector_mcp.sandbox import seed
from connector_mcp.upstream.client import UpstreamClient
from tests.records import audit_lines

pytestmark = pytest.mark.anyio

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = "00f067aa0ba902b7"
META = {"traceparent": f"00-{TRACE}-{CALLER}-01", "tracestate": "vendor=marked-secret-state"}
UPDATE = "logto_update_connector"
DELETE = "logto_delete_connector"
CONFIG = {"clientId": "c", "clientSecret": "marked-secret-value", "scope": "marked-argument"}


def tree(spans: tuple[ReadableSpan, ...], parent: int | None = None) -> dict[str, Any]:
    """Return the tree of span names below a parent; a repeated name is marked."""
    below: dict[str, Any] = {}
    for span in sorted(spans, key=lambda span: span.start_time or 0):
        if parent == (span.parent.span_id if span.parent else None):
            name = span.name
            while name in below:
                name += "+"
            below[name] = tree(spans, span.context.span_id)
    return below


def calls(spans: tuple[ReadableSpan, ...]) -> list[ReadableSpan]:
    return [span for span in spans if span.attributes and span.attributes["mcp.method.name"] == "tools/call"]


def servers(spans: tuple[ReadableSpan, ...]) -> tuple[ReadableSpan, ...]:
    return tuple(span for span in spans if span.kind is SpanKind.SERVER)


async def test_the_spans_of_a_write_are_its_steps_within_the_callers_trace(watch: Any, mode: str) -> None:
    async with watch(policy="destroy=allow") as seen, seen.client(mode) as client:
        seen.exporter.clear()
        result = await client.call_tool(UPDATE, {"id": seed.LOGTO_GITHUB, "config": CONFIG}, meta=META)
        assert not result.is_error, result
        spans = tuple(span for span in seen.finished if format_trace_id(span.context.trace_id) == TRACE)
        audited = "".join(audit_lines(seen.engine.settings.state_dir))
    assert {format_trace_id(span.context.trace_id) for span in spans} == {TRACE}
    assert tree(spans, int(CALLER, 16)) == {
        f"tools/call {UPDATE}": {
            "validate": {},
            "policy": {},
            "read_target": {"POST /oidc/token": {}, "GET /api/connectors/{id}": {}},
            "gate": {"ledger": {}},
            "send": {"PATCH /api/connectors/{id}": {}},
            "verify": {"GET /api/connectors/{id}": {}},
            "shape": {},
            "audit": {},
        }
    }
    (root,) = servers(spans)
    attributes = dict(root.attributes or {})
    assert attributes.pop("connector_mcp.call_id") in audited
    assert attributes == {
        "mcp.method.name": "tools/call",
        "mcp.protocol.version": attributes["mcp.protocol.version"],
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": UPDATE,
        "jsonrpc.request.id": attributes["jsonrpc.request.id"],
        "network.protocol.name": "http",
        "network.transport": "tcp",
        "connector_mcp.platform": "logto",
        "connector_mcp.effect": "update",
        "connector_mcp.decision": "allow",
        "connector_mcp.channel": "policy",
        "connector_mcp.outcome": "ok",
        "connector_mcp.sandbox": True,
    }
    assert root.status.status_code is StatusCode.UNSET


async def test_a_request_upstream_has_the_conventions_attributes_and_no_id(watch: Any) -> None:
    async with watch() as seen, seen.client("auto") as client:
        await client.call_tool("logto_get_connector", {"id": "marked/id?x"})
        (sent,) = [span for span in seen.finished if span.name == "GET /api/connectors/{id}"]
    assert sent.kind is SpanKind.CLIENT
    assert dict(sent.attributes or {}) == {
        "http.request.method": "GET",
        "url.template": "/api/connectors/{id}",
        "server.address": "logto.sandbox.invalid",
        "server.port": 443,
        "connector_mcp.platform": "logto",
        "connector_mcp.request.kind": "read",
        "http.response.status_code": 404,
        "error.type": "404",
    }
    assert sent.status.status_code is StatusCode.ERROR
    assert sent.status.description is None


async def test_a_call_without_a_parent_begins_a_trace_and_a_malformed_one_is_no_parent(watch: Any, mode: str) -> None:
    async with watch() as seen, seen.client(mode) as client:
        seen.exporter.clear()
        for parent in (None, "00-short-01", 7, ["00"], {"a": 1}):
            meta = None if parent is None else {"traceparent": parent}
            await client.call_tool("logto_list_connectors", {}, meta=meta)
        roots = calls(servers(seen.finished))
    assert [root.parent for root in roots] == [None] * 5
    assert len({root.context.trace_id for root in roots}) == 5


async def test_a_step_that_fails_names_its_code_and_so_does_the_call(watch: Any, mode: str) -> None:
    async with watch() as seen, seen.client(mode) as client:
        seen.exporter.clear()
        await client.call_tool(DELETE, {"id": seed.LOGTO_GITHUB})
        spans = {span.name: span for span in seen.finished}
    for name, error in (("gate", "approval_required"), (f"tools/call {DELETE}", "tool_error")):
        assert (spans[name].attributes or {})["error.type"] == error
        assert spans[name].status.status_code is StatusCode.ERROR
    assert (spans[f"tools/call {DELETE}"].attributes or {})["connector_mcp.outcome"] == "approval_required"
    assert spans["read_target"].status.status_code is StatusCode.UNSET


async def test_nothing_that_is_given_or_answered_is_in_a_span_or_a_metric(watch: Any, mode: str) -> None:
    async with watch(policy="destroy=allow") as seen, seen.client(mode) as client:
        for name, arguments in (
            (UPDATE, {"id": seed.LOGTO_GITHUB, "config": CONFIG}),
            (UPDATE, {"id": "marked-argument", "config": CONFIG}),
            (UPDATE, {"id": seed.LOGTO_GITHUB, "marked-argument": "marked-secret-value"}),
            ("logto_get_connector", {"id": {"marked-argument": 1}}),
            ("logto_get_connector", {"id": seed.LOGTO_SMTP}),
        ):
            await client.call_tool(name, arguments, meta=META)
        with pytest.raises(MCPError):
            await client.call_tool("marked-tool", {}, meta=META)
        left = "".join(span.to_json() for span in seen.finished) + seen.exposition
        secrets = [secret for account in seen.engine.accounts for secret in account.client.secrets()]
    assert "tools/call" in left
    assert "connector_mcp_calls_total" in left
    assert len(secrets) >= 4
    for secret in ("marked", "github-signin", seed.LOGTO_SMTP, *secrets):
        assert secret not in left


async def test_an_internal_error_leaves_no_exception_text_in_a_span(
    watch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("marked-secret-value")

    async with watch() as seen, seen.client("auto") as client:
        monkeypatch.setattr(UpstreamClient, "send", fail)
        await client.call_tool("logto_list_connectors", {})
        (root,) = calls(servers(seen.finished))
        left = "".join(span.to_json() for span in seen.finished)
    assert (root.attributes or {})["connector_mcp.outcome"] == "internal"
    assert all(not span.events for span in seen.finished)
    assert "marked-secret-value" not in left


def test_the_sdk_server_starts_only_with_the_tracing_that_is_replaced() -> None:
    assert [type(each).__name__ for each in Server("x").middleware] == ["OpenTelemetryMiddleware"]


async def test_the_trace_is_not_propagated_to_platforms(watch: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Mapping[str, str]] = []
    async with watch() as seen, seen.client("auto") as client:
        transport = next(
            account for account in seen.engine.accounts if account.platform.name == "logto"
        ).client._transport
        handle = transport.handle_async_request

        async def look(request: httpx.Request) -> httpx.Response:
            sent.append(request.headers)
            return await handle(request)

        monkeypatch.setattr(transport, "handle_async_request", look)
        await client.call_tool("logto_list_connectors", {}, meta=META)
    assert len(sent) == 2
    assert all(TRACE not in value for headers in sent for value in headers.values())
