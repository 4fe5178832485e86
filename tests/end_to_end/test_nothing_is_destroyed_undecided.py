"""Over every face and in both eras: what destroys waits for a decision that the agent cannot take."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from mcp.client import Client
from mcp_types import ElicitRequestParams, ElicitResult

from connector_mcp.engine.approval.queue import Approvals
from connector_mcp.sandbox import seed
from connector_mcp.state.sqlite import SqliteDatabase
from tests.end_to_end.faces import FACES, World, client, world

pytestmark = pytest.mark.anyio

SMTP_CONFIG: dict[str, Any] = {
    "host": "smtp.example.com",
    "port": 587,
    "auth": {"type": "login", "user": "mailer", "pass": "smtp-password"},
    "fromEmail": "no-reply@example.com",
    "templates": [
        {"usageType": usage, "contentType": "text/plain", "subject": "Code", "content": "{{code}}"}
        for usage in ("SignIn", "Register", "ForgotPassword", "Generic")
    ],
}

# Tool, arguments, the write that it would make, and a phrase of the sentence that says what it destroys.
DESTRUCTIVE: list[tuple[str, dict[str, Any], str, str]] = [
    (
        "vectorize_delete_source_connector",
        {"source_connector_id": seed.VECTORIZE_S3},
        "DELETE",
        "pipelines that read from it stop ingesting",
    ),
    (
        "vectorize_delete_user_from_source_connector",
        {"source_connector_id": seed.VECTORIZE_DRIVE_MULTI_USER, "user_id": "user_alice"},
        "DELETE",
        "Removes user user_alice",
    ),
    ("logto_delete_connector", {"id": seed.LOGTO_GITHUB}, "DELETE", "cannot be undone"),
    (
        "logto_create_connector",
        {"connector_id": "simple-mail-transfer-protocol", "config": SMTP_CONFIG},
        "POST",
        f"(id {seed.LOGTO_SMTP}) with its credentials",
    ),
    (
        "versori_update_connector",
        {
            "connector_id": seed.VERSORI_CRM,
            "replace": True,
            "name": "Acme CRM",
            "protocol": "http",
            "base_url": "https://api.acme.example",
        },
        "PUT",
        "Unsets documentationURL",
    ),
]


async def call(connected: Client, tool: str, arguments: dict[str, Any]) -> tuple[bool, dict[str, Any]]:
    result = await connected.call_tool(tool, arguments)
    assert isinstance(result.structured_content, dict)
    return result.is_error, result.structured_content


async def decide(state: Path, approval: str, *, approve: bool) -> None:
    """What the operator's command does once the operator has typed the name."""
    database = SqliteDatabase(state / "records.db")
    try:
        await Approvals(database, ttl=3600).decide(approval, approve, "operator", None if approve else "not today")
    finally:
        await database.aclose()


class Person:
    """Answers each question with the next of the answers; a function gets the world to act on in between."""

    def __init__(self) -> None:
        self.answers: list[Any] = []
        self.messages: list[str] = []

    async def __call__(self, context: Any, params: ElicitRequestParams) -> ElicitResult:
        self.messages.append(params.message)
        answer = self.answers.pop(0)
        return answer() if callable(answer) else answer


@dataclass
class Attached:
    """A client of a server in a world, and the person at the client."""

    world: World
    client: Client
    person: Person

    def rename_source(self, name: str) -> None:
        """Have another hand rename the source at the platform."""
        objects = self.world.sandbox.world
        stored = objects.get("vectorize.sources", seed.VECTORIZE_S3)
        assert stored is not None
        objects.put("vectorize.sources", seed.VECTORIZE_S3, {**stored, "name": name})

    def written(self, before: int = 0) -> list[str]:
        """The methods of the writes, without so many of the first ones."""
        return [method for method, _ in self.world.writes()[before:]]


@pytest.fixture(params=FACES)
async def without_elicitation(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Attached]:
    async with world(tmp_path) as here, client(request.param, here.environ) as connected:
        yield Attached(here, connected, Person())


@pytest.fixture(params=FACES)
async def with_elicitation(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Attached]:
    person = Person()
    async with world(tmp_path) as here:
        environ = here.environ | {"CONNECTOR_MCP_POLICY": "destroy=ask"}
        async with client(request.param, environ, elicitation_callback=person) as connected:
            yield Attached(here, connected, person)


async def test_without_elicitation_a_destructive_call_runs_once_after_approval(without_elicitation: Attached) -> None:
    here, connected = without_elicitation.world, without_elicitation.client
    for tool, arguments, method, phrase in DESTRUCTIVE:
        before = here.writes()
        failed, content = await call(connected, tool, arguments)
        error = content["error"]
        assert failed, tool
        assert error["code"] == "approval_required"
        assert phrase in error["effect"]
        identifier = error["approval"]["id"]
        assert f"connector-mcp approvals approve {identifier}" in error["fix"]
        assert here.writes() == before, "nothing is written before the decision"

        failed, content = await call(connected, tool, arguments)
        assert content["error"]["approval"]["id"] == identifier, "the same call waits for the same approval"
        assert here.writes() == before

        await decide(here.state, identifier, approve=True)
        failed, content = await call(connected, tool, arguments)
        assert not failed, content
        assert without_elicitation.written(len(before)) == [method]

    tool, arguments, _, _ = DESTRUCTIVE[3]
    before = here.writes()
    failed, content = await call(connected, tool, arguments)
    assert content["error"]["code"] == "approval_required", "an approval serves once"
    assert here.writes() == before


async def test_a_denied_call_does_not_run_and_says_so_once(without_elicitation: Attached) -> None:
    tool, arguments, _, _ = DESTRUCTIVE[0]
    connected = without_elicitation.client
    _, content = await call(connected, tool, arguments)
    await decide(without_elicitation.world.state, content["error"]["approval"]["id"], approve=False)
    _, content = await call(connected, tool, arguments)
    assert content["error"]["code"] == "refused"
    assert "not today" in content["error"]["message"]
    _, content = await call(connected, tool, arguments)
    assert content["error"]["code"] == "approval_required"
    assert without_elicitation.written() == []


def accept(**content: Any) -> ElicitResult:
    return ElicitResult(action="accept", content=content)


async def test_with_elicitation_only_the_exact_confirmation_runs_the_call(with_elicitation: Attached) -> None:
    tool, arguments, _, _ = DESTRUCTIVE[0]
    with_elicitation.person.answers = [ElicitResult(action="decline"), ElicitResult(action="cancel")]
    with_elicitation.person.answers += [accept(confirm="product documents"), accept(confirm="Product documents")]
    for expected in ("refused", "approval_required", "confirmation_invalid"):
        _, content = await call(with_elicitation.client, tool, arguments)
        assert content["error"]["code"] == expected
        assert with_elicitation.written() == []
    failed, content = await call(with_elicitation.client, tool, arguments)
    assert not failed, content
    assert with_elicitation.written() == ["DELETE"]
    assert ["“Product documents”" in message for message in with_elicitation.person.messages] == [True] * 4


async def test_losses_that_fit_no_line_are_confirmed_by_the_name(with_elicitation: Attached) -> None:
    tool, arguments, _, _ = DESTRUCTIVE[4]
    with_elicitation.person.answers = [accept(confirm=True), accept(confirm="Acme CRM")]
    _, content = await call(with_elicitation.client, tool, arguments)
    assert content["error"]["code"] == "confirmation_invalid"
    assert with_elicitation.written() == []
    failed, content = await call(with_elicitation.client, tool, arguments)
    assert not failed, content
    assert with_elicitation.written() == ["PUT"]
    assert "documentationURL" in with_elicitation.person.messages[0]


async def test_a_target_that_changed_while_the_question_was_open_is_not_touched(with_elicitation: Attached) -> None:
    tool, arguments, _, _ = DESTRUCTIVE[0]

    def change_and_accept() -> ElicitResult:
        with_elicitation.rename_source("Something else")
        return accept(confirm="Product documents")

    with_elicitation.person.answers = [change_and_accept]
    _, content = await call(with_elicitation.client, tool, arguments)
    assert content["error"]["code"] == "target_changed"
    assert with_elicitation.written() == []
