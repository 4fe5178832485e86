"""Calls posted to the older transport: what becomes of them is what would have become of them in the SDK."""

import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import httpx2
import pytest

from connector_mcp.engine.caller import CallResult
from connector_mcp.transport.auth.static_tokens import StaticToken
from connector_mcp.transport.http.limits import HttpLimits
from tests.transport.conftest import SECRET, hang

TOOL = "vectorize_get_source_connectors"
INITIALIZE = {
    "protocolVersion": "2025-11-25",
    "capabilities": {},
    "clientInfo": {"name": "c", "version": "1"},
}


class Client:
    """A stream at `/sse`, and what is posted to it."""

    def __init__(self, http: httpx2.AsyncClient, lines: AsyncIterator[str]) -> None:
        self.http = http
        self._lines = lines
        self.address = ""

    async def heard(self) -> str:
        """The data of the next event."""
        async for line in self._lines:
            if line.startswith("data: "):
                return line.removeprefix("data: ")
        return ""

    async def told(self) -> dict[str, Any]:
        """The next message."""
        return json.loads(await self.heard())

    async def post(self, method: str, params: Mapping[str, Any], **more: Any) -> httpx2.Response:
        message = {"jsonrpc": "2.0", "method": method, "params": dict(params), **more}
        return await self.http.post(self.address, json=message)

    async def call(self, identifier: Any = 1, **more: Any) -> httpx2.Response:
        return await self.post("tools/call", {"name": TOOL, "arguments": {}, **more}, id=identifier)

    async def shake_hands(self) -> dict[str, Any]:
        await self.post("initialize", INITIALIZE, id="hello")
        return await self.told()


@asynccontextmanager
async def listening(address: str, token: str | None = None) -> AsyncGenerator[Client]:
    """A client whose stream is open, and who has said nothing yet."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with (
        httpx2.AsyncClient(base_url=address, headers=headers, timeout=30) as http,
        http.stream("GET", "/sse") as stream,
    ):
        client = Client(http, stream.aiter_lines())
        client.address = await client.heard()
        yield client


@asynccontextmanager
async def connected(address: str, token: str | None = None) -> AsyncGenerator[Client]:
    async with listening(address, token) as client:
        await client.shake_hands()
        yield client


@pytest.mark.anyio
async def test_a_call_is_accepted_and_its_answer_is_an_event(make_engine: Any, serve: Any) -> None:
    async with serve(make_engine()) as address, connected(address) as client:
        accepted = await client.call("one")
        answer = await client.told()
        await client.post("ping", {}, id=2)
        of_the_sdk = await client.told()
    assert (accepted.status_code, accepted.text) == (202, "Accepted")
    assert (answer["id"], answer["result"]["structuredContent"]["client"]) == ("one", "c 1")
    assert of_the_sdk == {"jsonrpc": "2.0", "id": 2, "result": {}}


@pytest.mark.anyio
async def test_answers_and_what_the_sdk_sends_come_each_in_one_piece(make_engine: Any, serve: Any) -> None:
    async def tells_much(engine: Any, *_: Any) -> CallResult:
        await anyio.lowlevel.checkpoint()
        return CallResult({"text": "x" * 200_000}, is_error=False)

    async with serve(make_engine(tells_much)) as address, connected(address) as client:
        async with anyio.create_task_group() as tasks:
            for number in range(0, 40, 2):
                tasks.start_soon(client.call, number)
                tasks.start_soon(lambda odd: client.post("tools/list", {}, id=odd), number + 1)
        heard = [(await client.told()) for _ in range(40)]
    assert sorted(each["id"] for each in heard) == list(range(40))
    assert all("result" in each for each in heard)


@pytest.mark.anyio
async def test_a_call_before_the_handshake_is_not_made(make_engine: Any, serve: Any) -> None:
    engine = make_engine()
    async with serve(engine) as address, listening(address) as client:
        await client.call()
        refused = await client.told()
    assert refused["error"]["code"] == -32602
    assert engine.calls == []


@pytest.mark.anyio
async def test_a_call_after_a_handshake_that_was_refused_is_not_made(make_engine: Any, serve: Any) -> None:
    engine = make_engine()
    async with serve(engine) as address, listening(address) as client:
        await client.post("initialize", {"protocolVersion": 1}, id=1)
        await client.call(2)
        refused = [await client.told(), await client.told()]
    assert [each["error"]["code"] for each in refused] == [-32602, -32602]
    assert engine.calls == []


@pytest.mark.anyio
async def test_after_a_second_handshake_calls_are_answered_as_before(make_engine: Any, serve: Any) -> None:
    async with serve(make_engine()) as address, connected(address) as client:
        again = await client.shake_hands()
        await client.call(2)
        answer = await client.told()
    assert again["result"]["protocolVersion"] == "2025-11-25"
    assert (answer["id"], answer["result"]["isError"]) == (2, False)


@pytest.mark.anyio
async def test_a_request_of_a_later_revision_is_refused_on_a_stream_that_shook_hands(
    make_engine: Any, serve: Any
) -> None:
    engine = make_engine()
    async with serve(engine) as address, connected(address) as client:
        await client.call(_meta={"io.modelcontextprotocol/protocolVersion": "2026-07-28"})
        refused = await client.told()
    assert refused["error"]["code"] == -32600
    assert engine.calls == []


@pytest.mark.anyio
@pytest.mark.parametrize(
    "change", [{"jsonrpc": "1.0"}, {"id": True}, {"id": {}}, {"params": []}, {"params": {"name": 7}}]
)
async def test_what_is_not_in_order_is_judged_by_the_sdk(make_engine: Any, serve: Any, change: dict[str, Any]) -> None:
    engine = make_engine()
    async with serve(engine) as address, connected(address) as client:
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": TOOL, "arguments": {}}}
        await client.http.post(client.address, json=message | change)
        await client.post("ping", {}, id=2)
        while (await client.told())["id"] != 2:
            pass
    assert engine.calls == []


@pytest.mark.anyio
async def test_a_stream_serves_only_who_opened_it(make_engine: Any, serve: Any) -> None:
    engine = make_engine()
    tokens = [StaticToken.from_secret("first", name="first"), StaticToken.from_secret("second", name="second")]
    async with serve(engine, tokens=tokens) as address, connected(address, "first") as client:
        client.http.headers["Authorization"] = "Bearer second"
        stolen = await client.call()
        client.http.headers["Authorization"] = "Bearer first"
        assert engine.calls == []
        own = await client.call()
        answer = await client.told()
    assert (stolen.status_code, own.status_code) == (404, 202)
    assert answer["result"]["structuredContent"]["principal"] == "first"


@pytest.mark.anyio
async def test_a_stream_that_has_ended_serves_no_call(make_engine: Any, serve: Any) -> None:
    engine = make_engine()
    async with serve(engine) as address:
        async with connected(address) as client:
            gone = client.address
        async with httpx2.AsyncClient(base_url=address) as http:
            message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": TOOL}}
            with anyio.fail_after(30):
                while (await http.post(gone, json=message)).status_code != 404:
                    engine.calls.clear()
    assert engine.calls == []


@pytest.mark.anyio
async def test_a_call_that_is_cancelled_ends_without_an_answer(make_engine: Any, serve: Any) -> None:
    engine = make_engine(hang)
    async with serve(engine) as address, connected(address) as client:
        await client.call(7)
        await engine.begun.wait()
        await client.post("notifications/cancelled", {"requestId": "7"})
        await client.post("ping", {}, id=8)
        answer = await client.told()
    assert answer["id"] == 8
    assert engine.records == ["cancelled"]


@pytest.mark.anyio
async def test_a_client_that_hangs_up_its_stream_cancels_its_calls(make_engine: Any, serve: Any) -> None:
    ended = anyio.Event()

    async def hangs(engine: Any, *_: Any) -> Any:
        engine.begun.set()
        try:
            await anyio.sleep_forever()
        finally:
            ended.set()

    engine = make_engine(hangs)
    async with serve(engine) as address:
        async with connected(address) as client:
            await client.call(1)
            await client.call(1)
            await engine.begun.wait()
        with anyio.fail_after(30):
            await ended.wait()


@pytest.mark.anyio
async def test_a_call_is_told_that_it_was_cut_short_when_the_server_ends(make_engine: Any, serve: Any) -> None:
    engine = make_engine(hang)
    heard: list[dict[str, Any]] = []

    async with anyio.create_task_group() as tasks:

        async def client_of(address: str) -> None:
            async with connected(address) as client:
                await client.call(7)
                heard.append(await client.told())

        async with serve(engine) as address:
            tasks.start_soon(client_of, address)
            await engine.begun.wait()
    assert heard[0]["result"]["structuredContent"]["error"]["code"] == "outcome_unknown"
    assert engine.records == ["cancelled"]


@pytest.mark.anyio
async def test_a_call_that_fails_tells_nothing_of_why(make_engine: Any, serve: Any) -> None:
    async def fails(*_: Any) -> Any:
        raise ValueError(SECRET)

    async with serve(make_engine(fails)) as address, connected(address) as client:
        await client.call()
        answer = await client.heard()
    assert SECRET not in answer
    assert json.loads(answer)["result"]["structuredContent"]["error"]["code"] == "internal"


@pytest.mark.anyio
async def test_a_client_that_never_reads_its_stream_is_cut_and_its_calls_ended(make_engine: Any, serve: Any) -> None:
    ended = anyio.Event()

    async def talks(engine: Any, name: str, arguments: Any, caller: Any) -> CallResult:
        try:
            while True:
                await caller.progress("x" * 60_000)
        finally:
            ended.set()
        raise AssertionError

    async with (
        serve(make_engine(talks), limits=HttpLimits(patience=0.1)) as address,
        connected(address) as client,
    ):
        await client.call(_meta={"progressToken": 1})
        with anyio.fail_after(30):
            await ended.wait()
