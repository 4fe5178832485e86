"""Successes of an undocumented shape: nothing is concluded from them, and nothing is sent after them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from connector_mcp.engine.sender import find_flaw
from connector_mcp.errors import NotFound
from connector_mcp.operations.catalog import catalog
from connector_mcp.operations.connector_types import connector_types, example
from connector_mcp.operations.operation import Effect, ListOperation, Operation
from connector_mcp.operations.platform import Request
from connector_mcp.operations.situation import Situation
from connector_mcp.upstream.client import UpstreamClient, UpstreamResponse
from tests.engine.conftest import BenchMaker, FakeCaller
from tests.for_each import for_each

pytestmark = pytest.mark.anyio

OPERATIONS = {name: kind for name, kind in catalog().items() if kind.on is not None}
READS = [name for name, kind in OPERATIONS.items() if kind.effect is Effect.READ]
WRITES = [name for name in OPERATIONS if name not in READS]
# Of the shipped factories none is read before a test message.
WITH_TARGET = [name for name, kind in OPERATIONS.items() if kind.acts_on and name != "logto_create_connector_test"]
# Documented besides an object: a project may declare no variables.
DOCUMENTED: dict[str, list[Any]] = {"versori_get_project_variables_schema": [None, {}]}
POLICY = "create=allow,update=allow,destroy=allow,disclose=allow"


def filled_in(value: Any) -> Any:
    """An example with a secret in the place of each placeholder."""
    if isinstance(value, dict):
        return {key: filled_in(member) for key, member in value.items()}
    if isinstance(value, list):
        return [filled_in(item) for item in value]
    return "s3cr3t-Zq9xT7mK4w" if isinstance(value, str) and value.startswith("<") else value


def arguments(name: str) -> dict[str, Any]:
    if name == "logto_create_sso_connector":
        # Without a domain it reads nothing first.
        return {**OPERATIONS[name].example, "domains": ["acme.example"]}
    if name != "logto_create_connector":
        return filled_in(OPERATIONS[name].example)
    email = connector_types("logto")["mailgun-email"]
    return {"connector_id": email.type, "config": filled_in(example(email.config))}


def wrapped(record: Any, path: str) -> Any:
    for key in reversed(path.split(".") if path else []):
        record = {key: record}
    return record


class Answers:
    """Answers every request of a client with the same body, and keeps the requests."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, body: Any) -> None:
        self.sent: list[Request] = []

        async def send(
            client: UpstreamClient, request: Request, *, tool: str = "", sending: Callable[[], None] | None = None
        ) -> UpstreamResponse:
            if sending is not None:
                sending()
            self.sent.append(request)
            return UpstreamResponse(200, body, "r-1", 1)

        monkeypatch.setattr(UpstreamClient, "send", send)


ODD = [None, {}, [], "text", 5, True, {"message": "Hello from the gateway"}, {"error": "Invalid token", "code": 401}]


def odd_targets(name: str) -> list[Any]:
    """What the read of an operation's target may answer instead of the target."""
    target = OPERATIONS[name].acts_on
    assert target is not None
    read = target.read
    type_at = target.type_at or (read.stored_config.type_at if read.stored_config else "")
    whole = {"id": arguments(name).get(read.http.placeholders[-1], "1") if read.http.placeholders else "1"}
    whole |= {type_at: "http"} if type_at else {}
    parts = [{**whole, "id": other} for other in (None, "", {}, "another")] + [{"data": whole}, {"name": "n"}]
    parts += [{**whole, type_at: other} for other in (None, "", 5)] if type_at else []
    if issubclass(read, ListOperation):
        rows = [[part] for part in (None, "text", {}, *parts) if part != {**whole, "id": "another"}]
        return [odd for odd in (*ODD, {"data": [whole]}, *rows) if odd != []]
    odd = [*ODD, *(wrapped(part, read.record) for part in parts)]
    if name == "logto_update_sso_connector_signing_key":
        # The target is one of a list: an empty list, and one of other keys, are documented.
        return [*(part for part in odd if part != []), *([part] for part in (None, "text", {}, {"name": "n"}))]
    return [each for each in [*odd, [wrapped(whole, read.record)]] if each not in DOCUMENTED.get(read.tool_name(), [])]


@pytest.mark.parametrize("name", WITH_TARGET)
async def test_a_target_that_is_read_and_not_recognized_stops_the_call(
    name: str, bench: BenchMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, target = bench(policy=POLICY), OPERATIONS[name].acts_on
    assert target is not None
    for odd in odd_targets(name):
        answers = Answers(monkeypatch, odd)
        result = await made.engine.call(name, arguments(name), FakeCaller())
        error = result.content["error"]
        assert (error["code"], error["retryable"]) == ("malformed_answer", False), odd
        assert f"answered {target.read.tool_name()} with" in error["message"], odd
        assert f"It was read for {name}, which was not sent." in error["message"], odd
        assert answers.sent, odd
        assert not any(request.changes for request in answers.sent), odd


@pytest.mark.parametrize("name", READS)
async def test_a_read_never_reports_an_undocumented_answer_as_data(
    name: str, bench: BenchMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, kind = bench(), OPERATIONS[name]
    others = [wrapped(value, kind.paging.items) for value in (5, [None], [{}])] if kind.paging else []
    for odd in [*ODD, *others]:
        if (odd == [] and kind.paging and not kind.paging.items) or odd in DOCUMENTED.get(name, []):
            continue
        Answers(monkeypatch, odd)
        result = await made.engine.call(name, arguments(name), FakeCaller())
        assert result.content["error"]["code"] == "malformed_answer", odd


@for_each("name", WRITES)
def test_a_change_is_not_confirmed_by_a_body_of_another_kind(name: str) -> None:
    kind = OPERATIONS[name]
    given = {field: "x" for field in kind.model_fields if field.startswith("organi")} | arguments(name)
    operation: Operation = kind.model_validate(given)
    for odd in ([], "text", 5, {"data": {}}, {"hello": 1}):
        assert find_flaw(operation, operation.shape_result([odd], Situation())) is not None, odd


async def test_a_change_that_an_undocumented_answer_accepts_has_an_unknown_outcome(
    bench: BenchMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, made = "vectorize_create_source_connector", bench(policy=POLICY)
    Answers(monkeypatch, {"ok": True})
    error = (await made.engine.call(name, arguments(name), FakeCaller())).content["error"]
    assert (error["code"], error["retryable"]) == ("outcome_unknown", False)
    assert "may or may not have been made" in error["message"]
    assert "vectorize_get_source_connectors" in error["fix"]


def test_an_empty_page_of_a_platform_that_leaves_out_its_rows_is_an_empty_list() -> None:
    for name, pages in {
        "versori_list_connectors": [{"totalCount": 0}, {"connectors": None}, {"connectors": []}],
        "conductorone_list_connectors": [{"list": None, "nextPageToken": ""}, {"list": []}, {"nextPageToken": ""}],
    }.items():
        kind = OPERATIONS[name]
        operation = kind.model_validate({"app_id": "a"} if "app_id" in kind.model_fields else {"organisation_id": "o"})
        assert kind.returns_list
        for page in pages:
            data = operation.shape_result([page], Situation())
            assert (data, find_flaw(operation, data)) == ([], None)


@pytest.mark.parametrize("name", WITH_TARGET)
async def test_a_read_that_fails_before_a_write_is_told_as_the_read(
    name: str, bench: BenchMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, target, sent = bench(policy=POLICY), OPERATIONS[name].acts_on, list[Request]()
    assert target is not None

    async def send(client: UpstreamClient, request: Request, *, tool: str = "", **_: Any) -> UpstreamResponse:
        sent.append(request)
        raise NotFound(f"The platform has nothing for {tool}.", fix="", upstream={})

    monkeypatch.setattr(UpstreamClient, "send", send)
    error = (await made.engine.call(name, arguments(name), FakeCaller())).content["error"]
    assert (error["code"], target.read.tool_name() in error["message"]) == ("not_found", True)
    assert error["message"].endswith(f"It was read for {name}, which was not sent.")
    assert sent
    assert not any(request.changes for request in sent)


async def test_one_of_a_list_is_recognized_as_a_target(bench: BenchMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    name, made = "logto_update_sso_connector_signing_key", bench(policy=POLICY)
    answers = Answers(monkeypatch, [{"id": "k1", "active": False, "certificate": "c"}])
    await made.engine.call(name, arguments(name) | {"active": True}, FakeCaller())
    assert [request.method for request in answers.sent][:2] == ["GET", "PATCH"]
