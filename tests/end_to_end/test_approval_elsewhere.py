"""A call that is decided by another system: announced to it, held, decided by its signed answer, and run once."""

from __future__ import annotations

import base64
import json
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from mcp.client import Client
from mcp_types import CallToolResult
from standardwebhooks.webhooks import Webhook
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from connector_mcp.composition.engine import open_engine
from connector_mcp.config.settings import Settings
from connector_mcp.engine.approval.approval_webhook import WebhookKey
from connector_mcp.transport.http.approval_callback import OPEN_PATH, callback_route
from tests.end_to_end.faces import World, http_process, served, serving, world
from tests.records import audited

pytestmark = pytest.mark.anyio

TOOL = "logto_delete_connector"
ARGUMENTS = {"id": "github-signin"}
ANNOUNCING = "whsec_" + base64.b64encode(b"announcing" * 4).decode()
DECIDING = "whsec_" + base64.b64encode(b"deciding" * 4).decode()

Decide = Callable[[dict[str, Any]], Awaitable[dict[str, Any] | None]]


class Team:
    """Another system: takes announcements, and has `decide` say what to answer; None answers nothing."""

    def __init__(self, decide: Decide) -> None:
        self.decide = decide
        self.server = ""
        self.told: list[dict[str, Any]] = []
        self.answers: list[int] = []
        self.heard = anyio.Event()

    async def hook(self, request: Request) -> Response:
        told = Webhook(ANNOUNCING).verify(await request.body(), dict(request.headers))["data"]
        self.told.append(told)
        self.heard.set()
        if (decision := await self.decide(told)) is not None:
            await self.call_back({"id": told["id"], "by": "ana", **decision})
        return Response(status_code=204)

    async def call_back(self, decision: dict[str, Any]) -> None:
        body, at = json.dumps(decision), datetime.now(UTC)
        headers = {
            "webhook-id": f"decision-{decision['id']}",
            "webhook-timestamp": str(int(at.timestamp())),
            "webhook-signature": Webhook(DECIDING).sign(f"decision-{decision['id']}", at, body),
        }
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.post(f"{self.server}/approvals/{decision['id']}", content=body, headers=headers)
        self.answers.append(answer.status_code)


@asynccontextmanager
async def team(decide: Decide) -> AsyncIterator[tuple[Team, str]]:
    made = Team(decide)
    async with served(Starlette(routes=[Route("/hook", made.hook, methods=["POST"])])) as origin:
        yield made, f"{origin}/hook"


async def approves(_: dict[str, Any]) -> dict[str, Any]:
    return {"decision": "approve"}


async def denies(_: dict[str, Any]) -> dict[str, Any]:
    return {"decision": "deny", "reason": "not before the audit"}


async def says_nothing(_: dict[str, Any]) -> None: ...


def environment(made: World, hook: str) -> dict[str, str]:
    return {
        **made.environ,
        "CONNECTOR_MCP_APPROVAL_WAIT": "60",
        "CONNECTOR_MCP_WEBHOOK_URL": hook,
        "CONNECTOR_MCP_WEBHOOK_SECRET": ANNOUNCING,
        "CONNECTOR_MCP_WEBHOOK_CALLBACK_SECRET": DECIDING,
    }


@pytest.mark.parametrize("era", ["auto", "legacy"])
@pytest.mark.parametrize("decide", [approves, denies])
async def test_a_held_call_ends_as_another_system_decides(tmp_path: Path, era: Any, decide: Decide) -> None:
    async with world(tmp_path) as made, team(decide) as (elsewhere, hook):
        environ = environment(made, hook)
        async with open_engine(Settings.load(environ), environ, "http") as engine:
            pages = (callback_route(engine, WebhookKey.parse(DECIDING, "SETTING")),)
            async with (
                serving(engine, pages=pages, open_paths=(OPEN_PATH,)) as elsewhere.server,
                Client(f"{elsewhere.server}/mcp", mode=era) as client,
            ):
                result = await client.call_tool(TOOL, ARGUMENTS)
        (told,) = elsewhere.told
        assert (told["tool"], told["target"], elsewhere.answers) == (TOOL, "GitHub", [200])
        content: dict[str, Any] = result.structured_content or {}
        if decide is denies:
            assert (content["error"]["code"], made.writes()) == ("refused", [])
            assert "not before the audit" in content["error"]["message"]
        else:
            assert content["data"]["deleted"] is True
            assert [method for method, _ in made.writes()] == ["DELETE"]
    decided = audited(tmp_path)[-1]
    assert (decided["decided_by"], decided["channel"]) == ("webhook ana", "webhook")


async def test_a_process_takes_a_callback_and_answers_the_calls_it_holds_when_it_ends(tmp_path: Path) -> None:
    results: list[CallToolResult] = []

    async def call(client: Client) -> None:
        results.append(await client.call_tool(TOOL, {"id": "google-signin"}))

    async with world(tmp_path) as made, team(approves) as (elsewhere, hook):
        async with http_process(environment(made, hook)) as (process, elsewhere.server):
            with anyio.fail_after(300):
                async with Client(f"{elsewhere.server}/mcp") as client, anyio.create_task_group() as tasks:
                    approved = await client.call_tool(TOOL, ARGUMENTS)
                    elsewhere.decide, elsewhere.heard = says_nothing, anyio.Event()
                    tasks.start_soon(call, client)
                    await elsewhere.heard.wait()
                    process.send_signal(signal.SIGTERM)
                    assert await process.wait() == 0
            assert process.stderr is not None
            said = b"".join([chunk async for chunk in process.stderr]).decode()
        assert [method for method, _ in made.writes()] == ["DELETE"]
    assert approved.structured_content is not None
    assert approved.structured_content["data"]["deleted"] is True
    held: dict[str, Any] = results[0].structured_content or {}
    assert held["error"]["code"] == "approval_required"
    assert held["error"]["approval"]["id"] == elsewhere.told[1]["id"]
    assert "Traceback" not in said
