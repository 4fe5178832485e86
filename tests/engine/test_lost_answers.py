"""Every step of a decided write fails in every way: nothing happens twice, is used up for nothing or is misreported."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, get_args

import pytest

from connector_mcp.engine.caller import AnswerDue, ElicitationReply, Resumed
from connector_mcp.errors import ConfirmationInvalid, ConnectorError, StoreUncertain
from connector_mcp.sandbox.faults import Fault
from tests.engine.conftest import AsksByReturning, Bench, BenchMaker, Clock, FakeCaller, yes
from tests.engine.faulty_database import FaultyDatabase, Killed, StepFault
from tests.records import rows

pytestmark = pytest.mark.anyio

CREATE = "vectorize_create_source_connector"
UNSENT = {"store_unavailable", "in_progress", "approval_required", "refused", "confirmation_invalid", "unreachable"}
TRIES = 6


class World:
    """One engine after another over one database with a fault, and what becomes of one call."""

    def __init__(self, made: Bench, database: FaultyDatabase, clock: Clock) -> None:
        self.made = made
        self.database = database
        self.clock = clock
        self.arguments: dict[str, Any] = {}
        self.warnings: list[str] = []
        self.approvals: list[str] = []
        self.asked = 0

    def begin(self, number: int) -> None:
        """Take another call for the next run."""
        self.arguments = {"connectors": [{"name": f"f{number}", "type": "FILE_UPLOAD"}]}
        self.warnings, self.approvals, self.asked, self.first = [], [], 0, self.sent

    @property
    def sent(self) -> int:
        return len(self.made.requests("POST"))

    @property
    def sent_in_run(self) -> int:
        return self.sent - self.first

    async def call(self, caller: FakeCaller | None = None) -> str:
        """Make the call once, and check that what is reported is what happened."""
        before = self.sent
        try:
            result = await self.made.engine.call(CREATE, self.arguments, caller or FakeCaller())
        except AnswerDue as due:
            self.asked += 1
            assert self.sent == before
            self.ticket = due.ticket
            return "asked"
        except Killed:
            self.database.restart()
            return "killed"
        code = result.content["error"]["code"] if result.is_error else "ok"
        assert (self.sent - before) == (code == "ok"), code
        assert code == "ok" or code in UNSENT
        if code == "approval_required":
            self.approvals.append(result.content["error"]["approval"]["id"])
        if code == "ok":
            self.warnings += result.content["meta"].get("warnings", [])
        if code == "in_progress":
            # A process died in the middle, or the end could not be saved.
            assert self.database.was_killed
            self.clock.now += 200
        return code

    async def until(self, *codes: str, caller: Callable[[], FakeCaller] = FakeCaller) -> str:
        """Make the call until it ends with one of these codes."""
        for _ in range(TRIES):
            code = await self.call(caller())
            if code in codes:
                return code
            assert code in ("store_unavailable", "in_progress", "killed", "unreachable"), code
        raise AssertionError("the call does not come to an end")

    async def decide(self, approve: bool) -> None:
        """Decide as an operator does who looks at what became of the decision."""
        approval_id, wanted = self.approvals[-1], "approved" if approve else "denied"
        for _ in range(TRIES):
            try:
                await self.made.engine.approvals.decide(approval_id, approve, "ops", decision_id="d")
                expected = {wanted}
            except StoreUncertain as error:
                named = f"approvals show {approval_id}" in error.fix
                assert named
                expected = {wanted, "pending"}
            except ConfirmationInvalid:
                raise AssertionError("a decision is refused because of itself") from None
            except ConnectorError:
                expected = {"pending"}
            except Killed:
                self.database.restart()
                expected = {wanted, "pending"}
            (row,) = rows_unfailing(self.database, "SELECT status FROM approvals WHERE id = :id", id=approval_id)
            assert row["status"] in expected
            if row["status"] == wanted:
                return
        raise AssertionError("the decision is not taken")


def rows_unfailing(database: FaultyDatabase, sql: str, **values: Any) -> Any:
    """What a query finds, without being one of the steps."""
    steps, fails_at = database.steps, database.fails_at
    database.fails_at = None
    found = rows(database, sql, **values)
    database.steps, database.fails_at = steps, fails_at
    return found


async def approved(world: World) -> None:
    """Parked, approved, made again; parked once more only if the process died with the approval in its hands."""
    for _ in range(TRIES):
        if await world.until("approval_required", "ok") == "ok":
            break
        await world.decide(True)
    else:
        raise AssertionError("the call does not run")
    if not world.database.was_killed:
        assert len(set(world.approvals)) == 1


async def unreachable(world: World) -> None:
    """Approved, and sent to a platform that cannot be reached at first."""
    world.made.sandbox.inject(
        Fault(platform="vectorize", method="POST", path_glob="*/connectors/*", kind="unreachable", times=4)
    )
    await approved(world)


async def denied(world: World) -> None:
    await world.until("approval_required")
    await world.decide(False)
    # The denial is told, at least once, and nothing is sent.
    assert await world.until("refused", "approval_required") == "refused" or world.database.was_killed


async def asked_inline(world: World) -> None:
    await world.until("ok", caller=lambda: FakeCaller(yes()))


async def asked_by_returning(world: World) -> None:
    await world.until("asked", caller=AsksByReturning)
    resumed = lambda: AsksByReturning(resumed=Resumed(world.ticket, yes()))  # noqa: E731
    if await world.until("ok", "confirmation_invalid", caller=resumed) == "confirmation_invalid":
        # The process died with the answer in its hands.
        assert world.database.was_killed
        await asked_by_returning(world)
    if not world.database.was_killed:
        assert world.asked == 1


def answered(reply: ElicitationReply) -> Callable[[World], Awaitable[None]]:
    """Bring another answer than yes; no later yes to the same question counts."""

    async def bring(world: World) -> None:
        await world.until("asked", caller=AsksByReturning)
        spent = "confirmation_invalid"
        for given, *told in ((reply, "refused", "approval_required", spent), (yes(), spent)):
            resumed = Resumed(world.ticket, given)
            await world.until(*told, caller=lambda resumed=resumed: AsksByReturning(resumed=resumed))

    return bring


RUNS: dict[str, tuple[Callable[[World], Awaitable[None]], str, int]] = {
    "approved": (approved, "create=approve", 1),
    "unreachable": (unreachable, "create=approve", 1),
    "denied": (denied, "create=approve", 0),
    "asked inline": (asked_inline, "create=ask", 1),
    "asked by returning": (asked_by_returning, "create=ask", 1),
    "declined": (answered(ElicitationReply("decline", {})), "create=ask", 0),
    "cancelled": (answered(ElicitationReply("cancel", {})), "create=ask", 0),
    "mistyped": (answered(yes("no")), "create=ask", 0),
    "allowed": (asked_inline, "create=allow", 1),
}


@pytest.mark.parametrize("fault", get_args(StepFault))
@pytest.mark.parametrize("kind", RUNS)
async def test_a_step_that_fails_does_nothing_twice_for_nothing_or_in_secret(
    bench: BenchMaker, clock: Clock, tmp_path: Path, kind: str, fault: StepFault
) -> None:
    run, policy, times = RUNS[kind]
    database = FaultyDatabase(tmp_path / "faulty.db", wall_clock=clock)
    world = World(bench(policy=policy, database=database, verify_writes=False), database, clock)
    for warm_up in (10_000, 10_001):
        database.arm(None)
        world.begin(warm_up)
        await run(world)
    for number in range(database.steps):
        world.begin(number)
        database.arm(number, fault)
        await run(world)
        if world.sent_in_run > times:
            # Only a process that died after the request has sent it without an answer, and the repeat is warned.
            assert world.database.was_killed
            assert world.sent_in_run == times + 1
            assert any("is unknown" in each or "succeeded" in each for each in world.warnings)
        else:
            assert world.sent_in_run == times
        check_records(world)
        clock.now += 10_000


def check_records(world: World) -> None:
    """Each request has a record of its beginning, and every approval shows what became of it."""
    database = world.database
    database.arm(None)
    begun = rows(database, "SELECT count(*) AS count FROM audit WHERE phase = 'begun'")[0]["count"]
    ended = [json.loads(row["line"]) for row in rows(database, "SELECT line FROM audit WHERE phase = 'ended'")]
    assert begun >= world.sent
    assert sum(record["outcome"] == "ok" for record in ended) <= world.sent
    for row in rows(database, "SELECT status, is_open, outcome FROM approvals"):
        assert (row["status"] == "used") == (row["outcome"] is not None)
        assert row["status"] != "used" or not row["is_open"]
