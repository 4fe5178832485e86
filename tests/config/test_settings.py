from pathlib import Path
from typing import Any

import pytest

from connector_mcp.composition.accounts import missing, platform_values
from connector_mcp.config.file import ConfigFile, read_config
from connector_mcp.config.settings import Settings
from connector_mcp.errors import Misconfigured
from connector_mcp.operations.conductorone.platform import CONDUCTORONE
from connector_mcp.operations.logto.platform import LOGTO
from connector_mcp.operations.platform import Platform
from connector_mcp.operations.vectorize.platform import VECTORIZE
from connector_mcp.operations.versori.platform import VERSORI


def test_the_defaults_serve_one_person_on_this_machine():
    settings = Settings.load({})

    assert settings.model_dump(exclude={"state_dir"}) == {
        "config": None, "sandbox": False, "sandbox_data": None, "platforms": (), "toolsets": ("default",),
        "tools": (), "read_only": False,
        "unknown_config": "refuse", "policy": "", "verify_writes": True, "approvals": True,
        "approval_ttl": 86_400.0, "approval_wait": 0.0,
        "webhook_url": None, "webhook_secret": None, "webhook_secret_file": None, "webhook_timeout": 10.0,
        "webhook_callback_secret": None, "webhook_callback_secret_file": None, "webhook_callback_url": None,
        "ask_reading_time": 0.5, "ask_timeout": 300.0, "deadline": 60.0,
        "max_answer_bytes": 10_000_000, "max_result_bytes": 60_000, "result_content": "both",
        "upstream_concurrency": 64, "requests_per_second": None, "state": None, "state_password_file": None,
        "inline_secrets": "warn", "secrets_dir": None, "secrets_keyring": False,
        "secrets_key_file": None, "secrets_limits": None, "host": "127.0.0.1", "port": 8765, "allowed_hosts": (),
        "allowed_origins": (), "http_token": None, "http_token_file": None, "tokens_file": None, "public_url": None,
        "oauth_issuer": None, "oauth_audience": (), "oauth_jwks_url": None,
        "oauth_algorithms": ("RS256", "ES256", "EdDSA"), "oauth_leeway": 30.0, "oauth_profiles_claim": None,
        "http_max_body_bytes": 4_194_304,
        "http_max_connections": 10_000, "http_max_calls": 256, "http_max_sessions": 256,
        "http_requests_per_minute": 6_000, "http_client_timeout": 30.0, "operators_file": None,
        "plan_max_destructive": 5,
        "log_level": "WARNING", "log_format": "text", "metrics": "token", "otel": False,
    }  # fmt: skip
    assert settings.state_dir.name == "connector-mcp"
    assert settings.secret("http_token") is None


def test_variables_set_what_they_name():
    wanted = [
        ("SANDBOX", "true", True),
        ("SANDBOX_DATA", "~/world.db", Path.home() / "world.db"),
        ("PLATFORMS", "logto, vectorize,logto", ("logto", "vectorize")),
        ("TOOLS", "logto_*,vectorize_get_*", ("logto_*", "vectorize_get_*")),
        ("READ_ONLY", "1", True),
        ("POLICY", " destroy=allow,logto_*=block ", "destroy=allow,logto_*=block"),
        ("VERIFY_WRITES", "false", False),
        ("APPROVAL_TTL", "90", 90.0),
        ("STATE_DIR", "/var/lib/connector-mcp", Path("/var/lib/connector-mcp")),
        ("PORT", "0", 0),
        ("LOG_LEVEL", "debug", "DEBUG"),
    ]
    settings = Settings.load({f"CONNECTOR_MCP_{name}": text for name, text, _ in wanted} | {"PATH": "/bin"})
    assert [getattr(settings, name.lower()) for name, _, _ in wanted] == [value for _, _, value in wanted]


def test_a_given_flag_overrides_its_variable():
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
    assert caught.value.message == f"{name} is not a known setting. Did you mean {nearest!r}?"
    assert "hunter2" not in str(caught.value.as_dict())


def test_an_unknown_flag_is_refused_with_the_nearest_name():
    with pytest.raises(Misconfigured, match=r"--readonly is not a known setting. Did you mean '--read-only'"):
        Settings.load({}, readonly=True)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
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
        ("PLATFORMS", "vectorise", "closest: vectorize"),
        ("PLATFORMS", "logto,", "single commas"),
        ("TOOLS", "logto_*,,x", "single commas"),
    ],
)
def test_an_invalid_value_is_refused_with_the_value_and_the_expected_one(name: str, value: str, expected: str):
    with pytest.raises(Misconfigured) as caught:
        Settings.load({f"CONNECTOR_MCP_{name}": value})
    assert caught.value.message.startswith(f"CONNECTOR_MCP_{name} is ")
    assert value.rstrip(",").split(",")[0] in caught.value.message
    assert expected in caught.value.message


def test_a_bad_flag_is_named_as_a_flag():
    with pytest.raises(Misconfigured, match="--max-result-bytes is '7'"):
        Settings.load({}, max_result_bytes=7)


@pytest.mark.parametrize("token", ["two words", "ünïcode", "new\nline"])
def test_a_bad_token_is_refused_and_never_shown(token: str):
    with pytest.raises(Misconfigured) as caught:
        Settings.load({"CONNECTOR_MCP_HTTP_TOKEN": token})
    assert "CONNECTOR_MCP_HTTP_TOKEN" in caught.value.message
    assert token not in caught.value.message + caught.value.fix


def file_of(tmp_path: Path, text: str, *, mode: int = 0o644) -> ConfigFile:
    path = tmp_path / "connector-mcp.toml"
    path.write_text(text)
    path.chmod(mode)
    return read_config(path)


PLACES = [
    (name, place)
    for name in ("http_token", "webhook_secret", "webhook_callback_secret")
    for place in ("variable", "file of its own", "private file of settings")
]
WEBHOOK = {"CONNECTOR_MCP_WEBHOOK_URL": "https://hooks.example.com/hidden-path"}


@pytest.mark.parametrize(("name", "place"), [*PLACES, ("state_password", "file of its own")])
def test_a_secret_is_read_from_each_of_its_places_and_is_hidden(name: Any, place: str, tmp_path: Path):
    (tmp_path / "secret").write_text("hunter2\n")
    environ = {} if not name.startswith("webhook") else WEBHOOK
    if name == "webhook_callback_secret":
        environ = WEBHOOK | {"CONNECTOR_MCP_WEBHOOK_SECRET": "whsec_x"}
    given = {
        "variable": {f"CONNECTOR_MCP_{name.upper()}": "hunter2"},
        "file of its own": {f"CONNECTOR_MCP_{name.upper()}_FILE": str(tmp_path / "secret")},
    }
    file = file_of(tmp_path, f"{name} = 'hunter2'", mode=0o600) if place not in given else None

    settings = Settings.load(environ | given.get(place, {}), file)

    secret = settings.secret(name)
    assert secret is not None
    assert secret.get_secret_value() == "hunter2"
    told = f"{settings!r} {settings} {settings.model_dump_json()} {secret!r}"
    assert "hunter2" not in told
    assert "hidden-path" not in told


@pytest.mark.parametrize("content", [None, b"", b"\n", b"two words", "ünïcode".encode()])
def test_a_token_file_without_a_token_is_refused(tmp_path: Path, content: bytes | None):
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(Misconfigured, match="CONNECTOR_MCP_HTTP_TOKEN_FILE"):
        Settings.load({"CONNECTOR_MCP_HTTP_TOKEN_FILE": str(file)}).secret("http_token")


def test_a_token_and_a_token_file_exclude_each_other(tmp_path: Path):
    with pytest.raises(Misconfigured, match="both set"):
        Settings.load({"CONNECTOR_MCP_HTTP_TOKEN": "a"}, http_token_file=tmp_path)


def test_flags_override_variables_that_override_the_file_that_overrides_defaults(tmp_path: Path):
    file = file_of(tmp_path, "port = 1\nhost = '::1'\ndeadline = 5\nplatforms = ['logto', 'versori']\n")
    environ = {"CONNECTOR_MCP_PORT": "2", "CONNECTOR_MCP_HOST": "localhost", "CONNECTOR_MCP_READ_ONLY": ""}

    settings = Settings.load(environ, file, port=3)

    assert (settings.port, settings.host, settings.deadline, settings.read_only) == (3, "localhost", 5.0, False)
    assert settings.platforms == ("logto", "versori")
    assert settings.origins == {
        "port": "--port",
        "host": "CONNECTOR_MCP_HOST",
        "deadline": f"{file.path}, line 3: deadline",
        "platforms": f"{file.path}, line 4: platforms",
    }
    assert settings.config == file.path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# sandbox\nreadonly = true", "{path}, line 2: readonly is not a known setting. Did you mean 'read_only'?"),
        ("port = 'eighty'", "{path}, line 1: port is 'eighty'; expected: a valid integer."),
        ("platforms = 3", "{path}, line 1: platforms is '3'; expected: "),
        ("policy = '''\nport = 1\n'''\nport = -1", "{path}: port is '-1'; expected: "),
        ("config = 'other.toml'", "{path}, line 1: config names another file."),
        ("http_token = 'hunter2'", "{path}, line 1: http_token is a secret in plain text, and other users can read"),
    ],
)
def test_a_problem_in_the_file_is_named_by_file_and_key(tmp_path: Path, text: str, expected: str):
    file = file_of(tmp_path, text)
    with pytest.raises(Misconfigured) as caught:
        Settings.load({}, file)
    assert caught.value.message.startswith(expected.format(path=file.path))
    assert "hunter2" not in str(caught.value.as_dict())


def test_every_misspelled_setting_is_answered_with_the_nearest_names_and_where_all_are(tmp_path: Path):
    for name in Settings.model_fields:
        middle = len(name) // 2
        wrong = name[:middle] + name[middle + 1 :]
        for spell, file in (
            (f"CONNECTOR_MCP_{wrong.upper()}", None),
            (wrong, file_of(tmp_path, f"\n{wrong} = 1\n[profiles.logto.a]\n")),
        ):
            _, problems = Settings.examine({} if file else {spell: "1"}, file)
            (told,) = [problem for problem in problems if "not a known setting" in problem.message]
            right = name if file else f"CONNECTOR_MCP_{name.upper()}"
            where = f"{file.path}, line 2: {wrong}" if file else spell
            assert told.message == f"{where} is not a known setting. Did you mean {right!r}?"
            assert told.fix.startswith(f"Use {right}")
            assert "config show" in told.fix
            assert told.fix.count(",") <= 2


def test_a_name_that_resembles_no_setting_is_given_none():
    _, (told,) = Settings.examine({"CONNECTOR_MCP_ZZZZ": "1"})
    assert told.message == "CONNECTOR_MCP_ZZZZ is not a known setting."
    assert told.fix == "Remove it. `connector-mcp config show` lists all settings."


def test_all_problems_are_found_at_once(tmp_path: Path):
    file = file_of(tmp_path, "readonly = true\nport = -1\n[profiles.logto.a]\nendpont = 'x'")
    settings, problems = Settings.examine({"CONNECTOR_MCP_PORTS": "1", "CONNECTOR_MCP_DEADLINE": "0"}, file, host="")
    named = ["CONNECTOR_MCP_PORTS is not", "endpont", "readonly", "port is '-1'", "DEADLINE is '0'", "--host is ''"]
    assert all(any(name in problem.message for problem in problems) for name in named)
    assert len(problems) == len(named)
    assert settings.port == 8765


def test_a_path_in_the_file_is_relative_to_the_file(tmp_path: Path):
    file = file_of(tmp_path, "state_dir = 'state'\nsecrets_dir = '/run/secrets'\nsandbox_data = '~/world.db'")
    settings = Settings.load({}, file)
    assert settings.state_dir == tmp_path / "state"
    assert (settings.secrets_dir, settings.sandbox_data) == (Path("/run/secrets"), Path.home() / "world.db")


def test_the_longest_deadline_and_the_servers_own_secrets_are_those_of_all_profiles(tmp_path: Path):
    text = "[profiles.vectorize.a]\ndeadline = 90\napi_key = 'secret://A'\n[profiles.versori.b]\napi_key = {env = 'B'}"
    settings = Settings.load({}, file_of(tmp_path, text))
    assert (settings.longest_deadline, Settings.load({}).longest_deadline) == (90.0, 60.0)
    assert settings.credential_secrets == {"A"}
    assert [profile.name for profile in settings.model_copy(update={"port": 1}).profiles] == ["a", "b"]


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
def test_a_webhook_with_missing_or_duplicate_settings_is_refused(variables: dict[str, str]):
    with pytest.raises(Misconfigured, match="CONNECTOR_MCP_WEBHOOK"):
        Settings.load({f"CONNECTOR_MCP_{name}": value for name, value in variables.items()})


@pytest.mark.parametrize("address", ["localhost:6379", "http://:hidden-word@host", "hidden-word"])
def test_an_invalid_address_of_the_store_is_refused_without_its_password(address: str):
    with pytest.raises(Misconfigured, match="CONNECTOR_MCP_STATE") as caught:
        Settings.load({"CONNECTOR_MCP_STATE": address})
    assert "hidden-word" not in f"{caught.value.as_dict()}"


# The variables of the platforms -----------------------------------------------------------------------------------


def test_the_variables_of_a_platform_are_those_that_are_set():
    environ = {"VECTORIZE_API_KEY": " key ", "VECTORIZE_ORGANIZATION_ID": "", "LOGTO_APP_ID": "other", "HOME": "/root"}
    assert platform_values(VECTORIZE, environ) == {"VECTORIZE_API_KEY": "key"}


@pytest.mark.parametrize(
    ("platform", "name", "nearest"),
    [
        (VECTORIZE, "VECTORIZE_API_TOKEN", "VECTORIZE_API_KEY"),
        (VECTORIZE, "VECTORIZE_ORG_ID", "VECTORIZE_ORGANIZATION_ID"),
        (VECTORIZE, "VECTORIZE_ORGANISATION_ID", "VECTORIZE_ORGANIZATION_ID"),
        (VERSORI, "VERSORI_ORGANIZATION_ID", "VERSORI_ORGANISATION_ID"),
        (LOGTO, "LOGTO_ENDPOINTS", "LOGTO_ENDPOINT"),
        (CONDUCTORONE, "conductorone_base_url", "CONDUCTORONE_BASE_URL"),
    ],
)
def test_an_unknown_platform_variable_is_refused_with_the_nearest_name(platform: Platform, name: str, nearest: str):
    with pytest.raises(Misconfigured, match=f"{name} is not a known variable. Did you mean '{nearest}'") as caught:
        platform_values(platform, {name: "hunter2"})
    assert "hunter2" not in str(caught.value.as_dict())


def test_a_platform_variable_that_is_not_one_of_its_choices_is_refused():
    with pytest.raises(Misconfigured, match="VECTORIZE_CREATE_BODY is 'list'; expected: object or array"):
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
    (CONDUCTORONE, {"CONDUCTORONE_CLIENT_ID": "n", "CONDUCTORONE_CLIENT_SECRET": "s"}, ["CONDUCTORONE_BASE_URL"]),
    (CONDUCTORONE, {"CONDUCTORONE_CLIENT_SECRET": "s"}, ["CONDUCTORONE_CLIENT_ID"]),
    (CONDUCTORONE, {"CONDUCTORONE_ACCESS_TOKEN": "t", "CONDUCTORONE_CLIENT_ID": "n@a.conductor.one/pcc"}, []),
]


@pytest.mark.parametrize(("platform", "values", "lacking"), CASES)
def test_the_variables_that_a_platform_still_lacks_are_listed(platform: Platform, values: Any, lacking: list[str]):
    assert [variable.name for variable in missing(platform, values)] == lacking


def test_a_variable_of_another_program_with_a_platforms_prefix_is_ignored():
    environ = {"LOGTO_COOKIE_SECRET": "x", "LOGTO_BASE_URL": "y", "LOGTO_ENDPOINT": "z"}
    assert platform_values(LOGTO, environ) == {"LOGTO_ENDPOINT": "z"}
