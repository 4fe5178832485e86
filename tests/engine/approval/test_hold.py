"""Calls that are held while an operator decides, in virtual time."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from anyio import CancelScope
from mcp import Client
from mcp_types import CallToolResult

from connector_mcp.engine.approval.gate import Gate
from connector_mcp.engine.approval.hold import LONGEST_PAUSE, PROGRESS_SECONDS, ApprovalHold
from connector_mcp.engine.approval.parked_call import Approval, ParkedCall
from connector_mcp.engine.approval.queue import Approvals
from connector_mcp.engine.approval.wording import Candidate
from connector_mcp.engine.policy import Policy
from connector_mcp.engine.preview import Preview
from connector_mcp.errors import ConnectorError, StoreUnavailable
from connector_mcp.operations.operation import Effect
from connector_mcp.state.sqlite import SqliteDatabase
from connector_mcp.transport.mcp.server import build_server
from connector_mcp.upstream.client import ClientLimits
from tests.engine.conftest import BenchMaker, Clock, FakeCaller, Passed, VirtualTime, cross

pytestmark = pytest.mark.anyio

HOLD = 40.0
TOOL = "logto_delete_connector"
ARGUMENTS = {"id": "github-signin"}
CANDIDATE = Candidate.of(
    Preview(Effect.DESTROY, "Deletes “Docs”.", (), (), "Docs", {"name": "Docs"}),
    tool=TOOL, platform="logto", profile="default", principal="local", declared=Effect.DESTROY,
    fingerprint="f1", digest="d1", arguments={"id": "x"},
)  # fmt: skip


class House:
    """A gate that holds calls, what it announced, and what became of the calls."""

    def __init__(self, database: SqliteDatabase, clock: Clock, time: VirtualTime, hold: float = HOLD) -> None:
        self.time = time
        self.clock = clock
        self.approvals = Approvals(database, ttl=10_000)
        self.wait = ApprovalHold(hold, clock=time.clock, records=time)
        self.announced: list[Approval] = []
        rules = Policy.parse("destroy=approve", read_only=False, transport="stdio")
        options: dict[str, Any] = {"hold": self.wait, "announce": self.announced.append}
        self.gate = Gate(rules, self.approvals, database, operator_channel=True, **options)
        self.database = database
        self.ends: list[Passed | ConnectorError] = []

    async def call(self, caller: FakeCaller | None = None, candidate: Candidate = CANDIDATE) -> None:
        try:
            self.ends.append(await cross(self.database, self.gate, candidate, caller or FakeCaller()))
        except ConnectorError as error:
            self.ends.append(error)

    @asynccontextmanager
    async def holding(self, *call: Any, count: int = 1) -> AsyncIterator[CancelScope]:
        """Hold calls while the body runs, and see to their end."""
        async with anyio.create_task_group() as tasks:
            for _ in range(count):
                tasks.start_soon(self.call, *call)
            await self.time.asleep(count)
            yield tasks.cancel_scope

    @property
    def codes(self) -> list[str]:
        return sorted(end.code if isinstance(end, ConnectorError) else "passes" for end in self.ends)

    async def decide(self, approve: bool, reason: str | None = None, *, passing: float = LONGEST_PAUSE) -> Approval:
        """Decide the waiting call, and let the time pass until it hears of that."""
        (waiting,) = (await self.approvals.waiting()).approvals
        decided = await self.approvals.decide(waiting.id, approve, "ops", reason)
        self.time.pass_by(passing)
        return decided


@pytest.fixture
def house(database: SqliteDatabase, clock: Clock, virtual_time: VirtualTime) -> House:
    return House(database, clock, virtual_time)


async def test_by_default_no_call_is_held(database: SqliteDatabase, clock: Clock, virtual_time: VirtualTime) -> None:
    house = House(database, clock, virtual_time, hold=0)
    caller = FakeCaller()
    await house.call(caller)
    assert (house.codes, virtual_time.pauses, caller.told) == (["approval_required"], [], [])


async def test_a_call_that_is_approved_meanwhile_passes_and_its_target_is_to_be_looked_at_again(house: House) -> None:
    async with house.holding():
        await house.decide(True)
    assert house.ends == [Passed("ops", "approvals", took_time=True)]
    assert [approval.status for approval in (await house.approvals.history()).approvals] == ["used"]


async def test_every_held_call_is_told_of_the_denial_and_why(house: House) -> None:
    async with house.holding(count=5):
        await house.decide(False, "not on a Friday", passing=HOLD / 2)
    assert house.codes == ["refused"] * 5
    assert all("not on a Friday" in str(end) for end in house.ends)


async def test_an_undecided_call_is_answered_in_time_and_runs_when_made_again(house: House) -> None:
    caller = FakeCaller()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(house.call, caller)
        while house.time.now < HOLD:
            await house.time.asleep()
            house.time.pass_by(min(1, HOLD - house.time.now))
    assert house.codes == ["approval_required"]
    # It looks again after each change, and every few seconds, and the client hears of it.
    assert house.time.pauses == [LONGEST_PAUSE] * int(HOLD / LONGEST_PAUSE)
    assert HOLD / PROGRESS_SECONDS - 2 <= len(caller.told) <= HOLD / PROGRESS_SECONDS
    approved = await house.decide(True, passing=0)
    assert set(caller.told) == {
        f"Waiting for an operator to decide {approved.id}: Deletes “Docs”. "
        f"In a terminal: `connector-mcp approvals show {approved.id}`."
    }
    await house.call()
    assert house.codes == ["approval_required", "passes"]


async def test_of_fifty_held_calls_one_passes_and_the_others_are_told_so(house: House) -> None:
    async with house.holding(count=50):
        await house.decide(True, passing=HOLD / 2)
    assert house.codes == ["in_progress"] * 49 + ["passes"]
    assert await house.approvals.counts() == {}


async def test_a_target_that_is_another_than_was_approved_is_not_touched(house: House) -> None:
    async with house.holding() as scope:
        scope.cancel()
    async with house.holding(None, CANDIDATE.model_copy(update={"fingerprint": "f2"})):
        await house.decide(True)
    assert house.codes == ["target_changed"]
    assert [approval.status for approval in (await house.approvals.history()).approvals] == ["void"]


async def test_an_approval_that_expires_ends_the_wait(house: House) -> None:
    async with house.holding():
        house.clock.now += 20_000
        house.time.pass_by(LONGEST_PAUSE)
    assert house.codes == ["confirmation_invalid"]
    assert "expired" in str(house.ends[0])


async def test_a_cancelled_call_leaves_its_approval_waiting(house: House) -> None:
    async with house.holding() as scope:
        scope.cancel()
    assert house.ends == []
    assert await house.approvals.counts() == {"pending": 1}


async def test_a_call_does_not_use_the_approval_after_its_client_hung_up(house: House) -> None:
    caller = FakeCaller()
    async with house.holding(caller):
        caller.gone = True
        await house.decide(True)
    assert house.codes == ["approval_required"]
    assert await house.approvals.counts() == {"approved": 1}


async def test_the_end_of_the_server_answers_held_calls_at_once_and_later_ones_too(house: House) -> None:
    async with house.holding(count=3):
        house.wait.end()
    await house.call()
    assert (house.codes, house.time.now) == (["approval_required"] * 4, 0.0)


async def test_a_lost_database_ends_the_wait_without_approval(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    async def gone(_: object, digest: str) -> Approval | None:
        raise StoreUnavailable("gone", fix="")

    async with house.holding():
        await house.decide(True, passing=0)
        monkeypatch.setattr(Approvals, "find", gone)
        house.time.pass_by(LONGEST_PAUSE)
    assert house.codes == ["store_unavailable"]


async def test_a_call_is_announced_each_time_it_is_made_while_it_waits(house: House) -> None:
    house.wait.end()
    await house.call()
    await house.call()
    assert len({approval.id for approval in house.announced}) == 1
    assert [approval.status for approval in house.announced] == ["pending", "pending"]


async def test_a_client_that_does_not_read_does_not_stop_the_wait_from_ending(house: House) -> None:
    class Deaf(FakeCaller):
        async def progress(self, message: str) -> None:
            self.told.append(message)
            telling.set()
            await anyio.sleep_forever()

    telling = anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(house.call, Deaf())
        await telling.wait()
        house.wait.end()
    assert house.codes == ["approval_required"]


async def test_a_parked_call_of_another_approval_is_none_of_the_wait(database: SqliteDatabase, house: House) -> None:
    first = await house.approvals.park(parked())
    await house.approvals.void(first.id, "test")
    await house.approvals.park(parked())
    assert await house.wait.until_decided(first, house.approvals, FakeCaller())
    assert house.time.pauses == []


def parked() -> ParkedCall:
    values = {"tool": TOOL, "platform": "logto", "profile": "default", "principal": "local", "effect": "Deletes."}
    return ParkedCall(digest="d1", arguments={}, **values)


@pytest.fixture(params=["auto", "legacy"])
def mode(request: pytest.FixtureRequest) -> Any:
    return request.param


async def test_a_held_call_reports_progress_and_runs_once(
    bench: BenchMaker, virtual_time: VirtualTime, mode: Any
) -> None:
    made = bench(policy="destroy=approve", hold=ApprovalHold(HOLD, clock=virtual_time.clock, records=virtual_time))
    approvals, told, results = made.engine.approvals, list[str | None](), list[CallToolResult]()

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        told.append(message)

    async def call(client: Client) -> None:
        results.append(await client.call_tool(TOOL, ARGUMENTS, progress_callback=on_progress))

    async with Client(build_server(made.engine, request_state_key=b"k" * 32), mode=mode) as client:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call, client)
            await virtual_time.asleep()
            assert made.requests("DELETE") == []
            (waiting,) = (await approvals.waiting()).approvals
            await approvals.decide(waiting.id, True, "webhook ana", channel="webhook")
            virtual_time.pass_by(LONGEST_PAUSE)
        again = await client.call_tool(TOOL, {"id": "github-signin"})
    (result,) = results
    assert result.structured_content is not None
    assert result.structured_content["data"]["deleted"] is True
    assert again.is_error
    assert len(made.requests("DELETE")) == 1
    assert [str(message).split(":")[0] for message in told] == [f"Waiting for an operator to decide {waiting.id}"]
    ended = [json.loads(line) for line in made.audit_lines]
    assert [(record["decided_by"], record["channel"]) for record in ended if record["outcome"] == "ok"] == [
        ("webhook ana", "webhook")
    ]


async def test_a_target_that_changes_during_the_hold_is_left_alone(
    bench: BenchMaker, virtual_time: VirtualTime
) -> None:
    made = bench(policy="destroy=approve", hold=ApprovalHold(HOLD, clock=virtual_time.clock, records=virtual_time))
    results: list[dict[str, Any]] = []

    async def call() -> None:
        results.append((await made.engine.call(TOOL, ARGUMENTS, FakeCaller())).content)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call)
        await virtual_time.asleep()
        change = {**ARGUMENTS, "sync_profile": True}
        assert not (await made.engine.call("logto_update_connector", change, FakeCaller())).is_error
        (waiting,) = (await made.engine.approvals.waiting()).approvals
        await made.engine.approvals.decide(waiting.id, True, "ops")
        virtual_time.pass_by(LONGEST_PAUSE)
    assert results[0]["error"]["code"] == "target_changed"
    assert made.requests("DELETE") == []


async def test_a_held_call_takes_no_place_at_the_platform(bench: BenchMaker, virtual_time: VirtualTime) -> None:
    wait = ApprovalHold(HOLD, clock=virtual_time.clock, records=virtual_time)
    made = bench(policy="destroy=approve", hold=wait, limits=ClientLimits(in_flight=4))

    async def call() -> None:
        await made.engine.call(TOOL, ARGUMENTS, FakeCaller())

    async with anyio.create_task_group() as tasks:
        for _ in range(9):
            tasks.start_soon(call)
        await virtual_time.asleep(9)
        listed = await made.engine.call("logto_list_connectors", {}, FakeCaller())
        made.engine.end_waiting()
    assert not listed.is_error
