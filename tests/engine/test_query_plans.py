"""No statement reads a whole table, so that none gets slower with the records that are kept."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import pytest

from connector_mcp.console.access import OperatorSessions
from connector_mcp.engine.approval.approval_webhook import ApprovalWebhook, WebhookKey
from connector_mcp.engine.approval.parked_call import ParkedCall
from connector_mcp.engine.approval.queue import QueueFilter
from connector_mcp.engine.caller import AnswerDue, Resumed
from connector_mcp.engine.secret_refs.secret_requests import SecretRequest, SecretRequests
from connector_mcp.errors import InvalidArguments
from connector_mcp.sandbox import seed
from connector_mcp.secrets.encrypted import EncryptedFile, KeyFile
from connector_mcp.state.database import Database, Rows, Step, Transaction, Value
from connector_mcp.state.postgres import PostgresDatabase
from connector_mcp.state.sqlite import SqliteDatabase
from tests.engine.conftest import AsksByReturning, BenchMaker, Clock, FakeCaller, yes
from tests.postgres_proxy import postgres_proxy
from tests.postgres_server import PostgresFixture

pytestmark = pytest.mark.anyio

_T = TypeVar("_T")


class Recording(Transaction):
    """A transaction that notes its statements."""

    def __init__(self, transaction: Transaction, seen: dict[str, Mapping[str, Value]]) -> None:
        vars(self).update(vars(transaction))
        self._seen = seen

    def execute(self, sql: str, values: Mapping[str, Value] = {}) -> Rows:
        self._seen[sql] = dict(values)
        return super().execute(sql, values)


class RecordingDatabase(SqliteDatabase):
    """Notes every statement."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.seen: dict[str, Mapping[str, Value]] = {}

    def run(self, step: Step[_T]) -> _T:
        work = step.work
        step.work = lambda transaction: work(Recording(transaction, self.seen))
        return super().run(step)

    def plans(self) -> dict[str, list[str]]:
        """How each statement finds its rows."""
        seen, self.seen = self.seen, {}

        def explain(transaction: Transaction) -> dict[str, list[str]]:
            return {
                sql: [row["detail"] for row in transaction.execute(f"EXPLAIN QUERY PLAN {sql}", values).all()]
                for sql, values in seen.items()
                if not sql.lstrip().startswith("PRAGMA")
            }

        return self.read_now(explain)


async def walk_through(bench: BenchMaker, database: Database, clock: Clock, folder: Path) -> None:
    """Everything that is done with records, except by commands of the audit log."""
    made = bench(policy="update=ask,destroy=approve", database=database)
    engine, approvals = made.engine, made.engine.approvals
    for number, decision in enumerate((True, False)):
        call = "logto_delete_connector", {"id": [seed.LOGTO_GOOGLE, seed.LOGTO_SMTP][number]}
        parked = (await engine.call(*call, FakeCaller())).content["error"]["approval"]["id"]
        clock.now += 1
        await approvals.decide(parked, decision, "ops")
        await engine.call(*call, FakeCaller())
    update = "logto_update_connector", {"id": seed.LOGTO_OIDC, "sync_profile": True}
    for reply in ("accept", "decline"):
        with pytest.raises(AnswerDue) as due:
            await engine.call(*update, AsksByReturning())
        answer = Resumed(due.value.ticket, yes(reply == "accept"))
        await engine.call(*update, AsksByReturning(resumed=answer))
    other = ParkedCall(
        digest="d", tool="t", platform="logto", profile="default", principal="local", effect="", arguments={}
    )
    waiting = await approvals.park(other)
    await approvals.void(waiting.id, "why")
    with pytest.raises(InvalidArguments):
        await approvals.get("ap-aaaaaa")
    for _ in range(60):
        await approvals.park(other.model_copy(update={"digest": f"d{clock.now}"}))
        clock.now += 1
    first = await approvals.waiting()
    await approvals.waiting(before=(await approvals.waiting(after=first.newer or "")).older or "")
    history = await approvals.history()
    await approvals.history(before=f"{clock.now}~ap-x", after="")
    await approvals.history(after=f"{history.approvals[-1].decided_at}~ap-x")
    await approvals.everything(before=(await approvals.everything()).older or "")
    await approvals.waiting(only=QueueFilter("text", "logto", "destroy", "local"))
    await approvals.counts()
    await approvals.pending()
    await approvals.version()
    await engine.backlog()
    sessions = OperatorSessions(database, lambda _: True)
    visitor = await sessions.begin("alice", "token")
    clock.now += 100
    await sessions.find(visitor.key)
    await sessions.end(visitor.key)
    requests = SecretRequests(database, EncryptedFile(folder / "secrets.enc", KeyFile(folder / "secrets.key")))
    facts = {"name": "N", "principal": "local", "tool": "t", "platform": "logto", "profile": "p", "digest": "d"}
    request = await requests.open(SecretRequest(**facts, fields=("f",)))
    assert request is not None
    await requests.submit(request.id, code="wrong", value="v", principal="local")
    await requests.withdraw(request.id)
    key = WebhookKey(b"k" * 32)
    webhook = ApprovalWebhook("http://127.0.0.1:1/x", key, database, timeout=0.1, sleep=_no_pause)
    async with webhook.running():
        webhook.announce(first.approvals[0])


async def test_every_statement_runs_on_postgresql(
    bench: BenchMaker, clock: Clock, tmp_path: Path, postgres: PostgresFixture
) -> None:
    await walk_through(bench, PostgresDatabase(postgres.url), clock, tmp_path)


async def test_an_approved_write_takes_four_round_trips_and_a_read_the_two_of_its_record(
    bench: BenchMaker, postgres: PostgresFixture
) -> None:
    async with postgres_proxy(postgres.server.folder, postgres.server.port) as proxy:
        made = bench(policy="destroy=approve", database=PostgresDatabase(proxy.url(postgres.name)))
        call = "logto_delete_connector", {"id": seed.LOGTO_GOOGLE}
        parked = (await made.engine.call(*call, FakeCaller())).content["error"]["approval"]["id"]
        await made.engine.approvals.decide(parked, True, "ops")
        proxy.reset()
        assert not (await made.engine.call(*call, FakeCaller())).is_error
        assert len(proxy.requests) <= 4, [request.sql for request in proxy.requests]
        proxy.reset()
        for _ in range(10):
            assert not (await made.engine.call("logto_list_connectors", {}, FakeCaller())).is_error
        assert len(proxy.requests) == 2 * 10
        await made.engine.database.aclose()


async def _no_pause(_: float) -> None: ...


async def test_every_statement_finds_its_rows_through_an_index(bench: BenchMaker, clock: Clock, tmp_path: Path) -> None:
    database = RecordingDatabase(tmp_path / "recorded.db", wall_clock=clock)
    await walk_through(bench, database, clock, tmp_path)
    plans = database.plans()
    assert len(plans) > 30
    whole = {sql: plan for sql, plan in plans.items() if any(_reads_a_whole_table(sql, line) for line in plan)}
    assert whole == {}


def _reads_a_whole_table(sql: str, line: str) -> bool:
    if not line.startswith("SCAN") or "CONSTANT ROW" in line:
        return False
    # A list is read in the order of an index up to its limit, and all open approvals are counted.
    is_page = "LIMIT" in sql and "INDEX" in line
    # What a subquery has limited is no table, and of the cursors of exports, all are shown.
    return not is_page and "approvals_open" not in line and line not in ("SCAN counted", "SCAN cursors")
