"""`connector-mcp serve`: how it starts, and how it does not."""

import json
import re

import anyio
import pytest

from connector_mcp.cli.commands.serve import _announcement, _serve_http
from connector_mcp.config.settings import Settings
from connector_mcp.errors import Misconfigured
from tests.cli.conftest import read_until, terminal
from tests.end_to_end.faces import INITIALIZE, message


def test_without_any_platform_it_ends_at_once_and_says_what_to_set(spawn):
    ended = spawn("serve")
    assert ended.status == 2
    assert ended.out == ""
    assert ended.err.startswith("error: No platform is configured")
    for name in ("VECTORIZE_API_KEY", "LOGTO_APP_ID", "VERSORI_API_KEY", "CONDUCTORONE_CLIENT_ID", "--sandbox"):
        assert name in ended.err


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ("--http --port 0", "No platform is configured"),
        ("--platforms vectorize,logto", "LOGTO_APP_SECRET"),
        ("--sandbox --port 9000", "--http"),
        ("--sandbox --http --host 0.0.0.0 --port 0", "CONNECTOR_MCP_HTTP_TOKEN"),
    ],
    ids=["no platform", "a platform that is not configured", "an address without http", "a host beyond loopback"],
)
def test_a_refused_start_names_what_to_change(run, options, named):
    ended = run("serve", *options.split(), **({"VECTORIZE_API_KEY": "key"} if "vectorize" in options else {}))
    assert ended.exit_code == 2
    assert named in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_partly_configured_platform_is_mentioned_and_the_end_of_stdin_is_a_clean_end(spawn):
    ended = spawn("serve", VECTORIZE_API_KEY="key", LOGTO_APP_ID="app")
    assert ended.status == 0
    assert ended.err == "Logto is not served: LOGTO_APP_SECRET, LOGTO_ENDPOINT not set.\n"
    assert ended.out == ""


def test_in_a_terminal_it_says_that_it_waits_for_a_client_and_how_to_attach_one(environment):
    with terminal(environment, "serve", "--sandbox") as (_, master):
        written = read_until(master, "With --http")
    assert "Waiting for an MCP client" in written
    commands = re.findall(r"  (\S*connector-mcp (?:install claude-code --sandbox|demo))   ", written)
    assert len(commands) == 2


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"sandbox": True}, ["platforms: Vectorize, Logto, Versori, ConductorOne, all emulated"]),
        (
            {"platforms": "versori"},
            [
                "health: http://127.0.0.1:9/healthz",
                "console: closed until CONNECTOR_MCP_OPERATORS_FILE names a file",
                "callers: none, so loopback only",
                "platforms: Versori",
                "Logto is not served: --platforms leaves it out.",
            ],
        ),
        (
            {"http_token": "a-long-token", "operators_file": "o.toml"},
            [
                "console: http://127.0.0.1:9/console",
                "callers: bearer token",
                "Logto is not served: LOGTO_APP_ID, LOGTO_APP_SECRET, LOGTO_ENDPOINT not set.",
            ],
        ),
        (
            {"public_url": "https://a.example", "operators_file": "o.toml", "tokens_file": "t.toml"},
            [
                "public address: https://a.example",
                "console: https://a.example/console",
                "callers: token in the file of tokens",
            ],
        ),
    ],
)
def test_over_http_it_says_where_it_is_reached_by_whom_and_what_it_leaves_out(given, told):
    settings = Settings.load({}, **given)
    first, *lines = _announcement("http://127.0.0.1:9", settings, {"VERSORI_API_KEY": "k"}).split("\n")
    assert first == "Serving http://127.0.0.1:9/mcp and http://127.0.0.1:9/sse; end it with Ctrl-C."
    assert {f"  {line}" for line in told} <= set(lines)


def test_stdout_carries_nothing_but_the_protocol(spawn):
    hello = message("initialize", **INITIALIZE | {"protocolVersion": "2025-06-18"})
    ended = spawn("serve", "--sandbox", stdin=json.dumps(hello) + "\n", LOGTO_APP_ID="half")
    assert ended.status == 0
    lines = [json.loads(line) for line in ended.out.splitlines()]
    assert [line["jsonrpc"] for line in lines] == ["2.0"] * len(lines)


SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
HOOK = {"CONNECTOR_MCP_WEBHOOK_URL": "https://hooks.example.com/x", "CONNECTOR_MCP_WEBHOOK_SECRET": SECRET}


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({**HOOK, "CONNECTOR_MCP_WEBHOOK_CALLBACK_SECRET": SECRET}, "are the same"),
        ({**HOOK, "CONNECTOR_MCP_WEBHOOK_SECRET": "hunter2"}, "CONNECTOR_MCP_WEBHOOK_SECRET is not a signing secret"),
        ({"CONNECTOR_MCP_WEBHOOK_CALLBACK_SECRET": "hunter2"}, "WEBHOOK_CALLBACK_SECRET is not a signing"),
        ({**HOOK, "CONNECTOR_MCP_WEBHOOK_URL": "http://hunter2.example.com"}, "CONNECTOR_MCP_WEBHOOK_URL"),
    ],
)
def test_an_unsafe_webhook_ends_the_start_and_is_found_by_check(run, environment, variables, named):
    settings = Settings.load({**environment, **variables}, sandbox=True, port=0)
    with pytest.raises(Misconfigured, match=named) as caught:
        anyio.run(_serve_http, settings, environment)
    checked = run("config", "check", "--sandbox", **variables)
    assert (checked.exit_code, named in checked.output) == (2, True)
    assert "hunter2" not in caught.value.message + caught.value.fix + checked.output


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"HOST": "0.0.0.0"}, "without authorization"),  # noqa: S104
        ({"ALLOWED_HOSTS": "localhost:*"}, "'localhost:*' is not an exact host"),
        ({"ALLOWED_ORIGINS": "*"}, "'*' is not an exact host"),
        ({"OPERATORS_FILE": "/nowhere/operators.toml"}, "/nowhere/operators.toml cannot be read"),
        ({"STATE": "postgresql://u:hunter2@[h/d"}, "CONNECTOR_MCP_STATE is wrong"),
        ({"OTEL": "true"}, "no collector is configured"),
    ],
)
def test_what_ends_the_start_over_http_is_found_by_check(run, variables, named):
    variables = {f"CONNECTOR_MCP_{name}": value for name, value in variables.items()}
    for command in (("config", "check"), ("serve", "--http", "--port", "0")):
        ended = run(*command, "--sandbox", **variables)
        assert (command, ended.exit_code, named in ended.output) == (command, 2, True)
        assert "hunter2" not in ended.output
