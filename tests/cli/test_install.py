"""`connector-mcp install`: what it writes into the file of each client, and what it leaves alone."""

from __future__ import annotations

import json
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from connector_mcp.cli.commands.install import CLIENTS
from connector_mcp.program import absolute_command

Run = Callable[..., Any]

FILES = {
    "claude-code": (".claude.json", "mcpServers"),
    "claude-desktop": ("config/Claude/claude_desktop_config.json", "mcpServers"),
    "cursor": (".cursor/mcp.json", "mcpServers"),
    "vscode": ("config/Code/User/mcp.json", "servers"),
    "codex": (".codex/config.toml", "mcp_servers"),
    "gemini": (".gemini/settings.json", "mcpServers"),
}
REFERENCES = {
    "claude-code": "${LOGTO_APP_SECRET}",
    "cursor": "${env:LOGTO_APP_SECRET}",
    "vscode": "${env:LOGTO_APP_SECRET}",
    "gemini": "${LOGTO_APP_SECRET}",
}
SECRET = "the-value-of-a-secret"

EXISTING = """{
\t"other": {"é": [1, 2.50, null]},
\t"MEMBER": {
\t\t"theirs": {"command": "npx", "args": ["-y", "theirs"], "env": {"KEY": "theirs-secret"}}
\t},
\t"last": true
}
"""
EXISTING_TOML = """# A comment that stays.
model = "o4"  # and this one

[mcp_servers.theirs]
command = "npx"
args = ["-y", "theirs"]

[tui]
theme = "dark"
"""

every_client = pytest.mark.parametrize("client", CLIENTS)


@pytest.fixture(autouse=True)
def home(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("CLAUDE_CONFIG_DIR", "CODEX_HOME"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def existing(home: Path, client: str) -> Path:
    """The file of a client that has servers and settings already."""
    name, member = FILES[client]
    path = home / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(EXISTING_TOML if client == "codex" else EXISTING.replace("MEMBER", member), "utf-8")
    path.chmod(0o640)
    return path


def read(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text("utf-8")) if path.suffix == ".toml" else json.loads(path.read_text("utf-8"))


def backups(path: Path) -> list[Path]:
    return sorted(path.parent.glob(f"{path.name}.*.bak"))


def test_every_client_has_a_file_that_is_tested() -> None:
    assert FILES.keys() == CLIENTS.keys()


@every_client
def test_without_a_file_the_entry_starts_the_server_from_any_directory(run: Run, home: Path, client: str) -> None:
    done = run("install", client, "--sandbox")
    name, member = FILES[client]
    assert done.exit_code == 0, done.output
    entry = read(home / name)[member]["connectors"]
    assert entry["args"][-2:] == ["serve", "--sandbox"]
    assert Path(entry["command"]).is_absolute()
    assert entry.get("type") == ("stdio" if client in ("vscode", "claude-code") else None)
    shown = subprocess.run([entry["command"], *entry["args"][:-2], "--version"], env={}, cwd="/", capture_output=True)
    assert shown.stdout.startswith(b"connector-mcp")
    assert (home / name).stat().st_mode & 0o777 == 0o600
    assert backups(home / name) == []


@every_client
def test_an_existing_file_keeps_everything_else_and_a_copy_of_it_stays(run: Run, home: Path, client: str) -> None:
    path = existing(home, client)
    before = path.read_bytes()
    content, member = read(path), FILES[client][1]
    done = run("install", client, "--sandbox")
    assert done.exit_code == 0, done.output
    after = read(path)
    entry = after[member].pop("connectors")
    assert (after, list(after)) == (content, list(content))
    assert [entry["command"], *entry["args"]] == [*absolute_command(), "serve", "--sandbox"]
    (copy,) = backups(path)
    assert copy.read_bytes() == before
    assert {file.stat().st_mode & 0o777 for file in (path, copy)} == {0o640}
    assert path.suffix == ".toml" or '\n\t"other"' in path.read_text("utf-8")
    assert path.suffix == ".json" or '# A comment that stays.\nmodel = "o4"  # and this one' in path.read_text("utf-8")

    again = run("install", client, "--sandbox")
    assert "already" in again.output
    assert backups(path) == [copy]

    removed = run("install", client, "--remove")
    assert removed.exit_code == 0, removed.output
    assert read(path) == content
    assert "theirs-secret" not in done.output + again.output + removed.output


@every_client
def test_a_variable_is_referred_to_and_its_value_is_not_copied(
    run: Run, home: Path, client: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGTO_APP_SECRET", SECRET)
    done = run("install", client, "--env", "LOGTO_APP_SECRET")
    path = home / FILES[client][0]
    assert SECRET not in done.output
    if client == "claude-desktop":
        assert done.exit_code == 2
        assert "--copy-env LOGTO_APP_SECRET" in done.output
        assert not path.exists()
        return
    assert done.exit_code == 0, done.output
    assert SECRET not in path.read_text()
    entry = read(path)[FILES[client][1]]["connectors"]
    if client == "codex":
        assert (entry["env_vars"], "env" in entry) == (["LOGTO_APP_SECRET"], False)
    else:
        assert entry["env"] == {"LOGTO_APP_SECRET": REFERENCES[client]}


@every_client
def test_a_value_is_copied_only_when_that_is_asked_for_and_is_not_shown(
    run: Run, home: Path, client: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGTO_APP_SECRET", SECRET)
    shown = run("install", client, "--copy-env", "LOGTO_APP_SECRET", "--print")
    path, member = home / FILES[client][0], FILES[client][1]
    assert not path.exists()
    assert str(path) in shown.stderr
    parse = tomllib.loads if path.suffix == ".toml" else json.loads
    assert parse(shown.stdout)[member]["connectors"]["env"] == {"LOGTO_APP_SECRET": "<value of LOGTO_APP_SECRET>"}
    done = run("install", client, "--copy-env", "LOGTO_APP_SECRET")
    assert read(path)[member]["connectors"]["env"] == {"LOGTO_APP_SECRET": SECRET}
    assert SECRET not in shown.output + done.output


def test_variables_that_lack_a_value_or_are_left_out_are_named(run: Run, home: Path) -> None:
    set_here = {"VECTORIZE_API_KEY": SECRET, "CONNECTOR_MCP_READ_ONLY": "true"}
    done = run("install", "cursor", "--env", "LOGTO_APP_SECRET", **set_here)
    assert "LOGTO_APP_SECRET is not set here" in done.stderr
    assert "not in the entry: CONNECTOR_MCP_READ_ONLY, CONNECTOR_MCP_STATE_DIR, VECTORIZE_API_KEY" in done.stderr
    assert "VECTORIZE_API_KEY" not in run("install", "vscode", "--sandbox", **set_here).output
    refused = run("install", "gemini", "--copy-env", "LOGTO_APP_SECRET")
    assert (refused.exit_code, "has no value" in refused.output) == (2, True)


def test_options_of_the_server_are_in_the_entry_with_absolute_paths(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    (home / "own.toml").write_text("")
    options = ["--config", "own.toml", "--read-only", "--toolsets", "default,logto", "--policy", "destroy=block"]
    done = run("install", "cursor", *options)
    assert done.exit_code == 0, done.output
    args = read(home / ".cursor/mcp.json")["mcpServers"]["connectors"]["args"]
    assert args[args.index("serve") :] == ["serve", "--config", str(home / "own.toml"), *options[2:]]


def test_an_update_keeps_what_was_added_by_hand_and_drops_no_option_in_silence(run: Run, home: Path) -> None:
    run("install", "cursor", "--sandbox", "--read-only")
    path = home / ".cursor/mcp.json"
    content = read(path)
    content["mcpServers"]["connectors"] |= {"env": {"LOGTO_APP_ID": "by-hand"}, "disabled": True}
    path.write_text(json.dumps(content))
    refused = run("install", "cursor")
    assert (refused.exit_code, "--read-only" in refused.output) == (2, True)
    assert read(path) == content
    done = run("install", "cursor", "--read-only", "--env", "LOGTO_APP_SECRET")
    assert "Updated connectors" in done.output
    entry = read(path)["mcpServers"]["connectors"]
    assert entry["args"][-2:] == ["serve", "--read-only"]
    assert entry["env"] == {"LOGTO_APP_ID": "by-hand", "LOGTO_APP_SECRET": "${env:LOGTO_APP_SECRET}"}
    assert entry["disabled"] is True


@pytest.mark.parametrize("options", [(), ("--print",)])
def test_a_program_that_is_removed_after_its_run_gets_no_entry(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    own = home / "archive-v0" / "x1"
    (own / "bin").mkdir(parents=True)
    (own / "bin/connector-mcp").touch()
    (home / "CACHEDIR.TAG").touch()
    monkeypatch.setattr("sys.prefix", str(own))
    monkeypatch.setattr("sys.argv", [str(own / "bin/connector-mcp")])
    monkeypatch.delenv("UV", raising=False)
    refused = run("install", "cursor", *options)
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "pipx install" in refused.stderr
    assert not (home / ".cursor").exists()


@pytest.mark.parametrize("options", [(), ("--remove",)])
@pytest.mark.parametrize(
    "theirs",
    [
        {"command": "npx", "args": ["theirs"]},
        {"url": "https://mcp.example.com/mcp"},
        {"command": "connector-mcp", "args": "serve"},
        {"command": "connector-mcp", "args": ["serve"], "env": None},
        "text",
        None,
    ],
)
def test_an_entry_that_does_not_start_this_program_is_left_alone(
    run: Run, home: Path, theirs: Any, options: tuple[str, ...]
) -> None:
    path = home / ".gemini/settings.json"
    path.parent.mkdir()
    path.write_text(before := json.dumps({"mcpServers": {"connectors": theirs}}))
    done = run("install", "gemini", *options)
    assert done.exit_code == 2
    assert str(path) in done.output
    assert "--name" in done.output
    assert path.read_text() == before
    assert run("install", "gemini", "--name", "connectors-2").exit_code == 0


@pytest.mark.parametrize("options", [(), ("--remove",)])
@pytest.mark.parametrize(
    ("client", "damaged", "where"),
    [
        ("cursor", b'{\n  "mcpServers": {,}\n}', "line 2, column 18"),
        ("vscode", b'{\n  // a comment\n  "servers": {}\n}', "line 2, column 3"),
        ("gemini", b"[]", "it holds no object"),
        ("gemini", b'{"mcpServers": []}', "mcpServers"),
        ("gemini", b'{"mcpServers": {}, "mcpServers": {"a": {}}}', "a member twice"),
        ("claude-code", b'{"a": "\xff"}', "byte 8 is not UTF-8"),
        ("claude-code", b"[" * 100_000, "nested too deeply"),
        ("codex", b'model = "o4"\n[mcp_servers\n', "line 2"),
        ("codex", b'mcp_servers = "none"\n', "mcp_servers"),
    ],
)
def test_a_damaged_file_is_refused_with_the_place_and_a_way_out_and_stays_as_it_is(
    run: Run, home: Path, client: str, damaged: bytes, where: str, options: tuple[str, ...]
) -> None:
    path = home / FILES[client][0]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(damaged)
    done = run("install", client, *options)
    assert done.exit_code == 2
    assert str(path) in done.stderr
    assert where in done.stderr
    assert "--print" in done.stderr
    assert path.read_bytes() == damaged
    assert list(path.parent.glob(f"{path.name}.*")) == []
    assert run("install", client, "--print").exit_code == 0


@pytest.mark.parametrize(
    ("client", "content"),
    [
        ("claude-code", '{"a": 1e999}'),
        ("claude-code", '{"a": NaN}'),
        ("claude-code", '{"a": "\\ud800"}'),
        ("codex", "mcp_servers.a.command = 'b'\n"),
    ],
)
def test_a_file_that_would_be_written_otherwise_is_refused(run: Run, home: Path, client: str, content: str) -> None:
    path = home / FILES[client][0]
    path.parent.mkdir(exist_ok=True)
    path.write_text(content)
    done = run("install", client)
    assert (done.exit_code, path.read_text()) == (2, content)
    assert "--print" in done.stderr
    assert [file.name for file in path.parent.iterdir() if file.name.startswith((path.name, f".{path.name}."))] == [
        path.name
    ]


@pytest.mark.parametrize("content", ["", "\n", "\ufeff{}"])
def test_an_empty_file_is_filled(run: Run, home: Path, content: str) -> None:
    path = home / ".claude.json"
    path.write_text(content, "utf-8")
    assert run("install", "claude-code").exit_code == 0
    assert list(read(path)["mcpServers"]) == ["connectors"]


@pytest.mark.parametrize("content", ["", "mcp_servers = {}\n", "[mcp_servers]\n", "[mcp_servers.a]\n[tui]\n"])
def test_each_way_to_write_tables_in_the_file_of_codex_is_kept(run: Run, home: Path, content: str) -> None:
    path = home / ".codex/config.toml"
    path.parent.mkdir()
    path.write_text(content)
    for _ in range(2):
        assert run("install", "codex", "--env", "LOGTO_APP_ID").exit_code == 0
        assert read(path)["mcp_servers"]["connectors"]["env_vars"] == ["LOGTO_APP_ID"]
    assert run("install", "codex", "--remove").exit_code == 0
    assert {"mcp_servers": {}} | read(path) == {"mcp_servers": {}} | tomllib.loads(content)


def test_a_link_stays_a_link(run: Run, home: Path) -> None:
    path = existing(home, "cursor")
    kept = path.rename(home / "dotfiles.json")
    path.symlink_to(kept)
    assert run("install", "cursor").exit_code == 0
    assert path.is_symlink()
    assert "connectors" in read(kept)["mcpServers"]


def test_the_directories_that_clients_take_from_variables_are_used(run: Run, home: Path) -> None:
    run("install", "codex", CODEX_HOME=str(home / "a"))
    run("install", "claude-code", CLAUDE_CONFIG_DIR=str(home / "b"))
    assert read(home / "a/config.toml")
    assert read(home / "b/.claude.json")


def test_without_an_entry_nothing_is_removed(run: Run, home: Path) -> None:
    done = run("install", "cursor", "--remove")
    assert (done.exit_code, "Nothing was changed" in done.output) == (0, True)
    assert not (home / ".cursor").exists()


@pytest.mark.parametrize(
    "options",
    [
        ["--env", f"LOGTO_APP_SECRET={SECRET}"],
        ["--copy-env", f"LOGTO_APP_SECRET={SECRET}"],
        ["--name", "two words"],
        ["--name", "x" * 21],
        ["--remove", "--sandbox"],
        ["--remove", "--print"],
        ["--toolsets", "nonsense"],
        ["--tools", "nonsense_*"],
        ["--platforms", "nonsense"],
        ["--policy", "nonsense=ask"],
        ["--config", "nonsense.toml"],
    ],
)
def test_invalid_options_change_nothing_and_no_value_is_repeated(run: Run, home: Path, options: list[str]) -> None:
    done = run("install", "cursor", *options)
    assert done.exit_code == 2, done.output
    assert SECRET not in done.output
    assert not (home / ".cursor").exists()
