"""Several requests of one call, and what becomes of it when some of them fail."""

from __future__ import annotations

from typing import Any

import pytest

from connector_mcp import errors
from connector_mcp.engine.accounts import Account
from connector_mcp.engine.results import Meta
from connector_mcp.engine.sender import Sender
from connector_mcp.operations.catalog import catalog, platform_folder
from connector_mcp.operations.operation import Operation
from connector_mcp.operations.platform import Request
from connector_mcp.operations.situation import Situation
from connector_mcp.upstream.client import UpstreamResponse
from tests.engine.conftest import FakeCaller

pytestmark = pytest.mark.anyio

OPERATIONS = catalog()
SITUATION = Situation()


class Script:
    """A client that answers with what it is given, in turn."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.sent: list[Request] = []

    async def send(self, request: Request, *, tool: str | None = None, sending: Any = None) -> UpstreamResponse:
        if sending is not None:
            sending()
        assert tool == ("the_tool" if request.changes else "logto_list_connectors")
        self.sent.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return UpstreamResponse(201, answer, f"request-{len(self.sent)}", 1)


def sender_of(script: Script, caller: Any, platform: str = "vectorize") -> Sender:
    client: Any = script
    return Sender(Account(platform_folder(platform).platform, client, {"AN_OPTION": "x"}), "the_tool", caller)


def creating(*names: str) -> Operation:
    config = {"seed-urls": ["https://a.example"]}
    connectors = [{"name": name, "type": "WEB_CRAWLER", "config": config} for name in names]
    return OPERATIONS["vectorize_create_source_connector"].model_validate(
        {"organization_id": "o", "connectors": connectors}
    )


def created(name: str) -> Any:
    return {"connector": {"name": name, "id": f"id-{name}"}}


def failure(kind: type[errors.ConnectorError]) -> errors.ConnectorError:
    return kind("it failed", fix="do this", upstream={"status": 400})


async def outcomes(script: Script, names: str, caller: Any = None) -> tuple[Sender, list[Any], Meta]:
    """Create connectors, and return what became of each."""
    sender, meta = sender_of(script, caller or FakeCaller()), Meta()
    answers = await sender.send(creating(*names), SITUATION)
    return sender, sender.outcomes(creating(*names), answers, SITUATION, meta), meta


async def test_one_request_is_sent_without_ado() -> None:
    caller = FakeCaller()
    sender, rows, meta = await outcomes(Script(created("a")), "a", caller)
    assert rows == [{"name": "a", "id": "id-a"}]
    assert (sender.status, sender.request_id, sender.left_unknown) == (201, "request-1", False)
    assert (meta.warnings, caller.told) == ([], [])


async def test_the_failure_of_the_only_request_is_that_of_the_call() -> None:
    error = failure(errors.OutcomeUnknown)
    with pytest.raises(errors.OutcomeUnknown) as raised:
        await sender_of(Script(error), FakeCaller()).send(creating("a"), SITUATION)
    assert raised.value is error
    assert error.details == {}


async def test_several_requests_are_sent_in_order_with_progress() -> None:
    script, caller = Script(*map(created, "abc")), FakeCaller()
    answers = await sender_of(script, caller).send(creating(*"abc"), SITUATION)
    assert [answer["connector"]["name"] for answer in answers] == ["a", "b", "c"]
    assert [request.body["name"] for request in script.sent] == ["a", "b", "c"]
    assert caller.told == ["0 of 3 sent", "1 of 3 sent", "2 of 3 sent"]


@pytest.mark.parametrize("kind", [errors.Rejected, errors.Conflict, errors.NotFound])
@pytest.mark.parametrize("failing", [0, 1, 2])
async def test_a_rejected_part_stands_in_its_place(failing: int, kind: type[errors.ConnectorError]) -> None:
    script = Script(*(failure(kind) if n == failing else created(name) for n, name in enumerate("abc")))
    _, rows, meta = await outcomes(script, "abc")
    assert [row.get("name") for row in rows] == [None if n == failing else name for n, name in enumerate("abc")]
    assert (rows[failing]["index"], rows[failing]["error"]["code"]) == (failing, kind.code)
    assert meta.warnings == ["1 of 3 failed: correct and repeat only those; the others are done."]


@pytest.mark.parametrize("kind", [errors.Forbidden, errors.RateLimited, errors.UpstreamFailed, errors.OutcomeUnknown])
async def test_a_failure_that_concerns_all_stops_those_that_are_left(kind: type[errors.ConnectorError]) -> None:
    script = Script(created("a"), failure(kind))
    sender, rows, _ = await outcomes(script, "abcd")
    assert len(script.sent) == 2
    assert [row["error"]["code"] for row in rows[1:]] == [kind.code, "not_sent", "not_sent"]
    assert sender.left_unknown is (kind is errors.OutcomeUnknown)


@pytest.mark.parametrize(
    ("last", "names", "kind", "codes"),
    [
        (errors.Conflict, "ab", errors.Rejected, ["rejected", "conflict"]),
        (errors.OutcomeUnknown, "abc", errors.OutcomeUnknown, ["rejected", "outcome_unknown", "not_sent"]),
    ],
)
async def test_where_nothing_succeeded_the_call_fails_with_the_first_or_an_unknown_outcome(
    last: Any, names: str, kind: type[errors.ConnectorError], codes: list[str]
) -> None:
    with pytest.raises(kind) as raised:
        await outcomes(Script(failure(errors.Rejected), failure(last)), names)
    assert [row["error"]["code"] for row in raised.value.details["outcomes"]] == codes


async def test_a_fault_that_is_no_failure_of_the_platform_is_not_swallowed() -> None:
    with pytest.raises(ZeroDivisionError):
        await outcomes(Script(created("a"), ZeroDivisionError()), "ab")


async def test_the_situation_is_the_target_as_the_operation_sees_it() -> None:
    rows = [{"id": "1", "type": "Email", "usage": 5}, {"id": "2", "type": "Social"}]
    create = OPERATIONS["logto_create_connector"]
    script = Script(rows)
    email = create.model_validate({"connector_id": "simple-mail-transfer-protocol"})
    situation = await sender_of(script, FakeCaller(), "logto").situation(email)
    assert situation == Situation(current=[{"id": "1", "type": "Email"}], options={"AN_OPTION": "x"})
    social = create.model_validate({"connector_id": "github-universal"})
    assert (await sender_of(Script(), FakeCaller(), "logto").situation(social)).current is None
    assert [request.method for request in script.sent] == ["GET"]
