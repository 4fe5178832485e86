"""The protocol's own conformance suite, on every scenario that needs no fixture of its making.

The other scenarios call tools, prompts and resources that only a test server has, and fail here as they must.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.clients.attached import Server
from tests.clients.node import MODULES, node

SUITE = MODULES / "@modelcontextprotocol" / "conformance" / "dist" / "index.js"
SECONDS = 240.0

NEEDING_NO_FIXTURE = {
    "2025-11-25": {
        "server-initialize",
        "server-session-lifecycle",
        "ping",
        "tools-list",
        "resources-list",
        "prompts-list",
        "server-sse-multiple-streams",
        "dns-rebinding-protection",
    },
    "2026-07-28": {
        "tools-list",
        "resources-list",
        "prompts-list",
        "server-sse-multiple-streams",
        "dns-rebinding-protection",
        "caching",
        "sep-2164-resource-not-found",
        "http-header-validation",
        "input-required-result-unsupported-methods",
    },
}


@pytest.mark.parametrize("revision", NEEDING_NO_FIXTURE)
def test_the_server_conforms_to_the_revision(revision: str, http_server: Server, tmp_path: Path) -> None:
    command = [node(), str(SUITE), "server", "--url", http_server.url("http"), "--requirements", revision]
    done = subprocess.run(
        [*command, "-o", str(tmp_path)], capture_output=True, text=True, timeout=SECONDS, check=False, cwd=tmp_path
    )
    passed = set(re.findall(r"^✓ ([\w-]+): [1-9]\d* passed, 0 failed", done.stdout, re.MULTILINE))
    assert NEEDING_NO_FIXTURE[revision] <= passed, done.stdout[-4000:]
