"""Calls over HTTP that pass the SDK's transport by: what becomes of them is what would have become of them there."""

from collections.abc import Mapping
from typing import Any

import anyio
import httpx2
import pytest

from connector_mcp.transport.auth.static_tokens import StaticToken
from connector_mcp.transport.http.limits import HttpLimits
from connector_mcp.transport.http_answer import REQUEST_CANCELLED
from connector_mcp.transport.strict_httptools import MOST_FRAMING
from tests.transport.conftest import hang

TOOL = "vectorize_get_source_connectors"
ACCEPT = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "c", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}
MODERN = {**ACCEPT, "MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": TOOL}
INITIALIZE = {
    "protocolVersion": "2025-11-25",
    "capabilities": {},
    "clientInfo": {"name": "c", "version": "1"},
}


def message(method: str, params: Mapping[str, Any], identifier: Any = 1) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": identifier, "method": method, "params": dict(params)}


def call(**more: Any) -> dict[str, Any]:
    return message("tools/call", {"name": TOOL, "arguments": {}, "_meta": META, **more})


async def opened(http: httpx2.AsyncClient, headers: Mapping[str, str] | None = None) -> dict[str, str]:
    """The headers of a session that was opened."""
    given = {**ACCEPT, **(headers or {})}
    answer = await http.post("/mcp", json=message("initialize", INITIALIZE), headers=given)
    return {**given, "Mcp-Session-Id": answer.headers["mcp-session-id"]}


@pytest.mark.anyio
async def test_a_call_is_answered_as_json_in_both_revisions(make_engine: Any, serve: Any) -> None:
    async with serve(make_engine()) as address, httpx2.AsyncClient(base_url=address) as http:
        session = await opened(http)
        answers = [
            await http.post("/mcp", json=call(), headers=MODERN),
            await http.post("/mcp", json=call(_meta={}), headers=session),
        ]
    for answer in answers:
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
        assert answer.json()["result"]["structuredContent"]["client"] == "c 1"
    assert "mcp-session-id" not in answers[0].headers
    assert answers[1].headers["mcp-session-id"] == session["Mcp-Session-Id"]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({"Mcp-Name": "other"}, call(), 400),
        ({"Mcp-Method": "tools/list"}, call(), 400),
        ({"MCP-Protocol-Version": "2031-01-01"}, call(), 400),
        ({"Accept": "application/json"}, call(), 406),
        ({"Content-Type": "text/plain"}, call(), 400),
        ({}, call(_meta={}), 400),
        ({}, call() | {"id": True}, 400),
        ({}, call() | {"id": {}}, 400),
        ({}, call() | {"jsonrpc": "1.0"}, 400),
        ({}, [call()], 400),
        ({"Mcp-Name": "nope"}, call(name="nope"), 400),
    ],
)
async def test_what_is_not_in_order_is_judged_by_the_sdk(
    make_engine: Any, serve: Any, headers: dict[str, str], body: Any, status: int
) -> None:
    engine = make_engine()
    async with serve(engine) as address, httpx2.AsyncClient(base_url=address) as http:
        answer = await http.post("/mcp", json=body, headers={**MODERN, **headers})
    assert answer.status_code == status
    assert engine.calls == []


@pytest.mark.anyio
async def test_a_session_that_was_ended_serves_no_call(make_engine: Any, serve: Any) -> None:
    engine = make_engine()
    async with serve(engine) as address, httpx2.AsyncClient(base_url=address) as http:
        session = await opened(http)
        await http.delete("/mcp", headers=session)
        answer = await http.post("/mcp", json=call(_meta={}), headers=session)
    assert answer.status_code == 404
    assert engine.calls == []


@pytest.mark.anyio
async def test_a_session_serves_no_call_of_another_holder_of_a_token(make_engine: Any, serve: Any) -> None:
    engine = make_engine()
    tokens = [StaticToken.from_secret("first", name="first"), StaticToken.from_secret("second", name="second")]
    async with serve(engine, tokens=tokens) as address, httpx2.AsyncClient(base_url=address) as http:
        session = await opened(http, {"Authorization": "Bearer first"})
        stolen = {**session, "Authorization": "Bearer second"}
        answer = await http.post("/mcp", json=call(_meta={}), headers=stolen)
        cancelled = await http.post(
            "/mcp", json={"jsonrpc": "2.0", "method": "notifications/cancelled"}, headers=stolen
        )
    assert (answer.status_code, cancelled.status_code) == (404, 404)
    assert engine.calls == []


@pytest.mark.anyio
async def test_a_call_that_is_cancelled_in_its_session_ends_and_says_so(make_engine: Any, serve: Any) -> None:
    engine = make_engine(hang)
    answers: list[httpx2.Response] = []

    async def make(http: httpx2.AsyncClient, session: dict[str, str]) -> None:
        answers.append(await http.post("/mcp", json=call(_meta={}) | {"id": 7}, headers=session))

    async with serve(engine) as address, httpx2.AsyncClient(base_url=address) as http:
        session = await opened(http)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(make, http, session)
            await engine.begun.wait()
            cancel = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "7"}}
            assert (await http.post("/mcp", json=cancel, headers=session)).status_code == 202
    assert answers[0].json()["error"]["code"] == REQUEST_CANCELLED
    assert engine.records == ["cancelled"]


@pytest.mark.anyio
async def test_a_client_of_2026_that_hangs_up_cancels_its_call(make_engine: Any, serve: Any) -> None:
    ended = anyio.Event()

    async def hangs(engine: Any, name: str, arguments: Any, caller: Any) -> Any:
        engine.begun.set()
        try:
            await anyio.sleep_forever()
        finally:
            ended.set()

    engine = make_engine(hangs)
    async with serve(engine) as address, httpx2.AsyncClient(base_url=address) as http:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: http.post("/mcp", json=call(), headers=MODERN))
            await engine.begun.wait()
            tasks.cancel_scope.cancel()
        with anyio.fail_after(10):
            await ended.wait()


@pytest.mark.anyio
async def test_a_call_over_a_limit_that_was_lowered_is_refused(make_engine: Any, serve: Any) -> None:
    engine = make_engine()
    long = call(arguments={"workspace_id": "x" * 2000})
    async with (
        serve(engine, limits=HttpLimits(body_bytes=1024)) as address,
        httpx2.AsyncClient(base_url=address) as http,
    ):
        session = await opened(http)
        answers = [await http.post("/mcp", json=long, headers=headers) for headers in (MODERN, session)]
    assert [answer.status_code for answer in answers] == [413, 413]
    assert engine.calls == []


@pytest.mark.anyio
async def test_each_client_is_told_apart_in_2026(make_engine: Any, serve: Any) -> None:
    def said_by(name: str) -> dict[str, Any]:
        return call(_meta={**META, "io.modelcontextprotocol/clientInfo": {"name": name, "version": "1"}})

    async with serve(make_engine()) as address, httpx2.AsyncClient(base_url=address) as http:
        answers = [await http.post("/mcp", json=said_by(name), headers=MODERN) for name in ("a", "a", "b")]
        nameless = {key: value for key, value in META.items() if not key.endswith("clientInfo")}
        answers.append(await http.post("/mcp", json=call(_meta=nameless), headers=MODERN))
    told = [answer.json()["result"]["structuredContent"]["client"] for answer in answers]
    assert told == ["a 1", "a 1", "b 1", None]


async def raw(address: str, request: bytes) -> bytes:
    """The beginning of the answer to bytes."""
    host, port = address.removeprefix("http://").split(":")
    async with await anyio.connect_tcp(host, int(port)) as stream:
        await stream.send(request.replace(b"HOST", f"{host}:{port}".encode()))
        return await stream.receive()


@pytest.mark.anyio
async def test_white_space_around_the_value_of_a_header_is_no_part_of_it(make_engine: Any, serve: Any) -> None:
    async with serve(make_engine()) as address:
        answer = await raw(address, b"GET /healthz HTTP/1.1\r\nHost: \t HOST \t\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200")


@pytest.mark.anyio
async def test_a_head_without_an_end_is_refused(make_engine: Any, serve: Any) -> None:
    filling = b"a" * (MOST_FRAMING + 1)
    async with serve(make_engine()) as address:
        answer = await raw(address, b"GET /healthz HTTP/1.1\r\nHost: HOST\r\nX-Long: " + filling)
    assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 431"))
