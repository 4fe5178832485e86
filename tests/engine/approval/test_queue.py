import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from connector_mcp.engine.approval.queue import (
    HISTORY_SECONDS,
    WAITING,
    Approval,
    ApprovalChange,
    Approvals,
    ParkedCall,
)
from connector_mcp.errors import ConfirmationInvalid, InvalidArguments, StoreUnavailable
from connector_mcp.state.sqlite_store import SqliteStore
from tests.engine.conftest import Clock

pytestmark = pytest.mark.anyio


@pytest.fixture
def approvals(store: SqliteStore, clock: Clock) -> Approvals:
    return Approvals(store, ttl=100.0, clock=clock)


def a_call(digest: str = "d1") -> ParkedCall:
    return ParkedCall(
        digest=digest, tool="logto_delete_connector", platform="logto", profile="default", principal="local",
        client="a client 1.0", effect="Deletes the connector Google.", arguments={"id": "abc"}, fingerprint="f1",
        losses=("Users can no longer sign in with Google.",),
        diff=(ApprovalChange(field="config.scope", before="openid", after=None),),
        snapshot={"id": "abc", "config": {"clientSecret": "***"}},
    )  # fmt: skip


async def at_once(count: int, call: Callable[[int], Awaitable[Any]]) -> list[Any]:
    """What so many concurrent calls return."""
    results: list[Any] = []

    async def run(number: int) -> None:
        results.append(await call(number))

    async with anyio.create_task_group() as group:
        for number in range(count):
            group.start_soon(run, number)
    return results


async def test_a_parked_call_waits_with_all_that_an_operator_needs(approvals: Approvals):
    parked = await approvals.park(a_call())
    assert re.fullmatch(r"ap-[a-z2-9]{6}", parked.id)
    assert parked == Approval(**dict(a_call()), id=parked.id, status="pending", created_at=1_000.0, expires_at=1_100.0)
    assert await approvals.get(parked.id) == parked
    assert await approvals.find("d1") == parked
    assert await approvals.list() == (parked,)
    assert await approvals.use("d1") is None
    assert await approvals.take_denied("d1") is None


async def test_a_call_that_is_parked_again_is_the_same_approval(approvals: Approvals, clock: Clock):
    first = await approvals.park(a_call())
    clock.now += 50
    assert await approvals.park(a_call()) == first
    assert (await approvals.park(a_call("d2"))).id != first.id


async def test_of_concurrent_parkings_of_a_call_there_is_one_approval(approvals: Approvals):
    parked = await at_once(20, lambda _: approvals.park(a_call()))
    assert len(parked) == 20
    assert len({approval.id for approval in parked}) == 1
    assert len(await approvals.list()) == 1


async def test_an_approved_call_is_used_once_and_then_parks_again(approvals: Approvals):
    parked = await approvals.park(a_call())
    decided = await approvals.decide(parked.id, True, "root on tty1", "ticket 7")
    how = {"status": "approved", "decided_by": "root on tty1", "decided_at": 1_000.0, "reason": "ticket 7"}
    assert {name: getattr(decided, name) for name in how} == how
    assert await approvals.find("d1") == decided
    used = await approvals.use("d1")
    assert used is not None
    assert (used.id, used.status, used.used_at) == (parked.id, "used", 1_000.0)
    assert await approvals.use("d1") is None
    assert await approvals.find("d1") is None
    again = await approvals.park(a_call())
    assert (again.status, again.id == parked.id) == ("pending", False)
    assert (await approvals.get(parked.id)).status == "used"


async def test_of_fifty_users_of_an_approval_one_gets_it(approvals: Approvals, store: SqliteStore, clock: Clock):
    parked = await approvals.park(a_call())
    await approvals.decide(parked.id, True, "operator")
    both = (approvals, Approvals(store, ttl=100.0, clock=clock))
    used = await at_once(50, lambda number: both[number % 2].use("d1"))
    assert [approval.id for approval in used if approval is not None] == [parked.id]


async def test_a_denial_is_told_once_and_the_call_then_parks_again(approvals: Approvals):
    parked = await approvals.park(a_call())
    await approvals.decide(parked.id, False, "operator", "not today")
    assert (await approvals.park(a_call())).status == "denied"
    assert await approvals.use("d1") is None
    told = await approvals.take_denied("d1")
    assert told is not None
    assert (told.id, told.reason) == (parked.id, "not today")
    assert await approvals.take_denied("d1") is None
    assert (await approvals.park(a_call())).status == "pending"
    assert (await approvals.get(parked.id)).status == "denied"


@pytest.mark.parametrize("first", [True, False])
async def test_a_decision_is_final_and_a_second_names_the_first(approvals: Approvals, first: bool):
    parked = await approvals.park(a_call())
    await approvals.decide(parked.id, first, "anna")
    with pytest.raises(ConfirmationInvalid, match=f"{'approved' if first else 'denied'} by anna"):
        await approvals.decide(parked.id, not first, "bert")
    assert (await approvals.get(parked.id)).decided_by == "anna"


async def test_of_operators_who_decide_at_once_one_is_heard(approvals: Approvals):
    parked = await approvals.park(a_call())

    async def decide(number: int) -> str | None:
        try:
            return (await approvals.decide(parked.id, bool(number % 2), "operator")).status
        except ConfirmationInvalid:
            return None

    (heard,) = filter(None, await at_once(10, decide))
    assert (await approvals.get(parked.id)).status == heard


async def test_a_used_approval_cannot_be_decided_again(approvals: Approvals):
    parked = await approvals.park(a_call())
    await approvals.decide(parked.id, True, "operator")
    await approvals.use("d1")
    with pytest.raises(ConfirmationInvalid, match="it is used"):
        await approvals.decide(parked.id, True, "operator")


async def test_a_parked_call_expires_and_then_says_so(approvals: Approvals, clock: Clock):
    parked = await approvals.park(a_call())
    clock.now = 1_100.0
    assert await approvals.find("d1") is None
    assert await approvals.list() == ()
    with pytest.raises(ConfirmationInvalid, match="expired"):
        await approvals.decide(parked.id, True, "operator")
    assert (await approvals.park(a_call())).id != parked.id


async def test_an_approval_that_was_not_used_in_time_is_worth_nothing(approvals: Approvals, clock: Clock):
    parked = await approvals.park(a_call())
    clock.now = 1_099.0
    await approvals.decide(parked.id, True, "operator")
    clock.now = 1_100.0
    assert await approvals.use("d1") is None
    assert (await approvals.get(parked.id)).status == "approved"


@pytest.mark.parametrize("decided", [True, False])
async def test_a_voided_approval_cannot_be_used_and_keeps_the_reason(approvals: Approvals, decided: bool):
    parked = await approvals.park(a_call())
    if decided:
        await approvals.decide(parked.id, True, "operator")
    await approvals.void(parked.id, "the target changed")
    assert await approvals.use("d1") is None
    ended = await approvals.get(parked.id)
    assert (ended.status, ended.reason) == ("void", "the target changed")
    with pytest.raises(ConfirmationInvalid, match="it is void"):
        await approvals.void(parked.id, "again")
    assert (await approvals.park(a_call())).status == "pending"


async def test_an_unknown_id_is_answered_with_the_nearest(approvals: Approvals):
    with pytest.raises(InvalidArguments, match="there are none"):
        await approvals.get("ap-aaaaaa")
    parked = await approvals.park(a_call())
    with pytest.raises(InvalidArguments) as caught:
        await approvals.decide(parked.id[:-1], True, "operator")
    assert caught.value.issues[0].example == parked.id
    assert parked.id in caught.value.issues[0].wanted


async def test_the_list_is_by_age_and_can_be_narrowed_to_a_status(approvals: Approvals):
    ids = [(await approvals.park(a_call(digest))).id for digest in ("c", "a", "b")]
    await approvals.decide(ids[1], True, "operator")
    assert [approval.id for approval in await approvals.list()] == ids
    assert [approval.id for approval in await approvals.list("pending")] == [ids[0], ids[2]]
    assert [approval.id for approval in await approvals.list("approved")] == [ids[1]]


async def test_history_keeps_what_became_of_every_decided_call(approvals: Approvals, clock: Clock):
    parked = {digest: await approvals.park(a_call(digest)) for digest in ("used", "denied", "void", "pending")}
    await approvals.decide(parked["used"].id, True, "operator")
    await approvals.decide(parked["denied"].id, False, "operator")
    await approvals.use("used")
    await approvals.take_denied("denied")
    await approvals.void(parked["void"].id, "why")
    ended = [(name, name) for name in ("used", "denied", "void")]
    assert [(kept.digest, kept.status) for kept in await approvals.history()] == ended
    clock.now += HISTORY_SECONDS
    assert await approvals.history() == ()


async def test_an_approval_that_cannot_be_read_decides_nothing(approvals: Approvals, store: SqliteStore):
    await store.put_once(WAITING, "d1", {"status": "approved"})
    with pytest.raises(StoreUnavailable):
        await approvals.use("d1")


async def test_a_store_that_fails_parks_and_releases_nothing(tmp_path: Path):
    (tmp_path / "state.db").write_bytes(b"no database at all" * 100)
    approvals = Approvals(SqliteStore(tmp_path / "state.db"), ttl=100.0)
    with pytest.raises(StoreUnavailable):
        await approvals.park(a_call())
    with pytest.raises(StoreUnavailable):
        await approvals.use("d1")
