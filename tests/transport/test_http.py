"""The server over real sockets: both eras on /mcp, and SSE."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
import anyio.lowlevel
import httpx2
import pytest
from mcp import Client
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS, ElicitResult
from starlette.responses import Response
from starlette.routing import Route

from connector_mcp.engine.caller import Caller, CallResult, Question
from connector_mcp.errors import Misconfigured
from connector_mcp.transport.auth.static_tokens import StaticToken
from connector_mcp.transport.http.app import serve_http
from connector_mcp.transport.http.host_guard import Reach
from tests.end_to_end.faces import INITIALIZE
from tests.transport.conftest import FakeEngine, serving

pytestmark = pytest.mark.anyio

TOKEN = "t0ken-of-the-operator"
TOOL = "vectorize_get_source_connectors"
ROUTES = ["/mcp", "/sse", "/messages/", "/messages/?session_id=1", "/healthz", "/nowhere"]
SCHEMA = {"type": "object", "properties": {"confirm": {"type": "string", "title": "Name"}}, "required": ["confirm"]}
FACES = ["/mcp", "/sse"]


@asynccontextmanager
async def connected(
    address: str, face: str, mode: Any, *, token: str | None = None, callback: Any = None
) -> AsyncGenerator[Client]:
    """A client over one of the faces."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with httpx2.AsyncClient(headers=headers) as http:
        transport = (
            sse_client(address + face, headers=headers)
            if face == "/sse"
            else streamable_http_client(address + face, http_client=http)
        )
        async with Client(transport, mode=mode, elicitation_callback=callback) as client:
            yield client


async def asks(engine: Any, name: str, arguments: Mapping[str, Any], caller: Caller) -> CallResult:
    reply = caller.resumed.reply if caller.resumed else await caller.ask(Question("Sure?", SCHEMA), "t")
    return CallResult({"action": reply.action, "content": dict(reply.content)}, is_error=False)


async def accept(context: Any, params: Any) -> ElicitResult:
    return ElicitResult(action="accept", content={"confirm": "orders"})


@pytest.mark.parametrize("face", FACES)
async def test_the_holder_of_the_token_calls_under_its_name(mode: Any, face: str) -> None:
    tokens = [StaticToken.from_secret("another"), StaticToken.from_secret(TOKEN, name="ci", scopes=["connectors:read"])]
    async with serving(FakeEngine(), tokens=tokens) as address, connected(address, face, mode, token=TOKEN) as client:
        listed = (await client.list_tools()).tools
        told = (await client.call_tool(TOOL, {})).structured_content
    assert told is not None
    assert (told["principal"], told["scopes"]) == ("ci", ["connectors:read"])
    assert all(tool.annotations and tool.annotations.read_only_hint for tool in listed)


async def test_a_state_that_another_principal_was_given_is_refused() -> None:
    engine = FakeEngine(asks)
    tokens = [StaticToken.from_secret("first", name="first"), StaticToken.from_secret("second", name="second")]
    async with (
        serving(engine, tokens=tokens) as address,
        connected(address, "/mcp", "auto", token="first", callback=accept) as first,
        connected(address, "/mcp", "auto", token="second", callback=accept) as second,
    ):
        asked = await first.session.call_tool(TOOL, {}, allow_input_required=True)
        engine.calls.clear()
        answers = {"confirm": ElicitResult(action="accept", content={})}
        with pytest.raises(MCPError) as caught:
            await second.session.call_tool(TOOL, {}, input_responses=answers, request_state=asked.request_state)
    assert caught.value.code == INVALID_PARAMS
    assert engine.calls == []


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": f"Bearer {TOKEN[:-1]}"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": TOKEN},
    ],
)
async def test_nobody_passes_without_the_token(headers: dict[str, str]) -> None:
    engine = FakeEngine()
    async with (
        serving(engine, tokens=[StaticToken.from_secret(TOKEN)]) as address,
        httpx2.AsyncClient(base_url=address, headers=headers) as http,
    ):
        for method, path in [("POST", "/mcp"), ("GET", "/mcp"), ("GET", "/sse"), ("POST", "/messages/"), ("GET", "/x")]:
            answer = await http.request(method, path)
            assert answer.status_code == 401, (method, path)
            assert answer.headers["www-authenticate"].startswith('Bearer realm="connector-mcp"')
            assert ("invalid_token" in answer.headers["www-authenticate"]) is bool(headers)
            assert TOKEN not in answer.text
        health = await http.get("/healthz")
    assert (health.status_code, health.json()) == (200, {"status": "ok"})
    assert engine.calls == []


@pytest.mark.parametrize("face", ["/mcp/", "/sse/"])
async def test_a_slash_behind_the_address_changes_nothing_for_a_client(mode: Any, face: str) -> None:
    async with serving(FakeEngine()) as address, httpx2.AsyncClient(follow_redirects=False) as http:
        path = address + face
        transport = sse_client(path) if face == "/sse/" else streamable_http_client(path, http_client=http)
        async with Client(transport, mode=mode) as client:
            assert not (await client.call_tool(TOOL, {})).is_error


async def test_a_path_is_answered_alike_with_and_without_a_slash_and_never_by_a_redirect() -> None:
    page = Route("/page", lambda _: Response("page"))
    tokens = [StaticToken.from_secret(TOKEN)]
    for options in ({}, {"tokens": tokens}):
        async with (
            serving(FakeEngine(), pages=[page], open_paths=["/page"], hosts=["mcp.example"], **options) as address,
            httpx2.AsyncClient(base_url=address, headers={"Host": "mcp.example"}) as http,
        ):
            for path in (
                "/mcp",
                "/healthz",
                "/page",
                "/nowhere",
                "/messages/",
                "//evil.example",
                "/mcp/",
                "/healthz/x",
            ):
                for method in ("GET", "POST", "DELETE", "OPTIONS"):
                    without, with_slash = await http.request(method, path), await http.request(method, f"{path}/")
                    assert not without.is_redirect, (method, path)
                    assert not with_slash.is_redirect, (method, path)
                    if not path.endswith("/"):
                        assert with_slash.status_code == without.status_code, (method, path)
                        assert with_slash.headers.get("www-authenticate") == without.headers.get("www-authenticate")
            assert (await http.get("/healthz/")).json() == {"status": "ok"}
            assert (await http.get("/page/")).text == "page"


async def test_a_refusal_does_not_wait_for_the_body() -> None:
    async with serving(FakeEngine(), tokens=[StaticToken.from_secret(TOKEN)]) as address:
        host, port = address.removeprefix("http://").split(":")
        async with await anyio.connect_tcp(host, int(port)) as stream:
            await stream.send(f"POST /mcp HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Length: 1000\r\n\r\n".encode())
            answer = await stream.receive()
    assert answer.startswith(b"HTTP/1.1 401")


@pytest.mark.parametrize("path", ROUTES)
async def test_a_host_that_is_not_ours_is_refused_on_every_route(path: str) -> None:
    async with serving(FakeEngine()) as address, httpx2.AsyncClient(base_url=address) as http:
        port = address.rpartition(":")[2]
        for host in ("evil.example", f"evil.example:{port}", f"localhost:{port}.evil.example", "127.0.0.1", ""):
            answer = await http.get(path, headers={"Host": host})
            assert answer.status_code in {400, 421}, host
        assert (await http.get(path, headers={"Host": f"evil.example:{port}"})).status_code == 421


@pytest.mark.parametrize("path", ROUTES)
async def test_an_origin_that_is_not_ours_is_refused_on_every_route(path: str) -> None:
    async with serving(FakeEngine()) as address, httpx2.AsyncClient(base_url=address) as http:
        port = address.rpartition(":")[2]
        for origin in (
            "null",
            "http://evil.example",
            f"http://localhost:{port}.evil.example",
            f"https://localhost:{port}",
        ):
            answer = await http.get(path, headers={"Origin": origin})
            assert answer.status_code == 403, origin


async def test_the_loopback_names_and_what_is_added_are_let_in() -> None:
    options = {"hosts": ["mcp.example:443"], "origins": ["https://app.example"]}
    async with serving(FakeEngine(), **options) as address, httpx2.AsyncClient(base_url=address) as http:
        port = address.rpartition(":")[2]
        for host in (f"127.0.0.1:{port}", f"localhost:{port}", f"[::1]:{port}", "mcp.example:443"):
            assert (await http.get("/healthz", headers={"Host": host})).status_code == 200, host
        for origin in (f"http://127.0.0.1:{port}", f"http://localhost:{port}", "https://app.example"):
            assert (await http.get("/healthz", headers={"Origin": origin})).status_code == 200, origin
        wire = await http.post("/mcp", json={}, headers={"Host": "mcp.example:443", "Origin": "https://app.example"})
    assert wire.status_code not in {403, 421}


async def test_beyond_loopback_a_token_is_demanded() -> None:
    for host in ("0.0.0.0", "::", "192.0.2.1", "example.org", ""):  # noqa: S104 - refused is what is shown
        with pytest.raises(Misconfigured, match="without authorization") as caught:
            await serve_http(FakeEngine(), host, 0)
        assert "CONNECTOR_MCP_HTTP_TOKEN" in caught.value.fix


async def test_with_a_token_every_address_can_be_served() -> None:
    token = [StaticToken.from_secret(TOKEN)]
    async with serving(FakeEngine(), host="0.0.0.0", tokens=token) as address:  # noqa: S104 - the case in question
        local = address.replace("0.0.0.0", "127.0.0.1")  # noqa: S104
        async with connected(local, "/mcp", "auto", token=TOKEN) as client:
            assert (await client.list_tools()).tools


async def test_a_port_in_use_is_a_setting_to_change() -> None:
    async with serving(FakeEngine()) as address:
        with pytest.raises(Misconfigured, match="Cannot listen"):
            await serve_http(FakeEngine(), "127.0.0.1", int(address.rpartition(":")[2]))


@pytest.mark.parametrize("pattern", ["localhost:*", "*", ""])
def test_patterns_of_hosts_are_refused(pattern: str) -> None:
    with pytest.raises(Misconfigured):
        Reach.for_address("127.0.0.1", 80, hosts=[pattern])
    with pytest.raises(Misconfigured):
        Reach.for_address("127.0.0.1", 80, origins=[pattern])


def test_a_token_is_not_in_its_repr() -> None:
    assert TOKEN not in repr(StaticToken.from_secret(TOKEN))
    assert "digest" not in repr(StaticToken.from_secret(TOKEN))


async def test_a_call_in_flight_may_finish_while_the_server_ends(mode: Any) -> None:
    release = anyio.Event()

    async def waits(engine: Any, *_: Any) -> CallResult:
        engine.begun.set()
        await release.wait()
        return CallResult({"done": True}, is_error=False)

    engine = FakeEngine(waits)
    results: list[Any] = []

    async def call(client: Client) -> None:
        results.append(await client.call_tool(TOOL, {}))

    ending = anyio.CancelScope()

    async def serve_until_told(*, task_status: anyio.abc.TaskStatus[str]) -> None:
        with ending:
            await serve_http(engine, "127.0.0.1", 0, grace=60, task_status=task_status)

    async with anyio.create_task_group() as tasks:
        address = await tasks.start(serve_until_told)
        async with connected(address, "/mcp", mode) as client, anyio.create_task_group() as calls:
            # The client wants the output schema once the result is there, and by then the server takes no requests.
            await client.list_tools()
            calls.start_soon(call, client)
            await engine.begun.wait()
            ending.cancel()
            await anyio.lowlevel.checkpoint()
            release.set()
    assert results[0].structured_content == {"done": True}


async def test_a_call_that_does_not_finish_in_time_is_cancelled_when_the_server_ends(mode: Any) -> None:
    async def hangs(engine: Any, *_: Any) -> CallResult:
        engine.begun.set()
        try:
            await anyio.sleep_forever()
        finally:
            engine.record("cancelled")
        raise AssertionError

    async def call(address: str) -> None:
        with suppress(Exception):
            async with connected(address, "/mcp", mode) as client:
                await client.call_tool(TOOL, {})

    engine = FakeEngine(hangs)
    async with anyio.create_task_group() as tasks:
        async with serving(engine) as address:
            tasks.start_soon(call, address)
            await engine.begun.wait()
        assert engine.records == ["cancelled"]
        tasks.cancel_scope.cancel()


async def test_it_is_known_of_an_earlier_client_that_it_hung_up() -> None:
    noticed = anyio.Event()

    async def looks_for_the_client(engine: Any, name: str, arguments: Any, caller: Caller) -> CallResult:
        assert not caller.gone
        engine.begun.set()
        while not caller.gone:
            await anyio.lowlevel.checkpoint()
        noticed.set()
        return CallResult({}, is_error=False)

    engine = FakeEngine(looks_for_the_client)
    headers = {"accept": "application/json, text/event-stream", "mcp-protocol-version": "2025-11-25"}

    async def post(client: httpx2.AsyncClient, method: str, params: Any = None, **number: int) -> httpx2.Response:
        message = {"jsonrpc": "2.0", "method": method, **({"params": params} if params else {}), **number}
        return await client.post("/mcp", json=message, headers=headers, timeout=60)

    async with serving(engine) as address, httpx2.AsyncClient(base_url=address) as client:
        headers["mcp-session-id"] = (await post(client, "initialize", INITIALIZE, id=1)).headers["mcp-session-id"]
        await post(client, "notifications/initialized")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: post(client, "tools/call", {"name": TOOL, "arguments": {}}, id=2))
            await engine.begun.wait()
            tasks.cancel_scope.cancel()
        await noticed.wait()


async def test_calls_that_only_wait_are_answered_when_the_server_ends() -> None:
    engine = FakeEngine()
    async with serving(engine):
        assert not engine.waiting_ended
    assert engine.waiting_ended
