"""Applying a plan: one decision, every action as a call, and what is done when something goes wrong."""

from __future__ import annotations

import json
from typing import Any

import pytest

from connector_mcp.engine.caller import AnswerDue, ElicitationReply, Resumed
from connector_mcp.operations.operation import Effect
from connector_mcp.provisioning.plan import Action
from connector_mcp.sandbox.faults import Fault
from connector_mcp.state.sqlite import SqliteDatabase
from tests.engine.conftest import AsksByReturning, Bench, BenchMaker, FakeCaller, yes
from tests.provisioning.manifests import secrets
from tests.provisioning.plans import applied, apply, deletion, entries, source, sources, stored
from tests.records import Clock, rows

pytestmark = pytest.mark.anyio


async def test_a_plan_is_applied_in_the_order_in_which_its_actions_need_each_other(made: Bench):
    pipeline = source(3, "third", "Docs of ${sources.first.id}", needs=(1, 2))
    plan = await stored(made, source(1, "first"), source(2, "second"), pipeline)
    answer = applied(await apply(made, plan))
    assert answer["status"] == "done"
    assert entries(answer["done"]) == ["sources.first", "sources.second", "sources.third"]
    ids = {row["entry"]: row["id"] for row in answer["done"]}
    assert f"Docs of {ids['sources.first']}" in [row["name"] for row in await sources(made)]
    records = [json.loads(line) for line in made.audit_lines]
    begun = [record["tool"] for record in records if record.get("phase") == "begun"]
    assert begun == ["apply_plan", *["vectorize_create_source_connector"] * 3]
    # Applying it again changes nothing.
    count = len(made.requests("POST"))
    assert applied(await apply(made, plan)) == answer
    assert len(made.requests("POST")) == count
    assert answer["counts"] == {"done": 3, "not_done": 0, "unknown": 0, "works_no": 3}


async def test_one_question_shows_the_whole_plan_in_both_eras_of_the_protocol(bench: BenchMaker):
    made = bench()
    doomed = (await sources(made))[0]["id"]
    plan = await stored(made, source(1, "first"), deletion(2, "old", doomed, losses=("Its documents",), needs=(1,)))
    caller = FakeCaller(yes("ingestion"))
    assert applied(await apply(made, plan, caller))["status"] == "done"
    [question] = caller.questions
    assert question.message.splitlines()[0] == "Create, destroy: apply plan “ingestion” (sandbox)"
    assert "Deletes sources.old “old”; Its documents" in question.message.splitlines()[1]
    assert "create sources.first “first” (vectorize)" in question.message

    doomed = (await sources(made))[0]["id"]
    plan = await stored(made, source(1, "second"), deletion(2, "old", doomed), manifest="other")
    asking = AsksByReturning()
    with pytest.raises(AnswerDue):
        await apply(made, plan, asking)
    assert "second" not in [row["name"] for row in await sources(made)]
    answering = FakeCaller(resumed=Resumed(asking.tickets[0], yes("other")))
    assert applied(await apply(made, plan, answering))["status"] == "done"
    assert answering.questions == []
    # Each action has a record of its own, with who decided about the plan.
    records = [json.loads(line) for line in made.audit_lines]
    deletions = [each for each in records if each["tool"] == "vectorize_delete_source_connector"]
    assert {(each["decision"], each["decided_by"], each["channel"]) for each in deletions} == {
        ("ask", "client test 1", "elicitation")
    }


async def test_nothing_is_done_where_the_person_says_no(made: Bench):
    doomed = (await sources(made))[0]["id"]
    plan = await stored(made, source(1, "first"), deletion(2, "old", doomed))
    result = await apply(made, plan, FakeCaller(ElicitationReply("decline", {})))
    assert result.content["error"]["code"] == "refused"
    assert made.requests("POST") == []


async def test_a_parked_plan_runs_once_it_is_approved(bench: BenchMaker):
    made = bench(transport="http")
    caller = FakeCaller(transport="http", principal="ci")
    doomed = (await sources(made))[0]["id"]
    plan = await stored(made, source(1, "first"), deletion(2, "old", doomed), principal="ci")
    parked = (await apply(made, plan, caller)).content["error"]
    assert parked["code"] == "approval_required"
    approval = await made.engine.approvals.decide(parked["approval"]["id"], True, "operator ops")
    assert (approval.target, approval.deletes, approval.digest) == ("ingestion", True, plan.digest)
    for status, outcome in ("incomplete", "incomplete"), ("done", "ok"), ("done", "ok"):
        made.sandbox.inject(Fault(method="DELETE", status=422, times=int(status == "incomplete")))
        assert applied(await apply(made, plan, caller))["status"] == status
        assert (await made.engine.approvals.get(approval.id)).outcome == outcome
    deletions = [
        each for each in map(json.loads, made.audit_lines) if each["tool"] == "vectorize_delete_source_connector"
    ]
    assert {(each["phase"], each["decided_by"], each["channel"]) for each in deletions} == {
        ("begun", "operator ops", "approvals"), ("ended", "operator ops", "approvals")
    }  # fmt: skip


async def test_the_strictest_rule_about_any_action_decides(bench: BenchMaker):
    made = bench(policy="vectorize_create_*=approve,destroy=allow")
    plan = await stored(made, source(1, "first"))
    assert (await apply(made, plan)).content["error"]["code"] == "approval_required"
    made = bench(policy="vectorize_create_*=block")
    plan = await stored(made, source(1, "first"))
    blocked = (await apply(made, plan)).content["error"]
    assert blocked["code"] == "blocked"
    assert "with effect create is blocked" in blocked["message"]


QDRANT = {"name": "Q", "type": "QDRANT", "config": {"host": "qdrant.example", "api-key": "secret://s3_key"}}
TO_A_CHOSEN_HOST = {"tool": "vectorize_create_destination_connector", "arguments": {"connectors": [QDRANT]}}
SENT = (("s3_key", "qdrant.example"),)


def qdrant(**others: Any) -> Action:
    """The creation of a destination that sends a secret to a host of the manifest's choice."""
    made = {**TO_A_CHOSEN_HOST, "entry": "destinations.q", "declared": QDRANT, "effect": Effect.DESTROY}
    return source(1, "q", **made | others)


async def test_a_secret_that_goes_to_a_chosen_host_is_planned_asked_about_and_recorded(bench: BenchMaker):
    made = bench(secrets=secrets(), policy="destroy=allow", toolsets=("all",))
    planned = await made.engine.call(
        "plan_connectors", {"manifest": {"name": "m", "destinations": {"q": QDRANT}}}, FakeCaller()
    )
    caller = FakeCaller(yes())
    told = await made.engine.call("apply_plan", {"plan_id": planned.content["data"]["plan_id"]}, caller)
    assert applied(told)["status"] == "done"
    (asked,) = caller.questions
    assert "Sends the secret s3_key to qdrant.example" in asked.message


@pytest.mark.parametrize(("rule", "code"), [("block", "blocked"), ("approve", "approval_required")])
async def test_the_rule_for_disclosures_counts_beside_one_that_lets_the_same_action_destroy(
    bench: BenchMaker, rule: str, code: str
):
    made = bench(secrets=secrets(), policy=f"destroy=allow,disclose={rule}", toolsets=("all",))
    plan = await stored(made, qdrant(disclosed=SENT))
    assert (await apply(made, plan)).content["error"]["code"] == code
    assert made.requests("POST") == []


async def test_an_action_that_would_send_a_secret_which_the_plan_did_not_name_is_refused(bench: BenchMaker):
    made = bench(secrets=secrets(), policy="destroy=allow,disclose=allow", toolsets=("all",))
    (row,) = applied(await apply(made, await stored(made, qdrant())))["not_done"]
    assert "s3_key to qdrant.example. That is more than the plan said" in row["why"]
    assert made.requests("POST") == []


async def test_a_replacement_is_decided_even_where_a_rule_allows_everything(bench: BenchMaker):
    made = bench(policy="destroy=allow")
    plan = await stored(made, source(1, "first", verb="replace"))
    caller = FakeCaller(yes())
    assert applied(await apply(made, plan, caller))["status"] == "done"
    assert len(caller.questions) == 1


async def test_a_plan_with_too_many_deletions_is_refused_with_their_names(bench: BenchMaker):
    made = bench(plan_max_destructive=1)
    rows = await sources(made)
    plan = await stored(made, *(deletion(number, f"old-{number}", rows[number]["id"]) for number in (1, 2)))
    blocked = (await apply(made, plan, FakeCaller(yes("ingestion")))).content["error"]
    assert blocked["code"] == "blocked"
    assert all(name in blocked["message"] for name in ("sources.old-1", "sources.old-2"))
    assert made.requests("DELETE") == []


async def test_a_plan_belongs_to_who_made_it_and_can_be_begun_until_it_expires(
    bench: BenchMaker, database: SqliteDatabase, clock: Clock
):
    made = bench(database=database)
    plan = await stored(made, source(1, "first"))
    other = (await apply(made, plan, FakeCaller(principal="other"))).content["error"]
    assert other["code"] == "invalid_arguments"
    clock.now += 601
    late = (await apply(made, plan)).content["error"]
    assert (late["code"], late["fix"]) == (
        "target_changed",
        "Make a new plan with plan_connectors: it takes over what was done.",
    )
    assert made.requests("POST") == []


async def test_a_plan_that_was_changed_in_the_database_is_not_applied(made: Bench):
    plan = await stored(made, source(1, "first"))
    rows(made.engine.database, "UPDATE plans SET plan = replace(plan, 'first', 'other') RETURNING id")
    assert (await apply(made, plan)).content["error"]["code"] == "store_unavailable"
    assert made.requests("POST") == []
