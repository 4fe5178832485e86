"""The same write is not on its way twice, and one whose outcome is unknown is remembered."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from connector_mcp.engine.ledger import Ledger
from connector_mcp.errors import ConnectorError, InProgress, OutcomeUnknown, Rejected, StoreUnavailable
from connector_mcp.state.sqlite_store import SqliteStore
from tests.engine.conftest import Clock

pytestmark = pytest.mark.anyio

LONGEST = 120.0


@pytest.fixture
def ledger(store: SqliteStore, clock: Clock) -> Ledger:
    return Ledger(store, longest=LONGEST, clock=clock)


async def refuse(ledger: Ledger, kind: type[ConnectorError] = InProgress) -> None:
    with pytest.raises(kind, match="tool" if kind is InProgress else None):
        async with ledger.entry("digest", "tool"):
            pytest.fail("it was let through")


async def warnings(ledger: Ledger, digest: str = "digest") -> list[str]:
    """Make a write that succeeds, and return its warnings."""
    async with ledger.entry(digest, "tool") as entry:
        return entry.warnings


async def test_a_write_that_succeeded_leaves_nothing_behind(ledger: Ledger, store: SqliteStore) -> None:
    for _ in range(2):
        async with ledger.entry("digest", "tool") as entry:
            assert len(await store.entries("writes")) == 1
        assert entry.warnings == []
        assert await store.entries("writes") == []


async def test_the_same_write_is_refused_while_it_is_on_its_way_and_another_is_not(ledger: Ledger) -> None:
    async with ledger.entry("digest", "tool"):
        await refuse(ledger)
        assert await warnings(ledger, "other") == []


async def test_a_refused_repeat_does_not_end_the_entry_of_the_first(ledger: Ledger) -> None:
    async with ledger.entry("digest", "tool"):
        for _ in range(2):
            await refuse(ledger)


async def test_a_failure_that_changed_nothing_is_forgotten(ledger: Ledger, store: SqliteStore) -> None:
    with pytest.raises(Rejected):
        async with ledger.entry("digest", "tool"):
            raise Rejected("no", fix="")
    assert await store.entries("writes") == []


async def unknown(ledger: Ledger) -> None:
    with pytest.raises(OutcomeUnknown):
        async with ledger.entry("digest", "tool"):
            raise OutcomeUnknown("lost", fix="")


async def test_after_an_unknown_outcome_the_same_write_runs_once_with_a_warning(ledger: Ledger, clock: Clock) -> None:
    await unknown(ledger)
    clock.now += 30
    async with ledger.entry("digest", "tool") as entry:
        assert entry.warnings == [
            "The outcome of the same call 30 s ago is unknown; check that it did not take effect twice."
        ]
        await refuse(ledger)
    assert await warnings(ledger) == []


async def test_an_unknown_outcome_is_forgotten_in_time(ledger: Ledger, clock: Clock) -> None:
    await unknown(ledger)
    clock.now += 601
    assert await warnings(ledger) == []


async def test_of_two_repeats_after_an_unknown_outcome_one_runs(ledger: Ledger) -> None:
    await unknown(ledger)
    ran: list[str] = []
    refused: list[str] = []
    both_tried = anyio.Event()

    async def repeat(name: str) -> None:
        try:
            async with ledger.entry("digest", "tool"):
                ran.append(name)
                await both_tried.wait()
        except InProgress:
            refused.append(name)
            both_tried.set()

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(repeat, "a")
            tasks.start_soon(repeat, "b")
    assert (len(ran), len(refused)) == (1, 1)


async def test_an_unknown_outcome_of_a_part_makes_that_of_the_write_unknown(ledger: Ledger) -> None:
    async with ledger.entry("digest", "tool") as entry:
        entry.outcome_unknown = True
    assert len(await warnings(ledger)) == 1


async def test_a_write_that_was_cancelled_is_of_unknown_outcome(ledger: Ledger) -> None:
    with anyio.CancelScope() as scope:
        async with ledger.entry("digest", "tool"):
            scope.cancel()
            await anyio.sleep_forever()
    assert "is unknown" in (await warnings(ledger))[0]


async def test_an_unforeseen_failure_is_of_unknown_outcome(ledger: Ledger) -> None:
    with pytest.raises(ZeroDivisionError):
        async with ledger.entry("digest", "tool"):
            raise ZeroDivisionError
    assert "is unknown" in (await warnings(ledger))[0]


async def test_the_entry_of_a_dead_process_blocks_the_write_for_a_time(
    ledger: Ledger, store: SqliteStore, clock: Clock
) -> None:
    dead = ledger.entry("digest", "tool")
    await dead.__aenter__()
    clock.now += LONGEST - 1
    await refuse(ledger)
    clock.now += 2
    async with ledger.entry("digest", "tool") as entry:
        assert "121 s ago is unknown" in entry.warnings[0]
        # The first one lives after all: its end must not take away the entry of the second.
        await dead.__aexit__(None, None, None)
        assert len(await store.entries("writes")) == 1
        await refuse(ledger)


class Failing(SqliteStore):
    """A store that can be broken."""

    broken = False

    def check(self) -> None:
        if self.broken:
            raise StoreUnavailable("broken", fix="")

    async def replace(self, *args: Any, **kwargs: Any) -> bool:
        self.check()
        return await super().replace(*args, **kwargs)

    async def put_once(self, *args: Any, **kwargs: Any) -> bool:
        self.check()
        return await super().put_once(*args, **kwargs)


@pytest.fixture
async def failing(tmp_path: Path, clock: Clock) -> AsyncIterator[Failing]:
    made = Failing(tmp_path / "state.db", clock=clock)
    yield made
    await made.aclose()


async def test_without_a_store_nothing_is_sent(failing: Failing, clock: Clock) -> None:
    failing.broken = True
    await refuse(Ledger(failing, longest=LONGEST, clock=clock), StoreUnavailable)


async def test_a_store_failure_after_the_write_leaves_its_outcome_alone(failing: Failing, clock: Clock) -> None:
    ledger = Ledger(failing, longest=LONGEST, clock=clock)
    async with ledger.entry("digest", "tool") as entry:
        failing.broken = True
    assert "refused for 120 s" in entry.warnings[0]
    failing.broken = False
    with pytest.raises(OutcomeUnknown):
        await lose(failing, ledger)


async def lose(store: Failing, ledger: Ledger) -> None:
    async with ledger.entry("other", "tool"):
        store.broken = True
        raise OutcomeUnknown("lost", fix="")
