from pathlib import Path
from typing import Any

import pytest

from connector_mcp.errors import Misconfigured
from connector_mcp.operations.conductorone.platform import CONDUCTORONE
from connector_mcp.operations.logto.platform import LOGTO
from connector_mcp.operations.platform import Platform
from connector_mcp.operations.vectorize.platform import VECTORIZE
from connector_mcp.operations.versori.platform import VERSORI
from connector_mcp.settings import Settings, is_configured, missing, platform_values


def test_the_defaults_serve_one_person_on_this_machine():
    settings = Settings.load({})

    assert settings.model_dump(exclude={"state_dir"}) == {
        "sandbox": False,
        "sandbox_data": None,
        "platforms": (),
        "tools": (),
        "read_only": False,
        "policy": "",
        "verify_writes": True,
        "approvals": True,
        "approval_ttl": 86_400.0,
        "approval_wait": 0.0,
        "webhook_url": None,
        "webhook_secret": None,
        "webhook_secret_file": None,
        "webhook_timeout": 10.0,
        "webhook_callback_secret": None,
        "webhook_callback_secret_file": None,
        "webhook_callback_url": None,
        "ask_timeout": 300.0,
        "deadline": 60.0,
        "max_answer_bytes": 10_000_000,
        "max_result_bytes": 60_000,
        "upstream_concurrency": 64,
        "requests_per_second": None,
        "state": None,
        "state_password_file": None,
        "audit_file_bytes": 16_777_216,
        "inline_secrets": "warn",
        "secrets_dir": None,
        "secrets_keyring": False,
        "secrets_key_file": None,
        "secrets_limits": None,
        "host": "127.0.0.1",
        "port": 8765,
        "allowed_hosts": (),
        "allowed_origins": (),
        "http_token": None,
        "http_token_file": None,
        "tokens_file": None,
        "public_url": None,
        "oauth_issuer": None,
        "oauth_audience": (),
        "oauth_jwks_url": None,
        "oauth_algorithms": ("RS256", "ES256", "EdDSA"),
        "oauth_leeway": 30.0,
        "http_max_body_bytes": 4_194_304,
        "http_max_connections": 10_000,
        "http_max_calls": 256,
        "http_requests_per_minute": 6_000,
        "http_client_timeout": 30.0,
        "operators_file": None,
        "log_level": "WARNING",
        "log_format": "text",
        "metrics": "token",
        "otel": False,
    }
    assert settings.state_dir.name == "connector-mcp"
    assert settings.bearer_token() is None


def test_variables_set_what_they_name():
    settings = Settings.load(
        {
            "CONNECTOR_MCP_SANDBOX": "true",
            "CONNECTOR_MCP_SANDBOX_DATA": "~/world.db",
            "CONNECTOR_MCP_PLATFORMS": "logto, vectorize,logto",
            "CONNECTOR_MCP_TOOLS": "logto_*,vectorize_get_*",
            "CONNECTOR_MCP_READ_ONLY": "1",
            "CONNECTOR_MCP_POLICY": " destroy=allow,logto_*=block ",
            "CONNECTOR_MCP_VERIFY_WRITES": "false",
            "CONNECTOR_MCP_APPROVAL_TTL": "90",
            "CONNECTOR_MCP_STATE_DIR": "/var/lib/connector-mcp",
            "CONNECTOR_MCP_PORT": "0",
            "CONNECTOR_MCP_LOG_LEVEL": "debug",
            "PATH": "/bin",
        }
    )

    assert settings.sandbox is True
    assert settings.sandbox_data == Path.home() / "world.db"
    assert settings.platforms == ("logto", "vectorize")
    assert settings.tools == ("logto_*", "vectorize_get_*")
    assert settings.read_only is True
    assert settings.policy == "destroy=allow,logto_*=block"
    assert settings.verify_writes is False
    assert settings.approval_ttl == 90.0
    assert settings.state_dir == Path("/var/lib/connector-mcp")
    assert settings.port == 0
    assert settings.log_level == "DEBUG"


def test_a_flag_counts_before_its_variable_and_one_not_given_does_not():
    environ = {"CONNECTOR_MCP_PORT": "1", "CONNECTOR_MCP_HOST": "::1", "CONNECTOR_MCP_TOOLS": "logto_*"}

    settings = Settings.load(environ, port=2, host=None, tools=("versori_*", "vectorize_*,logto_get_*"))

    assert (settings.port, settings.host) == (2, "::1")
    assert settings.tools == ("versori_*", "vectorize_*", "logto_get_*")


def test_the_environment_of_the_process_is_not_read(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CONNECTOR_MCP_PORT", "1")

    assert Settings.load({}).port == 8765
    assert Settings().port == 8765


def test_an_empty_variable_counts_as_unset():
    environ = {"CONNECTOR_MCP_PORT": "", "CONNECTOR_MCP_PLATFORMS": " ", "CONNECTOR_MCP_HTTP_TOKEN": ""}

    assert Settings.load(environ) == Settings.load({})


def test_secrets_of_connectors_are_no_settings():
    assert Settings.load({"CONNECTOR_MCP_SECRET_S3_KEY": "hunter2"}) == Settings.load({})


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("CONNECTOR_MCP_READONLY", "CONNECTOR_MCP_READ_ONLY"),
        ("CONNECTOR_MCP_PLATFORM", "CONNECTOR_MCP_PLATFORMS"),
        ("CONNECTOR_MCP_VERIFY_WRITE", "CONNECTOR_MCP_VERIFY_WRITES"),
        ("connector_mcp_policy", "CONNECTOR_MCP_POLICY"),
    ],
)
def test_an_unknown_variable_is_refused_with_the_nearest_name(name: str, nearest: str):
    with pytest.raises(Misconfigured) as caught:
        Settings.load({name: "hunter2"})

    assert f"{name} is set" in caught.value.message
    assert f"nearest is {nearest}." in caught.value.message
    assert "hunter2" not in str(caught.value.as_dict())


def test_an_unknown_flag_is_refused_with_the_nearest_name():
    with pytest.raises(Misconfigured, match=r"--readonly \(nearest: --read-only\)"):
        Settings.load({}, readonly=True)


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("PORT", "eighty", "valid integer"),
        ("PORT", "65536", "less than or equal to 65535"),
        ("READ_ONLY", "perhaps", "valid boolean"),
        ("DEADLINE", "0", "greater than 0"),
        ("APPROVAL_WAIT", "-1", "greater than or equal to 0"),
        ("APPROVAL_WAIT", "301", "less than or equal to 300"),
        ("DEADLINE", "inf", "finite"),
        ("DEADLINE", "nan", "finite"),
        ("LOG_LEVEL", "LOUD", "'WARNING'"),
        ("PLATFORMS", "vectorise", "nearest: vectorize"),
        ("PLATFORMS", "logto,", "single commas"),
        ("TOOLS", "logto_*,,x", "single commas"),
    ],
)
def test_a_bad_value_is_refused_with_what_was_got_and_wanted(name: str, value: str, wanted: str):
    with pytest.raises(Misconfigured) as caught:
        Settings.load({f"CONNECTOR_MCP_{name}": value})

    assert caught.value.message.startswith(f"CONNECTOR_MCP_{name} is ")
    assert value.rstrip(",").split(",")[0] in caught.value.message
    assert wanted in caught.value.message


def test_a_bad_flag_is_named_as_a_flag():
    with pytest.raises(Misconfigured, match="--max-result-bytes is '7'"):
        Settings.load({}, max_result_bytes=7)


@pytest.mark.parametrize("token", ["two words", "ünïcode", "new\nline"])
def test_a_bad_token_is_refused_and_never_shown(token: str):
    with pytest.raises(Misconfigured) as caught:
        Settings.load({"CONNECTOR_MCP_HTTP_TOKEN": token})

    assert "CONNECTOR_MCP_HTTP_TOKEN" in caught.value.message
    assert token not in caught.value.message + caught.value.fix


def test_a_token_is_hidden_from_every_text_of_the_settings():
    settings = Settings.load({"CONNECTOR_MCP_HTTP_TOKEN": "hunter2"})
    token = settings.bearer_token()

    assert token is not None
    assert token.get_secret_value() == "hunter2"
    assert "hunter2" not in f"{settings!r} {settings} {settings.model_dump_json()}"


def test_a_token_is_read_from_its_file(tmp_path: Path):
    file = tmp_path / "token"
    file.write_text("hunter2\n")

    token = Settings.load({"CONNECTOR_MCP_HTTP_TOKEN_FILE": str(file)}).bearer_token()

    assert token is not None
    assert token.get_secret_value() == "hunter2"


@pytest.mark.parametrize("content", [None, b"", b"\n", b"two words", "ünïcode".encode()])
def test_a_token_file_without_a_token_is_refused(tmp_path: Path, content: bytes | None):
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)

    with pytest.raises(Misconfigured, match="CONNECTOR_MCP_HTTP_TOKEN_FILE"):
        Settings.load({}, http_token_file=file).bearer_token()


def test_a_token_and_a_token_file_exclude_each_other(tmp_path: Path):
    with pytest.raises(Misconfigured, match="both set"):
        Settings.load({"CONNECTOR_MCP_HTTP_TOKEN": "a"}, http_token_file=tmp_path)


@pytest.mark.parametrize("name", ["webhook_secret", "webhook_callback_secret"])
def test_a_secret_that_signs_comes_from_its_variable_or_its_file_and_is_hidden(name: Any, tmp_path: Path):
    file = tmp_path / "secret"
    file.write_text("whsec_hunter2\n")
    url = {"CONNECTOR_MCP_WEBHOOK_URL": "https://hooks.example.com/hidden-path"}
    given = Settings.load(
        {**url, "CONNECTOR_MCP_WEBHOOK_SECRET": "whsec_x", f"CONNECTOR_MCP_{name.upper()}": "hunter2"}
    )
    environ = {**url, f"CONNECTOR_MCP_{name.upper()}_FILE": str(file)}
    read = Settings.load(environ | ({} if name == "webhook_secret" else {"CONNECTOR_MCP_WEBHOOK_SECRET": "whsec_x"}))

    for settings, wanted in ((given, "hunter2"), (read, "whsec_hunter2")):
        secret = settings.signing_secret(name)
        assert secret is not None
        assert secret.get_secret_value() == wanted
        assert "hunter2" not in f"{settings!r} {settings.model_dump_json()}"
        assert "hidden-path" not in f"{settings!r} {settings.model_dump_json()}"


@pytest.mark.parametrize(
    "variables",
    [
        {"WEBHOOK_URL": "https://hooks.example.com"},
        {"WEBHOOK_SECRET": "whsec_x"},
        {"WEBHOOK_SECRET_FILE": "/x"},
        {"WEBHOOK_URL": "https://hooks.example.com", "WEBHOOK_SECRET": "whsec_x", "WEBHOOK_SECRET_FILE": "/x"},
        {"WEBHOOK_CALLBACK_SECRET": "whsec_x", "WEBHOOK_CALLBACK_SECRET_FILE": "/x"},
    ],
)
def test_a_webhook_that_is_set_by_half_or_twice_is_refused(variables: dict[str, str]):
    with pytest.raises(Misconfigured, match="CONNECTOR_MCP_WEBHOOK"):
        Settings.load({f"CONNECTOR_MCP_{name}": value for name, value in variables.items()})


def test_the_variables_of_a_platform_are_those_that_are_set():
    environ: dict[str, str] = {
        "VECTORIZE_API_KEY": " key ",
        "VECTORIZE_ORGANIZATION_ID": "",
        "LOGTO_APP_ID": "other",
        "HOME": "/root",
    }

    assert platform_values(VECTORIZE, environ) == {"VECTORIZE_API_KEY": "key"}


@pytest.mark.parametrize(
    ("platform", "name", "nearest"),
    [
        (VECTORIZE, "VECTORIZE_API_TOKEN", "VECTORIZE_API_KEY"),
        (VECTORIZE, "VECTORIZE_ORGANISATION_ID", "VECTORIZE_ORGANIZATION_ID"),
        (VERSORI, "VERSORI_ORGANIZATION_ID", "VERSORI_ORGANISATION_ID"),
        (LOGTO, "LOGTO_ENDPOINTS", "LOGTO_ENDPOINT"),
        (CONDUCTORONE, "conductorone_base_url", "CONDUCTORONE_BASE_URL"),
    ],
)
def test_an_unknown_platform_variable_is_refused_with_the_nearest_name(platform: Platform, name: str, nearest: str):
    with pytest.raises(Misconfigured, match=f"{name} is set.*nearest is {nearest}") as caught:
        platform_values(platform, {name: "hunter2"})

    assert "hunter2" not in str(caught.value.as_dict())


def test_a_platform_variable_that_is_not_one_of_its_choices_is_refused():
    with pytest.raises(Misconfigured, match="VECTORIZE_CREATE_BODY is 'list'; wanted object or array"):
        platform_values(VECTORIZE, {"VECTORIZE_CREATE_BODY": "list"})

    assert platform_values(VECTORIZE, {"VECTORIZE_CREATE_BODY": "array"}) == {"VECTORIZE_CREATE_BODY": "array"}


CASES: list[tuple[Platform, dict[str, Any], list[str]]] = [
    (VECTORIZE, {}, ["VECTORIZE_API_KEY"]),
    (VECTORIZE, {"VECTORIZE_API_KEY": "k"}, []),
    (VERSORI, {"VERSORI_ORGANISATION_ID": "o"}, ["VERSORI_API_KEY"]),
    (VERSORI, {"VERSORI_API_KEY": "k"}, []),
    (LOGTO, {}, ["LOGTO_APP_ID", "LOGTO_APP_SECRET", "LOGTO_ENDPOINT"]),
    (LOGTO, {"LOGTO_APP_ID": "i", "LOGTO_APP_SECRET": "s"}, ["LOGTO_ENDPOINT"]),
    (LOGTO, {"LOGTO_ENDPOINT": "https://a", "LOGTO_APP_ID": "i"}, ["LOGTO_APP_SECRET"]),
    (LOGTO, {"LOGTO_ENDPOINT": "https://a", "LOGTO_APP_ID": "i", "LOGTO_APP_SECRET": "s"}, []),
    (CONDUCTORONE, {}, ["CONDUCTORONE_CLIENT_ID", "CONDUCTORONE_CLIENT_SECRET"]),
    (CONDUCTORONE, {"CONDUCTORONE_ACCESS_TOKEN": "t"}, ["CONDUCTORONE_BASE_URL"]),
    (CONDUCTORONE, {"CONDUCTORONE_ACCESS_TOKEN": "t", "CONDUCTORONE_BASE_URL": "https://a"}, []),
    (CONDUCTORONE, {"CONDUCTORONE_CLIENT_ID": "n@a.conductor.one/pcc"}, ["CONDUCTORONE_CLIENT_SECRET"]),
    (CONDUCTORONE, {"CONDUCTORONE_CLIENT_ID": "n@a.conductor.one/pcc", "CONDUCTORONE_CLIENT_SECRET": "s"}, []),
    (
        CONDUCTORONE,
        {"CONDUCTORONE_CLIENT_ID": "n", "CONDUCTORONE_CLIENT_SECRET": "s"},
        ["CONDUCTORONE_BASE_URL"],
    ),
    (CONDUCTORONE, {"CONDUCTORONE_CLIENT_SECRET": "s"}, ["CONDUCTORONE_CLIENT_ID"]),
    (CONDUCTORONE, {"CONDUCTORONE_ACCESS_TOKEN": "t", "CONDUCTORONE_CLIENT_ID": "n@a.conductor.one/pcc"}, []),
]


@pytest.mark.parametrize(("platform", "values", "lacking"), CASES)
def test_a_platform_is_configured_when_nothing_it_needs_is_missing(
    platform: Platform, values: dict[str, str], lacking: list[str]
):
    assert [variable.name for variable in missing(platform, values)] == lacking
    assert is_configured(platform, values) is (not lacking)


def test_a_variable_of_another_program_with_a_platforms_prefix_is_let_be():
    assert platform_values(LOGTO, {"LOGTO_COOKIE_SECRET": "x", "LOGTO_BASE_URL": "y", "LOGTO_ENDPOINT": "z"}) == {
        "LOGTO_ENDPOINT": "z"
    }


@pytest.mark.parametrize("name", ["VECTORIZE_API_TOKEN", "VECTORIZE_ORG_ID", "VECTORIZE_ORGANISATION_ID"])
def test_a_misspelt_platform_variable_is_refused(name: str):
    with pytest.raises(Misconfigured, match=name):
        platform_values(VECTORIZE, {name: "x"})


@pytest.mark.parametrize("address", ["localhost:6379", "http://:hidden-word@host", "hidden-word"])
def test_a_shared_store_that_is_no_redis_is_refused_without_its_password(address: str):
    with pytest.raises(Misconfigured, match="CONNECTOR_MCP_STATE") as caught:
        Settings.load({"CONNECTOR_MCP_STATE": address})
    assert "hidden-word" not in f"{caught.value.as_dict()}"


def test_the_password_of_the_shared_store_can_be_a_file(tmp_path: Path):
    (tmp_path / "password").write_text("hidden-word\n")
    settings = Settings.load({"CONNECTOR_MCP_STATE_PASSWORD_FILE": str(tmp_path / "password")})

    password = settings.state_password()
    assert password is not None
    assert password.get_secret_value() == "hidden-word"
    assert "hidden-word" not in repr(password)
