"""An apply that fails, is ended, or meets another one: what was done stays done, and nothing is made twice."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from connector_mcp.operations.operation import Effect
from connector_mcp.provisioning import applying
from connector_mcp.provisioning.journal import Journal, account_key
from connector_mcp.provisioning.plan import Action
from connector_mcp.provisioning.rehearsal import Rehearsal, SharedReads
from connector_mcp.sandbox import seed
from connector_mcp.sandbox.faults import Fault, FaultKind
from connector_mcp.state import database as database_module
from connector_mcp.state.database import STEP_SECONDS
from connector_mcp.state.keys import secret_key
from connector_mcp.state.sqlite import SqliteDatabase
from tests.engine.conftest import Bench, BenchMaker, FakeCaller
from tests.provisioning.plans import applied, apply, entries, source, sources, stored
from tests.records import Clock, rows

pytestmark = pytest.mark.anyio

CREATED = "/v1/org/*/connectors/sources"


async def change(bench: Bench, number: int, key: str, identifier: str, url: str, **others: Any) -> Action:
    """A change of a web crawler, planned against what it is now."""
    arguments = {"source_connector_id": identifier, "config": {"seed-urls": [url]}}
    tool = bench.engine.tool("vectorize_update_source_connector")
    assert tool is not None
    rehearsal = Rehearsal(tool, FakeCaller(), bench.engine._services, SharedReads())  # pyright: ignore[reportPrivateUsage]
    found = await rehearsal.rehearse(arguments, await secret_key(bench.engine.database, "digest"))
    made: dict[str, Any] = {
        "verb": "update", "entry": f"sources.{key}", "platform": "vectorize", "profile": "default", "name": key,
        "tool": tool.name, "arguments": arguments, "identifier": identifier, "effect": found.effect,
        "fingerprint": found.fingerprint, "snapshot": found.preview.snapshot, "diff": found.preview.changes,
    }  # fmt: skip
    return Action(number=number, **made | others)


def adoption(number: int) -> Action:
    """Remember a web crawler that is there already."""
    return Action(
        number=number, verb="adopt", entry="sources.crawler", platform="vectorize", profile="default", name="crawler",
        identifier=seed.VECTORIZE_WEB_CRAWLER, declared={"name": "crawler"},
    )  # fmt: skip


async def test_what_fails_keeps_only_what_needs_it_from_being_done(made: Bench, monkeypatch: pytest.MonkeyPatch):
    # One action at a time, so that the first one meets the fault.
    monkeypatch.setattr(applying, "AT_ONCE", 1)
    made.sandbox.inject(Fault(method="POST", path_glob=CREATED, status=422))
    plan = await stored(made, source(1, "first"), source(2, "second", needs=(1,)), source(3, "third"))
    answer = applied(await apply(made, plan))
    assert answer["status"] == "incomplete"
    assert entries(answer["done"]) == ["sources.third"]
    refused, waiting = answer["not_done"]
    assert (refused["entry"], refused["code"]) == ("sources.first", "rejected")
    assert (waiting["entry"], waiting["why"]) == ("sources.second", "It needs sources.first.")
    # The same call tries it again.
    assert applied(await apply(made, plan))["status"] == "done"
    assert len(made.requests("POST")) == 4


async def test_a_target_that_changed_since_the_plan_is_refused_with_the_difference(made: Bench):
    crawler = seed.VECTORIZE_WEB_CRAWLER
    update = await change(made, 1, "crawler", crawler, "https://planned.example.com")
    plan = await stored(made, update, source(2, "second", needs=(1,)), source(3, "third"))
    theirs = {"source_connector_id": crawler, "config": {"seed-urls": ["https://theirs.example.com"]}}
    assert not (await made.engine.call("vectorize_update_source_connector", theirs, FakeCaller())).is_error
    answer = applied(await apply(made, plan))
    assert entries(answer["done"]) == ["sources.third"]
    refused, waiting = answer["not_done"]
    assert refused["code"] == "target_changed"
    [difference] = [each for each in refused["differences"] if "seed-urls" in each["field"]]
    assert difference["after"] == "https://theirs.example.com"
    assert waiting["why"] == "It needs sources.crawler."
    # It stays refused, however often the plan is applied.
    assert applied(await apply(made, plan))["not_done"] == answer["not_done"]


async def test_an_action_that_would_now_do_more_than_the_plan_said_is_refused(made: Bench):
    update = await change(made, 1, "crawler", seed.VECTORIZE_WEB_CRAWLER, "https://planned.example.com")
    milder = update.model_copy(update={"effect": Effect.CREATE})
    answer = applied(await apply(made, await stored(made, milder)))
    assert answer["not_done"][0]["code"] == "target_changed"
    assert made.requests("PATCH") == []


@pytest.mark.parametrize(("on_failure", "done"), [("go_on", 2), ("stop", 0)])
async def test_after_a_failure_it_goes_on_or_stops_as_asked(
    made: Bench, on_failure: str, done: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(applying, "AT_ONCE", 1)
    made.sandbox.inject(Fault(method="POST", path_glob=CREATED, status=422))
    plan = await stored(made, source(1, "first"), source(2, "second"), source(3, "third"))
    answer = applied(await apply(made, plan, on_failure=on_failure))
    assert (answer["status"], answer["counts"]["done"]) == ("incomplete", done)
    assert answer["counts"]["not_done"] == 3 - done


async def test_a_call_ends_in_time_and_the_next_one_goes_on(made: Bench, monkeypatch: pytest.MonkeyPatch):
    now = 0.0
    monkeypatch.setattr(applying, "AT_ONCE", 1)
    monkeypatch.setattr(applying, "monotonic", lambda: now)

    class Slow(FakeCaller):
        async def progress(self, message: str) -> None:
            nonlocal now
            now += 20.0

    plan = await stored(made, *(source(number, f"s{number}") for number in range(1, 6)))
    answer = applied(await apply(made, plan, Slow()))
    assert (answer["status"], answer["counts"]["done"]) == ("in_progress", 2)
    assert plan.id in answer["next"]
    assert applied(await apply(made, plan))["status"] == "done"
    assert len(made.requests("POST")) == 5


async def test_a_cancelled_apply_stops_between_actions(made: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(applying, "AT_ONCE", 1)
    scope = anyio.CancelScope()
    plan = await stored(made, *(source(number, f"s{number}") for number in range(1, 4)))
    send = made.account("vectorize").client.send

    async def cancelled_meanwhile(*arguments: Any, **options: Any) -> Any:
        answer = await send(*arguments, **options)
        if len(made.requests("POST")) == 2:
            scope.cancel()
        return answer

    monkeypatch.setattr(made.account("vectorize").client, "send", cancelled_meanwhile)
    with scope:
        await apply(made, plan)
    assert scope.cancelled_caught
    states = rows(made.engine.database, "SELECT number, state FROM plan_steps WHERE state <> 'waiting' ORDER BY number")
    assert [(row["number"], row["state"]) for row in states] == [(1, "done"), (2, "done")]
    assert applied(await apply(made, plan))["status"] == "done"
    assert len(made.requests("POST")) == 3


async def test_two_applies_at_once_are_one(made: Bench):
    plan = await stored(made, source(1, "first"), source(2, "second", needs=(1,)))
    others: list[str] = []

    class Meets(FakeCaller):
        async def progress(self, message: str) -> None:
            result = await apply(made, plan)
            others.append(result.content["error"]["code"])

    assert applied(await apply(made, plan, Meets()))["status"] == "done"
    assert others == ["in_progress"] * 2
    assert len(made.requests("POST")) == 2


class StepCount:
    """The time that a call may wait for the database, as if each of its steps took a tenth of it."""

    steps = 0

    @property
    def left(self) -> float:
        return STEP_SECONDS if self.steps < 10 else 0.0

    @left.setter
    def left(self, _: float) -> None:
        self.steps += 1


@pytest.mark.parametrize("tool", ["find_connectors", "plan_connectors", "apply_plan"])
async def test_the_parts_of_a_call_have_each_the_time_that_a_call_may_wait_for_the_database(
    made: Bench, monkeypatch: pytest.MonkeyPatch, tool: str
):
    manifest = (await made.engine.call("export_connectors", {}, FakeCaller())).content["data"]["manifest"]
    plan = (await made.engine.call("plan_connectors", {"manifest": manifest}, FakeCaller())).content["data"]
    monkeypatch.setattr(database_module, "_Allowance", StepCount)
    arguments = {"find_connectors": {}, "plan_connectors": {"manifest": manifest}}
    result = await made.engine.call(tool, arguments.get(tool, {"plan_id": plan["plan_id"]}), FakeCaller())
    assert not result.is_error, result.content
    assert not [each for each in result.content["meta"].get("warnings", ()) if "store" in each]


async def test_of_two_plans_of_one_manifest_only_one_that_knows_of_the_other_is_applied(made: Bench, clock: Clock):
    first, second = [await stored(made, source(1, "first")) for _ in range(2)]
    refused: list[dict[str, Any]] = []

    class Meets(FakeCaller):
        async def progress(self, message: str) -> None:
            refused.append((await apply(made, second)).content["error"])

    assert applied(await apply(made, first, Meets()))["status"] == "done"
    refused.append((await apply(made, second)).content["error"])
    assert [each["code"] for each in refused] == ["in_progress", "target_changed"]
    assert len(made.requests("POST")) == 1
    another = await stored(made, source(1, "first"), manifest="another")
    assert applied(await apply(made, another))["status"] == "done"


async def test_a_plan_that_was_left_is_not_continued_once_a_later_one_was_begun(made: Bench):
    made.sandbox.inject(Fault(method="POST", path_glob=CREATED, status=500))
    left = await stored(made, source(1, "first"))
    assert applied(await apply(made, left))["status"] == "incomplete"
    assert applied(await apply(made, await stored(made, source(1, "first"))))["status"] == "done"
    posts = len(made.requests("POST"))
    assert (await apply(made, left)).content["error"]["code"] == "target_changed"
    assert len(made.requests("POST")) == posts


async def test_nobody_decides_about_a_plan_that_can_no_longer_be_begun(bench: BenchMaker):
    made = bench(policy="vectorize_update_*=approve")
    update = await change(made, 1, "crawler", seed.VECTORIZE_WEB_CRAWLER, "https://planned.example.com")
    outdated, later = await stored(made, update), await stored(made, source(1, "first"))
    assert applied(await apply(made, later))["status"] == "done"
    assert (await apply(made, outdated)).content["error"]["code"] == "target_changed"


@pytest.mark.parametrize("is_applied", [True, False])
@pytest.mark.parametrize("kind", ["hang_up", "status"])
async def test_after_an_unknown_outcome_it_looks_before_it_creates_again(
    made: Bench, kind: FaultKind, is_applied: bool
):
    """A platform that fails in its own words, with a 500, may have carried out what it was asked to."""
    made.sandbox.inject(Fault(method="POST", path_glob=CREATED, kind=kind, status=500, applied=is_applied))
    for status in (403, 500):
        made.sandbox.inject(Fault(method="GET", path_glob=CREATED, status=status))
    plan = await stored(made, source(1, "first"), source(2, "second", needs=(1,)))
    for failed in ("unknown" if kind == "hang_up" else "not_done", "unknown"):
        # As long as it cannot look, it does not create.
        answer = applied(await apply(made, plan))
        assert (answer["status"], entries(answer[failed])[0]) == ("incomplete", "sources.first")
    assert applied(await apply(made, plan))["status"] == "done"
    names = [row["name"] for row in await sources(made)]
    assert (names.count("first"), names.count("second")) == (1, 1)
    assert len(made.requests("POST")) == (2 if is_applied else 3)


@pytest.mark.parametrize("kind", ["hang_up", "status", "truncated_json", "huge"])
async def test_a_lost_answer_is_looked_up_at_once(made: Bench, kind: FaultKind):
    made.sandbox.inject(Fault(method="POST", path_glob=CREATED, kind=kind, status=500, applied=True))
    plan = await stored(made, source(1, "first"), source(2, "second", needs=(1,)))
    assert applied(await apply(made, plan))["status"] == "done"
    assert len(made.requests("POST")) == 2


async def test_what_was_turned_away_is_sent_again_without_a_look(made: Bench):
    made.sandbox.inject(Fault(method="POST", path_glob=CREATED, status=503))
    plan = await stored(made, source(1, "first"))
    assert applied(await apply(made, plan))["not_done"][0]["code"] == "upstream_failed"
    made.sandbox.inject(Fault(method="GET", path_glob=CREATED, status=403))
    assert applied(await apply(made, plan))["status"] == "done"
    assert len(made.requests("POST")) == 2


async def test_what_the_platform_shows_late_is_done_though_no_check_can_find_it(made: Bench):
    made.sandbox.inject(Fault(method="GET", path_glob=f"{CREATED}/*", status=404, times=9))
    answer = applied(await apply(made, await stored(made, source(1, "first"))))
    assert (answer["status"], answer["done"][0]["works"]) == ("done", "unknown")


async def test_after_a_crash_the_lease_runs_out_and_the_next_call_looks_up_what_was_begun(
    bench: BenchMaker, database: SqliteDatabase, clock: Clock
):
    made = bench(database=database)
    plan = await stored(made, source(1, "first"), source(2, "second"))
    assert applied(await apply(made, plan))["status"] == "done"
    # What a process leaves behind that dies after the first creation was sent.
    rows(database, "UPDATE plans SET status = 'begun', lease_owner = 'dead', lease_until = epoch() + 60 RETURNING id")
    rows(database, "UPDATE plan_steps SET state = 'begun', identifier = NULL RETURNING number")
    waits = (await apply(made, plan)).content["error"]
    assert (waits["code"], waits["retry_after"]) == ("in_progress", 60)
    clock.now += 61
    assert applied(await apply(made, plan))["status"] == "done"
    assert len(made.requests("POST")) == 2


async def test_a_database_that_fails_while_actions_run_side_by_side_is_named(
    made: Bench, monkeypatch: pytest.MonkeyPatch
):
    def fail(*_: Any) -> None:
        raise made.engine.database.failure("the disk is full")

    plan = await stored(made, *(adoption(number) for number in (1, 2)))
    with monkeypatch.context() as patched:
        patched.setattr(applying, "remember", fail)
        error = (await apply(made, plan)).content["error"]
    assert (error["code"], "the disk is full" in error["message"]) == ("store_unavailable", True)
    assert applied(await apply(made, plan))["status"] == "done"


async def test_what_was_made_is_remembered_with_its_secrets_by_digest(made: Bench):
    plan = await stored(made, source(1, "first"), adoption(2))
    answer = applied(await apply(made, plan))
    account = made.account("vectorize")
    known = await Journal(made.engine.database).remembered("ingestion", [account])
    assert {entry: identity.identifier for (_, entry), identity in known.items()} == {
        row["entry"]: row["id"] for row in answer["done"]
    }
    assert known[account_key(account), "sources.first"].declared["type"] == "WEB_CRAWLER"
    assert known[account_key(account), "sources.crawler"].declared == {"name": "crawler"}
