"""The encrypted secret store."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from connector_mcp.errors import Misconfigured
from connector_mcp.secrets.encrypted import EncryptedFile, KeyFile, KeyInKeyring
from connector_mcp.secrets.reference import SecretLimits
from tests.secrets.test_sources import fake_keyring

WRITER = """
import sys
from pathlib import Path
from connector_mcp.secrets.encrypted import EncryptedFile, KeyFile
from connector_mcp.secrets.reference import SecretLimits
folder, who = Path(sys.argv[1]), sys.argv[2]
store = EncryptedFile(folder / "secrets.enc", KeyFile(folder / "secrets.key"))
for number in range(15):
    store.put(f"{who}{number}", f"value {number}", SecretLimits())
"""


def store_in(folder: Path) -> EncryptedFile:
    return EncryptedFile(folder / "secrets.enc", KeyFile(folder / "secrets.key"), clock=lambda: 0.0)


def test_a_secret_is_kept_with_its_limits_and_the_time_and_can_be_removed(tmp_path: Path) -> None:
    store_in(tmp_path / "new").put("A", "value ü\n", SecretLimits(platforms=("logto",), fields=("pass",)))
    store = store_in(tmp_path / "new")
    assert store.names() == ["A"]
    assert store.read("A") == "value ü\n"
    assert store.limits("A") == SecretLimits(platforms=("logto",), fields=("pass",))
    assert store.changed("A") == "1970-01-01T00:00:00Z"
    assert store.remove("A") is True
    assert store.remove("A") is False
    assert store.read("A") is None
    assert store_in(tmp_path / "none").remove("A") is False


def test_only_the_owner_can_read_the_files_and_nothing_in_them_is_clear(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    store_in(folder).put("THE_NAME", "the-value", SecretLimits(platforms=("logto",)))
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {file.name for file in folder.iterdir()} == {"secrets.enc", "secrets.key", "secrets.lock"}
    for file in folder.iterdir():
        assert file.stat().st_mode & 0o777 == 0o600
        for text in (b"THE_NAME", b"the-value", b"logto"):
            assert text not in file.read_bytes()


def test_a_key_that_others_can_read_is_not_used(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    store.put("A", "value", SecretLimits())
    (tmp_path / "secrets.key").chmod(0o640)
    with pytest.raises(Misconfigured, match="can be read by others"):
        store.read("A")
    with pytest.raises(Misconfigured, match="can be read by others"):
        store.put("B", "value", SecretLimits())


@pytest.mark.parametrize("damage", ["another key", "no key", "no fernet key", "altered", "cut"])
def test_a_store_that_cannot_be_read_is_neither_used_nor_overwritten(damage: str, tmp_path: Path) -> None:
    store, file, key = store_in(tmp_path), tmp_path / "secrets.enc", tmp_path / "secrets.key"
    store.put("A", "value", SecretLimits())
    if damage == "another key":
        store_in(tmp_path / "other").put("A", "value", SecretLimits())
        key.write_bytes((tmp_path / "other" / "secrets.key").read_bytes())
    elif damage == "no key":
        key.unlink()
    elif damage == "no fernet key":
        key.write_text("short")
    else:
        content = file.read_bytes()
        file.write_bytes(content[:-20] if damage == "cut" else content[:50] + bytes([content[50] ^ 1]) + content[51:])
    before = file.read_bytes()
    for use in (
        store.names,
        lambda: store.read("A"),
        lambda: store.put("B", "v", SecretLimits()),
        lambda: store.remove("A"),
    ):
        with pytest.raises(Misconfigured, match="cannot be used"):
            use()
    assert file.read_bytes() == before


def test_the_key_may_be_in_the_keyring(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    held: dict[str, str] = {}
    fake_keyring(monkeypatch, held)
    store = EncryptedFile(tmp_path / "secrets.enc", KeyInKeyring())
    store.put("A", "value", SecretLimits())
    assert EncryptedFile(tmp_path / "secrets.enc", KeyInKeyring()).read("A") == "value"
    assert len(held) == 1
    assert {file.name for file in tmp_path.iterdir()} == {"secrets.enc", "secrets.lock"}
    monkeypatch.setitem(sys.modules, "keyring", None)
    with pytest.raises(Misconfigured, match="no keyring is available"):
        store.read("A")


def test_what_several_processes_store_at_once_is_all_there(tmp_path: Path) -> None:
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), who]) for who in "ABC"]
    assert [writer.wait(timeout=300) for writer in writers] == [0, 0, 0]
    store = store_in(tmp_path)
    assert set(store.names()) == {f"{who}{number}" for who in "ABC" for number in range(15)}
    assert store.read("B14") == "value 14"
