"""The checklist of a release names what is missing, and what to do about it."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.documents import ROOT
from tools.project import Project
from tools.release import IN_SDIST, generated_problems, package_problems, problems

PROJECT = Project.read()
HEADING = f"## [{PROJECT.version}] - 2030-01-31"


@pytest.fixture
def ready(tmp_path: Path) -> Path:
    """A copy of what the checklist reads, ready for its version."""
    for name in ("pyproject.toml", "server.json", "README.md", "SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md"):
        shutil.copy(ROOT / name, tmp_path / name)
    for name in ("docs", "deploy", "tool_schemas", ".github"):
        shutil.copytree(ROOT / name, tmp_path / name)
    changelog = tmp_path / "CHANGELOG.md"
    changelog.write_text(changelog.read_text().replace("## [Unreleased]", HEADING, 1))
    return tmp_path


def test_nothing_is_missing_when_everything_has_the_version(ready: Path) -> None:
    assert list(problems(ready)) == []


@pytest.mark.parametrize(
    ("file", "old", "new", "told"),
    [
        ("CHANGELOG.md", HEADING, "## [Unreleased]", "no heading"),
        ("CHANGELOG.md", HEADING, f"## [{PROJECT.version}]", "no date"),
        ("CHANGELOG.md", HEADING, f"## [Unreleased]\n\n- more\n\n{HEADING}", "under Unreleased"),
        ("server.json", f'"version": "{PROJECT.version}"', '"version": "0.0.9"', "make listing"),
        ("pyproject.toml", f'version = "{PROJECT.version}"', 'version = "77.0.0"', "deploy/compose.yaml"),
    ],
)
def test_what_is_missing_is_named_with_what_to_do(ready: Path, file: str, old: str, new: str, told: str) -> None:
    path = ready / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    found = list(problems(ready))
    assert any(told in each for each in found), found


def test_generated_files_that_are_not_up_to_date_are_named_with_the_verb_that_writes_them(ready: Path) -> None:
    (ready / "docs/errors.md").write_text("")
    (ready / "server.json").write_text((ready / "server.json").read_text().replace('"title"', '"headline"'))
    found = list(generated_problems(ready))
    assert [each.split("`")[1] for each in found] == ["make docs", "make listing"]


def test_packages_of_another_version_or_without_a_part_are_named(tmp_path: Path) -> None:
    assert len(list(package_problems(PROJECT, tmp_path))) == 3
    stem = f"connector_mcp-{PROJECT.version}"

    def build(version: str, parts: tuple[str, ...]) -> list[str]:
        metadata = f"Metadata-Version: 2.4\nName: connector-mcp\nVersion: {version}\n"
        with zipfile.ZipFile(tmp_path / f"{stem}-py3-none-any.whl", "w") as wheel:
            wheel.writestr(f"{stem}.dist-info/METADATA", metadata)
        with zipfile.ZipFile(tmp_path / "connector-mcp.mcpb", "w") as bundle:
            bundle.writestr("manifest.json", json.dumps({"version": version}))
        with tarfile.open(tmp_path / f"{stem}.tar.gz", "w:gz") as sdist:
            for name in (*parts, "PKG-INFO"):
                member = tarfile.TarInfo(f"{stem}/{name}")
                member.size = len(metadata)
                sdist.addfile(member, io.BytesIO(metadata.encode()))
        return list(package_problems(PROJECT, tmp_path))

    assert build(PROJECT.version, IN_SDIST) == []
    assert len(build("0.0.9", IN_SDIST)) == 3
    (lacking,) = build(PROJECT.version, IN_SDIST[1:])
    assert IN_SDIST[0] in lacking
