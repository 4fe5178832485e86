"""`/readyz` and `/metrics`: what they show, to whom, and how often they check."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from connector_mcp.composition.engine import open_engine
from connector_mcp.config.settings import Settings
from connector_mcp.engine.engine import Engine
from connector_mcp.errors import StoreUnavailable
from connector_mcp.telemetry.events import Backlog
from connector_mcp.telemetry.metrics import Metrics
from connector_mcp.telemetry.observer import Observer
from connector_mcp.transport.auth.authorization import Callers
from connector_mcp.transport.auth.static_tokens import StaticToken
from connector_mcp.transport.http.health import (
    READY_SECONDS,
    CachedCheck,
    PartChecks,
    observability_pages,
    read_backlog,
)
from connector_mcp.transport.http.shutdown import Drain
from tests.transport.conftest import app_client

pytestmark = pytest.mark.anyio

TOKEN = "t0ken-of-prometheus"
READY: dict[str, Any] = {"status": "ready", "parts": {"accounts": "ok", "audit": "ok", "store": "ok"}}


def engine_at(state: Path, **options: Any) -> AbstractAsyncContextManager[Engine]:
    return open_engine(Settings.load({}, sandbox=True, state_dir=state), {}, "http", **options)


@asynccontextmanager
async def pages(
    state: Path, *, drain: Drain | None = None, open_paths: tuple[str, ...] = ("/readyz",)
) -> AsyncIterator[tuple[httpx.AsyncClient, Engine]]:
    """A client of the pages of a server that asks for a token."""
    metrics = Metrics("0.test")
    drain = drain or Drain()
    async with (
        engine_at(state, observer=Observer(metrics)) as engine,
        app_client(
            engine,
            callers=Callers([StaticToken.from_secret(TOKEN)]),
            pages=observability_pages(engine, drain, metrics),
            open_paths=open_paths,
            drain=drain,
        ) as client,
    ):
        yield client, engine


async def test_a_server_that_can_decide_and_record_is_ready_without_a_token(tmp_path: Path) -> None:
    async with pages(tmp_path) as (client, engine):
        answer = await client.get("/readyz")
        left = await engine.database.read(lambda tx: tx.execute("SELECT * FROM questions").all())
    assert (answer.status_code, answer.json()) == (200, READY)
    assert answer.headers["cache-control"] == "no-store"
    assert left == []


async def test_an_unavailable_database_is_named_without_details(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "sandbox-records.db").mkdir()
    async with pages(tmp_path) as (client, _):
        answer = await client.get("/readyz")
        alive = await client.get("/healthz")
    assert answer.status_code == 503
    failed = {"audit": "failed", "store": "failed"}
    assert answer.json() == {"status": "not_ready", "parts": {**READY["parts"], **failed}}
    assert alive.status_code == 200
    assert str(tmp_path) in caplog.text
    assert str(tmp_path) not in answer.text


async def test_a_server_that_is_shutting_down_is_not_ready(tmp_path: Path) -> None:
    drain = Drain()
    async with pages(tmp_path, drain=drain) as (client, _):
        before = (await client.get("/readyz")).status_code
        drain.has_begun = True
        answer = await client.get("/readyz")
    assert before == 200
    assert (answer.status_code, answer.json()) == (503, {"status": "draining"})


async def test_ending_begins_when_calls_are_still_waited_for() -> None:
    drain = Drain()
    await drain.end(0.0)
    assert drain.has_begun


async def test_the_database_is_probed_once_a_second_and_a_failure_logged_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now, asked, away = [100.0], [0], [True]
    async with engine_at(tmp_path) as engine:
        write = engine.database.write

        async def refuse(*arguments: Any, **more: Any) -> Any:
            asked[0] += 1
            if away[0]:
                raise StoreUnavailable("The database is away.", fix="Bring it back.")
            return await write(*arguments, **more)

        monkeypatch.setattr(engine.database, "write", refuse)
        readiness = CachedCheck(PartChecks(engine).check, READY_SECONDS, clock=lambda: now[0])
        first = dict(await readiness.result())
        now[0] += READY_SECONDS / 2
        await readiness.result()
        cached = asked[0]
        now[0] += READY_SECONDS
        await readiness.result()
        away[0] = False
        now[0] += READY_SECONDS
        last = dict(await readiness.result())
    assert first["store"] is False
    assert (cached, asked[0]) == (2, 6)
    assert last["store"] is True
    assert caplog.text.count("not ready: The database is away.") == 2
    assert caplog.text.count("ready again") == 1


async def test_what_waits_is_counted_rarely_and_unknown_if_the_database_fails(tmp_path: Path) -> None:
    now = [100.0]
    async with engine_at(tmp_path / "state") as engine:
        waiting = CachedCheck(partial(read_backlog, engine), 5.0, clock=lambda: now[0])
        none = await waiting.result()
        await engine.database.write(lambda tx: tx.execute("DROP TABLE approvals"))
        cached = await waiting.result()
        now[0] += 60
        unknown = await waiting.result()
    assert none == cached == Backlog({}, 0.0, {})
    assert unknown is None


@pytest.mark.parametrize("accept", ["", "text/plain;version=0.0.4", "*/*", "a" * 4000, "application/openmetrics-text"])
async def test_metrics_need_a_token_and_are_in_prometheus_form(tmp_path: Path, accept: str) -> None:
    async with pages(tmp_path) as (client, _):
        without = await client.get("/metrics")
        wrong = await client.get("/metrics", headers={"Authorization": "Bearer wrong"})
        answer = await client.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}", "Accept": accept})
    assert (without.status_code, wrong.status_code, answer.status_code) == (401, 401, 200)
    expected = "application/openmetrics-text" if "openmetrics" in accept else "text/plain"
    assert answer.headers["content-type"].startswith(expected)
    if expected == "text/plain":
        families = {family.name: family for family in text_string_to_metric_families(answer.text)}
        assert [sample.value for sample in families["connector_mcp_approvals"].samples] == [0, 0, 0]
        assert "process_resident_memory_bytes" in families


async def test_open_metrics_require_no_token_but_a_known_host(tmp_path: Path) -> None:
    async with pages(tmp_path, open_paths=("/readyz", "/metrics")) as (client, _):
        answers = [await client.get(path) for path in ("/metrics", "/readyz")]
        strangers = [await client.get(path, headers={"Host": "evil.example"}) for path in ("/metrics", "/readyz")]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert [answer.status_code for answer in strangers] == [421, 421]


async def test_a_server_without_metrics_has_no_such_page(tmp_path: Path) -> None:
    async with engine_at(tmp_path) as engine:
        routes = observability_pages(engine, Drain(), None)
    assert [getattr(route, "path", None) for route in routes] == ["/readyz"]
