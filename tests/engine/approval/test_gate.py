"""Who decides whether a call goes on: the gate's truth table, and everything that must not open it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from connector_mcp.engine.approval.gate import Candidate, Gate, judge, permits, question
from connector_mcp.engine.approval.queue import Approvals
from connector_mcp.engine.caller import AnswerDue, CannotAsk, ElicitationReply, Resumed
from connector_mcp.engine.policy import Policy
from connector_mcp.engine.preview import Change, Preview
from connector_mcp.errors import (
    ApprovalRequired,
    Blocked,
    ConfirmationInvalid,
    ConnectorError,
    Refused,
    StoreUnavailable,
    TargetChanged,
)
from connector_mcp.operations.operation import Effect
from connector_mcp.state.sqlite import SqliteStore
from tests.engine.conftest import AsksByReturning, Clock, FakeCaller, yes

pytestmark = pytest.mark.anyio

TOOL = "logto_delete_connector"


def preview(effect: Effect = Effect.DESTROY, name: str = "Docs", **more: Any) -> Preview:
    values: dict[str, Any] = {
        "sentence": f"Deletes “{name}”.",
        "losses": (),
        "changes": (),
        "snapshot": {"name": name},
        **more,
    }
    return Preview(effect=effect, name=name, **values)


def candidate(effect: Effect = Effect.DESTROY, *, declared: Effect | None = None, **more: Any) -> Candidate:
    values: dict[str, Any] = {
        "tool": TOOL,
        "platform": "logto",
        "profile": "default",
        "declared": declared or effect,
        "deletes": (declared or effect) is Effect.DESTROY,
        "preview": preview(effect),
        "fingerprint": "f1",
        "digest": "d1",
        "arguments": {"id": "x"},
    }
    return Candidate(**{**values, **more})


class House:
    """A gate with its approvals."""

    def __init__(self, store: SqliteStore, clock: Clock) -> None:
        self.store = store
        self.clock = clock
        self.approvals = Approvals(store, ttl=10_000, clock=clock)

    def gate(
        self, policy: str = "", *, transport: Any = "stdio", channel: bool = True, read_only: bool = False
    ) -> Gate:
        rules = Policy.parse(policy, read_only=read_only, transport=transport)
        return Gate(rules, self.approvals, self.store, operator_channel=channel, clock=self.clock)


@pytest.fixture
def house(store: SqliteStore, clock: Clock) -> House:
    return House(store, clock)


async def outcome(gate: Gate, made: Candidate, caller: Any) -> str:
    try:
        passage = await gate.pass_through(made, caller)
    except AnswerDue:
        return "asked"
    except ConnectorError as error:
        return error.code
    return f"passes by {passage.decided_by}"


SCOPES = {
    Effect.READ: "connectors:read",
    Effect.CREATE: "connectors:write",
    Effect.UPDATE: "connectors:write",
    Effect.DESTROY: "connectors:destroy",
}


@pytest.mark.parametrize("effect", Effect)
@pytest.mark.parametrize("decision", ["default", "allow", "ask", "approve", "block"])
@pytest.mark.parametrize("transport", ["stdio", "http", "cli"])
async def test_the_truth_table(house: House, effect: Effect, decision: str, transport: Any) -> None:
    default = "allow" if effect is not Effect.DESTROY else "approve" if transport == "http" else "ask"
    wanted = default if decision == "default" else decision
    count = 0
    for read_only in (False, True):
        for channel in (False, True):
            for scopes in (None, frozenset[str](), frozenset({SCOPES[effect]})):
                for asks in ("never", "inline", "returning", "in vain"):
                    caller = {
                        "never": FakeCaller(),
                        "inline": FakeCaller(lambda q: yes("Docs" if "type" in q.message else True)),
                        "returning": AsksByReturning(),
                        "in vain": FakeCaller(CannotAsk()),
                    }[asks]
                    caller = replace(caller, scopes=scopes, transport=transport)
                    policy = "" if decision == "default" else f"{effect}={decision}"
                    gate = house.gate(policy, transport=transport, channel=channel, read_only=read_only)
                    count += 1
                    if scopes == frozenset() or (read_only and effect is not Effect.READ) or wanted == "block":
                        expected = "blocked"
                    elif wanted == "allow":
                        expected = "passes by policy"
                    elif wanted == "ask" and asks == "inline":
                        expected = "passes by person at test 1"
                    elif wanted == "ask" and asks == "returning":
                        expected = "asked"
                    else:
                        expected = "approval_required" if channel else "blocked"
                    made = candidate(effect, digest=f"d{count}")
                    assert await outcome(gate, made, caller) == expected, (read_only, channel, scopes, asks)


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("update=block,destroy=allow", "blocked"),
        ("update=approve,destroy=allow", "approval_required"),
        ("update=allow,destroy=block", "blocked"),
        ("update=allow,destroy=approve", "approval_required"),
        ("update=allow,destroy=allow", "passes by policy"),
    ],
)
async def test_an_update_that_destroys_obeys_both_rules(house: House, policy: str, expected: str) -> None:
    made = candidate(Effect.DESTROY, declared=Effect.UPDATE)
    assert await outcome(house.gate(policy), made, FakeCaller()) == expected


async def test_a_raised_effect_needs_the_scope_to_destroy(house: House) -> None:
    made = candidate(Effect.DESTROY, declared=Effect.UPDATE)
    for scopes in ({"connectors:write"}, {"connectors:destroy"}):
        caller = FakeCaller(scopes=frozenset(scopes))
        assert await outcome(house.gate("destroy=allow"), made, caller) == "blocked"
    both = FakeCaller(scopes=frozenset({"connectors:write", "connectors:destroy"}))
    assert await outcome(house.gate("destroy=allow"), made, both) == "passes by policy"


def test_what_can_never_pass_is_not_permitted() -> None:
    policy = Policy.parse(f"{TOOL}=block", read_only=False, transport="stdio")
    assert not permits(policy, TOOL, Effect.DESTROY, None)
    assert permits(policy, "other_tool", Effect.DESTROY, None)
    assert not permits(policy, "other_tool", Effect.DESTROY, frozenset({"connectors:read"}))


async def test_a_refusal_says_which_setting_opens_it(house: House) -> None:
    with pytest.raises(Blocked) as blocked:
        await house.gate(channel=False).pass_through(candidate(), FakeCaller())
    assert "CONNECTOR_MCP_APPROVALS" in blocked.value.fix
    assert f"--policy '{TOOL}:destroy=allow'" in blocked.value.fix
    assert "Deletes “Docs”." in blocked.value.message
    with pytest.raises(Blocked) as by_rule:
        await house.gate("destroy=block").pass_through(candidate(), FakeCaller())
    assert "destroy=block" in by_rule.value.fix


def test_a_deletion_is_confirmed_by_typing_the_name_and_anything_less_by_yes() -> None:
    deletion = question(candidate())
    assert deletion.message.endswith("\n\nTo confirm, type the name: Docs")
    assert deletion.schema["properties"]["confirm"]["type"] == "string"
    losing = candidate(declared=Effect.UPDATE, preview=preview(changes=(Change("config.scope", "a", None),)))
    update = question(losing)
    assert update.schema["properties"]["confirm"]["type"] == "boolean"
    assert update.message == "Deletes “Docs”.\n- config.scope: a → (unset)\n\nRun this call?"
    for asked in (deletion, update):
        assert asked.schema["required"] == ["confirm"]
        assert "default" not in asked.schema["properties"]["confirm"]


NOT_THE_NAME = [
    "docs", "DOCS", " Docs", "Docs ", "Doc", "Docs.", "", "“Docs”", True, None, 1, ["Docs"], {"confirm": "Docs"},
]  # fmt: skip


@pytest.mark.parametrize("given", NOT_THE_NAME, ids=repr)
def test_only_the_very_name_confirms_a_deletion(given: Any) -> None:
    judge(candidate(), ElicitationReply("accept", {"confirm": "Docs"}))
    with pytest.raises(ConfirmationInvalid):
        judge(candidate(), ElicitationReply("accept", {"confirm": given}))


@pytest.mark.parametrize("given", [False, "true", "True", "yes", 1, 1.0, None, "Docs", [True]], ids=repr)
def test_only_true_itself_confirms_a_change(given: Any) -> None:
    update = candidate(declared=Effect.UPDATE)
    judge(update, ElicitationReply("accept", {"confirm": True}))
    with pytest.raises(ConfirmationInvalid):
        judge(update, ElicitationReply("accept", {"confirm": given}))


@pytest.mark.parametrize("name", ["", "True", "None"])
def test_a_target_without_a_name_cannot_be_confirmed_by_accident(name: str) -> None:
    made = candidate(preview=preview(name=name))
    for content in ({}, {"confirm": ""}, {"confirm": None}, {"confirm": True}, {"Confirm": name}):
        with pytest.raises(ConfirmationInvalid):
            judge(made, ElicitationReply("accept", content))


@pytest.mark.parametrize("action", ["decline", "cancel", "Accept", "", None])
def test_every_action_but_accept_is_a_refusal_even_with_the_right_words(action: Any) -> None:
    for made, confirm in ((candidate(), "Docs"), (candidate(declared=Effect.UPDATE), True)):
        with pytest.raises(Refused) as refused:
            judge(made, ElicitationReply(action, {"confirm": confirm}))
        assert refused.value.details == {"refused_by": "person"}


async def asked(house: House, made: Candidate | None = None, **caller: Any) -> str:
    returning = AsksByReturning(**caller)
    with pytest.raises(AnswerDue) as due:
        await house.gate().pass_through(made or candidate(), returning)
    return due.value.ticket


def answering(ticket: str, reply: ElicitationReply | None = None, **caller: Any) -> Any:
    return AsksByReturning(resumed=Resumed(ticket, reply or yes("Docs")), **caller)


async def test_a_ticket_is_answered_once(house: House) -> None:
    ticket = await asked(house)
    passage = await house.gate().pass_through(candidate(), answering(ticket))
    assert (passage.decided_by, passage.asked_inline) == ("person at test 1", False)
    with pytest.raises(ConfirmationInvalid):
        await house.gate().pass_through(candidate(), answering(ticket))


@pytest.mark.parametrize(
    "reply",
    [ElicitationReply("decline", {}), ElicitationReply("cancel", {}), ElicitationReply("accept", {"confirm": "docs"})],
)
async def test_a_refused_ticket_cannot_be_answered_again(house: House, reply: ElicitationReply) -> None:
    ticket = await asked(house)
    with pytest.raises((Refused, ConfirmationInvalid)):
        await house.gate().pass_through(candidate(), answering(ticket, reply))
    with pytest.raises(ConfirmationInvalid):
        await house.gate().pass_through(candidate(), answering(ticket))


@pytest.mark.parametrize(
    "other",
    [{"digest": "d2"}, {"tool": "other_tool"}, {"digest": "d2", "fingerprint": "f2"}],
    ids=["arguments", "tool", "both"],
)
async def test_a_ticket_of_another_call_opens_nothing(house: House, other: dict[str, Any]) -> None:
    ticket = await asked(house)
    with pytest.raises(ConfirmationInvalid):
        await house.gate().pass_through(candidate(**other), answering(ticket))


async def test_a_ticket_of_another_principal_or_none_at_all_opens_nothing(house: House) -> None:
    ticket = await asked(house)
    with pytest.raises(ConfirmationInvalid):
        await house.gate().pass_through(candidate(), answering(ticket, principal="mallory"))
    for made_up in ("", "x", "d1"):
        with pytest.raises(ConfirmationInvalid):
            await house.gate().pass_through(candidate(), answering(made_up))


async def test_a_ticket_expires(house: House, clock: Clock) -> None:
    ticket = await asked(house)
    clock.now += 601
    with pytest.raises(ConfirmationInvalid):
        await house.gate().pass_through(candidate(), answering(ticket))


async def test_a_target_that_changed_since_is_not_touched_and_the_difference_told(house: House) -> None:
    ticket = await asked(house)
    changed = candidate(fingerprint="f2", preview=preview(snapshot={"name": "Renamed"}))
    with pytest.raises(TargetChanged) as refused:
        await house.gate().pass_through(changed, answering(ticket))
    assert refused.value.details["differences"] == [{"field": "name", "before": "Docs", "after": "Renamed"}]
    with pytest.raises(ConfirmationInvalid):
        await house.gate().pass_through(candidate(), answering(ticket))


async def test_an_answer_does_not_help_where_policy_allows_no_question(house: House) -> None:
    ticket = await asked(house)
    for policy, code in (("destroy=approve", "approval_required"), ("destroy=block", "blocked")):
        assert await outcome(house.gate(policy), candidate(), answering(ticket)) == code


async def test_a_question_that_could_not_be_put_is_forgotten(house: House) -> None:
    assert await outcome(house.gate(), candidate(), FakeCaller(CannotAsk())) == "approval_required"
    assert await house.store.entries("questions") == []


async def parked(house: House, made: Candidate | None = None, **caller: Any) -> ApprovalRequired:
    with pytest.raises(ApprovalRequired) as due:
        await house.gate().pass_through(made or candidate(), FakeCaller(**caller))
    return due.value


async def test_a_parked_call_says_how_to_approve_it_and_keeps_its_details(house: House) -> None:
    change = Change("a", 1, None)
    error = await parked(house, candidate(preview=preview(losses=("Unsets a",), changes=(change,))))
    told = error.details["approval"]
    assert told["command"] == f"connector-mcp approvals approve {told['id']}"
    assert (error.details["effect"], error.details["losses"]) == ("Deletes “Docs”.", ["Unsets a"])
    kept = await house.approvals.get(told["id"])
    assert (kept.target, kept.losses, kept.arguments, kept.principal) == ("Docs", ("Unsets a",), {"id": "x"}, "local")
    assert [change.model_dump() for change in kept.diff] == [{"field": "a", "before": 1, "after": None}]
    assert (await parked(house)).details["approval"]["id"] == told["id"]


async def test_an_approved_call_runs_once_and_is_then_parked_anew(house: House) -> None:
    first = (await parked(house)).details["approval"]["id"]
    await house.approvals.decide(first, True, "ops")
    assert (await house.gate().pass_through(candidate(), FakeCaller())).decided_by == "ops"
    assert (await parked(house)).details["approval"]["id"] != first


async def test_of_many_identical_calls_one_uses_the_approval(house: House) -> None:
    await house.approvals.decide((await parked(house)).details["approval"]["id"], True, "ops")
    results: list[str] = []

    async def run() -> None:
        results.append(await outcome(house.gate(), candidate(), FakeCaller()))

    async with anyio.create_task_group() as tasks:
        for _ in range(8):
            tasks.start_soon(run)
    assert sorted(results) == ["approval_required"] * 7 + ["passes by ops"]


async def test_an_approval_is_for_its_digest_and_its_target_only(house: House) -> None:
    approval = (await parked(house)).details["approval"]["id"]
    await house.approvals.decide(approval, True, "ops")
    assert await outcome(house.gate(), candidate(digest="d2"), FakeCaller()) == "approval_required"
    assert await outcome(house.gate(), candidate(fingerprint="f2"), FakeCaller()) == "target_changed"
    assert (await house.approvals.get(approval)).status == "void"
    assert await outcome(house.gate(), candidate(), FakeCaller()) == "approval_required"


async def test_a_denial_is_told_once_with_its_reason(house: House) -> None:
    approval = (await parked(house)).details["approval"]["id"]
    await house.approvals.decide(approval, False, "ops", "not on a Friday")
    with pytest.raises(Refused, match="not on a Friday") as refused:
        await house.gate().pass_through(candidate(), FakeCaller())
    assert refused.value.details == {"refused_by": "ops", "channel": "approvals"}
    assert (await parked(house)).details["approval"]["id"] != approval


async def test_an_approval_opens_nothing_that_policy_or_a_missing_channel_blocks(house: House) -> None:
    await house.approvals.decide((await parked(house)).details["approval"]["id"], True, "ops")
    assert await outcome(house.gate("destroy=block"), candidate(), FakeCaller()) == "blocked"
    assert await outcome(house.gate(read_only=True), candidate(), FakeCaller()) == "blocked"
    assert await outcome(house.gate(channel=False), candidate(), FakeCaller()) == "blocked"
    assert await outcome(house.gate(), candidate(), FakeCaller()) == "passes by ops"


@pytest.mark.parametrize("asks", ["never", "inline", "returning", "resumed"])
async def test_without_the_store_nothing_is_decided(tmp_path: Path, clock: Clock, asks: str) -> None:
    (tmp_path / "state.db").mkdir()
    broken = SqliteStore(tmp_path / "state.db", clock=clock)
    caller = {
        "never": FakeCaller(),
        "inline": FakeCaller(yes("Docs")),
        "returning": AsksByReturning(),
        "resumed": answering("ticket"),
    }[asks]
    with pytest.raises(StoreUnavailable):
        await House(broken, clock).gate().pass_through(candidate(), caller)
    assert caller.questions == []


async def test_a_parked_call_names_the_console_s_page_where_there_is_one(house: House) -> None:
    rules = Policy.parse("", read_only=False, transport="http")
    gate = Gate(
        rules, house.approvals, house.store, operator_channel=True, decide_at="https://c/console", clock=house.clock
    )
    with pytest.raises(ApprovalRequired) as parked:
        await gate.pass_through(candidate(), FakeCaller())
    approval = parked.value.details["approval"]
    assert approval["page"] == f"https://c/console/approvals/{approval['id']}"
    assert approval["page"] in parked.value.fix
    assert approval["command"] in parked.value.fix


async def test_a_passage_says_where_the_operator_decided(house: House) -> None:
    gate = house.gate(transport="http")
    with pytest.raises(ApprovalRequired) as parked:
        await gate.pass_through(candidate(), FakeCaller())
    await house.approvals.decide(parked.value.details["approval"]["id"], True, "operator alice", channel="console")
    passage = await gate.pass_through(candidate(), FakeCaller())
    assert (passage.decided_by, passage.channel) == ("operator alice", "console")
