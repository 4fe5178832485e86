"""The agent that follows the recipes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from connector_mcp.config.settings import Settings
from connector_mcp.sandbox.app import Sandbox
from tests.end_to_end.faces import all_variables, attached, served
from tests.end_to_end.recipes import Agent
from tests.sandbox.conftest import MovableClock


@pytest.fixture
async def agent(platform: str, tmp_path: Path) -> AsyncIterator[Agent]:
    """An agent with all tools of all platforms of a new sandbox on a socket. It may let time pass there."""
    clock = MovableClock()
    # The engine signs its assertions at the real time.
    clock.now = datetime.now(UTC)
    sandbox = Sandbox(clock=clock)
    policy = "create=allow,update=allow,destroy=allow,disclose=allow"
    async with served(sandbox.app()) as origin:
        environ = all_variables(sandbox, origin)
        settings = Settings.load(environ, state_dir=tmp_path, toolsets=("all",), policy=policy)
        async with attached(settings, environ) as client:
            yield Agent(platform, client, sandbox, settings, clock.forward, origin)
    sandbox.close()
