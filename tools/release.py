"""The checklist of a release. It builds and checks everything, says what to tag and push, and pushes nothing.

`make release` runs it.
"""

from __future__ import annotations

import email
import json
import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tools import generate
from tools.project import ROOT, Project

VERBS = ("check", "test-all", "build", "bundle")
IN_SDIST = ("Makefile", "AGENTS.md", "CHANGELOG.md", "LICENSE", "claude_config_example.json", "server.json", "tools")


def problems(root: Path = ROOT) -> Iterator[str]:
    """Yield what the changelog and the versions lack for a release, each with what to do."""
    project = Project.read(root)
    changelog = (root / "CHANGELOG.md").read_text("utf-8")
    headings = re.findall(r"^## \[?([^]\s]+)\]?(.*)$", changelog, re.MULTILINE)
    released = [(version, rest) for version, rest in headings if version != "Unreleased"]
    if not released or released[0][0] != project.version:
        yield f"CHANGELOG.md has no heading for {project.version} on top. Rename Unreleased to it, with the date."
    elif not re.fullmatch(r" - \d{4}-\d{2}-\d{2}", released[0][1]):
        yield f"CHANGELOG.md gives no date to {project.version}. Write `## [{project.version}] - YYYY-MM-DD`."
    if re.search(r"^## \[Unreleased\]\n+(?!## )\S", changelog, re.MULTILINE):
        yield "CHANGELOG.md has changes under Unreleased. Move them to the version that is released."
    listed = json.loads((root / "server.json").read_text("utf-8"))
    versions = {listed["version"], *(package["version"] for package in listed["packages"])}
    if versions != {project.version}:
        yield f"server.json has the version {', '.join(sorted(versions))}. Run `make listing`."
    images = {
        f"{path.relative_to(root)}: {tag}"
        for path in sorted((root / "deploy").rglob("*.yaml"))
        for tag in re.findall(rf"image: {project.name}:(\S+)", path.read_text("utf-8"))
        if tag != project.version
    }
    for image in sorted(images):
        yield f"{image} is another version than {project.version}."


def generated_problems(root: Path = ROOT) -> Iterator[str]:
    """Yield which generated files are not up to date."""
    for what, folder in generate.FOLDERS.items():
        if generate.main([what, "--check", "--out", str(root / folder)]):
            yield f"Generated files are not up to date. Run `make {what}`."


def git_problems(project: Project) -> Iterator[str]:
    """Yield what the repository lacks for a release."""
    if _git("status", "--porcelain"):
        yield "Files are changed or not known to git. Commit them, or remove them."
    if _git("tag", "--list", f"v{project.version}"):
        yield f"The tag v{project.version} exists. Raise the version in pyproject.toml."


def package_problems(project: Project, folder: Path = ROOT / "dist") -> Iterator[str]:
    """Yield what is wrong with the built wheel, sdist and bundle."""
    stem = f"{project.name.replace('-', '_')}-{project.version}"
    checks: dict[str, Callable[[Path], str | None]] = {
        f"{stem}-py3-none-any.whl": lambda path: _wheel_version(path, stem),
        f"{stem}.tar.gz": lambda path: _sdist_version(path, stem),
        f"{project.name}.mcpb": _bundle_version,
    }
    for name, version_of in checks.items():
        path = folder / name
        if not path.exists():
            yield f"{path} was not built."
        elif (found := version_of(path)) != project.version:
            yield f"{path} is not of version {project.version}: {found}."


def main() -> int:
    """Run the checklist and return the exit status: 1 if something is missing."""
    project = Project.read()
    found = [*problems(), *generated_problems(), *git_problems(project)]
    if not found:
        for verb in VERBS:
            if subprocess.run(["make", verb], cwd=ROOT).returncode:  # noqa: S603, S607
                found.append(f"`make {verb}` failed.")
                break
        else:
            # The verbs may not leave anything behind.
            found = [*package_problems(project), *git_problems(project)]
    if found:
        print(f"Version {project.version} is not ready:", *(f"- {each}" for each in found), sep="\n", file=sys.stderr)
        return 1
    print(
        f"Version {project.version} is ready. To release it:",
        f"  git tag -a v{project.version} -m 'Version {project.version}'",
        f"  git push origin main v{project.version}",
        "Then attach the wheel, the sdist and the bundle in dist/ to the release.",
        sep="\n",
    )
    return 0


def _git(*arguments: str) -> str:
    command = ["git", *arguments]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()  # noqa: S603


def _wheel_version(path: Path, stem: str) -> str | None:
    with zipfile.ZipFile(path) as wheel:
        return email.message_from_bytes(wheel.read(f"{stem}.dist-info/METADATA"))["Version"]


def _sdist_version(path: Path, stem: str) -> str | None:
    with tarfile.open(path) as sdist:
        names = {Path(name).parts[1] for name in sdist.getnames() if len(Path(name).parts) > 1}
        if missing := [name for name in IN_SDIST if name not in names]:
            return f"it lacks {', '.join(missing)}"
        metadata = sdist.extractfile(f"{stem}/PKG-INFO")
        return email.message_from_bytes(metadata.read())["Version"] if metadata else None


def _bundle_version(path: Path) -> str | None:
    with zipfile.ZipFile(path) as bundle:
        manifest: dict[str, Any] = json.loads(bundle.read("manifest.json"))
        return manifest["version"]


if __name__ == "__main__":
    sys.exit(main())
