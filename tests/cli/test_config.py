"""`connector-mcp config`, and what the other commands make of profiles."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from connector_mcp.cli.options import find_config, load_settings
from connector_mcp.cli.terminal import CliCaller
from connector_mcp.composition.accounts import make_accounts
from connector_mcp.composition.engine import open_engine
from connector_mcp.composition.storage import open_secrets
from connector_mcp.engine.caller import Caller
from connector_mcp.engine.policy import Policy
from connector_mcp.errors import Misconfigured
from connector_mcp.sandbox import seed

Run = Callable[..., Result]

PROFILES = """\
policy = "create=ask"

[profiles.vectorize.production]
organization_id = "org_production"
api_key = "secret://VECTORIZE_PRODUCTION"
policy = "destroy=block"
default = true
secrets = ["S3_KEY"]

[profiles.vectorize.staging]
organization_id = "org_staging"
api_key = { env = "VECTORIZE_API_KEY_STAGING" }
deadline = 5
requests_per_second = 2
"""
SECRETS = {
    "CONNECTOR_MCP_SECRET_VECTORIZE_PRODUCTION": "key-of-production",
    "CONNECTOR_MCP_SECRET_S3_KEY": "key-of-the-bucket",
    "VECTORIZE_API_KEY_STAGING": "key-of-staging",
}
VALUES = tuple(SECRETS.values())
PREFIX = "secret-token:conductorone.com:v1:"
NOT_STAGING = {"VECTORIZE_API_KEY_STAGING": ""}


@pytest.fixture
def file(tmp_path: Path) -> Callable[..., str]:
    def make(text: str = PROFILES) -> str:
        path = tmp_path / "profiles.toml"
        path.write_text(text)
        path.chmod(0o644)
        return str(path)

    return make


def test_the_flag_names_the_file_before_the_variable_and_the_user(
    environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "config" / "connector-mcp" / "connector-mcp.toml"
    own.parent.mkdir(parents=True)
    named, flagged = tmp_path / "named.toml", tmp_path / "flagged.toml"
    for path in (named, flagged, own):
        path.write_text(f"policy = 'destroy=block'\nsecrets_dir = '{path.stem}'")

    def found(variable: str, flag: Path | None = None) -> Path | None:
        monkeypatch.setenv("CONNECTOR_MCP_CONFIG", variable)
        return load_settings(config=flag).config

    assert found(str(named), flagged) == flagged
    assert found(str(named)) == named
    assert found(" ") == own
    assert load_settings().policy == "destroy=block"


def test_a_file_in_the_working_directory_is_not_read(environment: Any, tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "connector-mcp.toml").write_text("policy = 'destroy=allow'")
    monkeypatch.chdir(tmp_path)
    assert find_config(environment) is None
    assert load_settings().policy == ""


def test_a_dangling_link_in_place_of_the_users_file_is_an_error(environment: dict[str, str], tmp_path: Path) -> None:
    own = tmp_path / "config" / "connector-mcp" / "connector-mcp.toml"
    own.parent.mkdir(parents=True)
    own.symlink_to(tmp_path / "none")
    with pytest.raises(Misconfigured, match="cannot be read"):
        load_settings()


def test_each_profile_is_an_account_of_its_own(environment: Mapping[str, str], file: Callable[..., str]) -> None:
    environ = {**environment, **SECRETS}
    settings = load_settings(config=Path(file()))
    server = Policy.parse(settings.policy, read_only=False, transport="stdio")
    production, staging = make_accounts(settings, environ, None, open_secrets(settings, environ), server)
    assert (production.profile, production.default, production.tenant) == ("production", True, "org_production")
    assert (staging.profile, staging.default, staging.tenant) == ("staging", False, "org_staging")
    assert (production.client.secrets(), staging.client.secrets()) == (("key-of-production",), ("key-of-staging",))
    assert (production.secrets, staging.secrets) == (frozenset({"S3_KEY"}), None)
    assert not set(VALUES) & {*production.options.values(), *staging.options.values()}


def test_without_a_file_the_environment_makes_the_profile_default(environment: Mapping[str, str]) -> None:
    environ = {**environment, "VECTORIZE_API_KEY": "key-of-the-only-one"}
    settings = load_settings()
    server = Policy.parse("", read_only=False, transport="stdio")
    (account,) = make_accounts(settings, environ, None, open_secrets(settings, environ), server)
    assert (account.profile, account.policy, account.secrets) == ("default", None, None)


@pytest.mark.parametrize(
    ("text", "variables", "expected"),
    [
        (PROFILES, {"VECTORIZE_API_KEY": "another-account"}, "VECTORIZE_API_KEY set in addition to the profiles"),
        (PROFILES, {"VECTORIZE_ORGANIZATION_ID": "o"}, "VECTORIZE_ORGANIZATION_ID set in addition to the profiles"),
        (PROFILES, NOT_STAGING, "staging.api_key is read from VECTORIZE_API_KEY_STAGING, which is not"),
        (PROFILES, {"CONNECTOR_MCP_SECRET_VECTORIZE_PRODUCTION": ""}, "secret://VECTORIZE_PRODUCTION, which"),
        ("[profiles.vectorize.a]\n", NOT_STAGING, "profiles.vectorize.a lacks api_key."),
        ("[profiles.logto.a]\napp_id = 'x'\n", NOT_STAGING, "profiles.logto.a lacks app_secret, endpoint."),
        (PROFILES + "policy = 'logto_*=block'", {}, "staging.policy contains the rule 'logto_*=block', but no tool"),
        (PROFILES + "policy = 'destory=block'", {}, "staging.policy contains the rule 'destory=block'"),
    ],
)
def test_a_problem_ends_the_start_and_is_reported_by_check(
    run: Run, file: Callable[..., str], text: str, variables: dict[str, str], expected: str
) -> None:
    given = {**SECRETS, **variables}
    started = run("tools", "--config", file(text), **given)
    checked = run("config", "check", "--config", file(text), **given)
    for result in (started, checked):
        assert result.exit_code == 2
        assert expected in result.output
        assert not any(value in result.output for value in VALUES)


def test_the_limit_of_a_secret_also_binds_a_profile(run: Run, file: Callable[..., str], tmp_path: Path) -> None:
    limits = tmp_path / "limits.toml"
    limits.write_text('[VECTORIZE_PRODUCTION]\nprofiles = ["staging"]')
    result = run("tools", "--config", file(), CONNECTOR_MCP_SECRETS_LIMITS=str(limits), **SECRETS)
    assert result.exit_code == 2
    assert "secret://VECTORIZE_PRODUCTION, which may not be used here" in result.stderr


@pytest.mark.anyio
async def test_no_call_may_use_the_credential_of_a_profile(environment: Any, file: Callable[..., str]) -> None:
    environ = {**environment, **SECRETS}
    path = Path(file(PROFILES.replace("secrets = ", "# ")))
    settings = load_settings(config=path, sandbox=True, platforms="vectorize")
    caller = CliCaller(can_ask=False)
    config = {"access-key": "secret://S3_KEY", "secret-key": "secret://VECTORIZE_PRODUCTION", "bucket-name": "b"}
    connectors = [{"name": "S3", "type": "AWS_S3", "config": {**config, "archiver": False}}]
    async with open_engine(settings, environ, "cli") as engine:
        refused = await engine.call("vectorize_create_source_connector", {"connectors": connectors}, caller)
        listed = await engine.call("list_secrets", {}, caller)

    (issue,) = refused.content["error"]["issues"]
    assert issue["path"] == "connectors[0].config.secret-key"
    assert issue["wanted"] == "another secret: this one is a credential of the server itself"
    assert [row["reference"] for row in listed.content["data"]] == ["secret://S3_KEY"]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("bound", "shown"),
    [
        (None, {"ANY": None, "LOGTO": None, "OURS": ["production", "staging"], "S3_KEY": None, "STAGING": ["staging"]}),
        ({"production"}, {"S3_KEY": None}),
        ({"staging"}, {"ANY": None, "OURS": ["staging"], "S3_KEY": None, "STAGING": ["staging"]}),
        ({"elsewhere"}, {}),
    ],
)
async def test_a_bound_caller_is_shown_only_the_secrets_of_its_profiles(
    environment: Any, file: Callable[..., str], tmp_path: Path, bound: set[str] | None, shown: dict[str, Any]
) -> None:
    limits = tmp_path / "limits.toml"
    limits.write_text(
        '[OURS]\nprofiles = ["production", "staging"]\n[STAGING]\nprofiles = ["staging"]\n'
        '[LOGTO]\nplatforms = ["logto"]\n'
    )
    environ = {**environment, **SECRETS}
    environ |= {f"CONNECTOR_MCP_SECRET_{name}": f"value-of-{name}" for name in ("ANY", "LOGTO", "OURS", "STAGING")}
    settings = load_settings(config=Path(file()), sandbox=True, platforms="vectorize", secrets_limits=limits)
    caller = Caller("agent", "http", profiles=None if bound is None else frozenset(bound))
    async with open_engine(settings, environ, "http") as engine:
        rows = (await engine.call("list_secrets", {}, caller)).content["data"]
    assert {row["reference"].removeprefix("secret://"): row.get("profiles") for row in rows} == shown


def test_check_says_that_there_is_no_problem(run: Run, file: Callable[..., str]) -> None:
    result = run("config", "check", "--config", file(), **SECRETS)
    assert result.exit_code == 0
    assert result.stdout == f"Nothing is wrong in {file()}.\n"
    assert json.loads(run("config", "check", "--json").stdout) == {"ok": True, "file": None, "problems": []}


def test_check_reports_all_problems(run: Run, file: Callable[..., str]) -> None:
    text = "port = 'x'\nreadonly = 1\n" + PROFILES + "[profiles.logto.a]\nendpont = 'x'\n[profiles.versori.b]\n"

    wrong = {"CONNECTOR_MCP_DEADLINE": "0", "CONDUCTORONE_CLIENT_ID": "x"}
    result = run("config", "check", "--config", file(text), "--json", **wrong)
    report = json.loads(result.stdout)
    told = [problem["message"] for problem in report["problems"]]
    assert (result.exit_code, report["ok"], report["file"]) == (2, False, file(text))
    for expected in (
        "endpont is not a known key",
        "port is 'x'",
        "readonly is not a known setting. Did you mean 'read_only'?",
        "CONNECTOR_MCP_DEADLINE is '0'",
        "ConductorOne is not served: CONDUCTORONE_CLIENT_SECRET, CONDUCTORONE_BASE_URL not set.",
        "secret://VECTORIZE_PRODUCTION, which is not stored",
        "secrets names S3_KEY, which is not stored",
        "VECTORIZE_API_KEY_STAGING, which is not set",
        "profiles.logto.a lacks app_id, app_secret.",
        "profiles.versori.b lacks api_key.",
    ):
        assert any(expected in message for message in told), expected
    assert all(problem["fix"] for problem in report["problems"])


@pytest.mark.parametrize(
    ("variables", "wrong"),
    [
        (
            {"CONDUCTORONE_CLIENT_ID": "a-1@acme.conductor.one/pcc", "CONDUCTORONE_CLIENT_SECRET": PREFIX + "eyJ"},
            "ConductorOne: CONDUCTORONE_CLIENT_SECRET does not hold a base64url-encoded JWK in its last part.",
        ),
        (
            {"VERSORI_API_KEY": "key-of-versori", "VERSORI_AUTH_PREFIX": "two words"},
            "Versori: VERSORI_AUTH_PREFIX is not a single word such as Bearer.",
        ),
    ],
)  # fmt: skip
def test_check_reports_credentials_with_which_no_server_starts(run: Run, variables: dict[str, str], wrong: str) -> None:
    checked, started = run("config", "check", **variables), run("serve", **variables)
    assert (checked.exit_code, started.exit_code) == (2, 2)
    assert wrong in checked.stdout
    assert wrong in started.stderr


def test_show_says_where_each_setting_is_from_and_shows_no_credential(run: Run, file: Callable[..., str]) -> None:
    result = run(
        "config", "show", "--json", "--config", file(), "--read-only",
        CONNECTOR_MCP_HTTP_TOKEN="key-of-http", LOGTO_ENDPOINT="https://a.logto.app", LOGTO_APP_ID="i",
        LOGTO_APP_SECRET="key-of-logto", **SECRETS,
    )  # fmt: skip

    shown = json.loads(result.stdout)
    settings: dict[str, Any] = shown["settings"]
    assert settings["read_only"] == {"value": True, "from": "--read-only"}
    assert settings["policy"] == {"value": "create=ask", "from": f"{file()}, line 1: policy"}
    assert settings["http_token"] == {"value": "set", "from": "CONNECTOR_MCP_HTTP_TOKEN"}
    assert settings["port"] == {"value": 8765, "from": "default"}
    assert shown["file"] == file()
    assert [(each["platform"], each["profile"], each["default"]) for each in shown["profiles"]] == [
        ("vectorize", "production", True),
        ("vectorize", "staging", False),
        ("logto", "default", False),
    ]
    variables = {"api_key": "set from secret://VECTORIZE_PRODUCTION", "organization_id": "org_production"}
    assert shown["profiles"][0]["variables"] == variables
    assert shown["profiles"][1]["variables"]["api_key"] == "set from VECTORIZE_API_KEY_STAGING"
    assert shown["profiles"][1]["options"] == {"deadline": 5.0, "requests_per_second": 2.0}
    assert shown["profiles"][2]["variables"]["app_secret"] == "set from LOGTO_APP_SECRET"
    assert "key-of-" not in result.output


def test_show_claims_no_value_that_is_not_there_and_shows_the_rest_beside_a_problem(
    run: Run, file: Callable[..., str]
) -> None:
    result = run("config", "show", "--json", "--config", file(f"portt = 1\n{PROFILES}"), LOGTO_APP_IDD="x")
    production, staging = json.loads(result.stdout)["profiles"]
    assert production["variables"]["api_key"] == "not set: secret://VECTORIZE_PRODUCTION is not stored"
    assert staging["variables"]["api_key"] == "not set: VECTORIZE_API_KEY_STAGING is not set"
    assert result.exit_code == 2
    assert result.stderr.count("error: ") == 2
    assert "line 1: portt is not a known setting" in result.stderr
    assert "LOGTO_APP_IDD is not a known variable" in result.stderr


def test_show_as_text_has_a_line_for_each_setting_and_profile(run: Run, file: Callable[..., str]) -> None:
    text = PROFILES.replace('{ env = "VECTORIZE_API_KEY_STAGING" }', '"key-in-the-file"')
    path = file(text)
    Path(path).chmod(0o600)
    lines = run("config", "show", "--config", path).stdout.splitlines()
    assert lines[0] == f"File: {path}"
    assert any(line.split() == ["policy", "create=ask", f"{path},", "line", "1:", "policy"] for line in lines)
    assert "vectorize, profile production (default)" in lines
    assert "  api_key: not set: secret://VECTORIZE_PRODUCTION is not stored" in lines
    assert "  api_key: set" in lines
    assert "key-in-the-file" not in "\n".join(lines)


def test_call_takes_the_profile_as_an_option(run: Run, file: Callable[..., str]) -> None:
    delete = ("call", "vectorize_delete_source_connector", "--sandbox", "--config", file())
    given = ("--arg", f"source_connector_id={seed.VECTORIZE_WEB_CRAWLER}")

    unnamed = run(*delete, *given)
    blocked = run(*delete, *given, "--profile", "production")
    parked = run(*delete, *given, "--profile", "staging")
    waiting = run("approvals", "show", json.loads(parked.stdout)["error"]["approval"]["id"])

    assert (unnamed.exit_code, blocked.exit_code, parked.exit_code) == (2, 3, 3)
    assert "one of production, staging" in unnamed.stdout
    assert json.loads(parked.stdout)["error"]["code"] == "approval_required"
    assert json.loads(blocked.stdout)["error"]["code"] == "blocked"
    assert "vectorize, profile staging" in waiting.stdout


def test_call_refuses_a_profile_that_its_platform_does_not_have(run: Run, file: Callable[..., str]) -> None:
    calling = ("call", "logto_list_connectors", "--sandbox", "--config", file())
    assert run(*calling, "--profile", "default").exit_code == 0
    refused = run(*calling, "--profile", "production")
    assert refused.exit_code == 2
    assert "its only profile is default" in refused.stderr


def test_doctor_reads_once_under_every_profile(run: Run, file: Callable[..., str]) -> None:
    report = json.loads(run("doctor", "--json", "--sandbox", "--config", file(), "--platforms", "vectorize").stdout)
    assert [(each["title"], each["profile"], each["state"]) for each in report["platforms"]] == [
        ("Vectorize (production)", "production", "fine"),
        ("Vectorize (staging)", "staging", "fine"),
    ]


def test_doctor_fails_for_a_platform_that_cannot_be_served(run: Run, file: Callable[..., str], tmp_path: Path) -> None:
    result = run("doctor", "--json", "--config", file("[profiles.logto.a]\napp_id = 'x'"))
    assert result.exit_code != 0
    assert json.loads(result.stdout)["ok"] is False
