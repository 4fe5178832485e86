"""The sandbox: the four emulated platforms, in process or over a socket.

It runs only when asked for; nothing falls back to it. `transport` puts a platform under an `httpx.AsyncClient` without
a socket. `app` is a Starlette application that serves all four for `connector-mcp sandbox` and the vendors' clients.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from connector_mcp.sandbox.conductorone.emulator import ConductorOneEmulator
from connector_mcp.sandbox.emulator import Emulator
from connector_mcp.sandbox.faults import Delivery, Fault, FaultPlan, InProcessTransport, Responder, ServedPlatform
from connector_mcp.sandbox.logto.emulator import LogtoEmulator
from connector_mcp.sandbox.seed import PLATFORMS, seed_world, variables
from connector_mcp.sandbox.vectorize.emulator import VectorizeEmulator
from connector_mcp.sandbox.versori.emulator import VersoriEmulator
from connector_mcp.sandbox.world import DEFAULT_ACCOUNT, Clock, World, system_time


@dataclass(frozen=True)
class RecordedRequest:
    """A request that reached the sandbox. `raw_path` is percent-encoded, without the query; header names lower case."""

    platform: str
    method: str
    raw_path: str
    query: str
    body: bytes = field(repr=False)
    headers: dict[str, str] = field(repr=False)


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
        faults: Sequence[Fault] = (),
        create_body: str = "object",
        clock: Clock = system_time,
        account: str = DEFAULT_ACCOUNT,
    ) -> None:
        self.world = World(data, clock, account)
        seed_world(self.world)
        self._create_body = create_body
        self._faults = FaultPlan(faults)
        self._requests: deque[RecordedRequest] = deque(maxlen=500)
        # Made when first needed: each compiles many routes.
        self._logto = cache(partial(LogtoEmulator, self.world))
        self._conductorone = cache(partial(ConductorOneEmulator, self.world))
        self._emulators: Mapping[str, Callable[[], Emulator]] = {
            "vectorize": cache(partial(VectorizeEmulator, self.world, create_body=create_body)),
            "logto": self._logto,
            "versori": cache(partial(VersoriEmulator, self.world)),
            "conductorone": self._conductorone,
        }

    @property
    def requests(self) -> list[RecordedRequest]:
        """The latest 500 requests, oldest first."""
        return list(self._requests)

    def serves(self, platform: str, method: str, path: str) -> bool:
        """Whether the platform has an operation with this method and percent-encoded path."""
        return self._emulators[platform]().serves(method, path)

    def inject(self, fault: Fault) -> None:
        """Add a fault after those already injected."""
        self._faults.add(fault)

    def revoke_tokens(self) -> None:
        """Revoke every access token that the token endpoints issued."""
        self._logto().tokens.revoke_all()
        self._conductorone().tokens.revoke_all()

    def variables(self, platform: str, origin: str | None = None) -> dict[str, str]:
        """The platform's environment variables for this sandbox, in process or served at `origin`."""
        return variables(platform, origin, create_body=self._create_body)

    def transport(self, platform: str) -> httpx.AsyncBaseTransport:
        """The platform in process, for an `httpx.AsyncClient`. Raises KeyError for an unknown platform."""
        return InProcessTransport(self._responder(platform))

    def app(self) -> Starlette:
        """All four as one application, each under its name.

        The base paths are `/vectorize/v1`, `/logto`, `/versori/api/connect/v1` and `/conductorone`. `/` lists the
        platforms.
        """

        async def index(_request: Request) -> Response:
            return JSONResponse({"sandbox": True, "platforms": sorted(PLATFORMS)})

        mounts = [Mount(f"/{name}", ServedPlatform(f"/{name}", self._responder(name))) for name in PLATFORMS]
        return Starlette(routes=[Route("/", index), *mounts])

    def close(self) -> None:
        """Close the world. The sandbox cannot be used afterwards."""
        self.world.close()

    def _responder(self, platform: str) -> Responder:
        make_emulator = self._emulators[platform]

        async def respond(request: Request) -> Delivery:
            emulator = make_emulator()
            body = await request.body()
            path = request.scope["path"]
            fault = self._faults.next_for(platform, request.method, path)
            if fault is None or fault.kind != "unreachable":
                query = request.scope["query_string"].decode("latin-1")
                recorded = RecordedRequest(platform, request.method, path, query, body, dict(request.headers))
                self._requests.append(recorded)
            if fault is None:
                return Delivery(await emulator.respond(request))
            if fault.kind != "stale_read":
                return await fault.apply(emulator, request)
            # The body is read: nothing below waits, so no other request sees the past.
            with self.world.before_last_writes() as past:
                response = await emulator.respond(request)
            if past.differed:
                self._faults.count_stale_read(fault)
            return Delivery(response)

        return respond
