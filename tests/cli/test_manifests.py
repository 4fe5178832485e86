"""`connector-mcp plan`, `export` and `drift`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from connector_mcp.provisioning import calls
from connector_mcp.provisioning.manifest_file import read_manifest

Run = Callable[..., Result]

MANIFEST = """\
name: ingestion
sources:
  docs:
    name: Docs site
    type: WEB_CRAWLER
    config:
      seed-urls: [https://docs.acme.example]
"""


@pytest.fixture
def sandbox(tmp_path: Path) -> tuple[str, ...]:
    """The options of a sandbox that remembers."""
    return ("--sandbox", "--data", str(tmp_path / "sandbox.db"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "connectors.yaml"
    path.write_text(MANIFEST)
    return path


def test_a_plan_without_changes_ends_with_0_and_one_with_changes_with_6(run: Run, file: Path) -> None:
    same = run("plan", str(file), "--sandbox")
    assert (same.exit_code, same.stdout) == (
        0,
        "= adopt sources.docs (Docs site) on vectorize\n1 to adopt; 0 unchanged.\n",
    )
    file.write_text(MANIFEST.replace("docs.acme", "new.acme"))
    other = run("plan", str(file), "--sandbox")
    assert other.exit_code == 6
    first, second, *_, last = other.stdout.splitlines()
    assert first == "~ update sources.docs (Docs site) on vectorize: It is there already and is adopted."
    assert second.strip() == 'configDoc.seed-urls: ["https://docs.acme.example"] → ["https://new.acme.example"]'
    assert last.startswith("Apply it: connector-mcp apply pl-")


def test_a_plan_is_printed_as_json(run: Run, file: Path) -> None:
    result = run("plan", str(file), "--sandbox", "--json")
    assert json.loads(result.stdout)["data"]["counts"] == {"adopt": 1}


def test_every_error_is_told_with_file_and_line(run: Run, file: Path) -> None:
    file.write_text(MANIFEST.replace("seed-urls", "seed-url") + "  docs2: {name: X}\n  docs2: {nme: X}\nsorces: {}\n")
    result = run("plan", str(file), "--sandbox", "--rotate", "sources.dcos")
    assert result.exit_code == 2
    wrong_option, *_ = result.stderr.splitlines()
    assert wrong_option == "--rotate: got an entry that is not there, wanted sources.docs"
    places = [line.partition(": got ")[0] for line in result.stderr.splitlines() if ": got " in line][1:]
    assert set(places) == {
        f"{file}:6: sources.docs.config.seed-urls", f"{file}:7: sources.docs.config.seed-url",
        f"{file}:9: sources.docs2", f"{file}:9: sources.docs2.name", f"{file}:9: sources.docs2.nme",
        f"{file}:9: sources.docs2.type", f"{file}:10: sorces",
    }  # fmt: skip
    lines = [int(place.split(":")[1]) for place in places]
    assert lines == sorted(lines)
    assert "error: The manifest has " in result.stderr
    assert result.stdout == ""


def test_an_export_is_a_manifest_that_a_plan_takes_from_a_pipe(run: Run) -> None:
    exported = run("export", "--sandbox", "--name", "all")
    assert exported.exit_code == 0
    assert read_manifest(exported.stdout, "x").data["name"] == "all"
    assert "sandbox-secret" not in exported.stdout
    planned = run("plan", "-", "--sandbox", stdin=exported.stdout)
    assert planned.exit_code == 0, planned.output
    as_json = run("export", "--sandbox", "--json", "--section", "apps", "--platform", "conductorone")
    assert json.loads(as_json.stdout)["apps"].keys() == {"acme-workforce"}


def test_drift_shows_both_directions(
    run: Run, file: Path, sandbox: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "Nothing of this manifest was applied before" in run("drift", str(file), *sandbox).stdout
    applied = run("apply", str(file), *sandbox)
    assert applied.exit_code == 0, applied.output
    none = run("drift", str(file), *sandbox)
    assert (none.exit_code, none.stdout) == (
        0, "Against the manifest: no differences.\nAgainst what was last applied: no differences.\n",
    )  # fmt: skip
    file.write_text(MANIFEST.replace("docs.acme", "new.acme"))
    ahead = run("drift", str(file), *sandbox)
    assert ahead.exit_code == 6
    assert "Against the manifest: 1 difference.\n~ update sources.docs" in ahead.stdout
    assert "Against what was last applied: no differences." in ahead.stdout
    found: dict[str, Any] = json.loads(run("drift", str(file), "--json", *sandbox).stdout)
    assert {name: each["changes"] for name, each in found.items()} == {"the_manifest": 1, "what_was_last_applied": 0}
    monkeypatch.setattr(calls, "_SHOWN", 0)
    assert "Against the manifest: 1 difference.\n… and 1 more.\n" in run("drift", str(file), *sandbox).stdout


def test_a_file_that_cannot_be_read_is_refused(run: Run, tmp_path: Path) -> None:
    assert run("plan", str(tmp_path / "none.yaml"), "--sandbox").exit_code == 2
    (tmp_path / "bad.yaml").write_text("a: [1\n")
    result = run("drift", str(tmp_path / "bad.yaml"), "--sandbox")
    assert result.exit_code == 2
    assert f"{tmp_path / 'bad.yaml'}:2: got what is neither YAML nor JSON" in result.stderr


def test_a_profile_that_no_platform_has_is_refused(run: Run, file: Path) -> None:
    result = run("plan", str(file), "--sandbox", "--profile", "production")
    assert result.exit_code == 2
    assert "error: There is no profile 'production'." in result.stderr
