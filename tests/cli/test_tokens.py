"""`connector-mcp tokens`, and what the settings of callers come to."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from connector_mcp.composition.http_access import make_access
from connector_mcp.config.settings import Settings
from connector_mcp.errors import Misconfigured
from connector_mcp.transport.auth.static_tokens import TokenFile

Run = Callable[..., Any]


def test_a_token_is_printed_once_with_an_entry_that_holds_only_its_digest(run: Run, tmp_path: Path) -> None:
    done = run("tokens", "new", "ci", "--scope", "read", "--scope", "destroy", "--expires", "90d")
    secret, _, entry = done.output.partition("\n\n")
    assert done.exit_code == 0
    assert secret.startswith("cmcp_")
    assert secret not in entry
    path = tmp_path / "tokens.toml"
    path.write_text(entry)
    path.chmod(0o600)
    found = TokenFile(path).find(secret)
    assert found is not None
    assert (found.name, found.scopes) == ("ci", frozenset({"connectors:read", "connectors:destroy"}))
    assert found.expires is not None


def test_an_entry_is_added_to_the_file_of_the_settings_and_listed(run: Run, tmp_path: Path) -> None:
    path = str(tmp_path / "tokens.toml")
    first = run("tokens", "new", "ci", "--scope", "write", "--append", CONNECTOR_MCP_TOKENS_FILE=path)
    second = run("tokens", "new", "ci", "--scope", "read", "--append", CONNECTOR_MCP_TOKENS_FILE=path)
    listed = run("tokens", "list", CONNECTOR_MCP_TOKENS_FILE=path)
    as_json = run("tokens", "list", "--json", "--file", path)
    assert TokenFile(Path(path)).find(first.stdout.strip()) is not None
    assert (second.exit_code, second.stdout) == (2, "")
    assert "taken" in second.stderr
    assert listed.output.splitlines() == ["name  allows  expires", "ci    write   never"]
    entry = {"name": "ci", "scopes": ["connectors:write"], "profiles": None, "expires": None, "expired": False}
    assert json.loads(as_json.output) == [entry]
    assert "sha256" not in listed.output + as_json.output
    bound = ("--profile", "b", "--profile", "a", "--append", "--file", path)
    assert run("tokens", "new", "team", "--scope", "read", *bound).exit_code == 0
    assert "team  read (only profile a, b)" in run("tokens", "list", "--file", path).output
    assert json.loads(run("tokens", "list", "--json", "--file", path).output)[1]["profiles"] == ["a", "b"]


def test_an_operator_has_a_file_of_its_own_and_no_scopes(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "operators.toml"
    done = run("tokens", "new", "alice", "--operator", "--append", "--file", str(path))
    assert done.exit_code == 0
    assert "scopes" not in tomllib.loads(path.read_text())["token"][0]
    assert TokenFile(path, scoped=False).find(done.stdout.strip()) is not None
    listed = run("tokens", "list", "--operators", "--file", str(path))
    assert listed.output.splitlines()[1].split() == ["alice", "operator", "never"]
    refused = run("tokens", "list", "--file", str(path))
    assert refused.exit_code == 2
    assert "tokens list --operators" in refused.stderr


@pytest.mark.parametrize("name", ["two words", "local"])
def test_an_invalid_name_is_refused_without_a_token(run: Run, name: str) -> None:
    done = run("tokens", "new", name, "--scope", "read")
    assert (done.exit_code, "cmcp_" in done.output) == (2, False)


READ = "--scope read"


@pytest.mark.parametrize(
    "options",
    ["", "--scope all", f"{READ} --operator", f"{READ} --append", f"{READ} --file tokens.toml"]
    + [f"{READ} --expires {time}" for time in ("soon", "0d", "9999d")],
)
def test_invalid_options_are_refused_without_a_token(run: Run, options: str) -> None:
    done = run("tokens", "new", "ci", *options.split())
    assert done.exit_code == 2
    assert "cmcp_" not in done.output


def access(**settings: Any) -> Any:
    return make_access(Settings.load({f"CONNECTOR_MCP_{name.upper()}": value for name, value in settings.items()}))


def test_the_public_address_is_allowed_and_is_the_audience_of_tokens() -> None:
    made = access(public_url="https://MCP.example.com/", oauth_issuer="https://login.example.com", allowed_hosts="a:1")
    assert made.hosts == ("a:1", "mcp.example.com", "mcp.example.com:443")
    assert made.origins == ("https://mcp.example.com",)
    resource = made.callers.resource
    assert resource is not None
    assert resource.identifiers == tuple(f"https://mcp.example.com{face}" for face in ("", "/mcp", "/sse"))


def test_on_this_machine_the_address_follows_from_host_and_port() -> None:
    made = access(oauth_issuer="https://login.example.com", host="::1", port="9000")
    assert str(made.callers.oauth.resource.address) == "http://[::1]:9000"


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"oauth_issuer": "https://login.example.com", "host": "0.0.0.0"}, "CONNECTOR_MCP_PUBLIC_URL"),  # noqa: S104
        ({"oauth_issuer": "https://login.example.com", "port": "0"}, "CONNECTOR_MCP_PUBLIC_URL"),
        ({"oauth_issuer": "http://login.example.com"}, "CONNECTOR_MCP_OAUTH_ISSUER"),
        ({"oauth_issuer": "https://login.example.com", "oauth_jwks_url": "keys"}, "CONNECTOR_MCP_OAUTH_JWKS_URL"),
        ({"oauth_issuer": "https://login.example.com", "oauth_algorithms": "HS256"}, "CONNECTOR_MCP_OAUTH_ALGORITHMS"),
        ({"oauth_audience": "api"}, "CONNECTOR_MCP_OAUTH_ISSUER"),
        ({"oauth_jwks_url": "https://login.example.com/keys"}, "CONNECTOR_MCP_OAUTH_ISSUER"),
        ({"public_url": "mcp.example.com"}, "CONNECTOR_MCP_PUBLIC_URL"),
        ({"public_url": "https://mcp.example.com/mcp"}, "CONNECTOR_MCP_PUBLIC_URL"),
        ({"tokens_file": "/nowhere/tokens.toml"}, "/nowhere/tokens.toml"),
    ],
)
def test_inconsistent_settings_end_the_start_and_check_says_what_to_set(
    run: Run, settings: dict[str, str], named: str
) -> None:
    with pytest.raises(Misconfigured) as caught:
        access(**settings)
    assert named in caught.value.message + caught.value.fix
    variables = {f"CONNECTOR_MCP_{name.upper()}": value for name, value in settings.items()}
    checked = run("config", "check", "--sandbox", **variables)
    assert (checked.exit_code, named in checked.output) == (2, True)
