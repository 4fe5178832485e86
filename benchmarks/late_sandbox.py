"""The sandbox behind the benchmark of manifests, as a process of its own that answers every request late.

The first line on stdout is its port, and it ends when its stdin does. `GET /count` returns how many requests came since
it was last asked, and how many of these were for a further page of a list.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from typing import Any

import uvicorn

from connector_mcp.sandbox.app import Sandbox


class LateSandbox:
    """The sandbox as an ASGI application that waits before it answers, and counts."""

    def __init__(self, delay: float) -> None:
        self._delay = delay
        self._app = Sandbox().app()
        self._requests = self._pages = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/count":
            counted, self._requests, self._pages = [self._requests, self._pages], 0, 0
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": json.dumps(counted).encode()})
            return
        self._requests += 1
        self._pages += b"nextToken=" in scope["query_string"]
        await asyncio.sleep(self._delay)
        await self._app(scope, receive, send)


async def _serve(delay: float) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        # Otherwise the body of each answer waits for the acknowledgement of its head.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        server = uvicorn.Server(uvicorn.Config(LateSandbox(delay), lifespan="off", log_config=None, access_log=False))
        serving = asyncio.create_task(server.serve([listener]))
        print(listener.getsockname()[1], flush=True)
        await asyncio.to_thread(sys.stdin.read)
        server.should_exit = True
        await serving


if __name__ == "__main__":
    asyncio.run(_serve(float(sys.argv[1])))
