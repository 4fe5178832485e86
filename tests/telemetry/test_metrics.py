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
from connector_mcp.telemetry.events import Backlog, Ending
from connector_mcp.telemetry.metrics import Metrics
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
    operations = durations(seen.metrics, "mcp_server_operation_duration", "gen_ai_tool_name", "error_type")
    assert {labels: count for labels, count in operations.items() if labels[0]} == {
        (LIST, ""): 3, (READ, "tool_error"): 2, (DELETE, "tool_error"): 1, (DELETE, ""): 1,
    }  # fmt: skip
    # Three lists, and one more for the id that no connector has; for the deletion: a look at each call, and one at what
    # is left.
    assert durations(seen.metrics, *REQUESTS) == {
        ("read", "logto", "200", ""): 6,
        ("read", "logto", "404", "404"): 2,
        ("write", "logto", "204", ""): 1,
        ("token", "logto", "200", ""): 1,
    }
    assert samples["upstream_tokens_total"] == {("ok", "logto"): 1}
    assert samples["calls_in_flight"] == {(): 0}
    assert samples["http_client_active_requests"] == {("logto", "logto.sandbox.invalid", "443"): 0}
    assert samples["upstream_wait_seconds_count"] == {("logto",): 10}
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
    assert durations(metrics, *REQUESTS) == {("read", "vectorize", "", "cancelled"): 1}


def gauges(metrics: Metrics) -> tuple[float | None, float | None]:
    """Calls and requests in flight."""
    value = metrics.registry.get_sample_value
    where = {"server_address": "api.vectorize.io", "server_port": "443"}
    return (
        value("connector_mcp_calls_in_flight"),
        value("http_client_active_requests", {"connector_mcp_platform": "vectorize", **where}),
    )


REQUESTS = (
    "http_client_request_duration",
    "connector_mcp_request_kind",
    "connector_mcp_platform",
    "http_response_status_code",
    "error_type",
)


def durations(metrics: Metrics, name: str, *labels: str) -> dict[tuple[str, ...], float]:
    """Number of values of a histogram of seconds, by these labels."""
    counts: dict[tuple[str, ...], float] = {}
    for family in metrics.registry.collect():
        for sample in family.samples:
            if sample.name == f"{name}_seconds_count":
                key = tuple(sample.labels[label] for label in labels)
                counts[key] = counts.get(key, 0) + sample.value
    return counts


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
    assert durations(metrics, *REQUESTS) == {
        ("read", "vectorize", "200", ""): 1,
        ("read", "vectorize", "503", "503"): 1,
        ("read", "vectorize", "", "ReadTimeout"): 1,
        ("read", "vectorize", "", "ConnectError"): 1,
    }
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
    assert samples["store_errors_total"] == {("read",): 1, ("write",): 0, ("audit",): 0}


async def test_an_end_that_cannot_be_recorded_is_counted(watch: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: Any) -> None:
        raise StoreUnavailable("The audit log is away.", fix="Bring it back.")

    async with watch() as seen, seen.client("auto") as client:
        monkeypatch.setattr(AuditTrail, "write", refuse)
        result = await client.call_tool(LIST, {})
        samples = seen.samples()
    assert not result.is_error
    assert samples["store_errors_total"] == {("read",): 0, ("write",): 0, ("audit",): 1}


def test_what_waits_in_the_database_is_not_a_number_while_that_cannot_be_read() -> None:
    metrics = Metrics("0")
    value = metrics.registry.get_sample_value
    lag = ("connector_mcp_audit_unexported_records", {"cursor": "shipper"})
    metrics.set_backlog(Backlog({"pending": 2}, 7.5, {"shipper": 3}))
    assert value("connector_mcp_approvals", {"state": "pending"}) == 2
    assert value("connector_mcp_approval_oldest_seconds") == 7.5
    assert value(*lag) == 3
    metrics.set_backlog(None)
    lost = [value("connector_mcp_approvals", {"state": "pending"}), value("connector_mcp_approval_oldest_seconds")]
    assert all(each is not None and math.isnan(each) for each in lost)
    assert value(*lag) is None


async def test_what_waits_is_counted_with_the_age_of_the_oldest_and_the_records_to_export(watch: Any) -> None:
    async with watch(approvals=True) as seen, seen.client("auto") as client:
        assert await seen.engine.backlog() == Backlog({}, 0.0, {})
        await client.call_tool(DELETE, {"id": seed.LOGTO_GITHUB})
        await seen.engine.database.write(
            lambda tx: tx.execute("INSERT INTO export_cursors (name, seq) VALUES ('shipper', 0), ('other', 1)")
        )
        waiting = await seen.engine.backlog()
        # An export that has printed nothing of what came since is not used any more.
        await seen.engine.database.write(lambda tx: tx.execute("UPDATE audit SET at = at - 2592000"))
        later = await seen.engine.backlog()
    assert waiting.approvals == {"pending": 1}
    assert 0 < waiting.oldest_seconds < 60
    assert waiting.unexported == {"shipper": 1, "other": 0}
    assert later.unexported == {"other": 0}


def test_a_status_that_is_none_of_http_makes_no_series() -> None:
    told = [*range(-1, 100), *range(600, 100_000)]
    assert [Ending(status).attributes for status in told] == [{"error.type": "_OTHER"}] * len(told)
    assert Ending(204).attributes == {"http.response.status_code": 204}
    assert Ending(503).attributes == {"http.response.status_code": 503, "error.type": "503"}
