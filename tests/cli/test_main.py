"""The entry point: help, version, typing errors, and what it imports."""

import errno
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from connector_mcp import __version__
from connector_mcp.cli.main import COMMANDS, main
from connector_mcp.config.settings import Settings
from tests.cli.conftest import COMMAND, PATIENCE

FULL = os.strerror(errno.ENOSPC)


def test_the_version_is_that_of_the_package(spawn):
    ended = spawn("--version")
    assert (ended.status, ended.out) == (0, f"connector-mcp, version {__version__}\n")


def test_the_help_lists_every_command(run):
    listed = run("--help").stdout
    assert all(line in listed for line in COMMANDS.values())


def test_every_command_has_a_help_of_its_own(run):
    for name in COMMANDS:
        result = run(name, "--help")
        assert result.exit_code == 0
        assert result.stdout.startswith(f"Usage: cli {name}")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [(("dcotor",), "Did you mean 'doctor'?"), (("tools", "--sandbox", "--platforms", "vectorise"), "vectorize")],
    ids=["command", "option"],
)
def test_a_mistyped_word_is_refused_with_the_nearest_one(run, arguments, told):
    result = run(*arguments)
    assert result.exit_code == 2
    assert told in result.stderr


def test_an_unknown_setting_ends_every_command_with_the_nearest_name(run):
    result = run("tools", "--sandbox", CONNECTOR_MCP_READONLY="true")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("error: CONNECTOR_MCP_READONLY is not a known setting")
    assert "fix: Use CONNECTOR_MCP_READ_ONLY" in result.stderr


def test_the_entry_point_alone_imports_neither_the_sdk_nor_an_http_client():
    code = "import sys, connector_mcp.cli.main; print([m for m in ('mcp', 'httpx', 'pydantic') if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"


def test_the_serve_command_imports_no_sdk_http_client_or_telemetry_before_it_needs_them():
    code = (
        "import sys, connector_mcp.composition.accounts, connector_mcp.cli.commands.serve; "
        "unwanted = ('mcp', 'mcp_types', 'starlette', 'httpx', 'aiohttp', 'prometheus_client', 'opentelemetry'); "
        "print([m for m in unwanted if m in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"


INSTANCES = {
    "call": "call logto_list_connectors", "plan": "plan -", "apply": "apply pl-abc", "drift": "drift -",
    "install": "install claude-code --print", "approvals": "approvals list", "audit": "audit show",
    "secrets": "secrets list", "tokens": "tokens list", "config": "config check",
}  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_an_interrupted_command_says_so_in_one_line_and_ends_with_130(run, monkeypatch, command):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    for place in (anyio, "run"), (Settings, "load"), (Settings, "examine"):
        monkeypatch.setattr(*place, interrupt)
    monkeypatch.setattr("connector_mcp.cli.commands.console.person_present", interrupt)
    result = run(*INSTANCES.get(command, command).split(), stdin="name: x")
    assert (result.exit_code, result.stdout) == (130, "")
    assert re.fullmatch("error: Interrupted\\. [^\n]+\n", result.stderr)


@pytest.mark.parametrize("arguments", [
    "--help", "--version", "call logto_list_connectors --sandbox", "approvals list", "secrets list",
    "tokens new ci --operator", "config show",
])  # fmt: skip
def test_output_that_cannot_be_written_ends_a_command_with_one_line_and_a_closed_pipe_with_none(
    environment, monkeypatch, tmp_path, arguments
):
    reading, writing = os.pipe()
    os.close(reading)
    full = os.open("/dev/full", os.O_WRONLY)
    for to, ended in (writing, (141, "")), (full, (1, f"error: The output cannot be written: {FULL}.\n")):
        with monkeypatch.context() as patched, os.fdopen(to, "w") as out, (tmp_path / "err").open("w+") as err:
            for name, value in {"stdout": out, "stderr": err, "argv": ["connector-mcp", *arguments.split()]}.items():
                patched.setattr(sys, name, value)
            with pytest.raises(SystemExit) as caught:
                main()
            err.seek(0)
            assert (caught.value.code, err.read()) == ended


def test_an_interrupted_process_does_not_wait_for_a_thread_that_waits_for_input():
    code = (
        "from threading import Event, Thread; from connector_mcp.cli.output import end_process; "
        "Thread(target=Event().wait).start(); end_process(130)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=PATIENCE).returncode == 130


def test_messages_that_cannot_be_written_do_not_stop_a_command_and_make_a_success_a_failure(environment):
    with Path("/dev/full").open("wb") as full:
        command = [*COMMAND, "install", "claude-code", "--print"]
        ended = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=full, timeout=PATIENCE)
    assert (ended.returncode, json.loads(ended.stdout).keys()) == (1, {"mcpServers"})
