"""The MCP Inspector on the command line takes the list of tools, in both eras and over every transport."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from connector_mcp.operations.catalog import catalog
from tests.clients.attached import SECONDS, Server
from tests.clients.node import MODULES, node

INSPECTOR = MODULES / "@modelcontextprotocol" / "inspector" / "clients" / "launcher" / "build" / "index.js"


@pytest.mark.parametrize(("transport", "era"), [("stdio", "legacy"), ("http", "modern"), ("sse", "legacy")])
def test_every_tool_is_listed_and_every_schema_is_valid(
    transport: Any, era: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    server: Server = request.getfixturevalue("stdio_server" if transport == "stdio" else "http_server")
    if transport == "stdio":
        # Its own options end where the target's begin; it hands on no variable that is not named.
        variables = [part for name, value in server.environment.items() for part in ("-e", f"{name}={value}")]
        target = [*server.command, *variables]
    else:
        target = ["--server-url", server.url(transport), "--transport", transport]
    command = [node(), str(INSPECTOR), "--cli", *target, "--protocol-era", era, "--method", "tools/list", "--strict"]
    # Its own patience is short for a busy machine.
    command += ["--format", "json", "--connect-timeout", str(int(SECONDS * 1000))]
    environ = {**server.environment, "HOME": str(tmp_path)}
    streams = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True}
    done = subprocess.run(command, env=environ, timeout=SECONDS, check=False, **streams)
    assert (done.returncode, done.stderr) == (0, "")
    assert [tool["name"] for tool in json.loads(done.stdout)["result"]["tools"]] == list(catalog())
