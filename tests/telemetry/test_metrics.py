"""What `/metrics` counts, and that callers cannot make the number of series grow."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from connector_mcp.audit.trail import AuditTrail
from connector_mcp.cli.terminal import CliCaller
from connector_mcp.engine.engine import UnknownTool
from connector_mcp.errors import ConnectorError, StoreUnavailable
from connector_mcp.operations.logto.platform import LOGTO
from connector_mcp.operations.platform import Request
from connector_mcp.operations.vectorize.platform import VECTORIZE
from connector_mcp.sandbox import seed
from connector_mcp.telemetry.metrics import Metrics, status_class
from connector_mcp.telemetry.observer import Observer
from connector_mcp.upstream.client import UpstreamClient

pytestmark = pytest.mark.anyio

READ = "logto_get_connector"
LIST = "logto_list_connectors"
DELETE = "logto_delete_connector"


async def test_known_calls_are_counted_exactly(watch: Any, mode: str) -> None:
    async with watch() as seen, seen.client(mode) as client:
        for _ in range(3):
            assert not (await client.call_tool(LIST, {})).is_error
        await client.call_tool(READ, {"id": "no-such"})
        await client.call_tool(READ, {})
        parked = await client.call_tool(DELETE, {"id": seed.LOGTO_GITHUB})
        approval = parked.structured_content["error"]["approval"]["id"]
        await seen.engine.approvals.decide(approval, True, "operator")
        assert not (await client.call_tool(DELETE, {"id": seed.LOGTO_GITHUB})).is_error
        samples = seen.samples()
    assert samples["calls_total"] == {
        ("read", "ok", LIST): 3,
        ("read", "not_found", READ): 1,
        ("read", "invalid_arguments", READ): 1,
        ("destroy", "approval_required", DELETE): 1,
        ("destroy", "ok", DELETE): 1,
    }
    # Policy decides before arguments are parsed: the call with wrong ones passed it, too.
    assert samples["gate_decisions_total"] == {("policy", "allow"): 5, ("approvals", "approve"): 2}
    assert samples["approval_changes_total"] == {("pending",): 1, ("approved",): 1, ("used",): 1}
    assert samples["call_duration_seconds_count"] == {(LIST,): 3, (READ,): 2, (DELETE,): 2}
    # Three lists, and one more for the id that no connector has; for the deletion: a look at each call, and one at what
    # is left.
    assert samples["upstream_requests_total"] == {
        ("read", "logto", "2xx"): 6,
        ("read", "logto", "4xx"): 2,
        ("write", "logto", "2xx"): 1,
        ("token", "logto", "2xx"): 1,
    }
    assert samples["upstream_tokens_total"] == {("ok", "logto"): 1}
    assert samples["upstream_request_duration_seconds_count"] == {
        ("read", "logto"): 8,
        ("write", "logto"): 1,
        ("token", "logto"): 1,
    }
    assert samples["calls_in_flight"] == {(): 0}
    assert samples["upstream_requests_in_flight"] == {("logto",): 0}
    assert samples["build_info"] == {("0.test",): 1}


async def test_calls_in_flight_are_counted_until_they_are_cancelled() -> None:
    begun = anyio.Event()

    async def hang(_: httpx.Request) -> httpx.Response:
        begun.set()
        await anyio.sleep_forever()
        raise AssertionError

    metrics = Metrics("0")
    observer = Observer(metrics)
    async with (
        UpstreamClient(
            VECTORIZE, {"VECTORIZE_API_KEY": "k"}, transport=httpx.MockTransport(hang), observer=observer
        ) as client,
        anyio.create_task_group() as tasks,
    ):

        async def call() -> None:
            with observer.call("id"):
                await client.send(Request("GET", "/x", changes=False))

        tasks.start_soon(call)
        await begun.wait()
        during = gauges(metrics)
        tasks.cancel_scope.cancel()
    assert during == (1, 1)
    assert gauges(metrics) == (0, 0)
    labels = {"platform": "vectorize", "kind": "read", "status": "cancelled"}
    assert metrics.registry.get_sample_value("connector_mcp_upstream_requests_total", labels) == 1


def gauges(metrics: Metrics) -> tuple[float | None, float | None]:
    """Calls and requests in flight."""
    value = metrics.registry.get_sample_value
    return (
        value("connector_mcp_calls_in_flight"),
        value("connector_mcp_upstream_requests_in_flight", {"platform": "vectorize"}),
    )


async def at_once(_: float) -> None:
    await anyio.lowlevel.checkpoint()


async def test_a_request_that_is_sent_again_is_a_retry_and_each_attempt_has_its_status() -> None:
    answers: list[Any] = [httpx.Response(503), httpx.ReadTimeout("slow"), httpx.ConnectError("no"), httpx.Response(200)]

    def answer(_: httpx.Request) -> httpx.Response:
        step = answers.pop(0)
        if isinstance(step, Exception):
            raise step
        return step

    metrics = Metrics("0")
    async with UpstreamClient(
        VECTORIZE,
        {"VECTORIZE_API_KEY": "k"},
        transport=httpx.MockTransport(answer),
        sleep=at_once,
        observer=Observer(metrics),
    ) as client:
        await client.send(Request("GET", "/x", repeatable=True, changes=False))
    value = metrics.registry.get_sample_value
    statuses = {
        status: value(
            "connector_mcp_upstream_requests_total", {"platform": "vectorize", "kind": "read", "status": status}
        )
        for status in ("2xx", "5xx", "timeout", "failed")
    }
    assert statuses == {"2xx": 1, "5xx": 1, "timeout": 1, "failed": 1}
    assert value("connector_mcp_upstream_retries_total", {"platform": "vectorize"}) == 3


async def test_a_refused_token_request_counts_as_failed() -> None:
    metrics = Metrics("0")
    values = {"LOGTO_ENDPOINT": "https://a.logto.app", "LOGTO_APP_ID": "a", "LOGTO_APP_SECRET": "s"}
    transport = httpx.MockTransport(lambda _: httpx.Response(401, json={"error": "invalid_client"}))
    async with UpstreamClient(LOGTO, values, transport=transport, observer=Observer(metrics)) as client:
        with pytest.raises(ConnectorError):
            await client.send(Request("GET", "/api/connectors", changes=False))
    labels = {"platform": "logto", "outcome": "failed"}
    assert metrics.registry.get_sample_value("connector_mcp_upstream_tokens_total", labels) == 1


async def test_a_thousand_tools_that_do_not_exist_make_no_series(watch: Any) -> None:
    async with watch() as seen:
        await seen.engine.call(LIST, {}, CliCaller(can_ask=False))
        before = {(name, *labels) for name, series in seen.samples().items() for labels in series}
        for number in range(1000):
            with pytest.raises(UnknownTool):
                await seen.engine.call(f'logto_"}}\n{number}', {"id": str(number)}, CliCaller(can_ask=False))
        samples = seen.samples()
    assert {(name, *labels) for name, series in samples.items() for labels in series} == before
    assert samples["unknown_tool_calls_total"] == {(): 1000}


async def test_a_failing_store_is_counted_by_operation(watch: Any, tmp_path: Path) -> None:
    (tmp_path / "sandbox-records.db").mkdir()
    async with watch() as seen:
        with pytest.raises(StoreUnavailable):
            await seen.engine.approvals.find("any")
        samples = seen.samples()
    assert samples["store_errors_total"] == {("read",): 1}


async def test_an_end_that_cannot_be_recorded_is_counted(watch: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: Any) -> None:
        raise StoreUnavailable("The audit log is away.", fix="Bring it back.")

    async with watch() as seen, seen.client("auto") as client:
        monkeypatch.setattr(AuditTrail, "write", refuse)
        result = await client.call_tool(LIST, {})
        samples = seen.samples()
    assert not result.is_error
    assert samples["store_errors_total"] == {("audit",): 1}


def test_approvals_that_cannot_be_counted_are_not_a_number() -> None:
    metrics = Metrics("0")
    metrics.set_waiting({"pending": 2})
    assert metrics.registry.get_sample_value("connector_mcp_approvals", {"state": "pending"}) == 2
    metrics.set_waiting(None)
    lost = metrics.registry.get_sample_value("connector_mcp_approvals", {"state": "pending"})
    assert lost is not None
    assert math.isnan(lost)


def test_the_classes_of_statuses_are_a_closed_set() -> None:
    told = [*range(-1, 100_000), "ReadTimeout", "PoolTimeout", "ConnectError", "AnythingElse", "cancelled"]
    classes = {"1xx", "2xx", "3xx", "4xx", "5xx", "other", "timeout", "failed", "cancelled"}
    assert {status_class(status) for status in told} == classes
