"""A server that is told to end serves every request that was sent to it before."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from functools import partial
from typing import Any

import anyio
import httpx2
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from connector_mcp.transport.http import listener
from connector_mcp.transport.http.host_guard import Reach
from connector_mcp.transport.http.listener import serve_app
from connector_mcp.transport.http.shutdown import Drain

pytestmark = pytest.mark.anyio

REQUEST = b"POST / HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 4\r\n\r\nbody"


async def echo(request: Request) -> PlainTextResponse:
    return PlainTextResponse(await request.body())


def app(_: Reach, drain: Drain) -> Starlette:
    return Starlette(routes=[Route("/", echo, methods=["POST"])], middleware=[Middleware(drain.requests)])


@pytest.mark.parametrize("sent", ["before the end", "on a new connection", "on a kept connection"])
async def test_no_request_is_lost_that_was_sent_on_a_connection_made_before_the_end(sent: str) -> None:
    end = anyio.Event()
    drain = Drain()

    async def until() -> int:
        await end.wait()
        return 0

    with anyio.fail_after(60), ExitStack() as stack:
        async with anyio.create_task_group() as group:
            address = await group.start(partial(serve_app, app, "127.0.0.1", 0, drain=drain, until=until))
            port = int(address.rpartition(":")[2])
            # Until the next await the server takes no connection: they wait in the listener's queue.
            clients = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(20)]
            if sent == "on a kept connection":
                for client in clients:
                    client.sendall(REQUEST)
                await answers(clients)
            if sent == "before the end":
                for client in clients:
                    client.sendall(REQUEST)
            end.set()
            if sent != "before the end":
                while not drain.has_begun:
                    await anyio.lowlevel.checkpoint()
                for client in clients:
                    client.sendall(REQUEST)
            for answer in await answers(clients):
                assert answer.startswith(b"HTTP/1.1 200 ")
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port))


async def answers(clients: list[socket.socket]) -> list[bytes]:
    got: list[bytes] = []
    for client in clients:
        client.setblocking(False)
        answer = b""
        while not answer.endswith(b"body"):
            await anyio.wait_readable(client)
            part = client.recv(65536)
            assert part, answer
            answer += part
        got.append(answer)
    return got


async def test_an_idle_connection_is_kept_longer_than_the_sdks_client_reuses_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    configs: list[uvicorn.Config] = []

    async def run(server: uvicorn.Server, *_: Any) -> int:
        configs.append(server.config)
        return 0

    monkeypatch.setattr(listener, "_run", run)
    await serve_app(app, "127.0.0.1", 0)
    # The SDK's client is one of httpx2.
    assert configs[0].timeout_keep_alive > (httpx2.Limits().keepalive_expiry or 0) > 0
