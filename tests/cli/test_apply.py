"""`connector-mcp apply`: a manifest, or a plan of one, from the command line."""

from __future__ import annotations

import json
import re
import shlex
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from connector_mcp.cli.terminal import CliCaller
from connector_mcp.provisioning import applying
from connector_mcp.sandbox import seed


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """A manifest that creates a source and deletes one."""
    crawler = {"type": "WEB_CRAWLER", "config": {"seed-urls": ["https://docs.example.com"]}}
    sources = {"new": {"name": "New", **crawler}, "old": {"name": "Docs site", **crawler, "state": "absent"}}
    file = tmp_path / "connectors.json"
    file.write_text(json.dumps({"name": "ingestion", "sources": sources}), "utf-8")
    return file


@pytest.fixture
def data(tmp_path: Path) -> list[str]:
    """The options of a sandbox that remembers."""
    return ["--sandbox", "--data", str(tmp_path / "sandbox.json")]


def test_a_manifest_is_planned_decided_once_and_applied(
    run: Callable[..., Result], manifest: Path, data: list[str]
) -> None:
    parked = run("apply", str(manifest), *data)
    assert parked.exit_code == 3
    approval = json.loads(run("approvals", "list", "--json").stdout)[0]
    assert approval["tool"] == "apply_plan"
    assert any("Docs site" in loss for loss in approval["losses"])

    done = run("apply", str(manifest), "--policy", "destroy=allow", *data)
    assert done.exit_code == 0
    assert "done: create sources.new" in done.stdout
    # Both run side by side, in any order.
    assert all(part in done.stderr for part in ("2 of 2 done: ", " done: delete sources.old"))
    assert "2 done, 0 not done, 0 not known." in done.stdout
    again = run("plan", str(manifest), *data)
    assert again.exit_code == 0


def test_each_command_that_is_named_applies_the_same_plan(
    run: Callable[..., Result], manifest: Path, data: list[str]
) -> None:
    allowed = ["--policy", "destroy=approve", *data]
    parked = run("apply", str(manifest), *allowed)
    (offered,) = [line for line in parked.stdout.splitlines() if line.startswith("Apply it: ")]
    command = offered.removeprefix("Apply it: connector-mcp ")
    assert f"{command}`" in parked.stderr, "with the file again, another plan would be parked"
    again = run(*shlex.split(command))
    assert (again.exit_code, len(json.loads(run("approvals", "list", "--json").stdout))) == (3, 1)
    assert run(*shlex.split(command), "--policy", "destroy=allow").exit_code == 0


def test_an_interrupted_apply_ends_after_what_it_began_and_says_how_to_go_on(
    run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, manifest: Path, data: list[str]
) -> None:
    async def interrupt(caller: CliCaller, message: str) -> None:
        signal.raise_signal(signal.SIGINT)

    # A shell lets what it runs in the background ignore interrupts, and so these tests.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with monkeypatch.context() as patched:
        patched.setattr(applying, "AT_ONCE", 1)
        patched.setattr(CliCaller, "progress", interrupt)
        ended = run("apply", str(manifest), "--policy", "destroy=allow", *data)
    signal.signal(signal.SIGINT, before)
    told = re.fullmatch(
        r"error: Interrupted\. 1 done, 1 not done, 0 not known\. `.*connector-mcp (apply .*)` goes on\.\n", ended.stderr
    )
    assert told, ended.stderr
    assert ended.exit_code == 130
    rest = run(*shlex.split(told[1]))
    assert (rest.exit_code, rest.stdout.splitlines()[-1]) == (0, "2 done, 0 not done, 0 not known.")


def test_a_plan_is_applied_by_its_id_with_its_result_as_json(
    run: Callable[..., Result], manifest: Path, data: list[str]
) -> None:
    planned: dict[str, Any] = json.loads(run("plan", str(manifest), "--json", *data).stdout)
    plan_id = planned["data"]["plan_id"]
    # What the plan would delete changes before it is applied.
    change = json.dumps({"seed-urls": ["https://other.example.com"]})
    changed = run("call", "vectorize_update_source_connector", f"source_connector_id={seed.VECTORIZE_WEB_CRAWLER}",
                  f"config={change}", *data)  # fmt: skip
    assert changed.exit_code == 0, changed.output
    applied = run("apply", plan_id, "--json", "--policy", "destroy=allow", *data)
    assert applied.exit_code == 3
    content = json.loads(applied.stdout)
    assert content["data"]["not_done"][0]["code"] == "target_changed"
    assert content["data"]["counts"]["done"] == 1
    again = run("apply", plan_id, "--policy", "destroy=allow", *data)
    assert f"Or run `connector-mcp apply {plan_id} --sandbox" in again.stdout


def test_an_unknown_plan_and_an_unreadable_file_are_usage_errors(run: Callable[..., Result], data: list[str]) -> None:
    assert run("apply", "pl-abc", *data).exit_code == 2
    assert run("apply", "no-such-file.yaml", *data).exit_code == 2
