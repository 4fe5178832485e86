import asyncio

import anyio
import anyio.lowlevel
import pytest

from connector_mcp.upstream.deadlines import Deadlines, Running

pytestmark = pytest.mark.anyio


async def wait(deadlines: Deadlines, begun: list[Running] | None = None) -> str:
    """How a call ended that never would by itself."""
    running = deadlines.begin()
    if begun is not None:
        begun.append(running)
    try:
        await anyio.sleep_forever()
    except asyncio.CancelledError:
        if not running.has_expired():
            raise
        await anyio.lowlevel.checkpoint()
        return "expired"
    finally:
        deadlines.end(running)
    raise AssertionError


def pending_cancellations() -> int:
    task = asyncio.current_task()
    assert task is not None
    return task.cancelling()


async def test_every_call_ends_when_its_time_is_over_and_its_task_goes_on() -> None:
    deadlines = Deadlines(0.01)
    ends: list[str] = []

    async def call() -> None:
        for _ in range(3):
            ends.append(await wait(deadlines))
            assert pending_cancellations() == 0

    async with anyio.create_task_group() as group:
        for _ in range(4):
            group.start_soon(call)
    assert ends == ["expired"] * 12


async def test_a_call_that_has_ended_is_left_alone() -> None:
    deadlines = Deadlines(0.01)
    deadlines.end(deadlines.begin())
    # The one timer is set for the first, and the second is due after it.
    assert await wait(deadlines) == "expired"
    assert pending_cancellations() == 0


async def test_a_caller_who_goes_first_is_merely_cancelled() -> None:
    deadlines = Deadlines(1000)
    with anyio.move_on_after(0.01) as scope:
        await wait(deadlines)
    assert scope.cancelled_caught
    deadlines.close()


@pytest.mark.parametrize("deadline_first", [True, False])
async def test_a_caller_who_goes_just_as_the_time_ends_is_cancelled(deadline_first: bool) -> None:
    deadlines, begun, ends = Deadlines(1000), list[Running](), list[str]()

    async def call() -> None:
        with scope:
            ends.append(await wait(deadlines, begun))
        assert pending_cancellations() == 0

    scope = anyio.CancelScope()
    async with anyio.create_task_group() as group:
        group.start_soon(call)
        await anyio.wait_all_tasks_blocked()
        if deadline_first:
            assert begun[0].expire()
        scope.cancel()
        if not deadline_first:
            assert not begun[0].expire()
    assert scope.cancelled_caught
    assert ends == []
    deadlines.close()


@pytest.mark.parametrize("deadline_first", [True, False])
async def test_a_task_that_is_cancelled_just_as_the_time_ends_stays_cancelled(deadline_first: bool) -> None:
    deadlines, begun = Deadlines(1000), list[Running]()
    task = asyncio.ensure_future(wait(deadlines, begun))
    await anyio.wait_all_tasks_blocked()
    if deadline_first:
        assert begun[0].expire()
    task.cancel()
    if not deadline_first:
        assert not begun[0].expire()
    with pytest.raises(asyncio.CancelledError):
        await task
    deadlines.close()


async def test_a_time_that_ends_while_somebody_else_cancels_in_vain_ends_the_call_all_the_same() -> None:
    deadlines = Deadlines(0.01)
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert task is not None
    running = deadlines.begin()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await anyio.lowlevel.checkpoint()
    passed = asyncio.Event()
    loop.call_at(running.due + 0.005, passed.set)
    await passed.wait()
    task.uncancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.Event().wait()
    assert running.has_expired()
    assert pending_cancellations() == 0
    deadlines.end(running)
    deadlines.close()
