"""Two replicas as processes, with one Redis: any of them answers any request of a flow, and nothing runs twice."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import httpx
import pytest
from anyio.abc import Process
from mcp.client import Client
from mcp_types import CallToolResult, ElicitResult, InputRequiredResult

from connector_mcp.audit.check import CheckReport, verify_log
from connector_mcp.composition.storage import open_store, read_audit
from connector_mcp.config.settings import Settings
from connector_mcp.engine.approval.queue import Approvals
from connector_mcp.sandbox import seed
from connector_mcp.sandbox.app import Sandbox
from tests.end_to_end.faces import INITIALIZE, META, PLATFORMS, SERVE, address, message, modern, served
from tests.end_to_end.test_request_state import never
from tests.redis_server import RedisServer, redis_server

pytestmark = pytest.mark.anyio

DELETE = "vectorize_delete_source_connector"
READ = "vectorize_get_source_connectors"
S3 = {"source_connector_id": seed.VECTORIZE_S3}


@dataclass
class Upstream:
    """A sandbox that can hold the deletions which reach it."""

    sandbox: Sandbox
    hold: bool = False
    reached: anyio.Event = field(default_factory=anyio.Event)
    release: anyio.Event = field(default_factory=anyio.Event)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["method"] == "DELETE" and self.hold:
            self.reached.set()
            await self.release.wait()
        await self.sandbox.app()(scope, receive, send)

    @property
    def deletions(self) -> list[str]:
        return [request.raw_path for request in self.sandbox.requests if request.method == "DELETE"]


@dataclass
class Replicas:
    processes: list[Process]
    origins: list[str]
    upstream: Upstream
    settings: Settings

    @asynccontextmanager
    async def clients(self, **options: Any) -> AsyncIterator[list[Client]]:
        async with AsyncExitStack() as stack:
            yield [await stack.enter_async_context(Client(f"{origin}/mcp", **options)) for origin in self.origins]

    async def decide(self, approval_id: str) -> None:
        store = open_store(self.settings)
        await Approvals(store, ttl=60.0).decide(approval_id, True, "operator ops")
        await store.aclose()

    async def verdict(self) -> tuple[CheckReport, list[dict[str, Any]]]:
        def check() -> tuple[CheckReport, list[dict[str, Any]]]:
            with read_audit(self.settings) as log:
                return verify_log(log), [entry.members for entry in log.entries()]

        return await anyio.to_thread.run_sync(check)


@asynccontextmanager
async def replicas(server: RedisServer, folder: Path, policy: str) -> AsyncIterator[Replicas]:
    sandbox = Sandbox()
    upstream = Upstream(sandbox)
    async with AsyncExitStack() as stack:
        stack.callback(sandbox.close)
        origin = await stack.enter_async_context(served(upstream))
        stack.callback(upstream.release.set)
        environ = {"CONNECTOR_MCP_STATE": server.url, "CONNECTOR_MCP_POLICY": policy}
        for platform in PLATFORMS:
            environ |= sandbox.variables(platform, origin)
        processes: list[Process] = []
        for name in ("one", "other"):
            own = environ | {"CONNECTOR_MCP_STATE_DIR": str(folder / name), "PYTHONWARNINGS": "error"}
            process = await anyio.open_process([*SERVE, "--http", "--port", "0"], stdin=subprocess.DEVNULL, env=own)
            processes.append(await stack.enter_async_context(process))
            stack.callback(end, process)
        with anyio.fail_after(60):
            origins = [await address(process) for process in processes]
        yield Replicas(processes, origins, upstream, Settings.load({"CONNECTOR_MCP_STATE": server.url}))


def end(process: Process) -> None:
    if process.returncode is None:
        process.kill()


async def post(origin: str, sent: dict[str, Any], **headers: str) -> httpx.Response:
    accept = {"accept": "application/json, text/event-stream"}
    async with httpx.AsyncClient(timeout=60) as client:
        return await client.post(f"{origin}/mcp", json=sent, headers=accept | headers)


def code(result: CallToolResult) -> str:
    content = result.structured_content or {}
    return content["error"]["code"] if result.is_error else "ok"


async def test_a_question_that_one_replica_asked_is_answered_to_the_other(redis: RedisServer, tmp_path: Path):
    yes = {"confirm": ElicitResult(action="accept", content={"confirm": "Product documents"})}
    clients = {"elicitation_callback": never}
    async with replicas(redis, tmp_path, "destroy=ask") as running, running.clients(**clients) as (one, other):
        asked = await one.session.call_tool(DELETE, S3, allow_input_required=True)
        assert isinstance(asked, InputRequiredResult)
        answers: list[str] = []

        async def answer(client: Client) -> None:
            given = {"input_responses": yes, "request_state": asked.request_state}
            result = await client.session.call_tool(DELETE, S3, **given, allow_input_required=True)
            assert isinstance(result, CallToolResult)
            answers.append(code(result))

        await answer(other)
        assert answers == ["ok"]
        await answer(one)
        assert len(running.upstream.deletions) == 1
        assert answers[1] in ("confirmation_invalid", "not_found")

        # A session of an earlier client belongs to one replica; the other says so at once, so that it starts again.
        here, there = running.origins
        begun = await post(here, message("initialize", **INITIALIZE))
        session = {"mcp-session-id": begun.headers["mcp-session-id"], "mcp-protocol-version": "2025-11-25"}
        assert [(await post(origin, message("ping", 2), **session)).status_code for origin in (here, there)] == [
            200,
            404,
        ]


async def test_an_approved_call_runs_once_of_fifty_repeats_over_both_replicas(redis: RedisServer, tmp_path: Path):
    async with replicas(redis, tmp_path, "destroy=approve") as running, running.clients() as clients:
        parked = await clients[0].call_tool(DELETE, S3)
        assert code(parked) == "approval_required"
        assert parked.structured_content is not None
        await running.decide(parked.structured_content["error"]["approval"]["id"])
        # A deletion that is held is on its way while the others come.
        running.upstream.hold = True
        outcomes: list[str] = []

        async def repeat(client: Client) -> None:
            outcomes.append(code(await client.call_tool(DELETE, S3)))
            if len(outcomes) == 49:
                running.upstream.release.set()

        async with anyio.create_task_group() as group:
            for number in range(50):
                group.start_soon(repeat, clients[number % 2])

        told = Counter(outcomes)
        assert len(running.upstream.deletions) == 1
        assert told["ok"] == 1
        assert set(told) <= {"ok", "approval_required", "in_progress"}
        verdict, records = await running.verdict()
        assert verdict.problems == []
        assert len([record for record in records if record["phase"] == "ended"]) == 51
        assert [record["decided_by"] for record in records if record["phase"] == "begun"] == ["operator ops"]


@pytest.mark.slow
async def test_while_redis_is_away_reads_go_on_and_afterwards_everything_does(tmp_path: Path):
    with redis_server() as server:
        async with replicas(server, tmp_path, "destroy=approve") as running, running.clients() as (one, other):
            parked = await one.call_tool(DELETE, S3)
            assert parked.structured_content is not None
            server.kill()

            for client in (one, other):
                assert code(await client.call_tool(READ, {})) == "ok"
                refused = await client.call_tool(DELETE, S3)
                assert code(refused) == "store_unavailable"
                assert "CONNECTOR_MCP_STATE" in refused.structured_content["error"]["fix"]
            assert running.upstream.deletions == []
            server.start()

            await running.decide(parked.structured_content["error"]["approval"]["id"])
            assert code(await other.call_tool(DELETE, S3)) == "ok"
            assert len(running.upstream.deletions) == 1
            verdict, _ = await running.verdict()
            assert verdict.problems == []


@pytest.mark.slow
async def test_a_deletion_of_a_killed_replica_is_not_made_again(redis: RedisServer, tmp_path: Path):
    call = message("tools/call", name=DELETE, arguments=S3, _meta=META)
    async with replicas(redis, tmp_path, "destroy=allow") as running:
        running.upstream.hold = True

        async def lost() -> None:
            with pytest.raises(httpx.RemoteProtocolError):
                await post(running.origins[0], call, **modern(DELETE))

        async def answer() -> dict[str, Any]:
            return (await post(running.origins[1], call, **modern(DELETE))).json()["result"]["structuredContent"]

        async with anyio.create_task_group() as group:
            group.start_soon(lost)
            with anyio.fail_after(60):
                await running.upstream.reached.wait()
                running.processes[0].kill()
                await running.processes[0].wait()
        assert (await answer())["error"]["code"] == "in_progress"

        verdict, records = await running.verdict()
        assert verdict.problems == []
        (begun,) = [record for record in records if record["phase"] == "begun"]
        assert begun["call_id"] in verdict.notes[0]

        # Once the longest time that a call can take is over, its entry is that of a call that was lost.
        running.upstream.hold = False
        store = open_store(running.settings)
        ((digest, entry),) = await store.entries("writes")
        await store.replace("writes", digest, entry | {"at": 0.0}, expected=entry)
        await store.aclose()
        assert "outcome of the same call" in (await answer())["meta"]["warnings"][0]
        assert len(running.upstream.deletions) == 1
