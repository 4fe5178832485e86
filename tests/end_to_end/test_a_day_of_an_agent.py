"""A day of an agent's work over stdio, against the sandbox: each task within a number of calls and bytes of results.

The agent is scripted. What it sends next it takes from the answers, as a model would, or from the task. The bytes are
those of the text of the results, which is what a model reads.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp.client import Client
from mcp.shared.exceptions import MCPError
from mcp_types import ElicitResult

from tests.end_to_end.faces import World, stdio, world

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("era", ["auto", "legacy"], scope="module")]

KILOBYTE = 1000
BUCKET = {"bucket-name": "acme-reports", "access-key": "AKIADAYDAYDAYDAYDAYD", "secret-key": "day-bucket-secret"}
TEMPLATES = [
    {"usageType": usage, "subject": "Your code", "content": "Your code is {{code}}."}
    for usage in ("SignIn", "Register", "ForgotPassword", "Generic")
]


class Agent:
    """An agent with a client, and the person at that client, who agrees and types the names that are asked for."""

    def __init__(self) -> None:
        self.client: Client
        self.asked: list[str] = []
        self.calls = 0
        self.bytes = 0

    async def person(self, context: Any, params: Any) -> ElicitResult:
        self.asked.append(params.message)
        field = params.requested_schema["properties"]["confirm"]
        typed = re.search("“(.+?)”", field["title"])
        return ElicitResult(
            action="accept", content={"confirm": typed[1] if typed and field["type"] == "string" else True}
        )

    async def call(self, tool: str, **arguments: Any) -> Any:
        """The data of a call that succeeds."""
        content = await self._send(tool, arguments)
        assert "error" not in content, content
        return content["data"]

    async def fails(self, tool: str, **arguments: Any) -> Any:
        """The error of a call that does not."""
        return (await self._send(tool, arguments))["error"]

    async def _send(self, tool: str, arguments: dict[str, Any]) -> Any:
        result = await self.client.call_tool(tool, arguments)
        self.calls += 1
        self.bytes += sum(len(part.text.encode()) for part in result.content)
        return result.structured_content

    def spent(self, calls: int, kilobytes: int) -> None:
        """Hold what the task took to its bounds, and begin the next one."""
        assert self.calls <= calls
        assert self.bytes <= kilobytes * KILOBYTE
        self.calls = self.bytes = 0


@asynccontextmanager
async def starting(state: Path, era: Any, **environ: str) -> AsyncIterator[tuple[Agent, World]]:
    agent = Agent()
    async with world(state) as there:
        server = stdio(there.environ | environ)
        async with Client(server, mode=era, elicitation_callback=agent.person) as agent.client:
            yield agent, there


@pytest.fixture(scope="module")
async def at_work(era: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Agent, World]]:
    """An agent at a server of all platforms. Each task is about another platform."""
    async with starting(tmp_path_factory.mktemp("state"), era) as started:
        yield started


def row(rows: Any, **wanted: Any) -> Any:
    (found,) = [each for each in rows if wanted.items() <= each.items()]
    return found


async def test_an_agent_finds_failing_sources_and_connects_new_ones(at_work: tuple[Agent, World]) -> None:
    agent, there = at_work
    sources = await agent.call("vectorize_get_source_connectors")
    failing = [each for each in sources if each["verificationStatus"] == "failed"]
    assert [(each["name"], each["errorMessage"]) for each in failing] == [
        ("Engineering wiki", "Confluence refused the API token.")
    ]
    agent.spent(calls=1, kilobytes=1)

    kind = await agent.call("describe_connector_type", platform="vectorize", type="S3 bucket")
    required = {key: kind["config_example"][key] for key in kind["config_keys"]["required"]}
    new = {"name": "Reports", "type": kind["type"], "config": required | BUCKET}
    (created,) = await agent.call("vectorize_create_source_connector", connectors=[new])
    assert created["verificationStatus"] == "verified"
    stored = await agent.call("vectorize_get_source_connector", source_connector_id=created["id"])
    assert stored["configDoc"]["bucket-name"] == BUCKET["bucket-name"]
    agent.spent(calls=3, kilobytes=4)

    several = await agent.call("describe_connector_type", platform="vectorize", type="notion")
    choice = several["types"][0].partition(": ")[0]
    kind = await agent.call("describe_connector_type", platform="vectorize", type=choice)
    new = {"name": "Notion", "type": kind["type"], "config": kind["config_example"]}
    (created,) = await agent.call("vectorize_create_source_connector", connectors=[new])
    (pages,) = (key for key, schema in kind["selected_files"]["properties"].items() if "pages" in schema["description"])
    token = {"accessToken": "access_token", "refreshToken": "refresh_token"}[kind["user_credential"]]
    user: dict[str, Any] = {"user_id": "carla", "selected_files": {pages: ["p1", "p2"]}, token: "day-notion-token"}
    await agent.call("vectorize_add_user_to_source_connector", source_connector_id=created["id"], **user)
    assert there.writes()[-1] == ("POST", f"/v1/org/org_sandbox/connectors/sources/{created['id']}/users")
    agent.spent(calls=4, kilobytes=4)


async def test_an_agent_sets_up_a_sign_in_rotates_its_secret_and_moves_the_e_mail(at_work: tuple[Agent, World]) -> None:
    agent, there = at_work
    await agent.call("logto_delete_connector", id="google-signin")
    agent.spent(calls=1, kilobytes=1)

    kind = await agent.call("describe_connector_type", platform="logto", type="google")
    config = {"clientId": "9.apps.example.com", "clientSecret": "day-google-first"}
    assert set(kind["config_schema"]["required"]) == set(config)
    created = await agent.call("logto_create_connector", connector_id=kind["type"], config=config)
    stored = await agent.call("logto_get_connector", id=created["id"])
    assert stored["config"]["clientId"] == config["clientId"]
    agent.spent(calls=4, kilobytes=4)

    found = row(await agent.call("logto_list_connectors", target="google"), target="google")
    await agent.call("logto_update_connector", id=found["id"], config={"clientSecret": "day-google-second"})
    stored = await agent.call("logto_get_connector", id=found["id"])
    assert stored["config"]["clientId"] == config["clientId"]
    agent.spent(calls=3, kilobytes=4)

    now = row(await agent.call("logto_list_connectors"), type="Email")
    kind = await agent.call("describe_connector_type", platform="logto", type="SendGrid")
    templates = [{**each, "type": "text/plain"} for each in TEMPLATES]
    config = {"apiKey": "day-sendgrid-key", "fromEmail": "no-reply@acme.example", "templates": templates}
    to = "ops@acme.example"
    await agent.call("logto_create_connector_test", factory_id=kind["type"], config=config, email=to)
    agent.asked.clear()
    created = await agent.call("logto_create_connector", connector_id=kind["type"], config=config)
    assert any(now["id"] in question for question in agent.asked)
    after = row(await agent.call("logto_list_connectors"), type="Email")
    assert (after["id"], after["connectorId"]) == (created["id"], kind["type"])
    agent.spent(calls=6, kilobytes=6)
    assert ("POST", "/api/connectors/sendgrid-email-service/test") in there.writes()


async def test_an_agent_renames_a_connector_and_changes_its_address_and_variables(at_work: tuple[Agent, World]) -> None:
    agent, _ = at_work
    found = row(await agent.call("versori_list_connectors", name="Acme CRM"), name="Acme CRM")
    wanted: dict[str, Any] = {"name": "Acme CRM EMEA", "base_url": "https://{{region}}.eu.acme.example"}
    variables = [{"name": "region", "value": "eu"}, {"name": "tier", "value": "gold"}]
    wanted["connection_variables"] = variables
    changed = await agent.call("versori_update_connector", connector_id=found["id"], **wanted)
    assert (changed["name"], changed["baseUrl"]) == (wanted["name"], wanted["base_url"])
    assert changed["connectionVariables"] == variables
    assert changed["documentationURL"]
    agent.spent(calls=3, kilobytes=4)


async def test_an_agent_is_told_what_a_platform_cannot_do_and_what_can_be_done(era: str, tmp_path: Path) -> None:
    async with starting(tmp_path, era, CONNECTOR_MCP_PLATFORMS="vectorize,logto") as (agent, there):
        sources = await agent.call("vectorize_get_source_connectors")
        bucket = {"source_connector_id": row(sources, type="AWS_S3")["id"]}
        agent.spent(calls=1, kilobytes=1)

        renaming = await agent.fails("vectorize_update_source_connector", **bucket, name="New name")
        assert "rename" in str(renaming)
        assert "create one with the new name" in str(renaming)
        agent.spent(calls=1, kilobytes=1)

        filtering = {**BUCKET, "archiver": False, "file-extensions": ["pdf"]}
        kept = await agent.fails("vectorize_update_source_connector", **bucket, config=filtering)
        assert "pipeline" in str(kept)
        agent.spent(calls=1, kilobytes=1)

        with pytest.raises(MCPError, match=r"does not serve Versori; .* doctor. shows why"):
            await agent.call("versori_list_connectors")
        assert there.writes() == []
