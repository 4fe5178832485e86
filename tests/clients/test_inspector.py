"""The MCP Inspector on the command line: a new process for each method, in both eras, over every transport."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from connector_mcp.operations.catalog import catalog
from connector_mcp.sandbox import seed
from tests.clients.attached import Server
from tests.clients.node import MODULES, node

INSPECTOR = MODULES / "@modelcontextprotocol" / "inspector" / "clients" / "launcher" / "build" / "index.js"
SECONDS = 60.0


@dataclass(frozen=True)
class Shown:
    """What one run of the Inspector wrote."""

    status: int
    out: str
    err: str

    @property
    def result(self) -> dict[str, Any]:
        return json.loads(self.out)["result"]

    @property
    def error(self) -> dict[str, Any]:
        """What the server answered to a call that failed, as the model would read it."""
        (block,) = self.result["content"]
        return json.loads(block["text"])["error"]


Inspect = Callable[..., Shown]


@pytest.fixture(params=[("stdio", "legacy"), ("http", "modern"), ("sse", "legacy")], ids=", ".join)
def inspect(request: pytest.FixtureRequest, tmp_path: Path) -> Inspect:
    """Run a method of the Inspector's CLI over each transport, in a home directory of its own."""
    transport, era = request.param
    server: Server = request.getfixturevalue("stdio_server" if transport == "stdio" else "http_server")
    if transport == "stdio":
        # Its own options end where the target's begin; it hands on no variable that is not named.
        variables = [part for name, value in server.environment.items() for part in ("-e", f"{name}={value}")]
        target = [*server.command, *variables]
    else:
        target = ["--server-url", server.url(transport), "--transport", transport]

    def run(method: str, *options: str) -> Shown:
        command = [node(), str(INSPECTOR), "--cli", *target, "--protocol-era", era, "--method", method, *options]
        # Its own patience is short for a busy machine.
        command += ["--format", "json", "--connect-timeout", str(int(SECONDS * 1000))]
        environ = {**server.environment, "HOME": str(tmp_path)}
        streams = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True}
        done = subprocess.run(command, env=environ, timeout=SECONDS, check=False, **streams)
        return Shown(done.returncode, done.stdout, done.stderr)

    return run


def test_every_tool_is_listed_and_every_schema_is_valid(inspect: Inspect):
    shown = inspect("tools/list", "--strict")
    assert (shown.status, shown.err) == (0, "")
    assert [tool["name"] for tool in shown.result["tools"]] == list(catalog())


def test_a_read_is_shown_with_its_secrets_redacted(inspect: Inspect):
    shown = inspect("tools/call", "--tool-name", "logto_get_connector", "--tool-arg", f"id={seed.LOGTO_GITHUB}")
    assert (shown.status, shown.err) == (0, "")
    assert shown.result["structuredContent"]["data"]["config"]["clientSecret"] == "[redacted]"


@pytest.mark.parametrize("inspect", [("http", "legacy")], ids=", ".join, indirect=True)
def test_a_deletion_is_parked_because_it_declares_no_elicitation(inspect: Inspect):
    target = f"source_connector_id={seed.VECTORIZE_S3}"
    shown = inspect("tools/call", "--tool-name", "vectorize_delete_source_connector", "--tool-arg", target)
    assert shown.error["code"] == "approval_required"
    assert "connector-mcp approvals approve" in shown.error["fix"]
