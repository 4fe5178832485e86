"""Several replicas as processes, with one PostgreSQL: any of them answers any request, and nothing runs twice."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
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
from connector_mcp.audit.reader import AuditReader
from connector_mcp.composition.storage import open_database
from connector_mcp.config.settings import Settings
from connector_mcp.sandbox import seed
from connector_mcp.sandbox.app import Sandbox
from tests.end_to_end.faces import (
    INITIALIZE,
    META,
    all_variables,
    decide,
    http_process,
    message,
    modern,
    post,
    s3_connectors,
    served,
)
from tests.end_to_end.test_request_state import never
from tests.nginx import free_port
from tests.postgres_server import PostgresFixture, postgres_server

pytestmark = pytest.mark.anyio

DELETE = "vectorize_delete_source_connector"
CREATE = "vectorize_create_source_connector"
READ = "vectorize_get_source_connectors"
S3 = {"source_connector_id": seed.VECTORIZE_S3}


@dataclass
class Upstream:
    """A sandbox that can hold the changes which reach it."""

    sandbox: Sandbox
    hold: bool = False
    reached: anyio.Event = field(default_factory=anyio.Event)
    release: anyio.Event = field(default_factory=anyio.Event)

    times: list[float] = field(default_factory=list)
    """When requests came."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.times.append(time.monotonic())
        if scope["type"] == "http" and scope["method"] != "GET" and self.hold:
            self.reached.set()
            await self.release.wait()
        await self.sandbox.app()(scope, receive, send)

    @property
    def writes(self) -> list[str]:
        return [request.raw_path for request in self.sandbox.requests if request.method != "GET"]


@dataclass
class Replicas:
    stack: AsyncExitStack
    environ: dict[str, str]
    upstream: Upstream
    settings: Settings
    processes: list[Process] = field(default_factory=list)
    origins: list[str] = field(default_factory=list)

    async def start(self, port: int) -> str:
        process, origin = await self.stack.enter_async_context(http_process(self.environ, "--port", str(port)))
        self.processes.append(process)
        return origin

    @asynccontextmanager
    async def clients(self, **options: Any) -> AsyncIterator[list[Client]]:
        async with AsyncExitStack() as stack:
            yield [await stack.enter_async_context(Client(f"{origin}/mcp", **options)) for origin in self.origins]

    async def verdict(self) -> tuple[CheckReport, list[dict[str, Any]]]:
        def check() -> tuple[CheckReport, list[dict[str, Any]]]:
            with closing(open_database(self.settings)) as database:
                lines = database.read_now(lambda tx: tx.execute("SELECT line FROM audit ORDER BY seq").all())
                return verify_log(AuditReader(database)), [json.loads(row["line"]) for row in lines]

        return await anyio.to_thread.run_sync(check)


@asynccontextmanager
async def replicas(url: str, folder: Path, policy: str, count: int = 3, **settings: str) -> AsyncIterator[Replicas]:
    sandbox = Sandbox()
    upstream = Upstream(sandbox)
    async with AsyncExitStack() as stack:
        stack.callback(sandbox.close)
        origin = await stack.enter_async_context(served(upstream))
        stack.callback(upstream.release.set)
        environ = {"CONNECTOR_MCP_STATE": url, "CONNECTOR_MCP_POLICY": policy, **settings}
        environ |= all_variables(sandbox, origin)
        environ |= {"CONNECTOR_MCP_STATE_DIR": str(folder / "state"), "CONNECTOR_MCP_ASK_READING_TIME": "0"}
        running = Replicas(stack, environ, upstream, Settings.load({"CONNECTOR_MCP_STATE": url}))
        # A port that is free again while a replica starts again must not be given to another process.
        running.origins = [await running.start(free_port()) for _ in range(count)]
        yield running


def code(result: CallToolResult) -> str:
    content = result.structured_content or {}
    return content["error"]["code"] if result.is_error else "ok"


async def test_a_question_that_one_replica_asked_is_answered_to_the_other(postgres: PostgresFixture, tmp_path: Path):
    yes = {"confirm": ElicitResult(action="accept", content={"confirm": "Product documents"})}
    clients = {"elicitation_callback": never}
    async with (
        replicas(postgres.url, tmp_path, "destroy=ask", count=2) as running,
        running.clients(**clients) as (one, other),
    ):
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
        assert len(running.upstream.writes) == 1
        assert answers[1] in ("confirmation_invalid", "not_found")

        # A session of an earlier client belongs to one replica; the other says so at once, so that it starts again.
        here, there = running.origins
        begun = await post(here, message("initialize", **INITIALIZE))
        session = {"mcp-session-id": begun.headers["mcp-session-id"], "mcp-protocol-version": "2025-11-25"}
        assert [(await post(origin, message("ping", 2), **session)).status_code for origin in (here, there)] == [
            200,
            404,
        ]


@pytest.mark.slow
async def test_an_approved_call_runs_once_of_fifty_repeats_over_all_replicas_twenty_times(
    postgres: PostgresFixture, tmp_path: Path
):
    rounds = 20
    async with replicas(postgres.url, tmp_path, "create=approve") as running, running.clients() as clients:
        for number in range(rounds):
            made = s3_connectors(f"name {number}")
            parked = await clients[0].call_tool(CREATE, made)
            assert code(parked) == "approval_required"
            assert parked.structured_content is not None
            await decide(running.settings, parked.structured_content["error"]["approval"]["id"])
            running.upstream.hold, running.upstream.release = True, anyio.Event()
            outcomes: list[str] = []

            async def repeat(client: Client, made: dict[str, Any] = made, outcomes: list[str] = outcomes) -> None:
                outcomes.append(code(await client.call_tool(CREATE, made)))
                # The creation is held on its way while the others come.
                if len(outcomes) == 49:
                    running.upstream.release.set()

            async with anyio.create_task_group() as group:
                for each in range(50):
                    group.start_soon(repeat, clients[each % 3])
            assert len(running.upstream.writes) == number + 1
            # While it runs, its repeats are not parked.
            assert Counter(outcomes) == {"ok": 1, "in_progress": 49}
        verdict, records = await running.verdict()
        assert verdict.problems == []
        begun = [record for record in records if record["phase"] == "begun"]
        assert [record["decided_by"] for record in begun] == ["operator ops"] * rounds
        assert len([record for record in records if record["phase"] == "ended"]) == 51 * rounds


@pytest.mark.slow
async def test_while_the_database_is_away_reads_go_on_and_afterwards_everything_does(tmp_path: Path):
    with postgres_server("fsync=on", "synchronous_commit=on") as server:
        async with replicas(server.url(), tmp_path, "destroy=approve") as running, running.clients() as clients:
            parked = await clients[0].call_tool(DELETE, S3)
            assert parked.structured_content is not None
            server.stop()
            for client in clients:
                assert code(await client.call_tool(READ, {})) == "ok"
                refused = await client.call_tool(DELETE, S3)
                assert code(refused) == "store_unavailable"
            assert running.upstream.writes == []
            server.start()
            await decide(running.settings, parked.structured_content["error"]["approval"]["id"])
            with anyio.fail_after(300):
                while (outcome := code(await clients[1].call_tool(DELETE, S3))) == "store_unavailable":
                    pass
            assert outcome == "ok"
            assert len(running.upstream.writes) == 1
            verdict, _ = await running.verdict()
            assert verdict.problems == []


@pytest.mark.slow
async def test_a_rate_is_kept_together(postgres: PostgresFixture, tmp_path: Path):
    rate, calls = 20, 120
    limit = {"CONNECTOR_MCP_REQUESTS_PER_SECOND": str(rate)}
    async with replicas(postgres.url, tmp_path, "destroy=approve", **limit) as running, running.clients() as clients:
        begun = time.monotonic()
        async with anyio.create_task_group() as group:
            for number in range(calls):
                group.start_soon(clients[number % 3].call_tool, READ, {})
        assert len(running.upstream.times) == calls
        # After a burst, each goes out when the rate allows it. On a busy machine some arrive late, and then together.
        for number, at in enumerate(sorted(running.upstream.times)):
            assert at - begun >= (number - rate) / rate - 0.5


@pytest.mark.slow
async def test_a_rolling_restart_loses_no_call(postgres: PostgresFixture, tmp_path: Path):
    async with replicas(postgres.url, tmp_path, "create=allow") as running:
        answered, lost, done = 0, list[str](), anyio.Event()

        async def work(worker: int) -> None:
            """Call as a proxy does: on a connection of its own, and elsewhere only if it cannot connect."""
            nonlocal answered
            number = worker
            while not done.is_set() or answered <= 100:
                number += 8
                tool, arguments = (READ, {}) if number % 2 else (CREATE, s3_connectors(f"name {number}"))
                call = message("tools/call", name=tool, arguments=arguments, _meta=META)
                for attempt in range(3):
                    try:
                        answer = await post(running.origins[(number + attempt) % 3], call, **modern(tool))
                    except httpx.ConnectError:
                        continue
                    except httpx.TransportError as failure:
                        lost.append(repr(failure))
                    else:
                        if answer.status_code != 200 or answer.json()["result"]["isError"]:
                            lost.append(f"{tool} {answer.status_code} {answer.text}")
                    break
                else:
                    lost.append("no replica")
                answered += 1

        async with anyio.create_task_group() as group:
            for worker in range(8):
                group.start_soon(work, worker)
            for index, process in enumerate(list(running.processes)):
                process.terminate()
                assert await process.wait() == 0
                await running.start(int(running.origins[index].rpartition(":")[2]))
            done.set()
        assert not lost, "\n".join(lost)


@pytest.mark.slow
async def test_a_deletion_of_a_killed_replica_is_not_made_again(postgres: PostgresFixture, tmp_path: Path):
    call = message("tools/call", name=DELETE, arguments=S3, _meta=META)
    async with replicas(postgres.url, tmp_path, "destroy=allow") as running:
        running.upstream.hold = True

        async def lost() -> None:
            with pytest.raises(httpx.RemoteProtocolError):
                await post(running.origins[0], call, **modern(DELETE))

        async def answer() -> dict[str, Any]:
            return (await post(running.origins[1], call, **modern(DELETE))).json()["result"]["structuredContent"]

        async with anyio.create_task_group() as group:
            group.start_soon(lost)
            with anyio.fail_after(300):
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
        postgres.execute("UPDATE connector_mcp.executions SET begun_at = begun_at - 5000")
        assert "outcome of the same call" in (await answer())["meta"]["warnings"][0]
        assert len(running.upstream.writes) == 1
