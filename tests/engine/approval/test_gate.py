"""Who decides whether a call goes on: the gate's truth table, and everything that must not open it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest

from connector_mcp import errors
from connector_mcp.engine.approval.gate import Gate, permits
from connector_mcp.engine.approval.queue import Approvals
from connector_mcp.engine.approval.wording import MAX_PARKED, MAX_PARKED_BYTES, Candidate, judge, question
from connector_mcp.engine.caller import AnswerDue, CannotAsk, ElicitationReply, Resumed
from connector_mcp.engine.policy import Policy
from connector_mcp.engine.preview import Change, Preview
from connector_mcp.operations.operation import Effect
from connector_mcp.state.sqlite import SqliteDatabase
from tests.engine.conftest import AsksByReturning, Clock, FakeCaller, Passed, cross, yes
from tests.records import rows

pytestmark = pytest.mark.anyio

Failure = TypeVar("Failure", bound=Exception)
TOOL = "logto_delete_connector"


def preview(effect: Effect = Effect.DESTROY, name: str = "Docs", **more: Any) -> Preview:
    values = {"sentence": f"Deletes “{name}”.", "losses": (), "changes": (), "snapshot": {"name": name}, **more}
    return Preview(effect=effect, name=name, **values)


def candidate(effect: Effect = Effect.DESTROY, *, declared: Effect | None = None, **more: Any) -> Candidate:
    declared = declared or effect
    values: dict[str, Any] = {
        "tool": TOOL, "platform": "logto", "profile": "default", "declared": declared, "fingerprint": "f1",
        "preview": preview(effect), "digest": "d1", "arguments": {"id": "x"}, "principal": "local", "client": "test 1",
        "address": "https://logto.example",
    }  # fmt: skip
    return Candidate.of(**{**values, **more})


class House:
    """A gate with its approvals."""

    def __init__(self, database: SqliteDatabase) -> None:
        self.database = database
        self.approvals = Approvals(database, ttl=10_000)

    def gate(
        self, policy: str = "", *, transport: Any = "stdio", channel: bool = True, read_only: bool = False, **more: Any
    ) -> Gate:
        rules = Policy.parse(policy, read_only=read_only, transport=transport)
        more = {"reading_seconds": 0.0, **more}
        return Gate(rules, self.approvals, self.database, operator_channel=channel, **more)

    async def cross(self, caller: Any, made: Candidate | None = None, **gate: Any) -> Passed:
        """Pass a call through the gate."""
        whose = {"principal": caller.principal, "client": caller.client}
        made = (made or candidate()).model_copy(update=whose)
        return await cross(self.database, self.gate(**gate), made, caller)

    async def refuse(self, kind: type[Failure], caller: Any, made: Candidate | None = None, **gate: Any) -> Failure:
        """Pass a call through the gate, which has to refuse it, and return the error."""
        with pytest.raises(kind) as refused:
            await self.cross(caller, made, **gate)
        return refused.value

    async def ask(self) -> str:
        """The ticket of a question that is returned."""
        return (await self.refuse(AnswerDue, AsksByReturning())).ticket

    async def park(self) -> str:
        """The id of a parked call."""
        return (await self.refuse(errors.ApprovalRequired, FakeCaller())).details["approval"]["id"]

    async def approve(self) -> None:
        await self.approvals.decide(await self.park(), True, "ops")


@pytest.fixture
def house(database: SqliteDatabase) -> House:
    return House(database)


async def outcome(house: House, made: Candidate, caller: Any, **gate: Any) -> str:
    try:
        passage = await house.cross(caller, made, **gate)
    except AnswerDue:
        return "asked"
    except errors.ConnectorError as error:
        return error.code
    return f"passes by {passage.decided_by}"


SCOPES = {
    Effect.READ: "connectors:read",
    Effect.CREATE: "connectors:write",
    Effect.UPDATE: "connectors:write",
    Effect.DISCLOSE: "connectors:write",
    Effect.DESTROY: "connectors:destroy",
}


@pytest.mark.parametrize("effect", Effect)
@pytest.mark.parametrize("decision", ["default", "allow", "ask", "approve", "block"])
@pytest.mark.parametrize("transport", ["stdio", "http", "cli"])
async def test_the_truth_table(house: House, effect: Effect, decision: str, transport: Any) -> None:
    default = (
        "allow" if effect not in (Effect.DESTROY, Effect.DISCLOSE) else "approve" if transport == "http" else "ask"
    )
    wanted = default if decision == "default" else decision
    count = 0
    for read_only in (False, True):
        for channel in (False, True):
            for scopes in (None, frozenset[str](), frozenset({SCOPES[effect]})):
                for asks in ("never", "inline", "returning", "in vain"):
                    caller = {
                        "never": FakeCaller(),
                        "inline": FakeCaller(lambda q: yes("Docs" if "type the" in q.message else True)),
                        "returning": AsksByReturning(),
                        "in vain": FakeCaller(CannotAsk()),
                    }[asks]
                    caller = replace(caller, scopes=scopes, transport=transport)
                    policy = "" if decision == "default" else f"{effect}={decision}"
                    gate = {"policy": policy, "transport": transport, "channel": channel, "read_only": read_only}
                    count += 1
                    if scopes == frozenset() or (read_only and effect is not Effect.READ) or wanted == "block":
                        expected = "blocked"
                    elif wanted == "allow":
                        expected = "passes by policy"
                    elif wanted == "ask" and asks == "inline":
                        expected = "passes by client test 1"
                    elif wanted == "ask" and asks == "returning":
                        expected = "asked"
                    else:
                        expected = "approval_required" if channel else "blocked"
                    made = candidate(effect, digest=f"d{count}")
                    assert await outcome(house, made, caller, **gate) == expected, (read_only, channel, scopes, asks)


DESTROYING = candidate(Effect.DESTROY, declared=Effect.UPDATE)
DISCLOSING = candidate(Effect.CREATE, disclosed=(("MAIL", "smtp.evil.example"),))


@pytest.mark.parametrize(
    ("made", "policy", "scopes", "expected"),
    [
        (DESTROYING, "update=block,destroy=allow", None, "blocked"),
        (DESTROYING, "update=approve,destroy=allow", None, "approval_required"),
        (DESTROYING, "update=allow,destroy=block", None, "blocked"),
        (DESTROYING, "update=allow,destroy=approve", None, "approval_required"),
        (DESTROYING, "update=allow,destroy=allow", None, "passes by policy"),
        (DESTROYING, "destroy=allow", {"connectors:write"}, "blocked"),
        (DESTROYING, "destroy=allow", {"connectors:destroy"}, "blocked"),
        (DESTROYING, "destroy=allow", {"connectors:write", "connectors:destroy"}, "passes by policy"),
        (DISCLOSING, "", None, "approval_required"),
        (DISCLOSING, "create=allow", None, "approval_required"),
        (DISCLOSING, "disclose=allow", None, "passes by policy"),
        (DISCLOSING, "logto_*=allow", None, "passes by policy"),
        (DISCLOSING, "disclose=allow,create=approve", None, "approval_required"),
        (DISCLOSING, "disclose=block", None, "blocked"),
    ],
)
async def test_a_call_obeys_the_rules_and_scopes_of_all_its_effects(
    house: House, made: Candidate, policy: str, scopes: set[str] | None, expected: str
) -> None:
    caller = FakeCaller(scopes=None if scopes is None else frozenset(scopes))
    assert await outcome(house, made, caller, policy=policy) == expected


def test_what_can_never_pass_is_not_permitted() -> None:
    policy = Policy.parse(f"{TOOL}=block", read_only=False, transport="stdio")
    assert not permits(policy, TOOL, Effect.DESTROY, None)
    assert permits(policy, "other_tool", Effect.DESTROY, None)
    assert not permits(policy, "other_tool", Effect.DESTROY, frozenset({"connectors:read"}))


async def test_a_refusal_says_which_setting_opens_it(house: House) -> None:
    blocked = await house.refuse(errors.Blocked, FakeCaller(), channel=False)
    assert "CONNECTOR_MCP_APPROVALS" in blocked.fix
    assert f"--policy '{TOOL}:destroy=allow'" in blocked.fix
    assert "Deletes “Docs”." in blocked.message
    assert "destroy=block" in (await house.refuse(errors.Blocked, FakeCaller(), policy="destroy=block")).fix


def test_a_deletion_is_confirmed_by_typing_the_name_and_anything_less_by_yes() -> None:
    deletion = question(candidate())
    assert deletion.message == (
        "Delete connector “Docs”\nDeletes “Docs”.\nOn logto, profile default, at https://logto.example\n"
        "Arguments (secrets redacted):\n- id: x\n\nTo confirm, type the name: Docs"
    )
    assert deletion.schema["properties"]["confirm"]["type"] == "string"
    losing = candidate(declared=Effect.UPDATE, preview=preview(changes=(Change("config.scope", "a", None),)))
    update = question(losing)
    assert update.schema["properties"]["confirm"]["type"] == "boolean"
    assert update.message == (
        "Destroy: delete connector “Docs”\nDeletes “Docs”.\n- config.scope: a → (unset)\n"
        "On logto, profile default, at https://logto.example\n"
        "Arguments (secrets redacted):\n- id: x\n\nRun this call?"
    )
    for asked in (deletion, update):
        assert asked.schema["required"] == ["confirm"]
        assert "default" not in asked.schema["properties"]["confirm"]


DELETION, UPDATE = candidate(), candidate(declared=Effect.UPDATE)
CONFIRMING = [(DELETION, each) for each in ("Docs", " Docs ", "Docs\n", "D\u200bocs", "Docs\ufe0f")]
NOT_THE_NAME = (
    "docs", "DOCS", "D ocs", "Doc", "Docs.", "", " ", "“Docs”", True, None, 1, ["Docs"], {"confirm": "Docs"},
)  # fmt: skip
NOT_TRUE = (False, "true", "True", "yes", 1, 1.0, None, "Docs", [True])


def test_only_the_name_as_it_is_read_confirms_a_deletion_and_only_true_a_change() -> None:
    for made, given in (*CONFIRMING, (UPDATE, True)):
        judge(made, yes(given), FakeCaller())
    for made, given in (*((DELETION, each) for each in NOT_THE_NAME), *((UPDATE, each) for each in NOT_TRUE)):
        with pytest.raises(errors.ConfirmationInvalid) as invalid:
            judge(made, yes(given), FakeCaller())
        assert invalid.value.as_dict()["retryable"] is False


@pytest.mark.parametrize("name", ["", "True", "None"])
def test_a_target_without_a_name_cannot_be_confirmed_by_accident(name: str) -> None:
    made = candidate(preview=preview(name=name))
    for content in ({}, {"confirm": ""}, {"confirm": None}, {"confirm": True}, {"Confirm": name}):
        with pytest.raises(errors.ConfirmationInvalid):
            judge(made, ElicitationReply("accept", content), FakeCaller())


@pytest.mark.parametrize("action", ["decline", "cancel", "Accept", "", None])
def test_every_action_but_accept_is_a_refusal_even_with_the_right_words(action: Any) -> None:
    for made, confirm in ((candidate(), "Docs"), (candidate(declared=Effect.UPDATE), True)):
        with pytest.raises(errors.Refused) as refused:
            judge(made, ElicitationReply(action, {"confirm": confirm}), FakeCaller())
        assert refused.value.details == {"refused_by": "client test 1"}


def answering(ticket: str, reply: ElicitationReply | None = None, **caller: Any) -> Any:
    return AsksByReturning(resumed=Resumed(ticket, reply or yes("Docs")), **caller)


async def test_a_ticket_is_answered_once(house: House) -> None:
    ticket = await house.ask()
    passage = await house.cross(answering(ticket))
    assert (passage.decided_by, passage.took_time) == ("client test 1", False)
    await house.refuse(errors.ConfirmationInvalid, answering(ticket))


@pytest.mark.parametrize("reply", [ElicitationReply("decline", {}), ElicitationReply("cancel", {}), yes("docs")])
async def test_a_question_that_cannot_be_closed_after_a_no_takes_no_yes(
    house: House, reply: ElicitationReply, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, ticket = house.gate(), await house.ask()

    async def away(*_: Any) -> None:
        raise errors.StoreUnavailable("The database is away.", fix="Call again.")

    monkeypatch.setattr(Gate, "_drop_question", away)
    for brought, kind in ((reply, errors.StoreUnavailable), (yes("Docs"), errors.ConfirmationInvalid)):
        with pytest.raises(kind):
            await cross(house.database, gate, candidate(), answering(ticket, brought))


@pytest.mark.parametrize("other", [{"digest": "d2"}, {"tool": "other_tool"}, {"digest": "d2", "fingerprint": "f2"}])
async def test_a_ticket_of_another_call_opens_nothing(house: House, other: dict[str, Any]) -> None:
    await house.refuse(errors.ConfirmationInvalid, answering(await house.ask()), candidate(**other))


async def test_a_ticket_of_another_principal_or_none_at_all_opens_nothing(house: House) -> None:
    await house.refuse(errors.ConfirmationInvalid, answering(await house.ask(), principal="mallory"))
    for made_up in ("", "x", "d1"):
        await house.refuse(errors.ConfirmationInvalid, answering(made_up))


async def test_a_ticket_expires(house: House, clock: Clock) -> None:
    ticket = await house.ask()
    clock.now += 601
    await house.refuse(errors.ConfirmationInvalid, answering(ticket))


async def test_a_target_that_changed_since_is_not_touched_and_the_difference_told(house: House) -> None:
    ticket = await house.ask()
    changed = candidate(fingerprint="f2", preview=preview(snapshot={"name": "Renamed"}))
    refused = await house.refuse(errors.TargetChanged, answering(ticket), changed)
    assert refused.details["differences"] == [{"field": "name", "before": "Docs", "after": "Renamed"}]
    await house.refuse(errors.ConfirmationInvalid, answering(ticket))


async def test_an_answer_does_not_help_where_policy_allows_no_question(house: House) -> None:
    ticket = await house.ask()
    for policy, code in (("destroy=approve", "approval_required"), ("destroy=block", "blocked")):
        assert await outcome(house, candidate(), answering(ticket), policy=policy) == code


async def test_a_question_that_could_not_be_put_is_forgotten(house: House) -> None:
    assert await outcome(house, candidate(), FakeCaller(CannotAsk())) == "approval_required"
    assert rows(house.database, "SELECT * FROM questions") == []


async def test_a_parked_call_says_how_to_approve_it_and_keeps_its_details(house: House) -> None:
    change = Change("a", 1, None)
    made = candidate(preview=preview(losses=("Unsets a",), changes=(change,)))
    error = await house.refuse(errors.ApprovalRequired, FakeCaller(), made, decide_at="https://c/console")
    told = error.details["approval"]
    assert told["command"] == f"connector-mcp approvals approve {told['id']}"
    assert told["page"] == f"https://c/console/approvals/{told['id']}"
    assert all(told[way] in error.fix for way in ("command", "page"))
    assert (error.details["effect"], error.details["losses"]) == ("Deletes “Docs”.", ["Unsets a"])
    kept = await house.approvals.get(told["id"])
    assert (kept.target, kept.losses, kept.arguments, kept.principal) == ("Docs", ("Unsets a",), {"id": "x"}, "local")
    assert [change.as_dict() for change in kept.diff] == [{"field": "a", "before": 1, "after": None}]
    assert await house.park() == told["id"]


async def test_an_approval_is_for_its_digest_and_its_target_only(house: House) -> None:
    approval = await house.park()
    await house.approvals.decide(approval, True, "ops")
    assert await outcome(house, candidate(digest="d2"), FakeCaller()) == "approval_required"
    assert await outcome(house, candidate(fingerprint="f2"), FakeCaller()) == "target_changed"
    assert (await house.approvals.get(approval)).status == "void"
    assert await outcome(house, candidate(), FakeCaller()) == "approval_required"


async def test_an_approval_opens_nothing_that_policy_or_a_missing_channel_blocks(house: House) -> None:
    await house.approve()
    assert await outcome(house, candidate(), FakeCaller(), policy="destroy=block") == "blocked"
    assert await outcome(house, candidate(), FakeCaller(), read_only=True) == "blocked"
    assert await outcome(house, candidate(), FakeCaller(), channel=False) == "blocked"
    assert await outcome(house, candidate(), FakeCaller()) == "passes by ops"


@pytest.mark.parametrize("asks", ["never", "inline", "returning", "resumed"])
async def test_without_the_database_nothing_is_decided(tmp_path: Path, asks: str) -> None:
    (tmp_path / "records.db").mkdir()
    broken = SqliteDatabase(tmp_path / "records.db")
    caller = {
        "never": FakeCaller(),
        "inline": FakeCaller(yes("Docs")),
        "returning": AsksByReturning(),
        "resumed": answering("ticket"),
    }[asks]
    with pytest.raises(errors.StoreUnavailable):
        await House(broken).cross(caller)
    assert caller.questions == []


def answers_after(clock: Clock, seconds: float, reply: ElicitationReply) -> FakeCaller:
    """A caller that is asked while its call waits, and answers after so long."""

    def answer(_: Any) -> ElicitationReply:
        clock.now += seconds
        return reply

    return FakeCaller(answer)


async def ending(house: House, caller: Any, **gate: Any) -> tuple[str, str, str | None]:
    """How the call ends, with the message and who refused it."""
    try:
        return f"passes by {(await house.cross(caller, **gate)).decided_by}", "", None
    except errors.ConnectorError as error:
        return error.code, error.message, error.details.get("refused_by")


RIGHT, NO, CANCEL = yes("Docs"), ElicitationReply("decline", {}), ElicitationReply("cancel", {})


@pytest.mark.parametrize("channel", [True, False], ids=["operator", "no-operator"])
@pytest.mark.parametrize("era", ["inline", "returning"])
@pytest.mark.parametrize(
    ("seconds", "reply", "outcome"),
    [
        (0.03, RIGHT, "unread"),
        (0.03, NO, "unread"),
        (0.03, CANCEL, "unread"),
        (0.49, RIGHT, "unread"),
        (9.0, CANCEL, "unread"),
        (0.5, RIGHT, "passes by client test 1"),
        (9.0, NO, "refused"),
        (9.0, yes("docs"), "confirmation_invalid"),
        (-5.0, RIGHT, "unread"),
    ],
)  # fmt: skip
async def test_an_answer_that_no_person_can_have_given_parks_the_call(
    house: House, clock: Clock, channel: bool, era: str, seconds: float, reply: ElicitationReply, outcome: str
) -> None:
    if era == "inline":
        caller: Any = answers_after(clock, seconds, reply)
    else:
        ticket = (await house.refuse(AnswerDue, AsksByReturning(), channel=channel)).ticket
        clock.now += seconds
        caller = answering(ticket, reply)
    told, message, refused_by = await ending(house, caller, channel=channel, reading_seconds=0.5, clock=clock)
    assert "The client" in message or not message
    assert "person" not in message.replace("before a person could read", "")
    assert refused_by in (None, "client test 1")
    unread = "approval_required" if channel else "refused"
    assert told == (unread if outcome == "unread" else outcome)
    assert await house.approvals.counts() == ({"pending": 1} if told == "approval_required" else {})


async def test_a_principal_has_so_many_parked_calls_and_each_is_so_large(house: House) -> None:
    for number in range(MAX_PARKED):
        await house.refuse(errors.ApprovalRequired, FakeCaller(), candidate(digest=f"n{number}"))
    full = await house.refuse(errors.Blocked, FakeCaller(), candidate(digest="one more"))
    assert f"{MAX_PARKED} calls of local" in full.message
    assert "connector-mcp approvals list" in full.fix
    await house.refuse(errors.ApprovalRequired, FakeCaller(), candidate(digest="n0"))
    await house.refuse(errors.ApprovalRequired, FakeCaller(principal="other"), candidate(digest="theirs"))
    large = candidate(digest="large", arguments={"config": "x" * MAX_PARKED_BYTES})
    assert str(MAX_PARKED_BYTES) in (await house.refuse(errors.Blocked, FakeCaller(principal="third"), large)).message
    assert await house.approvals.count("third") == 0
