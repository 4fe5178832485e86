"""The sandbox: the four emulated platforms, in process or over a socket.

It runs only when asked for; nothing falls back to it. `transport` puts a platform under an `httpx.AsyncClient` without
a socket. `app` is a Starlette application that serves all four for `connector-mcp sandbox` and the vendors' clients.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from connector_mcp.sandbox.conductorone.emulator import ConductorOneEmulator
from connector_mcp.sandbox.emulator import Emulator
from connector_mcp.sandbox.logto.emulator import LogtoEmulator
from connector_mcp.sandbox.seed import PLATFORMS, seed_world, variables
from connector_mcp.sandbox.vectorize.emulator import VectorizeEmulator
from connector_mcp.sandbox.versori.emulator import VersoriEmulator
from connector_mcp.sandbox.world import DEFAULT_ACCOUNT, Clock, World, system_time


class Sandbox:
    """Four emulated platforms over the world of one account.

    `data` is a file that keeps the world after the process ends; without it the world is in memory. Each account has a
    world of its own, also in one file. `create_body` is the form of Vectorize's create, `object` or `array`. `clock`
    replaces the real time where tokens expire.
    """

    def __init__(
        self,
        data: Path | None = None,
        *,
        create_body: str = "object",
        clock: Clock = system_time,
        account: str = DEFAULT_ACCOUNT,
    ) -> None:
        self.world = World(data, clock, account)
        seed_world(self.world)
        self._create_body = create_body
        self._emulators: dict[str, Emulator] = {
            "vectorize": VectorizeEmulator(self.world, create_body=create_body),
            "logto": LogtoEmulator(self.world),
            "versori": VersoriEmulator(self.world),
            "conductorone": ConductorOneEmulator(self.world),
        }

    def serves(self, platform: str, method: str, path: str) -> bool:
        """Whether the platform has an operation with this method and percent-encoded path."""
        return self._emulators[platform].serves(method, path)

    def variables(self, platform: str, origin: str | None = None) -> dict[str, str]:
        """The platform's environment variables for this sandbox, in process or served at `origin`."""
        return variables(platform, origin, create_body=self._create_body)

    async def respond(self, platform: str, request: Request) -> Response:
        """Answer a request to a platform. Its path is percent-encoded, without a prefix."""
        return await self._emulators[platform].respond(request)

    def transport(self, platform: str) -> httpx.AsyncBaseTransport:
        """The platform in process, for an `httpx.AsyncClient`. Raises KeyError for an unknown platform."""
        return httpx.ASGITransport(self._served(platform))

    def app(self) -> Starlette:
        """All four as one application, each under its name.

        The base paths are `/vectorize/v1`, `/logto`, `/versori/api/connect/v1` and `/conductorone`. `/` lists the
        platforms.
        """

        async def index(_request: Request) -> Response:
            return JSONResponse({"sandbox": True, "platforms": sorted(PLATFORMS)})

        mounts = [Mount(f"/{name}", self._served(name, f"/{name}")) for name in PLATFORMS]
        return Starlette(routes=[Route("/", index), *mounts])

    def close(self) -> None:
        """Close the world. The sandbox cannot be used afterwards."""
        self.world.close()

    def _served(self, platform: str, prefix: str = "") -> ASGIApp:
        """The platform as an ASGI application under a prefix."""

        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            raw_path: bytes = scope.get("raw_path") or quote(scope["path"]).encode("ascii")
            path = raw_path.decode("ascii").removeprefix(prefix)
            response = await self.respond(platform, Request({**scope, "path": path, "root_path": ""}, receive))
            await response(scope, receive, send)

        return serve
