"""Over every face and in both eras: what destroys waits for a decision that the agent cannot take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mcp.client import Client
from mcp_types import ElicitRequestParams, ElicitResult

from connector_mcp.engine.approvals import Approvals
from connector_mcp.sandbox import seed
from connector_mcp.state.sqlite import SqliteStore
from tests.end_to_end.faces import FACES, World, client, world

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
    store = SqliteStore(state / "state.db")
    try:
        await Approvals(store, ttl=3600).decide(approval, approve, "operator", None if approve else "not today")
    finally:
        await store.aclose()


@pytest.mark.anyio
@pytest.mark.parametrize("face", FACES)
async def test_without_elicitation_a_destructive_call_waits_and_runs_once_after_approval(
    face: str, tmp_path: Path
) -> None:
    async with world(tmp_path) as here, client(face, here.environ) as connected:
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

            await decide(tmp_path, identifier, approve=True)
            failed, content = await call(connected, tool, arguments)
            assert not failed, content
            written = here.writes()[len(before) :]
            assert [verb for verb, _ in written] == [method]

        tool, arguments, _, _ = DESTRUCTIVE[3]
        before = here.writes()
        failed, content = await call(connected, tool, arguments)
        assert content["error"]["code"] == "approval_required", "an approval serves once"
        assert here.writes() == before


@pytest.mark.anyio
@pytest.mark.parametrize("face", FACES)
async def test_a_denied_call_does_not_run_and_says_so_once(face: str, tmp_path: Path) -> None:
    tool, arguments, _, _ = DESTRUCTIVE[0]
    async with world(tmp_path) as here, client(face, here.environ) as connected:
        _, content = await call(connected, tool, arguments)
        await decide(tmp_path, content["error"]["approval"]["id"], approve=False)
        _, content = await call(connected, tool, arguments)
        assert content["error"]["code"] == "refused"
        assert "not today" in content["error"]["message"]
        _, content = await call(connected, tool, arguments)
        assert content["error"]["code"] == "approval_required"
        assert here.writes() == []


class Person:
    """Answers each question with the next of the answers; a function gets the world to act on in between."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.messages: list[str] = []

    async def __call__(self, context: Any, params: ElicitRequestParams) -> ElicitResult:
        self.messages.append(params.message)
        answer = self.answers.pop(0)
        return answer() if callable(answer) else answer


def accept(**content: Any) -> ElicitResult:
    return ElicitResult(action="accept", content=content)


ASKING = "destroy=ask"


@pytest.mark.anyio
@pytest.mark.parametrize("face", FACES)
async def test_with_elicitation_only_the_exact_confirmation_runs_the_call(face: str, tmp_path: Path) -> None:
    tool, arguments, _, _ = DESTRUCTIVE[0]
    person = Person(
        ElicitResult(action="decline"),
        ElicitResult(action="cancel"),
        accept(confirm="product documents"),
        accept(confirm="Product documents"),
    )
    async with world(tmp_path) as here:
        environ = here.environ | {"CONNECTOR_MCP_POLICY": ASKING}
        async with client(face, environ, elicitation_callback=person) as connected:
            for expected in ("refused", "refused", "confirmation_invalid"):
                _, content = await call(connected, tool, arguments)
                assert content["error"]["code"] == expected
                assert here.writes() == []
            failed, content = await call(connected, tool, arguments)
            assert not failed, content
            assert [verb for verb, _ in here.writes()] == ["DELETE"]
    assert all("“Product documents”" in message for message in person.messages)


@pytest.mark.anyio
@pytest.mark.parametrize("face", FACES)
async def test_lesser_things_take_a_yes_that_is_a_yes(face: str, tmp_path: Path) -> None:
    tool, arguments, _, _ = DESTRUCTIVE[4]
    person = Person(accept(confirm=False), accept(confirm=True))
    async with world(tmp_path) as here:
        environ = here.environ | {"CONNECTOR_MCP_POLICY": ASKING}
        async with client(face, environ, elicitation_callback=person) as connected:
            _, content = await call(connected, tool, arguments)
            assert content["error"]["code"] == "confirmation_invalid"
            assert here.writes() == []
            failed, content = await call(connected, tool, arguments)
            assert not failed, content
            assert [verb for verb, _ in here.writes()] == ["PUT"]
    assert "documentationURL" in person.messages[0]


@pytest.mark.anyio
@pytest.mark.parametrize("face", FACES)
async def test_a_target_that_changed_while_the_question_was_open_is_not_touched(face: str, tmp_path: Path) -> None:
    tool, arguments, _, _ = DESTRUCTIVE[0]
    async with world(tmp_path) as here:

        def change_and_accept() -> ElicitResult:
            rename(here)
            return accept(confirm="Product documents")

        environ = here.environ | {"CONNECTOR_MCP_POLICY": ASKING}
        async with client(face, environ, elicitation_callback=Person(change_and_accept)) as connected:
            _, content = await call(connected, tool, arguments)
            assert content["error"]["code"] == "target_changed"
            assert here.writes() == []


def rename(here: World) -> None:
    """Another hand at the platform renames the connector."""
    stored = here.sandbox.world.get("vectorize.sources", seed.VECTORIZE_S3)
    assert stored is not None
    here.sandbox.world.put("vectorize.sources", seed.VECTORIZE_S3, {**stored, "name": "Something else"})
