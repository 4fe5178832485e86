"""What operators look at: recent calls, platforms, and a queue that keeps itself up to date."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AsyncExitStack
from html import unescape
from typing import Any

import anyio
import pytest
from starlette.types import Message

from connector_mcp.console import events
from connector_mcp.console.access import Visitor
from connector_mcp.console.events import MAX_STREAMS, QueueStreams
from connector_mcp.console.pages import QUEUE_ROWS
from connector_mcp.engine.approval.queue import PAGE
from connector_mcp.engine.preview import Change
from connector_mcp.errors import StoreUnavailable
from connector_mcp.provisioning.journal import Journal
from connector_mcp.provisioning.plan import Action
from connector_mcp.transport.http.health import CachedCheck
from tests.console.conftest import Browser, House

pytestmark = pytest.mark.anyio


def queued(text: str) -> list[str]:
    return re.findall(r'class="row-title" id="(ap-\w+)"', text)


async def walk(operator: Browser, path: str, link: str, found: Callable[[str], list[str]]) -> list[list[str]]:
    """What the pages of a list show, from one to the next."""
    pages: list[list[str]] = []
    while True:
        text = (await operator.get(path)).text
        pages.append(found(text))
        onward = re.search(rf'<a rel="{link}" href="([^"]+)"', text)
        if onward is None:
            return pages
        path = unescape(onward[1])


async def test_a_plan_is_shown_by_what_its_actions_do_and_only_if_it_is_the_one_that_is_decided(
    operator: Browser, house: House
) -> None:
    def action(number: int, verb: str, name: str, **others: Any) -> Action:
        where = {"platform": "vectorize", "profile": "default", "entry": f"sources.{name}", "name": name}
        return Action.model_validate({"number": number, "verb": verb, **where, **others})

    diff = (Change("config.seed-urls", ["https://a"], ["https://<b>"]),)
    actions = [action(1, "create", "new"), action(2, "update", "changed", diff=diff), action(3, "delete", "old"),
               action(4, "unchanged", "same")]  # fmt: skip
    plan = await Journal(house.database).store(actions, principal="agent-7", manifest="ingestion", ttl=600.0)
    for_plan = {"tool": "apply_plan", "target": "ingestion", "arguments": {"plan_id": plan.id}}
    parked = await house.park(digest=plan.digest, **for_plan)
    text = (await operator.get(f"/console/approvals/{parked.id}")).text
    assert re.findall(r'<h3 id="verb-(\w+)">', text) == ["delete", "update", "create"]
    assert "https://&lt;b&gt;" in text.partition("<details>")[2].partition("</details>")[0]
    assert "Approve the whole plan" in text
    assert ">same<" not in text
    other = await house.park(digest="another plan", **for_plan)
    assert "Approve the whole plan" not in (await operator.get(f"/console/approvals/{other.id}")).text


async def test_the_queue_and_the_history_are_paged(operator: Browser, house: House) -> None:
    def decided(text: str) -> list[str]:
        return re.findall(r'<th scope="row"><a href="/console/approvals/(ap-\w+)"', text)

    parked: list[str] = []
    for number in range(PAGE + 3):
        parked.append((await house.park(digest=f"d{number}")).id)
        house.clock.now += 1
    in_pages = [parked[start : start + QUEUE_ROWS] for start in range(0, len(parked), QUEUE_ROWS)]
    assert await walk(operator, "/console", "prev", queued) == in_pages
    for each in parked:
        await house.approvals.decide(each, False, "operator alice")
        house.clock.now += 1
    shown = await walk(operator, "/console/history", "next", decided)
    assert [each for page in shown for each in page] == parked[::-1]
    assert max(map(len, shown)) <= PAGE


async def test_an_unavailable_store_decides_nothing(operator: Browser, house: House, monkeypatch: Any) -> None:
    approval, token = await house.park(), await operator.form_token()

    async def away(*_: Any, **__: Any) -> None:
        raise StoreUnavailable("The store is away.", fix="Start it.")

    with monkeypatch.context() as patched:
        patched.setattr(house.database, "write", away)
        answer = await operator.submit(f"/console/approvals/{approval.id}/deny", form_token=token)
    assert answer.status_code == 503
    assert "Start it." in answer.text
    assert await house.status(approval) == "pending"


class Stream:
    """One stream, as an ASGI server runs it, of a page in the console."""

    def __init__(self, streams: QueueStreams) -> None:
        self.gone = anyio.Event()
        self._streams = streams
        self._put, self.sent = anyio.create_memory_object_stream[Message](100)

    async def run(self) -> None:
        scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "server": ("127.0.0.1", 80)}
        try:
            await self._streams(scope, self._receive, self._put.send)
        finally:
            self._put.close()

    async def _receive(self) -> Message:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def event(self) -> str:
        """The next part of the body that is no heartbeat."""
        while (part := await self.body()) == ":\n\n":
            pass
        return part

    async def body(self) -> str:
        """The next piece that is not empty."""
        while not (text := (await self.sent.receive()).get("body", b"").decode()):
            pass
        return text

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self._put.close()
        self.sent.close()


class SignedIn:
    """Sessions that are found so many times."""

    def __init__(self, times: float = float("inf")) -> None:
        self.times = times

    async def find(self, key: str | None, *, in_use: bool) -> Visitor | None:
        self.times -= 1
        return Visitor("alice", "key") if self.times >= 0 and not in_use else None


def streams_of(house: House, sessions: Any = None) -> QueueStreams:
    return QueueStreams(house.approvals, house.database, sessions or SignedIn())


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "READ_SECONDS", 0.001)


@pytest.mark.usefixtures("quick")
async def test_a_change_of_the_queue_is_sent_until_the_browser_disconnects(house: House) -> None:
    with Stream(streams_of(house)) as stream:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stream.run)
            assert (await stream.sent.receive())["status"] == 200
            assert "data: 0\n" in await stream.event()
            approval = await house.park()
            assert "data: 1\n" in await stream.event()
            await house.approvals.decide(approval.id, False, "operator alice")
            assert "data: 0\n" in await stream.event()
            stream.gone.set()


async def test_a_new_stream_does_not_stay_with_an_older_reading(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "READ_SECONDS", 0.05)
    streams = streams_of(house)
    for wanted in ("data: 0\n", "data: 1\n"):
        with Stream(streams) as stream, anyio.fail_after(60):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(stream.run)
                while wanted not in await stream.event():
                    pass
                stream.gone.set()
        await house.park()


@pytest.mark.usefixtures("quick")
async def test_a_quiet_stream_sends_heartbeats(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "HEARTBEAT_SECONDS", 0.0)
    with Stream(streams_of(house)) as stream:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stream.run)
            assert "event: queue" in await stream.body()
            assert await stream.body() == ":\n\n"
            stream.gone.set()


@pytest.mark.usefixtures("quick")
async def test_a_stream_ends_with_the_session(house: House) -> None:
    with Stream(streams_of(house, SignedIn(times=2))) as stream:
        await stream.run()
        assert "event: queue" in await stream.body()
        assert "event: ended" in await stream.body()


async def test_the_number_of_streams_is_limited(house: House) -> None:
    streams = streams_of(house)
    async with AsyncExitStack() as stack:
        opened = [stack.enter_context(Stream(streams)) for _ in range(MAX_STREAMS)]
        one_more = stack.enter_context(Stream(streams))
        tasks = await stack.enter_async_context(anyio.create_task_group())
        for stream in opened:
            tasks.start_soon(stream.run)
        for stream in opened:
            await stream.body()
        await one_more.run()
        assert (await one_more.sent.receive())["status"] == 503
        for stream in opened:
            stream.gone.set()


@pytest.mark.usefixtures("quick")
async def test_many_streams_read_the_queue_once(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    looks, look = 0, house.approvals.version

    async def counted() -> Any:
        nonlocal looks
        looks += 1
        return await look()

    queue = CachedCheck(counted, 1.5, clock=lambda: 0.0)
    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(queue.result)

    assert looks == 1


async def test_streams_require_signing_in(browser: Browser, house: House) -> None:
    assert (await browser.get("/console/events")).status_code == 403
    await browser.log_in()
    house.tokens.clear()
    assert (await browser.get("/console/events")).status_code == 403


async def test_a_head_request_for_the_stream_ends_at_once(operator: Browser) -> None:
    assert (await operator.head("/console/events")).status_code == 200
