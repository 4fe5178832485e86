import re
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from connector_mcp.engine.approval.parked_call import Approval, ParkedCall
from connector_mcp.engine.approval.queue import HISTORY_SECONDS, PAGE, Approvals
from connector_mcp.engine.preview import Change
from connector_mcp.errors import ConfirmationInvalid, InProgress, InvalidArguments, StoreUnavailable
from connector_mcp.state.sqlite import SqliteDatabase
from tests.engine.conftest import Clock, Use
from tests.records import rows

pytestmark = pytest.mark.anyio


@pytest.fixture
def approvals(database: SqliteDatabase) -> Approvals:
    return Approvals(database, ttl=100.0)


def a_call(digest: str = "d1") -> ParkedCall:
    return ParkedCall(
        digest=digest, tool="logto_delete_connector", platform="logto", profile="default", principal="local",
        client="a client 1.0", effect="Deletes the connector Google.", arguments={"id": "abc"}, fingerprint="f1",
        losses=("Users can no longer sign in with Google.",),
        diff=(Change(field="config.scope", before="openid", after=None),),
        snapshot={"id": "abc", "config": {"clientSecret": "***"}},
    )  # fmt: skip


async def waiting(approvals: Approvals) -> tuple[Approval, ...]:
    return (await approvals.waiting()).approvals


async def at_once(count: int, call: Callable[[int], Awaitable[Any]]) -> list[Any]:
    """What so many concurrent calls return."""
    results: list[Any] = []

    async def run(number: int) -> None:
        results.append(await call(number))

    async with anyio.create_task_group() as group:
        for number in range(count):
            group.start_soon(run, number)
    return results


async def test_a_parked_call_waits_with_all_that_an_operator_needs(approvals: Approvals, use: Use):
    parked = await approvals.park(a_call())
    assert re.fullmatch(r"ap-[a-z2-9]{6}", parked.id)
    assert parked == Approval(**dict(a_call()), id=parked.id, status="pending", created_at=1_000.0, expires_at=1_100.0)
    assert await approvals.get(parked.id) == parked
    assert await approvals.find("d1") == parked
    assert await waiting(approvals) == (parked,)
    assert await use() is None
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
    assert len(await waiting(approvals)) == 1


async def test_an_approved_call_is_used_once_and_then_parks_again(approvals: Approvals, use: Use):
    parked = await approvals.park(a_call())
    decided = await approvals.decide(parked.id, True, "root on tty1", "ticket 7")
    how = {"status": "approved", "decided_by": "root on tty1", "decided_at": 1_000.0, "reason": "ticket 7"}
    assert {name: getattr(decided, name) for name in how} == how
    assert await approvals.find("d1") == decided
    used = await use()
    assert used is not None
    assert used.id == parked.id
    kept = await approvals.get(parked.id)
    assert (kept.status, kept.used_at, kept.outcome) == ("used", 1_000.0, "ok")
    with pytest.raises(ConfirmationInvalid, match="it is used"):
        await approvals.decide(parked.id, True, "operator")
    assert await use() is None
    assert await approvals.find("d1") is None
    again = await approvals.park(a_call())
    assert (again.status, again.id == parked.id) == ("pending", False)
    assert (await approvals.get(parked.id)).status == "used"


async def test_of_fifty_users_of_an_approval_one_gets_it(approvals: Approvals, use: Use, database: SqliteDatabase):
    parked = await approvals.park(a_call())
    await approvals.decide(parked.id, True, "operator")

    async def try_it(_: int) -> str | None:
        try:
            found = await use()
        except InProgress:
            return None
        return found.id if found else None

    assert [found for found in await at_once(50, try_it) if found is not None] == [parked.id]


async def test_a_denial_is_told_once_and_the_call_then_parks_again(approvals: Approvals, use: Use):
    parked = await approvals.park(a_call())
    await approvals.decide(parked.id, False, "operator", "not today")
    assert (await approvals.park(a_call())).status == "denied"
    assert await use() is None
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


async def test_a_parked_call_expires_and_then_says_so(approvals: Approvals, clock: Clock):
    parked = await approvals.park(a_call())
    clock.now = 1_100.0
    assert await approvals.find("d1") is None
    assert await waiting(approvals) == ()
    with pytest.raises(ConfirmationInvalid, match="expired"):
        await approvals.decide(parked.id, True, "operator")
    assert (await approvals.park(a_call())).id != parked.id


async def test_an_approval_that_was_not_used_in_time_is_worth_nothing(approvals: Approvals, use: Use, clock: Clock):
    parked = await approvals.park(a_call())
    clock.now = 1_099.0
    await approvals.decide(parked.id, True, "operator")
    clock.now = 1_100.0
    assert await use() is None
    assert (await approvals.get(parked.id)).status == "approved"


@pytest.mark.parametrize("decided", [True, False])
async def test_a_voided_approval_cannot_be_used_and_keeps_the_reason(approvals: Approvals, use: Use, decided: bool):
    parked = await approvals.park(a_call())
    if decided:
        await approvals.decide(parked.id, True, "operator")
    await approvals.void(parked.id, "the target changed")
    assert await use() is None
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
    with pytest.raises(InvalidArguments) as caught:
        await approvals.get("x" * 1_000)
    assert caught.value.issues[0].wanted == "the id of a parked call"


async def test_lists_are_by_age_and_of_one_status(approvals: Approvals):
    ids = [(await approvals.park(a_call(digest))).id for digest in ("c", "a", "b")]
    await approvals.decide(ids[1], True, "operator")
    assert {approval.id for approval in await waiting(approvals)} == {ids[0], ids[2]}
    assert [approval.id for approval in (await approvals.waiting("approved")).approvals] == [ids[1]]
    assert {approval.id for approval in (await approvals.everything()).approvals} == set(ids)
    assert await approvals.counts() == {"pending": 2, "approved": 1}


async def test_history_keeps_what_became_of_every_decided_call(approvals: Approvals, use: Use, clock: Clock):
    parked = {digest: await approvals.park(a_call(digest)) for digest in ("used", "denied", "void", "pending")}
    for digest in ("used", "denied"):
        clock.now += 1
        await approvals.decide(parked[digest].id, digest == "used", "operator")
    await use("used")
    await approvals.take_denied("denied")
    clock.now += 1
    await approvals.void(parked["void"].id, "why")
    ended = [(name, name) for name in ("void", "denied", "used")]
    assert [(kept.digest, kept.status) for kept in (await approvals.history()).approvals] == ended
    clock.now += HISTORY_SECONDS
    assert (await approvals.history()).approvals == ()


async def test_what_is_older_than_the_history_is_removed(approvals: Approvals, database: SqliteDatabase, clock: Clock):
    await approvals.park(a_call())
    clock.now += HISTORY_SECONDS + 101
    await approvals.park(a_call("d2"))
    assert [row["digest"] for row in rows(database, "SELECT digest FROM approvals")] == ["d2"]


async def test_pages_add_up_to_the_whole_list_in_both_directions(database: SqliteDatabase, clock: Clock):
    approvals = Approvals(database, ttl=10_000.0)
    parked: list[Approval] = []
    for number in range(2 * PAGE + 7):
        parked.append(await approvals.park(a_call(f"d{number}")))
        # Some are parked at the very same time.
        clock.now += number % 3
    ids = [each.id for each in sorted(parked, key=lambda each: (each.created_at, each.id))]
    pages = [await approvals.waiting()]
    while (key := pages[-1].newer) is not None:
        pages.append(await approvals.waiting(after=key))
    assert [approval.id for page in pages for approval in page.approvals] == ids
    back = [pages[-1]]
    while (key := back[-1].older) is not None:
        back.append(await approvals.waiting(before=key))
    assert [approval.id for page in back[::-1] for approval in page.approvals] == ids
    for approval_id in ids:
        await approvals.decide(approval_id, False, "operator")
        clock.now += 1
    pages = [await approvals.history()]
    while (key := pages[-1].older) is not None:
        pages.append(await approvals.history(before=key))
    assert [approval.id for page in pages for approval in page.approvals] == ids[::-1]
    assert (await approvals.history(after=pages[1].newer or "")).approvals == pages[0].approvals


@pytest.mark.parametrize("key", ["x", "~", "nan~ap-x", "1e999~", "1~'; DROP TABLE approvals"])
async def test_a_key_that_was_made_up_does_no_harm(approvals: Approvals, key: str):
    parked = await approvals.park(a_call())
    for page in (
        await approvals.waiting(before=key),
        await approvals.waiting(after=key),
        await approvals.history(before=key),
    ):
        assert {approval.id for approval in page.approvals} <= {parked.id}
    assert await waiting(approvals) == (parked,)


async def test_the_version_changes_with_every_change_of_the_queue(approvals: Approvals, use: Use, clock: Clock):
    versions = [await approvals.version()]

    async def note() -> None:
        clock.now += 1
        versions.append(await approvals.version())

    first, second = await approvals.park(a_call()), await approvals.park(a_call("d2"))
    await note()
    await approvals.decide(first.id, True, "operator")
    await note()
    await use()
    await note()
    await approvals.void(second.id, "why")
    await note()
    await approvals.park(a_call("d3"))
    await note()
    assert len({version for version, _ in versions}) == len(versions)
    assert [pending for _, pending in versions] == [0, 2, 1, 1, 0, 1]


async def test_an_approval_that_cannot_be_read_decides_nothing(
    approvals: Approvals, use: Use, database: SqliteDatabase
):
    parked = await approvals.park(a_call())
    await approvals.decide(parked.id, True, "operator")
    database.write_now(lambda tx: tx.execute("UPDATE approvals SET call = '{}'"))
    with pytest.raises(StoreUnavailable):
        await use()
    assert [row["status"] for row in rows(database, "SELECT status FROM approvals")] == ["approved"]
