"""An agent that does what a recipe says, in few calls."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from mcp.client import Client

from connector_mcp.composition.storage import open_secret_store
from connector_mcp.config.settings import Settings
from connector_mcp.operations.catalog import catalog
from connector_mcp.sandbox.app import Sandbox

MOST_CALLS = 8
TOOLS = re.compile(rf"\b(?:{'|'.join(catalog())})\b")


@dataclass
class Agent:
    """Does what a recipe for one platform says, by all tools of a new sandbox. The fixture `agent` makes it."""

    platform: str
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

    async def check(self, identifier: str, kind: str = "connector", within: str = "") -> dict[str, Any]:
        """Ask whether it works."""
        given = {"platform": self.platform, "id": identifier, "kind": kind}
        return await self.call("check_connector", **given, **({"within": within} if within else {}))

    async def settled(self, identifier: str, kind: str) -> dict[str, Any]:
        """The verdict once it can be known: a platform may take a while, or its page lag behind."""
        first = await self.check(identifier, kind)
        return await self.check(identifier, kind) if "check_connector again" in first.get("next", "") else first

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
