"""With 100,000 decided approvals and 500,000 audit records everything is as fast as with few."""

from __future__ import annotations

import itertools
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path

import anyio.to_thread
import pytest
from click.testing import CliRunner

from connector_mcp.audit.calls import CallLog
from connector_mcp.audit.chain import Head, seal_head
from connector_mcp.audit.reader import Wanted
from connector_mcp.cli.main import cli
from connector_mcp.composition.engine import open_engine
from connector_mcp.config.settings import Settings
from connector_mcp.errors import InvalidArguments
from connector_mcp.state.keys import secret_key
from tests.end_to_end.faces import s3_connectors
from tests.end_to_end.leaving import Watching, operator, operators_file
from tests.end_to_end.test_replicas import CREATE, READ
from tests.engine.conftest import FakeCaller
from tests.postgres_server import PostgresFixture

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

APPROVALS, RECORDS, BEFORE = 100_000, 500_000, 1_000
TRIES = 9
NOISE = 0.6
"""Seconds by which a busy machine may disturb all tries. What reads all records takes longer than that."""
NUMBERS = "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {})"
FILL = (
    f"""
    INSERT INTO approvals (id, digest, status, is_open, principal, tool, call, created_at, expires_at, decided_at,
        decided_by, channel)
    {NUMBERS.format(APPROVALS)}
    SELECT 'ap-old-' || n, 'digest ' || n, 'used', 0, principal, tool, call, created_at - n, expires_at, created_at - n,
        'operator ops', 'approvals'
    FROM numbers CROSS JOIN (SELECT * FROM approvals LIMIT 1) AS template
    """,
    f"""
    INSERT INTO audit (seq, at, call_id, phase, principal, tool, outcome, line)
    {NUMBERS.format(RECORDS)}
    SELECT n + {BEFORE}, at, 'call ' || n, phase, principal, tool, outcome, line
    FROM numbers CROSS JOIN (SELECT * FROM audit ORDER BY seq LIMIT 1) AS template
    """,
)
"""Multiplies what there is. The audit log is only large afterwards, not intact."""

Measured = Callable[[], Awaitable[object]]


async def fastest(measured: dict[str, Measured]) -> dict[str, float]:
    """The shortest of several times of each, in seconds: the others were disturbed."""
    taken: dict[str, list[float]] = {name: [] for name in sorted(measured)}
    for _ in range(TRIES):
        for name in taken:
            begin = time.perf_counter()
            await measured[name]()
            taken[name].append(time.perf_counter() - begin)
    return {name: min(times) for name, times in taken.items()}


@asynccontextmanager
async def serving(environ: dict[str, str], numbers: Iterator[int]) -> AsyncIterator[dict[str, Measured]]:
    """What a server and its operators do, by its name."""
    settings, watching = Settings.load(environ), Watching()
    async with (
        open_engine(settings, environ, "http", observer=watching.observer) as engine,
        operator(engine, watching, environ) as browser,
    ):

        async def park() -> str:
            result = await engine.call(CREATE, s3_connectors(f"connector {next(numbers)}"), FakeCaller())
            return result.content["error"]["approval"]["id"]

        async def decide() -> None:
            await engine.approvals.decide(parked.pop(), False, "operator ops")

        async def unknown() -> None:
            with pytest.raises(InvalidArguments):
                await engine.approvals.get("ap-unknown")

        async def page(path: str) -> None:
            answer = await browser.get(path)
            assert answer.status_code == 200
            assert len(answer.content) < 500_000

        async def command(*arguments: str) -> None:
            invoke = partial(CliRunner().invoke, cli, arguments, env=environ)
            result = await anyio.to_thread.run_sync(invoke)
            assert result.exit_code == 0, result.output

        parked = [await park() for _ in range(TRIES)]
        log = CallLog(engine.database)
        (last,) = (await log.page(Wanted(once=True), count=1)).calls
        measured: dict[str, Measured] = {
            "read": partial(engine.call, READ, {}, FakeCaller()),
            "decide": decide,
            "unknown id": unknown,
            "waiting": engine.approvals.waiting,
            "history": engine.approvals.history,
            "everything": engine.approvals.everything,
            "counts": engine.approvals.counts,
            "recent calls": partial(log.page, Wanted(once=True), count=50),
            "one call": partial(log.records, last.call_id),
        }
        for path in ("/console", "/console/history", "/console/calls", "/console/calls?outcome=refused", "/metrics"):
            measured[path] = partial(page, path)
        for words in (("approvals", "list"), ("audit", "show")):
            measured[" ".join(words)] = partial(command, *words)
        yield measured


async def begin(environ: dict[str, str]) -> bytes:
    """Leave more than a page of everything, and return the key of the audit log."""
    async with open_engine(Settings.load(environ), environ, "http") as engine:
        await engine.call(CREATE, s3_connectors("the first connector"), FakeCaller())
        for _ in range(600):
            await engine.call(READ, {}, FakeCaller())
        return await secret_key(engine.database, "audit")


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
async def test_nothing_is_slower_with_many_records(
    database: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    postgres: PostgresFixture | None = request.getfixturevalue("postgres") if database == "postgres" else None

    def environment(name: str) -> dict[str, str]:
        folder = tmp_path / name
        folder.mkdir()
        shared = {}
        if postgres is not None:
            postgres.execute(f"CREATE DATABASE {postgres.name}_{name}")
            shared = {"CONNECTOR_MCP_STATE": postgres.server.url(f"{postgres.name}_{name}")}
        return shared | {
            "CONNECTOR_MCP_STATE_DIR": str(folder),
            "CONNECTOR_MCP_SANDBOX": "true",
            "CONNECTOR_MCP_POLICY": "create=approve",
            "CONNECTOR_MCP_OPERATORS_FILE": str(operators_file(folder)),
        }

    def fill(name: str, head: str) -> None:
        statements = (*FILL, f"UPDATE audit_chain SET head = '{head}'")
        if postgres is not None:
            filled = PostgresFixture(postgres.server, f"{postgres.name}_{name}")
            (found,) = filled.execute("SELECT nspname AS schema FROM pg_namespace WHERE nspname ~ 'connector'")
            with filled.server.connect(filled.name) as session:
                for statement in (f"SET search_path = {found['schema']}", *statements):
                    session.execute(statement.encode())
            filled.execute("ANALYZE")
            return
        (path,) = (tmp_path / name).glob("*records.db")
        with closing(sqlite3.connect(path)) as connection, connection:
            for statement in statements:
                connection.execute(statement)

    few, many, numbers = environment("few"), environment("many"), itertools.count()
    await begin(few)
    key = await begin(many)
    await anyio.to_thread.run_sync(fill, "many", seal_head(Head(RECORDS + BEFORE, "0" * 64), key))
    # In turns, so that whatever else the machine does disturbs both alike.
    async with serving(few, numbers) as with_few, serving(many, numbers) as with_many:
        taken = await fastest({**with_few, **{f"{name}, many": step for name, step in with_many.items()}})
    times = {name: (taken[name], taken[f"{name}, many"]) for name in with_few}
    assert {name: each for name, each in times.items() if each[1] > 2 * each[0] + NOISE} == {}
