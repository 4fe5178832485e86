"""The protocol's own conformance suite, against the server and against the suite's fixtures behind our transport.

The server has no tool, prompt or resource of the suite's making, so scenarios that call one mean nothing against it.
They are run against `fixture_server`, where every scenario must pass that is not listed here with the reason.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest

from tests.clients.attached import Server
from tests.clients.node import MODULES, node

SUITE = MODULES / "@modelcontextprotocol" / "conformance" / "dist" / "index.js"
SECONDS = 600.0
REVISIONS = ("2025-11-25", "2026-07-28")

IN_BOTH = {f"{kind}-list" for kind in ("tools", "resources", "prompts")}
IN_BOTH |= {"server-sse-multiple-streams", "dns-rebinding-protection"}
NEEDING_NO_FIXTURE = {
    "2025-11-25": {*IN_BOTH, "server-initialize", "server-session-lifecycle", "ping"},
    "2026-07-28": {
        *IN_BOTH,
        "caching",
        "sep-2164-resource-not-found",
        "http-header-validation",
        "input-required-result-unsupported-methods",
    },
}

# The suite counts none of them: an extension is optional.
TASKS = (
    "lifecycle", "capability-negotiation", "wire-fields", "request-state-removal", "mrtr-input", "request-headers",
    "dispatch-and-envelope", "required-task-error", "mrtr-composition",
)  # fmt: skip
NOT_PASSED: Final[Mapping[str, Mapping[str, str]]] = {
    "2025-11-25": {"server-sse-polling": "a stream that broke cannot be resumed: no store of events is kept"},
    "2026-07-28": {
        **{f"tasks-{name}": "the extension for tasks is not in the SDK" for name in TASKS},
        "tasks-status-notifications": "the suite has no check in it yet",
    },
}


def conformance(server: Server, revision: str, folder: Path) -> dict[str, bool]:
    """Whether each scenario of a revision passed: with at least one check, and without a failure or a warning."""
    command = [node(), str(SUITE), "server", "--url", server.url("http"), "--requirements", revision]
    command += ["-o", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False, cwd=folder)
    begun = re.findall(r"^=== Running scenario: ([\w-]+) ===$", done.stdout, re.MULTILINE)
    assert begun, done.stdout + done.stderr
    passed: dict[str, bool] = {}
    for scenario in begun:
        (checks,) = folder.glob(f"server-{scenario}-[0-9][0-9][0-9][0-9]-*/checks.json")
        statuses = {check["status"] for check in json.loads(checks.read_text())}
        passed[scenario] = "SUCCESS" in statuses and not statuses & {"FAILURE", "WARNING"}
    return passed


@pytest.mark.parametrize("revision", REVISIONS)
def test_the_server_conforms_to_the_revision(revision: str, http_server: Server, tmp_path: Path) -> None:
    passed = conformance(http_server, revision, tmp_path)
    assert NEEDING_NO_FIXTURE[revision] - {scenario for scenario in passed if passed[scenario]} == set()


@pytest.mark.parametrize("revision", REVISIONS)
def test_the_transport_conforms_with_the_suites_fixtures(revision: str, fixture_server: Server, tmp_path: Path) -> None:
    passed = conformance(fixture_server, revision, tmp_path)
    assert {scenario for scenario in passed if not passed[scenario]} == set(NOT_PASSED[revision])
