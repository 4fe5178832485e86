"""The sources of secrets, their order, and the limits on use."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from connector_mcp.errors import Misconfigured
from connector_mcp.secrets.collection import Secrets
from connector_mcp.secrets.reference import SecretLimits, Unresolved, Use, read_limits
from connector_mcp.secrets.sources import LARGEST, Directory, EnvironmentSource, Keyring

PLATFORMS = ("vectorize", "logto")
USE = Use("logto", "default", "config.auth.pass")


def fake_keyring(monkeypatch: pytest.MonkeyPatch, held: dict[str, str], *, priority: float = 5) -> None:
    def get(service: str, name: str) -> str | None:
        assert service == "connector-mcp"
        if name == "locked":
            raise RuntimeError("the keyring is locked")
        return held.get(name)

    def put(service: str, name: str, value: str) -> None:
        held[name] = value

    module = SimpleNamespace(get_keyring=lambda: SimpleNamespace(priority=priority), get_password=get, set_password=put)
    monkeypatch.setitem(sys.modules, "keyring", module)


def test_the_environment_provides_values_by_variable_name() -> None:
    source = EnvironmentSource(
        {"CONNECTOR_MCP_SECRET_A": "a", "CONNECTOR_MCP_SECRET_EMPTY": "", "CONNECTOR_MCP_SECRET_": "x"}
    )
    assert source.names() == ["A"]
    assert source.read("A") == "a"
    assert source.read("EMPTY") is None


def test_a_directory_gives_the_text_of_a_file_without_its_last_line_break(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"line 1\nline 2\r\n\n")
    assert Directory(tmp_path).read("a") == "line 1\nline 2"
    assert (Directory(tmp_path).changed("a") or "").endswith("Z")


def test_a_directory_gives_nothing_but_regular_files_inside_it(tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("not to be read")
    inside = tmp_path / "mounted"
    inside.mkdir()
    (inside / "folder").mkdir()
    os.mkfifo(inside / "pipe")
    (inside / "link").symlink_to(tmp_path / "outside")
    (inside / "loop").symlink_to(inside / "loop")
    (inside / ".hidden").write_text("x")
    source = Directory(inside)
    for name in ("folder", "pipe", "link", "loop", "../outside", str(tmp_path / "outside"), "..", ".hidden", "none"):
        assert source.read(name) is None, name
        assert source.changed(name) is None
    assert source.names() == []


def test_a_directory_follows_links_that_stay_inside_as_those_of_mounted_volumes_do(tmp_path: Path) -> None:
    (tmp_path / "..2026_01").mkdir()
    (tmp_path / "..2026_01" / "key").write_text("value")
    (tmp_path / "..data").symlink_to("..2026_01")
    (tmp_path / "key").symlink_to("..data/key")
    assert Directory(tmp_path).names() == ["key"]
    assert Directory(tmp_path).read("key") == "value"


def test_a_file_that_is_too_large_or_no_text_is_refused_without_its_content(tmp_path: Path) -> None:
    (tmp_path / "large").write_text("x" * (LARGEST + 1))
    (tmp_path / "binary").write_bytes(b"\xff\xfe marked")
    for name in ("large", "binary"):
        with pytest.raises(Misconfigured) as refused:
            Directory(tmp_path).read(name)
        assert "marked" not in str(refused.value)
        assert refused.value.__cause__ is None


def test_a_missing_directory_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="SECRETS_DIR"):
        Directory(tmp_path / "none")


def test_the_keyring_gives_what_it_holds_and_nothing_when_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_keyring(monkeypatch, {"A": "a", "B": "b"})
    source = Keyring({"A": SecretLimits(), "C": SecretLimits()})
    assert source.names() == ["A"]
    assert source.read("B") == "b"
    assert source.read("locked") is None


def test_a_keyring_without_backend_or_package_is_not_available(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_keyring(monkeypatch, {"A": "a"}, priority=0)
    assert Keyring({}).read("A") is None
    monkeypatch.setitem(sys.modules, "keyring", None)
    assert Keyring({}).read("A") is None


def test_the_first_source_with_a_name_provides_the_value(tmp_path: Path) -> None:
    (tmp_path / "A").write_text("from the directory")
    (tmp_path / "B").write_text("b")
    found = Secrets([EnvironmentSource({"CONNECTOR_MCP_SECRET_A": "from the environment"}), Directory(tmp_path)])
    assert found.find("A", USE).value == "from the environment"
    assert found.find("B", USE).value == "b"
    assert [(each.name, each.source) for each in found.listing()] == [("A", "environment"), ("B", "directory")]


@pytest.mark.parametrize(
    ("limits", "use", "told"),
    [
        (SecretLimits(platforms=("vectorize",)), USE, "platform vectorize"),
        (SecretLimits(profiles=("staging",)), USE, "profile staging"),
        (SecretLimits(fields=("auth.passphrase", "pass.auth", "h.pass")), USE, "field"),
    ],
)
def test_a_use_outside_of_a_limit_is_refused(limits: SecretLimits, use: Use, told: str) -> None:
    found = Secrets([EnvironmentSource({"CONNECTOR_MCP_SECRET_A": "the value"})], {"A": limits})
    with pytest.raises(Unresolved) as refused:
        found.find("A", use)
    assert told in refused.value.wanted
    assert "the value" not in refused.value.got + refused.value.wanted


@pytest.mark.parametrize("field", ["pass", "auth.pass", "config.auth.pass"])
def test_a_field_is_named_by_its_path_or_the_end_of_it(field: str) -> None:
    limits = SecretLimits(("logto",), ("default",), (field,))
    assert Secrets([EnvironmentSource({"CONNECTOR_MCP_SECRET_A": "v"})], {"A": limits}).find("A", USE).value == "v"


def test_an_unknown_name_is_refused_with_the_nearest_and_the_command() -> None:
    found = Secrets([EnvironmentSource({"CONNECTOR_MCP_SECRET_AWS_KEY": "v"})])
    with pytest.raises(Unresolved) as refused:
        found.find("aws_kee", USE)
    assert "such as secret://AWS_KEY" in refused.value.wanted
    assert "connector-mcp secrets set aws_kee" in (refused.value.fix or "")


@pytest.mark.parametrize("value", ["  ", "\udcff"])
def test_a_value_that_is_no_text_is_refused(value: str) -> None:
    with pytest.raises(Unresolved, match="holds no text"):
        Secrets([EnvironmentSource({"CONNECTOR_MCP_SECRET_A": value})]).find("A", USE)


def test_the_limits_are_read_by_secret(tmp_path: Path) -> None:
    file = tmp_path / "secrets.toml"
    file.write_text('["db.password"]\nplatforms = ["logto"]\nfields = ["pass"]\n[B]\nprofiles = ["p"]\n')
    assert read_limits(file, PLATFORMS) == {
        "db.password": SecretLimits(platforms=("logto",), fields=("pass",)),
        "B": SecretLimits(profiles=("p",)),
    }
    assert read_limits(None, PLATFORMS) == {}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[A]\nplatform = ["logto"]', "unknown key 'platform'. Did you mean 'platforms'"),
        ('[A]\nplatforms = ["logtoo"]', "unknown platform 'logtoo'. Did you mean 'logto'"),
        ('[A]\nplatforms = "logto"', "not a list of names"),
        ("[A]\nfields = []", "not a list of names"),
        ("[A]\nfields = [1]", "not a list of names"),
        ('A = "value"', "not a table"),
        ('["../a"]', "not a table"),
        ("[A", "not valid TOML"),
    ],
)
def test_invalid_limits_stop_the_start(text: str, told: str, tmp_path: Path) -> None:
    file = tmp_path / "secrets.toml"
    file.write_text(text)
    with pytest.raises(Misconfigured, match=told):
        read_limits(file, PLATFORMS)
    with pytest.raises(Misconfigured, match="cannot be read"):
        read_limits(tmp_path / "none.toml", PLATFORMS)
