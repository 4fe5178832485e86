"""A client of a server over a sandbox on a socket, which does what a recipe says in few calls and lets time pass."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mcp.client import Client

from connector_mcp.composition.engine import open_engine
from connector_mcp.composition.storage import open_secret_store
from connector_mcp.config.settings import Settings
from connector_mcp.operations.catalog import catalog
from connector_mcp.sandbox.app import Sandbox
from connector_mcp.transport.mcp.server import build_server
from tests.end_to_end.faces import PLATFORMS, served
from tests.sandbox.conftest import MovableClock

MOST_CALLS = 8
POLICY = "create=allow,update=allow,destroy=allow,disclose=allow"
TOOLS = re.compile(rf"\b(?:{'|'.join(catalog())})\b")


@dataclass
class Recipe:
    """The calls of a recipe so far."""

    client: Client
    sandbox: Sandbox
    settings: Settings
    wait: Callable[[float], None]
    """Lets seconds pass on the platform."""
    origin: str
    made: list[str] = field(default_factory=list[str])
    left: list[tuple[int, str]] = field(default_factory=list[tuple[int, str]])
    """What the results said is left to do, each with the number of calls at that time."""

    async def call(self, tool: str, **arguments: Any) -> Any:
        """Call a tool and return its data. The call must succeed."""
        content = await self._call(tool, arguments, fails=False)
        if step := content["meta"].get("next"):
            self.left.append((len(self.made), step))
        return content["data"]

    async def refused(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """Call a tool and return its error. The call must fail."""
        return (await self._call(tool, arguments, fails=True))["error"]

    async def _call(self, tool: str, arguments: dict[str, Any], *, fails: bool) -> dict[str, Any]:
        self.made.append(tool)
        assert len(self.made) <= MOST_CALLS, self.made
        result = await self.client.call_tool(tool, arguments)
        assert result.structured_content is not None
        assert result.is_error == fails, result.structured_content
        return result.structured_content

    async def check(self, platform: str, identifier: str, kind: str, within: str = "") -> dict[str, Any]:
        """Ask whether it works."""
        given = {"platform": platform, "id": identifier, "kind": kind}
        return await self.call("check_connector", **given, **({"within": within} if within else {}))

    def assert_next_steps_were_taken(self, *tools: str) -> None:
        """Check that these tools said what is left to do, and that a later call did so each time."""
        for number, step in self.left:
            assert {*TOOLS.findall(step)} & {*self.made[number:]}, (self.made[number - 1], step)
        said = {self.made[number - 1] for number, _ in self.left}
        assert said == {*tools}, said

    def secret(self, reference: str) -> str:
        """The value that the secret store keeps under a reference."""
        found = open_secret_store(self.settings).read(reference.removeprefix("secret://"))
        assert found is not None
        return found


@asynccontextmanager
async def recipe(state: Path) -> AsyncIterator[Recipe]:
    """All tools of all platforms of a new sandbox."""
    clock = MovableClock()
    # The engine signs its assertions at the real time.
    clock.now = datetime.now(UTC)
    sandbox = Sandbox(clock=clock)
    try:
        async with served(sandbox.app()) as origin:
            environ: dict[str, str] = {}
            for platform in PLATFORMS:
                environ |= sandbox.variables(platform, origin)
            settings = Settings.load(environ, state_dir=state, toolsets=("all",), policy=POLICY)
            async with open_engine(settings, environ, "stdio") as engine:
                server = build_server(engine, request_state_key=await engine.request_state_key())
                async with Client(server) as client:
                    yield Recipe(client, sandbox, settings, clock.forward, origin)
    finally:
        sandbox.close()
