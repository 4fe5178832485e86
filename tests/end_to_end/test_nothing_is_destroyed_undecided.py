"""Over every transport and in both eras, a destructive call waits for a decision that the agent cannot make."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from mcp.client import Client
from mcp_types import ElicitRequestParams, ElicitResult

from connector_mcp.config.settings import Settings
from connector_mcp.sandbox import seed
from tests.end_to_end.faces import FACES, World, client, decide, world

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

DELETE, CRAWLER = "vectorize_delete_source_connector", {"source_connector_id": seed.VECTORIZE_WEB_CRAWLER}

# Tool, arguments, the write that it would make, and a phrase of the sentence that says what it destroys.
DESTRUCTIVE: list[tuple[str, dict[str, Any], str, str]] = [
    (DELETE, {"source_connector_id": seed.VECTORIZE_S3}, "DELETE", "pipelines that read from it stop ingesting"),
    (
        "vectorize_delete_user_from_source_connector",
        {"source_connector_id": seed.VECTORIZE_DRIVE_MULTI_USER, "user_id": "user_alice"},
        "DELETE", "Removes user user_alice",
    ),
    ("logto_delete_connector", {"id": seed.LOGTO_GITHUB}, "DELETE", "cannot be undone"),
    (
        "logto_create_connector",
        {"connector_id": "simple-mail-transfer-protocol", "config": SMTP_CONFIG},
        "POST", f"(id {seed.LOGTO_SMTP}) with its credentials",
    ),
    (
        "versori_update_connector",
        {"connector_id": seed.VERSORI_CRM, "replace": True, "name": "Acme CRM", "protocol": "http",
         "base_url": "https://api.acme.example"},
        "PUT", "Unsets documentationURL",
    ),
]  # fmt: skip


async def call(connected: Client, tool: str, arguments: dict[str, Any]) -> tuple[bool, dict[str, Any]]:
    result = await connected.call_tool(tool, arguments)
    assert isinstance(result.structured_content, dict)
    return result.is_error, result.structured_content


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
    """A client of a server in a world, and the person at the client. The tests of a face share it."""

    world: World
    client: Client
    person: Person
    before: int = 0

    def begin(self) -> None:
        """Forget what was asked and written so far."""
        self.person.messages.clear()
        self.before = len(self.world.writes())

    def written(self) -> list[str]:
        """The methods of the writes since then."""
        return [method for method, _ in self.world.writes()[self.before :]]


@asynccontextmanager
async def attach(face: str, state: Path, policy: str = "", **options: Any) -> AsyncIterator[tuple[World, Client]]:
    async with world(state) as here, client(face, here.environ | {"CONNECTOR_MCP_POLICY": policy}, **options) as made:
        yield here, made


@pytest.fixture(scope="module", params=FACES)
async def without_elicitation(request: Any, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Attached]:
    async with attach(request.param, tmp_path_factory.mktemp("state")) as (here, connected):
        yield Attached(here, connected, Person())


@pytest.fixture(scope="module", params=FACES)
async def with_elicitation(request: Any, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Attached]:
    person, state = Person(), tmp_path_factory.mktemp("state")
    async with attach(request.param, state, "destroy=ask", elicitation_callback=person) as (here, connected):
        yield Attached(here, connected, person)


async def test_without_elicitation_a_destructive_call_runs_once_after_approval(without_elicitation: Attached) -> None:
    connected, settings = without_elicitation.client, Settings.load(without_elicitation.world.environ)
    for tool, arguments, method, phrase in DESTRUCTIVE:
        without_elicitation.begin()
        failed, content = await call(connected, tool, arguments)
        error = content["error"]
        assert failed, tool
        assert error["code"] == "approval_required"
        assert phrase in error["effect"]
        identifier = error["approval"]["id"]
        assert f"connector-mcp approvals approve {identifier}" in error["fix"]

        failed, content = await call(connected, tool, arguments)
        assert content["error"]["approval"]["id"] == identifier, "the same call waits for the same approval"
        assert without_elicitation.written() == [], "nothing is written before the decision"

        await decide(settings, identifier)
        failed, content = await call(connected, tool, arguments)
        assert not failed, content
        assert without_elicitation.written() == [method]

    without_elicitation.begin()
    failed, content = await call(connected, *DESTRUCTIVE[3][:2])
    assert content["error"]["code"] == "approval_required", "an approval serves once"
    assert without_elicitation.written() == []


async def test_a_denied_call_does_not_run_and_says_so_once(without_elicitation: Attached) -> None:
    connected, settings = without_elicitation.client, Settings.load(without_elicitation.world.environ)
    without_elicitation.begin()
    _, content = await call(connected, DELETE, CRAWLER)
    await decide(settings, content["error"]["approval"]["id"], approve=False, reason="not today")
    _, content = await call(connected, DELETE, CRAWLER)
    assert content["error"]["code"] == "refused"
    assert content["error"]["message"].endswith(" Nothing was changed. Reason given: not today")
    _, content = await call(connected, DELETE, CRAWLER)
    assert content["error"]["code"] == "approval_required"
    assert without_elicitation.written() == []


def accept(**content: Any) -> ElicitResult:
    return ElicitResult(action="accept", content=content)


async def test_with_elicitation_only_the_exact_confirmation_runs_the_call(with_elicitation: Attached) -> None:
    tool, arguments, _, _ = DESTRUCTIVE[0]
    with_elicitation.begin()
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
    with_elicitation.begin()
    with_elicitation.person.answers = [accept(confirm=True), accept(confirm="Acme CRM")]
    _, content = await call(with_elicitation.client, tool, arguments)
    assert content["error"]["code"] == "confirmation_invalid"
    assert with_elicitation.written() == []
    failed, content = await call(with_elicitation.client, tool, arguments)
    assert not failed, content
    assert with_elicitation.written() == ["PUT"]
    assert "documentationURL" in with_elicitation.person.messages[0]


async def test_a_target_that_changed_while_the_question_was_open_is_not_touched(with_elicitation: Attached) -> None:
    with_elicitation.begin()
    objects = with_elicitation.world.sandbox.world
    stored = objects.get("vectorize.sources", seed.VECTORIZE_WEB_CRAWLER)
    assert stored is not None

    def change_and_accept() -> ElicitResult:
        objects.put("vectorize.sources", seed.VECTORIZE_WEB_CRAWLER, {**stored, "name": "Something else"})
        return accept(confirm=stored["name"])

    with_elicitation.person.answers = [change_and_accept]
    _, content = await call(with_elicitation.client, DELETE, CRAWLER)
    assert content["error"]["code"] == "target_changed"
    assert with_elicitation.written() == []
