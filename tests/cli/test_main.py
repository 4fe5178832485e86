"""The entry point: help, version, typing errors, and what it imports."""

import subprocess
import sys

import pytest

from connector_mcp import __version__
from connector_mcp.cli.main import COMMANDS


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
