"""The sandbox: the four platforms emulated, reached in process or over a socket.

It is asked for, never fallen back to. Both faces lead into the same emulators: `transport` puts a platform under an
`httpx.AsyncClient` without a socket, `app` serves all four for `connector-mcp sandbox` and the vendors' own clients.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from connector_mcp.sandbox.clock import Clock, present
from connector_mcp.sandbox.conductorone import ConductorOneEmulator
from connector_mcp.sandbox.delivery import Answerer, Delivery, spoiled
from connector_mcp.sandbox.faults import Fault, FaultPlan
from connector_mcp.sandbox.in_process import InProcessTransport
from connector_mcp.sandbox.logto import LogtoEmulator
from connector_mcp.sandbox.seed import PLATFORMS, variables
from connector_mcp.sandbox.seed_documents import seed_world
from connector_mcp.sandbox.vectorize import VectorizeEmulator
from connector_mcp.sandbox.versori import VersoriEmulator
from connector_mcp.sandbox.wire import Call, Emulator
from connector_mcp.sandbox.world import World

if TYPE_CHECKING:
    from starlette.applications import Starlette

_REMEMBERED_REQUESTS = 500


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
    """Four emulated platforms over one world.

    `data` is a file that outlives the process; without it the world is in memory. `create_body` is the form of
    Vectorize's create, `object` or `array`. `clock` stands in for the real time where tokens expire.
    """

    def __init__(
        self,
        data: Path | None = None,
        *,
        faults: Sequence[Fault] = (),
        create_body: str = "object",
        clock: Clock = present,
    ) -> None:
        self.world = World(data)
        seed_world(self.world)
        self._create_body = create_body
        self._faults = FaultPlan(faults)
        self._requests: deque[RecordedRequest] = deque(maxlen=_REMEMBERED_REQUESTS)
        self._logto = LogtoEmulator(self.world, clock)
        self._conductorone = ConductorOneEmulator(self.world, clock)
        self._emulators: dict[str, Emulator] = {
            "vectorize": VectorizeEmulator(self.world, clock, create_body=create_body),
            "logto": self._logto,
            "versori": VersoriEmulator(self.world, clock),
            "conductorone": self._conductorone,
        }

    @property
    def requests(self) -> list[RecordedRequest]:
        """The latest requests, oldest first; at most five hundred."""
        return list(self._requests)

    def inject(self, fault: Fault) -> None:
        """Ask for one more fault, after those already asked for."""
        self._faults.add(fault)

    def revoke_tokens(self) -> None:
        """Make every access token that the token endpoints gave out unknown."""
        self._logto.tokens.revoke_all()
        self._conductorone.tokens.revoke_all()

    def variables(self, platform: str, origin: str | None = None) -> dict[str, str]:
        """The platform's environment variables for this sandbox, in process or served at `origin`."""
        return variables(platform, origin, create_body=self._create_body)

    def transport(self, platform: str) -> httpx.AsyncBaseTransport:
        """The platform in process, for an `httpx.AsyncClient`. Raises KeyError for an unknown platform."""
        return InProcessTransport(self._answerer(platform))

    def app(self) -> Starlette:
        """All four as one application, each under its name.

        The base paths are `/vectorize/v1`, `/logto`, `/versori/api/connect/v1` and `/conductorone`.
        """
        # Starlette is only needed here; the in-process face does without.
        from connector_mcp.sandbox.served import served_app

        return served_app({name: self._answerer(name) for name in PLATFORMS})

    def close(self) -> None:
        """Close the world; the sandbox answers nothing afterwards."""
        self.world.close()

    def _answerer(self, platform: str) -> Answerer:
        emulator = self._emulators[platform]

        def answer(call: Call) -> Delivery:
            fault = self._faults.next_for(platform, call)
            if fault is None or fault.kind != "unreachable":
                self._requests.append(
                    RecordedRequest(platform, call.method, call.path, call.query, call.body, dict(call.headers))
                )
            if fault is None:
                return Delivery(emulator.handle(call))
            if fault.kind != "stale_read":
                return spoiled(fault, emulator, call)
            with self.world.before_last_writes() as past:
                answer = emulator.handle(call)
            if past.differed:
                self._faults.used(fault)
            return Delivery(answer)

        return answer
