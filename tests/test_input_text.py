"""Text that people and programs hand in: byte order marks, placeholders and quotation marks."""

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner
from cryptography.fernet import Fernet
from mcp.shared.message import SessionMessage

from connector_mcp.cli.commands import tools
from connector_mcp.cli.main import cli
from connector_mcp.cli.options import find_config
from connector_mcp.composition.accounts import platform_values, read_profile
from connector_mcp.config.file import read_config
from connector_mcp.config.settings import SecretName, Settings, variable_name
from connector_mcp.errors import Misconfigured
from connector_mcp.input_text import MARK, check_expanded, decode, trim
from connector_mcp.operations.catalog import PLATFORMS, platform_folder
from connector_mcp.secrets.collection import Secrets
from connector_mcp.secrets.encrypted import EncryptedFile, KeyFile
from connector_mcp.secrets.reference import SecretLimits, read_limits
from connector_mcp.secrets.sources import Directory, EnvironmentSource, Keyring
from connector_mcp.transport.auth.static_tokens import TokenFile
from connector_mcp.transport.stdio import parse_line
from connector_mcp.upstream.responses import RawResponse

BOM = MARK.encode()
TOKENS = b'[[token]]\nname = "ci"\ndigest = "sha256:' + b"0" * 64 + b'"\nscopes = ["connectors:read"]\n'


def file_of(tmp_path: Path, content: bytes, name: str = "file") -> Path:
    path = tmp_path / name
    path.write_bytes(content)
    path.chmod(0o600)
    return path


def secret_of_settings(name: SecretName) -> Callable[[Path, bytes, pytest.MonkeyPatch], Any]:
    def read(tmp_path: Path, content: bytes, _: pytest.MonkeyPatch) -> Any:
        secret = Settings(**{f"{name}_file": file_of(tmp_path, content)}).secret(name)
        return secret and secret.get_secret_value()

    return read


def json_arguments(given: str) -> Callable[[Path, bytes, pytest.MonkeyPatch], Any]:
    def read(tmp_path: Path, content: bytes, patch: pytest.MonkeyPatch) -> Any:
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content), encoding="cp1252"))
        return tools.parse_arguments(given.replace("FILE", str(file_of(tmp_path, content))), (), {})

    return read


def stored_by_command(tmp_path: Path, content: bytes, _: pytest.MonkeyPatch) -> Any:
    environ = {"CONNECTOR_MCP_STATE_DIR": str(tmp_path)}
    assert CliRunner().invoke(cli, ["secrets", "set", "A"], input=content, env=environ).exit_code == 0
    return EncryptedFile(tmp_path / "secrets.enc", KeyFile(tmp_path / "secrets.key")).read("A")


def stored_under_a_key(tmp_path: Path, content: bytes, _: pytest.MonkeyPatch) -> Any:
    store = EncryptedFile(tmp_path / "secrets.enc", KeyFile(file_of(tmp_path, content, "key")))
    store.put("A", f"{MARK}v", SecretLimits())
    return KeyFile(tmp_path / "key").read(), store.read("A")


def of_keyring(_: Path, content: bytes, patch: pytest.MonkeyPatch) -> Any:
    backend = SimpleNamespace(get_password=lambda *_: content.decode())
    patch.setattr("connector_mcp.secrets.sources.open_keyring", lambda: backend)
    return Keyring({}).read("A")


def profile_value(form: str) -> Callable[[Path, bytes, pytest.MonkeyPatch], Any]:
    def read(tmp_path: Path, content: bytes, _: pytest.MonkeyPatch) -> Any:
        text = f"[profiles.versori.one]\norganisation_id = 'o'\napi_key = {form}\n".replace("TEXT", content.decode())
        (profile,) = read_config(file_of(tmp_path, text.encode())).profiles
        secrets = Secrets([EnvironmentSource({"CONNECTOR_MCP_SECRET_KEY": content.decode()})])
        values, problems = read_profile(profile, {"ONE": content.decode()}, secrets)
        assert not problems
        return values

    return read


def variables_of_every_platform(_: Path, content: bytes, __: pytest.MonkeyPatch) -> Any:
    folders = [platform_folder(name).platform for name in PLATFORMS]
    return [
        platform_values(each, {v.name: content.decode() for v in each.variables if not v.choices}) for each in folders
    ]


READERS: dict[str, tuple[bytes, Callable[[Path, bytes, pytest.MonkeyPatch], Any]]] = {
    "an answer": (b'{"a": 1}', lambda _, content, __: RawResponse(200, content).parse()),
    "an answer with half a surrogate": (rb'["\ud800"]', lambda _, content, __: RawResponse(200, content).parse()),
    "arguments in a file": (b'{"limit": 1}', json_arguments("@FILE")),
    "arguments on standard input": ('{"q": "Zürich"}'.encode(), json_arguments("-")),
    "arguments": (b'{"q": 1}', lambda _, content, __: tools.parse_arguments(content.decode(), (), {})),
    "settings": (b"read_only = true\n", lambda path, content, _: read_config(file_of(path, content)).settings),
    "the path of the settings": (
        b"/no/such.toml",
        lambda _, content, __: str(getattr(find_config({"CONNECTOR_MCP_CONFIG": content.decode()}), "path", None)),
    ),
    "limits": (
        b'[A]\nplatforms = ["logto"]\n',
        lambda path, content, _: read_limits(file_of(path, content), PLATFORMS),
    ),
    "tokens": (TOKENS, lambda path, content, _: TokenFile(file_of(path, content)).tokens()),
    **{
        f"the file of {name}": (b"s3cr3t-value\n", secret_of_settings(name))
        for name in ("http_token", "state_password", "webhook_secret", "webhook_callback_secret")
    },
    "a setting": (
        b"s3cr3t-value",
        lambda _, content, __: Settings.load({"CONNECTOR_MCP_HTTP_TOKEN": content.decode()}).secret("http_token"),
    ),
    "every platform's variables": (b"value-1", variables_of_every_platform),
    "a profile's text": (b"value-1", profile_value('"TEXT"')),
    "a profile's variable": (b"value-1", profile_value('{ env = "ONE" }')),
    "a profile's secret": (b"value-1", profile_value('"secret://KEY"')),
    "a secret's variable": (
        b"value-1",
        lambda _, content, __: EnvironmentSource({"CONNECTOR_MCP_SECRET_A": content.decode()}).read("A"),
    ),
    "a secret's file": (b"value-1\n", lambda path, content, _: Directory(file_of(path, content, "A").parent).read("A")),
    "a secret in the keyring": (b"value-1", of_keyring),
    "a secret on standard input": ("pässword\n".encode(), stored_by_command),
    "the key of the secret store": (Fernet.generate_key(), stored_under_a_key),
    "a message over stdio": (
        b'{"jsonrpc": "2.0", "id": 1, "method": "ping"}',
        lambda _, content, __: message.message if isinstance(message := parse_line(content), SessionMessage) else None,
    ),
}


@pytest.mark.parametrize("reader", READERS)
def test_a_byte_order_mark_is_no_part_of_what_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reader: str
) -> None:
    content, read = READERS[reader]
    for name in ("without", "with"):
        (tmp_path / name).mkdir(mode=0o700)
    without = read(tmp_path / "without", content, monkeypatch)
    assert without not in (None, {}, [])
    assert read(tmp_path / "with", BOM + content, monkeypatch) == without
    assert MARK not in repr(without)


def test_text_is_utf_8_or_what_its_mark_says() -> None:
    assert decode("ä".encode("utf-16")) == decode("ä".encode()) == decode(BOM + "ä".encode()) == "ä"
    assert trim(f" {MARK} x ") == trim(f"{MARK}{MARK}x") == "x"
    with pytest.raises(UnicodeDecodeError):
        decode(b"\xe4")


LEFT_OVER = (
    "${KEY}", "$KEY", "${env:KEY}", "$env:KEY", "${input:key}", "${KEY:-x}", "{{KEY}}", "{{ key }}",
    "${{ secrets.KEY }}", "<your-api-key>", "<KEY>", "%KEY%", "$(KEY)", "{KEY}", "$api_key", "prefix-${KEY}",
    '"value"', "'value'", '""', "`v`", "<name>@<tenant>.example/pcc", "\u201cvalue\u201d",
)  # fmt: skip
"""What launchers hand over when they do not expand or unquote."""

FINE = (
    "sk-live-4eC39HqLyjWDarjtT1zdp7dc", "a.b-c_d~e+f/g==", "$ecret", "pa$$word", "100%", "%41%42", "x<y>z", "{", "a'b",
    '"', "'", "$5", "$", "secret-token:conductorone.com:v1:eyJ9", "cmcp_0-_a",
    '{"type": "service_account", "a": {"b": {}}}',
    "postgresql://u:p%40ss@db/x", "https://api.example/v1", "*", "destroy=approve,logto_*=block", "a{b}c",
)  # fmt: skip


@pytest.mark.parametrize("value", FINE)
def test_an_ordinary_value_is_taken(value: str) -> None:
    check_expanded("NAME", value)


@pytest.mark.parametrize("value", LEFT_OVER)
def test_a_placeholder_or_kept_quotes_end_the_start_and_name_the_variable(tmp_path: Path, value: str) -> None:
    def refused(name: str, read: Callable[[], object]) -> None:
        with pytest.raises(Misconfigured, match=name) as failure:
            read()
        assert value not in failure.value.message + failure.value.fix or value == '""'

    for platform in (platform_folder(name).platform for name in PLATFORMS):
        for variable in platform.variables:
            refused(variable.name, lambda: platform_values(platform, {variable.name: value}))  # noqa: B023
    for setting in ("http_token", "state", "webhook_url", "webhook_secret", "state_dir", "public_url", "policy"):
        name = variable_name(setting)
        refused(name, lambda: Settings.load({name: value}))  # noqa: B023
    refused("CONNECTOR_MCP_SECRET_A", lambda: EnvironmentSource({"CONNECTOR_MCP_SECRET_A": value}))
    file = tmp_path / "token"
    file.write_text(value, encoding="utf-8")
    if value.isascii() and " " not in value:
        refused(str(file), lambda: Settings(http_token_file=file).secret("http_token"))
    text = f"[profiles.versori.one]\norganisation_id = 'o'\napi_key = {json.dumps(value)}\n"
    (profile,) = read_config(file_of(tmp_path, text.encode())).profiles
    assert any("profiles.versori.one.api_key" in problem.message for problem in read_profile(profile, {}, Secrets())[1])


@pytest.mark.parametrize("command", [["tools"], ["serve"], ["doctor"], ["config", "check"], ["call", "x"]])
def test_every_command_that_uses_a_credential_refuses_one_that_was_not_expanded(
    tmp_path: Path, command: list[str]
) -> None:
    environ = {"CONNECTOR_MCP_STATE_DIR": str(tmp_path), "VECTORIZE_API_KEY": "${VECTORIZE_API_KEY}"}
    ended = CliRunner().invoke(cli, command, env=environ)
    assert ended.exit_code == Misconfigured.exit_status
    assert "VECTORIZE_API_KEY holds a placeholder" in ended.output
