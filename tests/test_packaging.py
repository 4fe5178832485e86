"""The project as it is handed on: addresses, links, the bundle, the workflow, the wheel, the sdist and the image."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
import trove_classifiers
from check_jsonschema.builtin_schemas import get_builtin_schema
from jsonschema import Draft7Validator
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from ruamel.yaml import YAML

from connector_mcp import __version__
from connector_mcp.cli.commands.serve import serve
from connector_mcp.composition.accounts import missing, platform_values
from connector_mcp.config.settings import Settings
from connector_mcp.operations.catalog import PLATFORMS, platform_folder
from tests.clients.node import MODULES, node
from tests.documents import ROOT, dockerfile
from tools.bundle import ENTRY_POINT, MCPB, SWITCHES, manifest, pack, write_bundle
from tools.generate import main as generate
from tools.listing import deeplinks, entry, weblinks
from tools.project import Project

PROJECT = Project.read()
METADATA: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OTHER = "https://git.example.org/acme/connectors"


def listed() -> Iterator[Path]:
    """The text files of the repository that may name its address."""
    for path in sorted(ROOT.glob("*")) + sorted(ROOT.glob(".github/**/*")) + sorted(ROOT.glob("docs/**/*")):
        if path.is_file() and path.suffix in {"", ".json", ".md", ".toml", ".yaml", ".yml"}:
            yield path
    yield from sorted((ROOT / "deploy").rglob("*.yaml"))


def verbs() -> set[str]:
    return set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def yaml(path: str) -> Any:
    return YAML(typ="safe").load(ROOT / path)


# The address ---------------------------------------------------------------------------------------------------------


def test_no_file_has_another_address() -> None:
    found = {
        (address, path.name)
        for path in listed()
        for address in re.findall(r"https?://[\w.-]+/[\w.-]+/connector-mcp\b", unquote(path.read_text("utf-8")))
    }
    assert {address for address, _ in found} == {PROJECT.address}
    assert {"README.md", "SECURITY.md", "config.yml", "pyproject.toml", "server.json"} <= {name for _, name in found}
    assert METADATA["urls"] == PROJECT.urls


def test_one_line_of_pyproject_changes_every_address(tmp_path: Path) -> None:
    for path in listed():
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    pyproject = tmp_path / "pyproject.toml"
    line = f'Repository = "{PROJECT.address}"'
    assert line in pyproject.read_text()
    pyproject.write_text(pyproject.read_text().replace(line, f'Repository = "{OTHER}"'))
    generate(["listing", "--out", str(tmp_path)])
    moved = Project.read(tmp_path)
    texts = {path: unquote(path.read_text("utf-8")) for path in tmp_path.rglob("*") if path.is_file()}
    assert [path.name for path, text in texts.items() if PROJECT.address in text] == []
    server = json.loads((tmp_path / "server.json").read_text())
    assert (server["name"], server["repository"]) == (
        "org.example.git.acme/connectors",
        {"url": OTHER, "source": "example"},
    )
    readme = (tmp_path / "README.md").read_text()
    assert f"mcp-name: {server['name']} " in readme
    assert all(link in readme for link in weblinks(moved).values())
    assert generate(["listing", "--check", "--out", str(tmp_path)]) == 0


@pytest.mark.parametrize("address", ["", "github.com/a/b", "http://git.example.org/a/b", "https://h.example/a/b.git"])
def test_an_address_from_which_nothing_can_be_made_is_refused(tmp_path: Path, address: str) -> None:
    text = (
        (ROOT / "pyproject.toml").read_text().replace(f'Repository = "{PROJECT.address}"', f'Repository = "{address}"')
    )
    (tmp_path / "pyproject.toml").write_text(text)
    with pytest.raises(ValueError, match="https://HOST/OWNER/NAME"):
        Project.read(tmp_path)


def test_the_links_add_an_entry_that_starts_the_sandbox() -> None:
    cursor, vscode = (urlsplit(deeplinks(PROJECT)[title]) for title in ("Cursor", "VS Code"))
    assert (cursor.scheme, cursor.netloc, cursor.path) == ("cursor", "anysphere.cursor-deeplink", "/mcp/install")
    assert (vscode.scheme, vscode.path) == ("vscode", "mcp/install")
    links = [urlsplit(link) for link in weblinks(PROJECT).values()]
    queries = [parse_qs(link.query, strict_parsing=True) for link in (cursor, *links)]
    assert [query["name"] for query in queries] == [["connectors"]] * 3
    for query in queries[:2]:
        assert json.loads(base64.b64decode(query["config"][0], validate=True)) == entry(PROJECT)
    assert json.loads(queries[2]["config"][0]) == {"type": "stdio", **entry(PROJECT)}
    assert json.loads(unquote(vscode.query)) == {"name": "connectors", "type": "stdio", **entry(PROJECT)}
    command, source, *started = entry(PROJECT)["args"]
    assert (command, source, started[0]) == ("--from", f"git+{PROJECT.address}.git", METADATA["name"])
    assert serve.make_context(started[1], started[2:]).params["sandbox"] is True


# Habits --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "schema"),
    [
        ("workflows/*.yml", "custom.github-workflows-require-timeout"),
        ("workflows/*.yml", "vendor.github-workflows"),
        ("ISSUE_TEMPLATE/config.yml", "vendor.github-issue-config"),
        ("ISSUE_TEMPLATE/[!c]*.yml", "vendor.github-issue-forms"),
    ],
)
def test_the_files_of_the_forge_match_their_schemas(pattern: str, schema: str) -> None:
    validator = Draft7Validator(get_builtin_schema(schema))
    paths = list((ROOT / ".github").glob(pattern))
    assert paths
    for path in paths:
        assert list(validator.iter_errors(YAML(typ="safe").load(path))) == []


def test_the_workflow_runs_the_verbs_on_every_version_that_is_declared() -> None:
    jobs = yaml(".github/workflows/ci.yml")["jobs"]
    runs = [step["run"].split() for job in jobs.values() for step in job["steps"] if "run" in step]
    called = {word for program, *words in runs if program == "make" for word in words if "=" not in word}
    assert called == {"check", "test", "build", "bundle"}
    assert called <= verbs()
    assert {program for program, *_ in runs} == {"make", "bash"}
    assert "make test-all" in (ROOT / ".ci/run").read_text()
    declared = [each.rpartition(" ")[2] for each in METADATA["classifiers"] if re.search(r"Python :: 3\.\d+$", each)]
    assert jobs["check"]["strategy"]["matrix"]["python"] == declared
    assert declared[0] == METADATA["requires-python"].removeprefix(">=")


def test_every_classifier_exists() -> None:
    assert set(METADATA["classifiers"]) <= trove_classifiers.classifiers
    assert len(set(METADATA["classifiers"])) == len(METADATA["classifiers"])


def test_the_hooks_before_a_commit_are_verbs() -> None:
    command = [sys.executable, "-m", "pre_commit", "validate-config", str(ROOT / ".pre-commit-config.yaml")]
    subprocess.run(command, check=True)
    hooks = [hook for repo in yaml(".pre-commit-config.yaml")["repos"] for hook in repo["hooks"]]
    assert {hook["entry"].split()[0] for hook in hooks} == {"make"}
    assert {verb for hook in hooks for verb in hook["entry"].split()[1:]} <= verbs()


def test_every_verb_says_what_it_does() -> None:
    assert {line.split()[0] for line in run("make", "help").splitlines()} == verbs()


# The bundle ----------------------------------------------------------------------------------------------------------


def test_the_bundle_asks_for_every_variable_and_keeps_secrets_as_such() -> None:
    asked = manifest(PROJECT)["user_config"]
    env = manifest(PROJECT)["server"]["mcp_config"]["env"]
    declared = {each.name: each for name in PLATFORMS for each in platform_folder(name).platform.variables}
    assert env == {name: f"${{user_config.{name.removeprefix('CONNECTOR_MCP_').lower()}}}" for name in env}
    assert {name.removeprefix("CONNECTOR_MCP_").lower() for name in env} == asked.keys()
    assert declared.keys() < env.keys()
    for name, variable in declared.items():
        assert asked[name.lower()]["sensitive"] is variable.secret, name
        assert asked[name.lower()]["required"] is False
    assert {name for name, option in asked.items() if option["type"] == "boolean"} == {"sandbox", "read_only"}


def test_what_stays_empty_in_the_bundle_counts_as_unset() -> None:
    asked = manifest(PROJECT)["user_config"]
    names = {f"CONNECTOR_MCP_{name.upper()}" if name in SWITCHES else name.upper(): name for name in asked}
    env = {name: str(asked[key]["default"]).lower() for name, key in names.items()}
    settings = Settings.load({name: value for name, value in env.items() if name.startswith("CONNECTOR_MCP_")})
    assert (settings.sandbox, settings.read_only) == (False, False)
    for name in PLATFORMS:
        platform = platform_folder(name).platform
        assert missing(platform, platform_values(platform, env)) == missing(platform, {})


# The image -----------------------------------------------------------------------------------------------------------


def copied() -> list[str]:
    """The files and folders that the build of the image copies."""
    return [word for line in dockerfile("COPY") if "--from" not in line for word in line.split()[:-1]]


def test_the_image_is_of_a_declared_python_and_holds_no_secret() -> None:
    bases = {line.split()[0] for line in dockerfile("FROM")}
    (version,) = {base.removeprefix("python:").removesuffix("-slim") for base in bases}
    assert f"Programming Language :: Python :: {version}" in METADATA["classifiers"]
    assert not dockerfile("ARG")
    settings = [word.split("=")[0] for line in dockerfile("ENV") for word in line.split()]
    assert not [name for name in settings if re.search(r"KEY|SECRET|TOKEN|PASSWORD", name)]


def test_the_image_is_built_from_no_more_than_the_package_needs() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert (ROOT / ".dockerignore").read_text().startswith("*\n")
    assert set(copied()) == allowed == {METADATA["readme"], *METADATA["license-files"], "pyproject.toml", "server"}


# Installed, as people do who have no clone ---------------------------------------------------------------------------

UV = Path(sys.executable).with_name("uv")


def run(*command: str | Path, cwd: Path = ROOT, **environ: str) -> str:
    done = subprocess.run(command, cwd=cwd, env={**clean(), **environ}, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stderr + done.stdout


_OWN = ("CONNECTOR_MCP_", "VIRTUAL", "MAKE", "MFLAGS")


def clean() -> dict[str, str]:
    """The environment without what belongs to the tests' own installation, or to the `make` that runs them."""
    path = os.pathsep.join(each for each in os.environ["PATH"].split(os.pathsep) if Path(each) != UV.parent)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_OWN)}
    return {**kept, "PATH": path}


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist and, built from it, the wheel."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--installer", "uv", "--outdir", folder, PATH=os.environ["PATH"])
    return folder


@pytest.fixture(scope="session")
def wheel(built: Path) -> Path:
    (path,) = built.glob("*.whl")
    return path


async def tools_of(command: list[str], environ: dict[str, str]) -> set[str]:
    """The tools that a real client lists of a server that it starts."""
    started = StdioServerParameters(command=command[0], args=command[1:], env=environ)
    async with Client(stdio_client(started)) as client:
        return {tool.name for tool in (await client.list_tools()).tools}


@pytest.mark.slow
@pytest.mark.anyio
async def test_the_wheel_serves_from_a_fresh_environment(wheel: Path, tmp_path: Path) -> None:
    run(UV, "venv", "--quiet", "--python", sys.executable, tmp_path / "venv")
    run(UV, "pip", "install", "--quiet", "--python", tmp_path / "venv", wheel)
    program = tmp_path / "venv/bin/connector-mcp"
    assert run(program, "--version", cwd=tmp_path) == f"connector-mcp, version {__version__}\n"
    found = await tools_of([str(program), "serve", "--sandbox"], {**clean(), "HOME": str(tmp_path)})
    assert "find_connectors" in found


@pytest.mark.slow
def test_the_sdist_has_what_developing_takes_and_its_verbs_start(built: Path, tmp_path: Path) -> None:
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as sdist:
        sdist.extractall(tmp_path, filter="data")
    (folder,) = tmp_path.iterdir()
    present = {each.relative_to(folder).as_posix() for each in folder.rglob("*") if each.is_file()}
    known = set(run("git", "ls-files").split("\n")) - {""} if (ROOT / ".git").exists() else present
    assert known - present <= {".gitignore"}
    assert present - known <= {"PKG-INFO", ".gitignore"}
    assert "release" in run("make", "help", cwd=folder)
    for verb in verbs() - {"help"}:
        run("make", "--dry-run", verb, cwd=folder)


@pytest.mark.slow
def test_an_entry_that_uvx_wrote_starts_the_server_when_uvs_cache_is_empty(wheel: Path, tmp_path: Path) -> None:
    environ = {"UV_CACHE_DIR": str(tmp_path / "cache"), "HOME": str(tmp_path)}
    source = f"connector-mcp[fast] @ {wheel.as_uri()}"
    uvx = (UV, "tool", "run", "--quiet", "--python", sys.executable, "--from", source, "connector-mcp")
    run(*uvx, "install", "cursor", "--sandbox", cwd=tmp_path, **environ)
    (written,) = json.loads((tmp_path / ".cursor/mcp.json").read_text())["mcpServers"].values()
    assert source in written["args"]
    assert written["args"][-2:] == ["serve", "--sandbox"]
    shutil.rmtree(tmp_path / "cache")
    # A client of the desktop has a short PATH, on which the Python of the shell need not be.
    environ["PATH"] = "/usr/bin:/bin"
    shown = run(written["command"], *written["args"][:-2], "--version", cwd=Path("/"), **environ)
    assert shown.endswith(f"connector-mcp, version {__version__}\n")


@pytest.mark.slow
def test_the_steps_of_the_image_install_the_server_with_its_extras(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for word in copied():
        if (ROOT / word).is_dir():
            # Another process may write bytecode meanwhile.
            shutil.copytree(ROOT / word, source / word, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / word, source / word)
    (step,) = [line for line in dockerfile("RUN") if "pip" in line]
    step = step.replace("python -m", f"{sys.executable} -m")
    # The same arguments; uv takes a quarter of the time.
    step = step.replace("/opt/connector-mcp/bin/pip install", f"{UV} pip install --python /opt/connector-mcp")
    step = step.replace("/opt/connector-mcp", str(tmp_path / "opt"))
    run("sh", "-ec", step, cwd=source)
    shown = run(tmp_path / "opt/bin/python", "-c", "import connector_mcp, opentelemetry.sdk, psycopg", cwd=tmp_path)
    assert shown == ""
    assert run(tmp_path / "opt/bin/connector-mcp", "--version", cwd=tmp_path).endswith(f"{__version__}\n")


@pytest.mark.slow
@pytest.mark.anyio
async def test_the_bundle_is_valid_and_serves_a_client_from_where_it_is_unpacked(tmp_path: Path) -> None:
    node("@anthropic-ai/mcpb")
    write_bundle(tmp_path / "connector-mcp")
    packed, unpacked = pack(tmp_path / "connector-mcp"), tmp_path / "unpacked"
    run(node("@anthropic-ai/mcpb"), MCPB, "unpack", packed, unpacked)
    stored = json.loads((unpacked / "manifest.json").read_text())
    assert stored == manifest(PROJECT)
    config = stored["server"]["mcp_config"]
    values = {name: str(option["default"]).lower() for name, option in stored["user_config"].items()}
    values["sandbox"] = "true"
    env = {name: value.replace("${user_config.", "").rstrip("}") for name, value in config["env"].items()}
    environ = {**clean(), "HOME": str(tmp_path), **{name: values[key] for name, key in env.items()}}
    arguments = [argument.replace("${__dirname}", str(unpacked)) for argument in config["args"]]
    # Some hosts run the entry point instead of the command.
    for words in (arguments, ["run", "--directory", str(unpacked), ENTRY_POINT]):
        assert "find_connectors" in await tools_of([str(UV), *words], environ)
    assert not list((unpacked / ".venv").rglob("pytest"))


@pytest.mark.slow
@pytest.mark.parametrize("before", ["", '{"mcpServers": {"theirs": {"command": "true"}}, "ui": {"theme": "GitHub"}}'])
def test_gemini_lists_the_entry_that_is_written_for_it(tmp_path: Path, before: str) -> None:
    program = MODULES / "@google/gemini-cli/bundle/gemini.js"
    own = tmp_path / ".gemini"
    own.mkdir()
    (own / "trustedFolders.json").write_text(json.dumps({str(tmp_path): "TRUST_FOLDER"}))
    if before:
        (own / "settings.json").write_text(before)
    server = [sys.executable, "-m", "connector_mcp"]
    run(*server, "install", "gemini", "--sandbox", HOME=str(tmp_path))
    done = run(node("@google/gemini-cli"), program, "mcp", "list", cwd=tmp_path, HOME=str(tmp_path))
    # Whether it connects within its few seconds depends on the machine.
    assert re.search(r"connectors: \S+(/connector-mcp| -m connector_mcp) serve --sandbox \(stdio\)", done)
    assert ("theirs: true" in done) is bool(before)
