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
SECONDS = 240.0
REVISIONS = ("2025-11-25", "2026-07-28")

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

NOT_PASSED: Final[Mapping[str, Mapping[str, str]]] = {
    "2025-11-25": {"server-sse-polling": "a stream that broke cannot be resumed: no store of events is kept"},
    "2026-07-28": {
        # The suite counts none of them: an extension is optional.
        **dict.fromkeys(
            (
                "tasks-lifecycle",
                "tasks-capability-negotiation",
                "tasks-wire-fields",
                "tasks-request-state-removal",
                "tasks-mrtr-input",
                "tasks-request-headers",
                "tasks-dispatch-and-envelope",
                "tasks-required-task-error",
                "tasks-mrtr-composition",
            ),
            "the extension for tasks is not in the SDK",
        ),
        "tasks-status-notifications": "the suite has no check in it yet",
    },
}


def conformance(server: Server, revision: str, folder: Path) -> dict[str, bool]:
    """Whether each scenario of a revision passed: with at least one check, and without a failure or a warning."""
    command = [node(), str(SUITE), "server", "--url", server.url("http"), "--requirements", revision]
    done = subprocess.run(
        [*command, "-o", str(folder)], capture_output=True, text=True, timeout=SECONDS, check=False, cwd=folder
    )
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
def test_the_transport_conforms_to_the_revision_where_the_suites_fixtures_are(
    revision: str, fixture_server: Server, tmp_path: Path
) -> None:
    passed = conformance(fixture_server, revision, tmp_path)
    assert {scenario for scenario in passed if not passed[scenario]} == set(NOT_PASSED[revision])
