"""What a file of settings and profiles may hold, and that all that is wrong with one is said, without any value."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from connector_mcp.config.file import ConfigFile, Given, read_config
from connector_mcp.config.settings import Settings
from connector_mcp.errors import Misconfigured
from connector_mcp.operations.catalog import PLATFORMS, platform_folder
from connector_mcp.operations.platform import key_of

Read = Callable[..., ConfigFile]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def make(text: str, *, mode: int = 0o644) -> ConfigFile:
        path = tmp_path / "connector-mcp.toml"
        path.write_text(text)
        path.chmod(mode)
        return read_config(path)

    return make


def said(file: ConfigFile) -> list[str]:
    """The problems, each from the key on."""
    return [re.sub(rf"^{file.path}(, line \d+)?: ", "", problem.message) for problem in file.problems]


def test_a_profile_holds_its_platforms_variables_and_its_own_rules(read: Read):
    file = read(
        """
        deadline = 30

        [profiles.vectorize.production]
        organization_id = "org_1"
        api_key = "secret://VECTORIZE"
        default = true
        policy = "destroy=block"
        read_only = true
        secrets = ["S3"]
        requests_per_second = 2
        upstream_concurrency = 4
        deadline = 10.5

        [profiles.vectorize.staging]
        api_key = { env = "STAGING_KEY" }
        """
    )

    assert file.problems == ()
    assert file.settings == {"deadline": 30}
    production, staging = file.profiles
    assert (production.platform.name, production.name) == ("vectorize", "production")
    given = {"VECTORIZE_ORGANIZATION_ID": Given(text="org_1"), "VECTORIZE_API_KEY": Given(secret="VECTORIZE")}
    assert production.given == given
    assert production.options.model_dump() == {
        "default": True, "policy": "destroy=block", "read_only": True, "secrets": ["S3"], "requests_per_second": 2.0,
        "upstream_concurrency": 4, "deadline": 10.5,
    }  # fmt: skip
    assert staging.given == {"VECTORIZE_API_KEY": Given(env="STAGING_KEY")}
    assert staging.options.secrets is None


def test_every_variable_of_every_platform_has_a_key_of_its_own_beside_the_profiles_own_keys(read: Read):
    for name in PLATFORMS:
        platform = platform_folder(name).platform
        keys = [key_of(platform, variable) for variable in platform.variables]
        assert len(set(keys)) == len(keys)
        text = f"[profiles.{name}.x]\n" + "\n".join(f'{key} = {{ env = "SOME" }}' for key in keys)
        (profile,) = read(text).profiles
        assert set(profile.given) == {variable.name for variable in platform.variables}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[profiles.vectorise.a]", "profiles.vectorise is not a known platform. Did you mean 'vectorize'?"),
        ("[profiles.logto.a]\napp_idd = 'x'", "profiles.logto.a.app_idd is not a known key. Did you mean 'app_id'?"),
        ("[profiles.logto.a]\nreadonly = 1", "profiles.logto.a.readonly is not a known key. Did you mean 'read_only'?"),
        ("[profiles.logto.a]\nread_only = 'yes'", "profiles.logto.a.read_only is invalid"),
        ("[profiles.logto.a]\ndeadline = 0", "profiles.logto.a.deadline is invalid (its value is not shown); exp"),
        ("[profiles.logto.a]\nsecrets = ['secret://X']", "profiles.logto.a.secrets is invalid"),
        ("[profiles.logto.a]\nendpoint = 7", "profiles.logto.a.endpoint is not text"),
        ("[profiles.logto.a]\nendpoint = ' '", "profiles.logto.a.endpoint is not text"),
        ("[profiles.logto.a]\nendpoint = 'secret://X'", "profiles.logto.a.endpoint holds a reference, but is not"),
        ("[profiles.logto.a]\napp_secret = 'secret://../x'", "profiles.logto.a.app_secret holds a malformed reference"),
        ("[profiles.logto.a]\napp_secret = {}", "profiles.logto.a.app_secret is a table of another form."),
        ("[profiles.logto.a]\napp_secret = {env = 'A B'}", "profiles.logto.a.app_secret is a table of another form."),
        ("[profiles.logto.a]\napp_secret = {env = 'CONNECTOR_MCP_SECRET_X'}", "profiles.logto.a.app_secret names a"),
        ("[profiles.vectorize.a]\ncreate_body = 'list'", "profiles.vectorize.a.create_body is not one of its choices."),
        ("[profiles.logto.'A b']", "profiles.logto.A b: 'A b' is not a valid profile name."),
        ("[profiles.logto]\nendpoint = 'x'", "profiles.logto.endpoint is not a table."),
        ("profiles = 3", "profiles is not a table."),
        ("[profiles.logto.a]\ndefault = true\n[profiles.logto.b]\ndefault = true", "profiles.logto has more than one"),
    ],
)
def test_a_problem_is_named_by_its_key_and_ends_the_start(read: Read, text: str, expected: str):
    file = read(text)
    assert len(file.problems) == 1
    assert said(file)[0].startswith(expected)
    with pytest.raises(Misconfigured):
        Settings.load({}, file)


def test_all_problems_are_reported_at_once(read: Read):
    file = read("[profiles.logto.a]\napp_idd = 'x'\ndeadline = -1\n[profiles.versory.b]\n[profiles.versori.c]\nx = 1")
    assert [message.split(" ")[0].rstrip(":") for message in said(file)] == [
        "profiles.logto.a.app_idd",
        "profiles.logto.a.deadline",
        "profiles.versory",
        "profiles.versori.c.x",
    ]


def test_a_credential_in_plain_text_requires_a_file_that_only_its_owner_can_read(read: Read):
    text = "[profiles.vectorize.a]\napi_key = 'hunter2-hunter2'"
    for mode in (0o640, 0o604, 0o644):
        file = read(text, mode=mode)
        (message,) = said(file)
        assert message.startswith("profiles.vectorize.a.api_key holds a credential in plain text, and other users")
    file = read(text, mode=0o600)
    assert file.problems == ()
    assert file.profiles[0].given["VECTORIZE_API_KEY"].text == "hunter2-hunter2"


def test_no_value_of_a_file_is_in_its_texts_or_its_errors(read: Read):
    text = (
        "http_token = 'hunter2'\n[profiles.vectorize.a]\napi_key = 'hunter2'\norganization_id = ['hunter2']\n"
        "[profiles.logto.b]\napp_secret = {hunter = 'hunter2'}\ndeadline = 'hunter2'\n"
    )
    for mode in (0o600, 0o644):
        file = read(text, mode=mode)
        told = f"{file!r} {[problem.as_dict() for problem in file.problems]}"
        assert file.problems
        assert "hunter2" not in told


def test_a_file_that_every_user_can_write_is_refused(read: Read):
    assert "can be written by every user" in read("", mode=0o666).problems[0].message


@pytest.mark.parametrize("content", [b"policy = hunter2", b"[profiles.vectorize", b"\xff\xff", b"a = 1\na = 2"])
def test_a_file_that_is_not_toml_is_refused_without_its_text(tmp_path: Path, content: bytes):
    path = tmp_path / "c.toml"
    path.write_bytes(content)
    (problem,) = read_config(path).problems
    assert problem.message.startswith(f"{path} cannot be read: it is not valid TOML")
    assert "hunter2" not in problem.message


def test_a_file_that_is_not_there_is_refused(tmp_path: Path):
    (problem,) = read_config(tmp_path / "none.toml").problems
    assert "No such file" in problem.message


def test_the_null_device_is_a_file_without_settings():
    file = read_config(Path(os.devnull))
    assert (dict(file.settings), file.profiles, file.problems) == ({}, (), ())
