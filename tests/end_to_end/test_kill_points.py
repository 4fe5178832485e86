"""The server or database of an approved call fails at each step: nothing twice, nothing lost, no false report.

Two replicas share their records. The first one, the victim, is hit while it runs the call. Then an agent repeats the
call on the other one, and does what it is told, until the connector exists.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import httpx
import pytest
from anyio.abc import Process
from click.testing import CliRunner

from connector_mcp.cli.main import cli
from connector_mcp.composition.storage import open_database
from connector_mcp.config.settings import Settings
from connector_mcp.sandbox.app import Sandbox
from tests.end_to_end.faces import META, decide, end, http_process, message, modern, post, s3_connectors, served
from tests.postgres_proxy import PostgresProxy, Request, cut, postgres_proxy, silence
from tests.postgres_server import PostgresServer, postgres_server

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

CREATE = "vectorize_create_source_connector"
TRIES = 16
Hit = Callable[[], Awaitable[None]]
Step = Callable[[], object]


async def nothing() -> None:
    pass


@dataclass
class Upstream:
    """A sandbox that says when a creation reaches it, and when it has answered."""

    sandbox: Sandbox
    requested: Hit = nothing
    """Awaited before each request is handled."""
    reached: Hit = nothing
    answered: Hit = nothing
    under_way: int = 0
    """Requests that are not over, also those of a server that died."""
    idle: anyio.Event = field(default_factory=anyio.Event)
    """Set when the last of them is over."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.sandbox.app()(scope, receive, send)
            return
        if not self.under_way:
            self.idle = anyio.Event()
        self.under_way += 1
        try:
            await self._handle(scope, receive, send)
        finally:
            self.under_way -= 1
            if not self.under_way:
                self.idle.set()

    async def _handle(self, scope: Any, receive: Any, send: Any) -> None:
        await self.requested()
        is_creation = scope["method"] == "POST"
        if is_creation:
            await self.reached()

        async def answer(event: Any) -> None:
            if is_creation and event["type"] == "http.response.start":
                await self.answered()
            await send(event)

        await self.sandbox.app()(scope, receive, answer)

    @property
    def creations(self) -> int:
        return len([request for request in self.sandbox.requests if request.method == "POST"])


@dataclass
class Scene:
    environ: dict[str, str]
    """The settings of a replica that is not hit."""
    victims: dict[str, str]
    """Those of the victims."""
    upstream: Upstream
    other: str
    """The origin of the replica that is not hit."""
    victim: Process | None = None
    origin: str = ""
    numbers: int = 0
    problems: list[str] = field(default_factory=list)
    settled: anyio.Lock = field(default_factory=anyio.Lock)
    """Held while what hits the victim is not over."""

    async def kill(self) -> None:
        assert self.victim is not None
        end(self.victim)
        await self.victim.wait()

    async def execute(self, sql: str) -> list[dict[str, Any]]:
        async with aclosing(open_database(Settings.load(own(self.environ)))) as database:
            return [dict(row) for row in await database.write(lambda tx: tx.execute(sql).all())]

    async def decide(self, approval_id: str) -> None:
        await decide(Settings.load(own(self.environ)), approval_id)

    async def verdict(self) -> list[str]:
        """The problems that a check of the audit log finds."""
        invoke = partial(CliRunner().invoke, cli, ["audit", "verify", "--json"], env=self.environ)
        checked = await anyio.to_thread.run_sync(invoke)
        assert checked.exit_code in (0, 1), checked.output
        return [line for line in checked.stdout.splitlines() if "problem" in line and "[]" not in line]

    async def play(
        self, stack: AsyncExitStack, arm: Callable[[], None], disarm: Callable[[], None], label: str
    ) -> None:
        """Let an approved call be hit, and then the agent go on; note what must not be."""
        if self.victim is None or self.victim.returncode is not None:
            self.victim, self.origin = await stack.enter_async_context(http_process(self.victims))
        self.numbers += 1
        ask = partial(call, CREATE, s3_connectors(f"connector {self.numbers}"))
        before, decisions, warnings, told = self.upstream.creations, 0, list[str](), list[str]()

        for _ in range(TRIES):
            # A transaction that was left open keeps its locks for some seconds.
            if (parked := await ask(self.other))["error"]["code"] != "store_unavailable":
                break
        assert parked["error"]["code"] == "approval_required", (label, parked)
        await self.decide(parked["error"]["approval"]["id"])
        decisions += 1
        arm()
        try:
            answer = await ask(self.origin)
        except httpx.TransportError:
            answer = {"error": {"code": "lost"}}
        disarm()
        async with self.settled:
            sent = self.upstream.creations - before
        code = answer["error"]["code"] if "error" in answer else "ok"
        told.append(code)
        if code == "ok" and sent != 1:
            self.problems.append(f"{label}: ok, but {sent} sent")
        if code not in ("ok", "lost", "outcome_unknown") and sent:
            self.problems.append(f"{label}: {code}, but it was sent: {answer}")
        for _ in range(TRIES):
            if code == "ok":
                break
            answer = await ask(self.other)
            code = answer["error"]["code"] if "error" in answer else "ok"
            told.append(code)
            if code == "in_progress":
                await self.execute("UPDATE executions SET begun_at = begun_at - 5000 RETURNING digest")
            elif code == "approval_required":
                if (await self.execute("SELECT count(*) AS n FROM approvals WHERE status = 'pending'"))[0]["n"]:
                    await self.decide(answer["error"]["approval"]["id"])
                    decisions += 1
            elif code == "ok":
                warnings += answer["meta"].get("warnings", [])
        total = self.upstream.creations - before
        if code != "ok":
            self.problems.append(f"{label}: never done: {told} {answer}")
        if total != 1 and not (total == 2 and any("same call" in warning for warning in warnings)):
            self.problems.append(f"{label}: sent {total} times, {told}, warned {warnings}")
        if decisions > 1 and "in_progress" not in told and total < 2:
            self.problems.append(f"{label}: approved {decisions} times for one creation, {told}")
        if problems := await self.verdict():
            self.problems.append(f"{label}: {problems}")


def own(environ: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in environ.items() if name.startswith("CONNECTOR_MCP_")}


async def call(tool: str, arguments: dict[str, Any], origin: str) -> dict[str, Any]:
    answer = await post(origin, message("tools/call", name=tool, arguments=arguments, _meta=META), **modern(tool))
    assert answer.status_code == 200, answer.text
    return answer.json()["result"]["structuredContent"]


@asynccontextmanager
async def scene(
    state: dict[str, str], victims: dict[str, str], folder: Path, platforms: Collection[str] = ("vectorize",)
) -> AsyncIterator[tuple[Scene, AsyncExitStack]]:
    """Replicas with these settings of the state."""
    sandbox = Sandbox()
    upstream = Upstream(sandbox)
    async with AsyncExitStack() as stack:
        stack.callback(sandbox.close)
        origin = await stack.enter_async_context(served(upstream))
        common = {name: text for each in platforms for name, text in sandbox.variables(each, origin).items()}
        common |= {"CONNECTOR_MCP_POLICY": "create=approve", "CONNECTOR_MCP_STATE_DIR": str(folder / "state")}
        made = Scene(common | state, common | victims, upstream, "")
        _, made.other = await stack.enter_async_context(http_process(made.environ))
        yield made, stack


class PostgresHits:
    """What can happen at one round trip of the victim: before it reaches the server, or before its answer is back."""

    def __init__(self, scene: Scene, server: PostgresServer, proxy: PostgresProxy) -> None:
        self.scene = scene
        self.server = server
        self.proxy = proxy

    async def kill(self, _: Request) -> None:
        await self.scene.kill()

    async def crash(self, _: Request) -> None:
        def restart() -> None:
            self.server.stop()
            self.server.start()

        # The victim may give up before the server is back.
        with anyio.CancelScope(shield=True):
            async with self.scene.settled:
                await anyio.to_thread.run_sync(restart)

    async def delay(self, _: Request) -> None:
        with anyio.move_on_after(0.5):
            await anyio.sleep_forever()


@pytest.mark.parametrize("what", ["kill", "crash", "cut", "silence", "delay"])
@pytest.mark.parametrize("place", ["request", "answer"])
async def test_a_call_over_postgres_that_is_hit_at_any_round_trip(what: str, place: str, tmp_path: Path) -> None:
    with postgres_server("fsync=on", "synchronous_commit=on") as server:
        async with postgres_proxy(server.folder) as proxy:
            direct, through = {"CONNECTOR_MCP_STATE": server.url()}, {"CONNECTOR_MCP_STATE": proxy.url("postgres")}
            async with scene(direct, through, tmp_path) as (made, stack):
                await made.play(stack, proxy.reset, lambda: None, "without a fault")
                trips = len(proxy.requests)
                hits = PostgresHits(made, server, proxy)
                handler = {"cut": cut, "silence": silence}.get(what) or getattr(hits, what)
                for number in range(1, trips + 1):

                    def arm(number: int = number) -> None:
                        proxy.reset()
                        proxy.fail(number, **{place: handler})

                    await made.play(stack, arm, proxy.reset, f"{what} at {place} {number} of {trips}")
                    if what == "silence":
                        # The pause after a silence is over in a new process.
                        await made.kill()
                assert made.problems == []


@pytest.mark.parametrize("place", ["reached", "answered"])
@pytest.mark.parametrize("database", ["sqlite", "postgres"])
async def test_a_server_that_is_killed_while_the_platform_has_the_call(
    place: str, database: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    state = {"CONNECTOR_MCP_STATE": request.getfixturevalue("postgres").url} if database == "postgres" else {}
    async with scene(state, state, tmp_path) as (made, stack):

        def arm() -> None:
            setattr(made.upstream, place, made.kill)

        def disarm() -> None:
            made.upstream.reached = made.upstream.answered = nothing

        await made.play(stack, arm, disarm, place)
        assert made.problems == []


async def test_a_server_that_is_killed_at_any_change_of_its_file(tmp_path: Path) -> None:
    async with scene({}, {}, tmp_path) as (made, stack):
        log = tmp_path / "state" / "records.db-wal"
        scope = anyio.CancelScope()

        async def watch(number: int) -> None:
            with scope:
                seen = log.stat()
                while number:
                    await anyio.lowlevel.checkpoint()
                    found = log.stat()
                    if (found.st_mtime_ns, found.st_size) != (seen.st_mtime_ns, seen.st_size):
                        seen, number = found, number - 1
                await made.kill()

        for number in range(1, 8):
            scope = anyio.CancelScope()
            async with anyio.create_task_group() as group:
                arm = partial(group.start_soon, watch, number)
                await made.play(stack, arm, scope.cancel, f"change {number}")
        assert made.problems == []
