"""How much callers may have: what is refused, what is cut, and that others are served meanwhile."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import anyio
import anyio.abc
import httpx2
import pytest
from mcp import Client

from connector_mcp.engine.caller import CallResult
from connector_mcp.state.postgres import PostgresDatabase, SharedRates
from connector_mcp.transport.auth.principal import Principal
from connector_mcp.transport.auth.static_tokens import StaticToken
from connector_mcp.transport.http import listener
from connector_mcp.transport.http.host_guard import HEAD_BYTES
from connector_mcp.transport.http.limits import (
    SESSION_SECONDS,
    HttpLimits,
    MessageGuard,
    RequestRate,
    SessionGuard,
    SessionQuota,
)
from connector_mcp.transport.mcp.tools import CallsInFlight
from connector_mcp.upstream.rate import SharedRateLimit
from tests.end_to_end.faces import INITIALIZE, META, message, modern
from tests.passing_time import let_pass
from tests.postgres_server import PostgresFixture
from tests.transport.conftest import FakeEngine, serving
from tests.transport.test_http import TOOL, accept, asks, connected

pytestmark = pytest.mark.anyio

TOKENS = [StaticToken.from_secret("one", name="one"), StaticToken.from_secret("two", name="two")]
PING = message("ping")
MODERN = modern(TOOL)
ACCEPT = {"Accept": "application/json, text/event-stream"}
CALL = message("tools/call", name=TOOL, arguments={}, _meta=META)

SURROGATE = message("tools/call", name=TOOL, arguments={"cut": "\ud83d"}, _meta=META)
OTHER_ENCODINGS = [json.dumps(CALL).encode(name) for name in ("utf-8-sig", "utf-16", "utf-32-le")]
OTHER_ENCODINGS.append(json.dumps(SURROGATE).encode())
"""Bodies that the SDK reads in the 2026-07-28 protocol, and stricter parsers do not."""


@asynccontextmanager
async def socket_to(address: str) -> AsyncGenerator[anyio.abc.SocketStream]:
    host, _, port = address.removeprefix("http://").rpartition(":")
    async with await anyio.connect_tcp(host, int(port)) as stream:
        yield stream


async def until_closed(stream: anyio.abc.SocketStream) -> bytes:
    """What is received until the other side closes or resets the connection."""
    received = b""
    try:
        while True:
            received += await stream.receive()
    except (anyio.EndOfStream, anyio.BrokenResourceError):
        return received


def head(address: str, *lines: str, start: str = "POST /mcp HTTP/1.1") -> bytes:
    host = address.removeprefix("http://")
    return "\r\n".join([start, f"Host: {host}", *lines, "", ""]).encode()


# Requests and calls ------------------------------------------------------------------------------------------------


@pytest.fixture
async def turns_of_replicas(postgres: PostgresFixture) -> AsyncGenerator[Callable[[], SharedRateLimit]]:
    """Makes what each of several replicas counts with, over one database."""
    async with AsyncExitStack() as stack:

        def make() -> SharedRateLimit:
            database = PostgresDatabase(postgres.url)
            stack.push_async_callback(database.aclose)
            return SharedRateLimit(SharedRates(database), "HTTP requests")

        yield make


def away() -> SharedRateLimit:
    """Those of a store that cannot be reached."""
    return SharedRateLimit(SharedRates(PostgresDatabase("postgresql:///none?host=/nowhere")), "HTTP requests")


@pytest.mark.parametrize("store", ["own", "shared", "away"])
async def test_a_principal_with_too_many_requests_is_told_when_to_return(
    turns_of_replicas: Callable[[], SharedRateLimit], store: str
) -> None:
    turns = {"own": lambda: None, "shared": turns_of_replicas, "away": away}[store]()
    rate = RequestRate(3, turns)
    async with serving(FakeEngine(), tokens=TOKENS, rate=rate) as address, httpx2.AsyncClient(base_url=address) as http:

        async def ask(token: str) -> httpx2.Response:
            return await http.post("/nowhere", headers={"Authorization": f"Bearer {token}"})

        first = [(await ask("one")).status_code for _ in range(3)]
        refused = await ask("one")
        other = await ask("two")
        health = [(await http.get("/healthz")).status_code for _ in range(9)]
    assert (first, other.status_code, health) == ([404] * 3, 404, [200] * 9)
    assert (refused.status_code, refused.json()["error"]) == (429, "rate_limited")
    assert 1 <= int(refused.headers["retry-after"]) == refused.json()["retry_after"] <= 20


async def test_replicas_that_share_a_database_count_together(turns_of_replicas: Callable[[], SharedRateLimit]) -> None:
    one, two = RequestRate(2, turns_of_replicas()), RequestRate(2, turns_of_replicas())
    assert [await one.seconds_to_wait("p\ud800"), await two.seconds_to_wait("p\ud800")] == [0, 0]
    assert await one.seconds_to_wait("p\ud800") > 0
    assert await two.seconds_to_wait("p\ud800") > 0
    assert await two.seconds_to_wait("q") == 0


async def test_a_minute_s_worth_of_requests_is_served_at_once_and_then_as_many_as_a_minute_holds() -> None:
    now = 1_000.0
    rate = RequestRate(6, clock=lambda: now)
    first = [await rate.seconds_to_wait("p") for _ in range(8)]
    now += 10
    next_one = [await rate.seconds_to_wait("p") for _ in range(2)]
    now += 600
    later = [await rate.seconds_to_wait("p") for _ in range(7)]
    assert (first, next_one, later) == ([0] * 6 + [10] * 2, [0, 10], [0] * 6 + [10])


async def test_who_has_made_no_request_for_a_minute_takes_no_memory() -> None:
    now = 1_000.0
    rate = RequestRate(6, clock=lambda: now)
    for number in range(5_000):
        now += 1
        await rate.seconds_to_wait(f"p{number}")
    held = next(value for value in vars(rate).values() if isinstance(value, dict))
    assert len(held) < 1_200


@asynccontextmanager
async def one_call_running(face: str, mode: Any) -> AsyncGenerator[tuple[str, Any]]:
    """A server that takes one call at a time, and is busy with one."""
    release = anyio.Event()

    async def waits(engine: Any, *_: Any) -> CallResult:
        engine.begun.set()
        await release.wait()
        return CallResult({"done": True}, is_error=False)

    engine = FakeEngine(waits)
    results: list[Any] = []

    async def call(client: Client) -> None:
        results.append(await client.call_tool(TOOL, {}))

    async with serving(engine, limits=HttpLimits(calls=1)) as address, connected(address, face, mode) as client:
        await client.list_tools()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call, client)
            await engine.begun.wait()
            yield address, engine
            release.set()
    assert results[0].structured_content == {"done": True}


@pytest.mark.parametrize("face", ["/mcp", "/sse"])
async def test_a_call_beyond_the_bound_is_told_to_return_and_nothing_else_is_refused(mode: Any, face: str) -> None:
    async with one_call_running(face, mode) as (address, engine):
        async with httpx2.AsyncClient(base_url=address, headers=ACCEPT) as http:
            modern = await http.post("/mcp", json=CALL, headers=MODERN)
            legacy = await http.post("/mcp", json=CALL)
            over_sse = await http.post("/messages/?session_id=1", json=CALL)
            chunked = await http.post("/mcp", content=chunks(CALL), headers=MODERN)
            others = [await http.post("/mcp", content=body, headers=MODERN) for body in OTHER_ENCODINGS]
            health = await http.get("/healthz")
        async with connected(address, "/mcp", mode) as other:
            listed = (await other.list_tools()).tools
        assert engine.calls == [TOOL]
    for refused in (modern, legacy, over_sse, chunked, *others):
        assert (refused.status_code, refused.json()["error"]) == (429, "busy")
        assert refused.headers["retry-after"] == "1"
    assert health.status_code == 200
    assert listed


async def chunks(message: Any) -> AsyncGenerator[bytes]:
    for byte in json.dumps(message).encode():
        yield bytes([byte])


@pytest.mark.parametrize("face", ["/mcp", "/sse"])
async def test_an_answer_to_a_question_is_no_call(mode: Any, face: str) -> None:
    async with (
        serving(FakeEngine(asks), limits=HttpLimits(calls=1)) as address,
        connected(address, face, mode, callback=accept) as client,
    ):
        result = await client.call_tool(TOOL, {})
    assert result.structured_content == {"action": "accept", "content": {"confirm": "orders"}}


async def test_streams_on_which_clients_listen_are_no_calls() -> None:
    async with (
        serving(FakeEngine(), limits=HttpLimits(calls=1)) as address,
        AsyncExitStack() as streams,
        httpx2.AsyncClient(base_url=address) as http,
    ):
        for _ in range(20):
            await streams.enter_async_context(http.stream("GET", "/sse"))
        async with connected(address, "/mcp", "auto") as client:
            assert (await client.call_tool(TOOL, {})).structured_content is not None


# Bodies, heads and slow clients ------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/mcp", "/messages/"])
async def test_a_body_over_the_limit_that_is_set_is_refused(path: str) -> None:
    async with (
        serving(FakeEngine(), limits=HttpLimits(body_bytes=1024)) as address,
        httpx2.AsyncClient(base_url=address) as http,
    ):
        declared = await http.post(path, content=b"x" * 1025, headers={"Content-Type": "application/json"})
        chunked = await http.post(path, content=chunks("x" * 1025), headers={"Content-Type": "application/json"})
    assert (declared.status_code, chunked.status_code) == (413, 413)


@pytest.mark.parametrize("size", [HEAD_BYTES, 60_000])
async def test_a_head_over_the_limit_is_refused(size: int) -> None:
    engine = FakeEngine()
    async with serving(engine) as address, socket_to(address) as stream:
        await stream.send(head(address, "X: " + "x" * size))
        assert (await until_closed(stream)).startswith(b"HTTP/1.1 431")
    assert engine.calls == []


async def test_a_head_that_grows_without_an_end_is_refused() -> None:
    async with serving(FakeEngine()) as address, socket_to(address) as stream:
        received = b"HTTP/1.1 400"
        with suppress(anyio.BrokenResourceError):
            await stream.send(b"GET /healthz HTTP/1.1\r\nX: ")
            for _ in range(40):
                await stream.send(b"x" * HEAD_BYTES)
            received = await stream.receive()
    assert received.startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize(
    "sent",
    ["Content-Length: 10\r\n\r\n", "Content-Length: 10\r\n\r\nhalf", "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n"],
)
@pytest.mark.parametrize("path", ["/mcp", "/messages/?session_id=1", "/nowhere"])
async def test_a_client_that_does_not_send_the_body_in_time_is_cut(
    monkeypatch: pytest.MonkeyPatch, path: str, sent: str
) -> None:
    # An answer that needs no body is given at once, and the connection is kept.
    monkeypatch.setattr(listener, "KEPT", 0.05)
    engine = FakeEngine()
    async with serving(engine, limits=HttpLimits(patience=0.05)) as address, socket_to(address) as stream:
        await stream.send(head(address, start=f"POST {path} HTTP/1.1")[:-2] + sent.encode())
        answer = await until_closed(stream)
    assert answer.startswith((b"HTTP/1.1 408", b"HTTP/1.1 404"))
    assert engine.calls == []


async def test_fifty_clients_that_trickle_a_body_are_cut_while_others_are_served() -> None:
    closed: list[bytes] = []

    async def listen(stream: anyio.abc.SocketStream) -> None:
        closed.append(await until_closed(stream))

    async with (
        serving(FakeEngine(), limits=HttpLimits(patience=30.0)) as address,
        AsyncExitStack() as sockets,
        connected(address, "/mcp", "auto") as client,
        anyio.create_task_group() as tasks,
    ):
        trickling = [await sockets.enter_async_context(socket_to(address)) for _ in range(50)]
        for stream in trickling:
            await stream.send(head(address, "Content-Length: 1000000"))
            tasks.start_soon(listen, stream)
        with anyio.fail_after(600):
            while len(closed) < 50:
                assert (await client.call_tool(TOOL, {})).structured_content is not None
                for stream in trickling:
                    with suppress(anyio.BrokenResourceError):
                        await stream.send(b"x")
                # Less than the time for which the client's own idle connection is kept.
                let_pass(4)


async def test_a_client_that_never_reads_is_cut_and_its_call_ended() -> None:
    ended = anyio.Event()

    async def talks(engine: Any, name: str, arguments: Any, caller: Any) -> CallResult:
        try:
            while True:
                await caller.progress("x" * 60_000)
        finally:
            ended.set()
        raise AssertionError

    body = {**CALL, "params": {**CALL["params"], "_meta": {**META, "progressToken": 1}}}
    content = json.dumps(body).encode()
    lines = [f"{name}: {value}" for name, value in {**MODERN, **ACCEPT}.items()]
    async with serving(FakeEngine(talks), limits=HttpLimits(patience=0.1)) as address, socket_to(address) as stream:
        lines += ["Content-Type: application/json", f"Content-Length: {len(content)}"]
        await stream.send(head(address, *lines) + content)
        await ended.wait()


async def test_a_request_on_a_connection_beyond_the_bound_is_refused() -> None:
    async with (
        serving(FakeEngine(), limits=HttpLimits(connections=2)) as address,
        socket_to(address) as first,
        socket_to(address),
        socket_to(address) as third,
    ):
        await third.send(head(address, start="GET /healthz HTTP/1.1"))
        assert (await until_closed(third)).startswith(b"HTTP/1.1 503")
        await first.send(head(address, "Connection: close", start="GET /healthz HTTP/1.1"))
        assert (await until_closed(first)).startswith(b"HTTP/1.1 200")


async def test_proxies_are_told_not_to_hold_streams_back(mode: Any) -> None:
    async def works(engine: Any, name: str, arguments: Any, caller: Any) -> CallResult:
        await caller.progress("one")
        return CallResult({}, is_error=False)

    body = {**CALL, "params": {**CALL["params"], "_meta": {**META, "progressToken": 1}}}
    async with serving(FakeEngine(works)) as address, httpx2.AsyncClient(base_url=address, headers=ACCEPT) as http:
        if mode == "auto":
            async with http.stream("POST", "/mcp", json=body, headers=MODERN) as answer:
                found = [answer.headers]
        else:
            async with (
                http.stream("GET", "/sse") as listening,
                http.stream("POST", "/mcp", json=message("initialize", **INITIALIZE)) as answer,
            ):
                found = [listening.headers, answer.headers]
    for headers in found:
        assert headers["content-type"].startswith("text/event-stream")
        assert headers["x-accel-buffering"] == "no"


async def test_a_client_of_the_earlier_protocol_without_a_session_is_refused_at_once() -> None:
    engine = FakeEngine(asks)
    async with serving(engine) as address, httpx2.AsyncClient(base_url=address, headers=ACCEPT) as http:
        answer = await http.post("/mcp", json=CALL, headers={"MCP-Protocol-Version": "2025-11-25"})
    assert (answer.status_code, engine.calls) == (400, [])


@pytest.mark.parametrize(
    ("path", "headers", "statuses"),
    [
        ("/mcp?team=a", {}, [202, 202]),
        ("/mcp?team=a", {"Mcp-Session-Id": "s"}, [202, 400]),
        ("/messages/?session_id=s", {}, [202, 400]),
    ],
)
async def test_ids_are_compared_within_a_session_and_a_query_alone_makes_none(
    path: str, headers: dict[str, str], statuses: list[int]
) -> None:
    posted, answers = anyio.Event(), list[int]()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await posted.wait()
        await send({"type": "http.response.start", "status": 202, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    transport = httpx2.ASGITransport(MessageGuard(app, CallsInFlight(), 1000))
    async with httpx2.AsyncClient(transport=transport, base_url="http://x") as http, anyio.create_task_group() as tasks:

        async def post() -> None:
            answers.append((await http.post(path, json=PING, headers=headers)).status_code)

        tasks.start_soon(post)
        tasks.start_soon(post)
        await anyio.wait_all_tasks_blocked()
        posted.set()

    assert sorted(answers) == statuses


class Sessions:
    """An endpoint that opens a session for each request without one, behind a quota of two for each principal."""

    def __init__(self) -> None:
        self.now = 0.0
        self.quota = SessionQuota(2, clock=lambda: self.now)
        self.made = 0
        self.known: set[str] = set()

    async def endpoint(self, scope: Any, receive: Any, send: Any) -> None:
        headers = dict(scope["headers"])
        session = headers.get(b"mcp-session-id", b"").decode()
        if not session and b"mcp-protocol-version" not in headers:
            self.made += 1
            self.known.add(session := f"s{self.made}")
        status = 404 if session and session not in self.known else 200
        if scope["method"] == "DELETE":
            self.known.discard(session)
        named = [(b"mcp-session-id", session.encode())] if session else []
        await send({"type": "http.response.start", "status": status, "headers": named})
        await send({"type": "http.response.body", "body": b""})

    async def request(
        self, who: str, method: str = "POST", session: str = "", version: str = "", *, streams: bool = False
    ) -> int:
        headers = [(b"mcp-session-id", session.encode())] * bool(session)
        headers += [(b"mcp-protocol-version", version.encode())] * bool(version)
        scope = {
            "type": "http", "method": method, "headers": headers, "query_string": b"", "path": "/mcp",
            "user": Principal(who, frozenset[str]()),
        }  # fmt: skip
        statuses: list[int] = []

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])

        async def receive() -> Any:
            return {"type": "http.request", "body": b""}

        await SessionGuard(self.endpoint, self.quota, streams=streams)(scope, receive, send)
        return statuses[0]


async def test_a_principal_has_as_many_sessions_as_the_quota_and_no_other_is_affected() -> None:
    made = Sessions()
    assert [await made.request("ana") for _ in range(3)] == [200, 200, 429]
    assert await made.request("ben") == 200
    assert await made.request("ana", session="s1") == 200, "an open session goes on"
    assert await made.request("ana", version="2026-07-28") == 200, "later requests have no session"
    assert await made.request("ben", "DELETE", "s404") == 404, "a foreign or unknown session frees nothing"
    assert await made.request("ana") == 429
    assert await made.request("ana", "DELETE", "s1") == 200
    assert [await made.request("ana") for _ in range(2)] == [200, 429]


async def test_an_idle_session_makes_room_and_a_used_one_does_not() -> None:
    made = Sessions()
    assert [await made.request("ana") for _ in range(2)] == [200, 200]
    made.now = SESSION_SECONDS - 1
    assert await made.request("ana", session="s2") == 200
    made.now = SESSION_SECONDS
    assert [await made.request("ana") for _ in range(2)] == [200, 429]


async def test_a_stream_counts_while_it_lasts() -> None:
    made, statuses = Sessions(), list[int]()

    async def open_another(scope: Any, receive: Any, send: Any) -> None:
        if len(statuses) < 5:
            statuses.append(0)
            statuses.append(await made.request("ana", "GET", streams=True))
        await Sessions.endpoint(made, scope, receive, send)

    made.endpoint = open_another
    assert await made.request("ana", "GET", streams=True) == 200
    assert statuses == [0, 0, 429, 200], "the third at the same time is refused"
    assert await made.request("ana", "GET", streams=True) == 200
