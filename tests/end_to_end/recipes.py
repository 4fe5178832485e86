"""A client of a server over a sandbox on a socket, which counts the calls of a recipe."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mcp.client import Client

from connector_mcp.composition.engine import open_engine
from connector_mcp.composition.storage import open_secret_store
from connector_mcp.config.settings import Settings
from connector_mcp.sandbox.app import Sandbox
from connector_mcp.transport.mcp.server import build_server
from tests.end_to_end.faces import world

MOST_CALLS = 8
POLICY = "create=allow,update=allow,destroy=allow,disclose=allow"


@dataclass
class Recipe:
    """The calls of a recipe so far."""

    client: Client
    sandbox: Sandbox
    settings: Settings
    made: list[str] = field(default_factory=list[str])

    async def call(self, tool: str, **arguments: Any) -> Any:
        """Call a tool and return its data. Every call must succeed."""
        self.made.append(tool)
        assert len(self.made) <= MOST_CALLS, self.made
        result = await self.client.call_tool(tool, arguments)
        assert result.structured_content is not None
        assert not result.is_error, result.structured_content
        return result.structured_content["data"]

    async def check(self, platform: str, identifier: str, kind: str, within: str = "") -> dict[str, Any]:
        """Ask whether it works."""
        given = {"platform": platform, "id": identifier, "kind": kind}
        return await self.call("check_connector", **given, **({"within": within} if within else {}))

    def secret(self, reference: str) -> str:
        """The value that the secret store keeps under a reference."""
        found = open_secret_store(self.settings).read(reference.removeprefix("secret://"))
        assert found is not None
        return found


@asynccontextmanager
async def recipe(state: Path) -> AsyncIterator[Recipe]:
    """All tools of all platforms of a new sandbox."""
    async with world(state) as found:
        settings = Settings.load(found.environ, toolsets=("all",), policy=POLICY)
        async with open_engine(settings, found.environ, "stdio") as engine:
            server = build_server(engine, request_state_key=await engine.request_state_key())
            async with Client(server) as client:
                yield Recipe(client, found.sandbox, settings)
