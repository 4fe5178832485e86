"""The workflow of docs/provisioning.md: every step runs in bash, as GitHub runs it, against the sandbox."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import check_jsonschema
import pytest
from jsonschema import Draft7Validator
from ruamel.yaml import YAML

from tests.documents import BY_NAME

pytestmark = pytest.mark.slow

MANIFEST = """
name: docs-search
sources:
  handbook: {name: Handbook, type: WEB_CRAWLER, config: {seed-urls: ["https://handbook.example.com"]}}
"""


def workflow() -> dict[str, Any]:
    (block,) = [each.text for each in BY_NAME["docs/provisioning.md"].blocks("yaml") if "runs-on:" in each.text]
    return YAML(typ="safe", pure=True).load(block)


class Runner:
    """Runs the workflow for an event, with the state that a database would keep between two runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.summary = folder / "summary.md"
        self._environ = {
            "PATH": f"{Path(sys.executable).parent}:{os.defpath}",
            "CONNECTOR_MCP_STATE_DIR": str(folder / "state"),
            "CONNECTOR_MCP_SANDBOX": "true",
            "CONNECTOR_MCP_SANDBOX_DATA": str(folder / "sandbox.db"),
            "GITHUB_STEP_SUMMARY": str(self.summary),
        }

    def run(self, event: str, manifest: str = MANIFEST) -> dict[str, int]:
        """The exit status of each step with a command, up to the first that failed."""
        (self.folder / "connectors.yaml").write_text(manifest)
        self.summary.write_text("")
        job = workflow()["jobs"]["connectors"]
        fixed = {name: value for name, value in job["env"].items() if "${{" not in value}
        done: dict[str, int] = {}
        for step in job["steps"]:
            if "uses" in step or step["name"] == "Install" or not self._is_due(step, event):
                continue
            command = ("bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"])
            ended = subprocess.run(
                command, cwd=self.folder, env=self._environ | fixed, capture_output=True, stdin=subprocess.DEVNULL
            )
            done[step["name"]] = ended.returncode
            if ended.returncode:
                break
        return done

    def sources(self) -> list[str]:
        """The names of the sources that the platform has."""
        listed = subprocess.run(
            ("connector-mcp", "call", "find_connectors", "--arg", "platform=vectorize"),
            cwd=self.folder, env=self._environ, capture_output=True, check=True,
        )  # fmt: skip
        return [row["name"] for row in json.loads(listed.stdout)["data"]]

    @staticmethod
    def _is_due(step: dict[str, Any], event: str) -> bool:
        return step.get("if", f"github.event_name == '{event}'") == f"github.event_name == '{event}'"


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    return Runner(tmp_path)


def test_a_pull_request_shows_the_plan_and_a_push_applies_it_once(runner: Runner) -> None:
    assert runner.run("pull_request") == {"Plan": 0}
    assert "+ create sources.handbook (Handbook) on vectorize" in runner.summary.read_text()
    assert "Handbook" not in runner.sources()
    assert runner.run("push") == {"Plan": 0, "Apply": 0}
    assert runner.sources().count("Handbook") == 1
    assert runner.run("push") == {"Plan": 0, "Apply": 0}
    assert runner.sources().count("Handbook") == 1
    assert "1 unchanged" in runner.summary.read_text()


def test_what_is_wrong_or_not_allowed_ends_the_run(runner: Runner) -> None:
    assert runner.run("push", MANIFEST.replace("WEB_CRAWLER", "WEB_CRAWLR")) == {"Plan": 2}
    assert runner.run("push") == {"Plan": 0, "Apply": 0}
    gone = runner.run("push", MANIFEST.replace("name: Handbook", "state: absent, name: Handbook"))
    assert (gone["Plan"], gone["Apply"] != 0) == (0, True)
    assert "Handbook" in runner.sources()


def test_the_workflow_fits_the_schema_of_workflows() -> None:
    bundled = Path(check_jsonschema.__file__).parent / "builtin_schemas" / "vendor" / "github-workflows.json"
    schema = json.loads(bundled.read_text("utf-8"))
    assert [error.message for error in Draft7Validator(schema).iter_errors(workflow())] == []
