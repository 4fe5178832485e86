"""`connector-mcp console`, and the file of operators."""

from __future__ import annotations

import hashlib
import re
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from connector_mcp.cli.commands.console import OnceCode
from connector_mcp.composition.engine import console_address
from connector_mcp.composition.http_access import read_operators
from connector_mcp.config.settings import Settings
from connector_mcp.errors import Misconfigured
from tests.cli.conftest import PATIENCE, read_until, terminal

DIGEST = hashlib.sha256(b"token of alice").hexdigest()
ENTRY = f'[[token]]\nname = "alice"\ndigest = "sha256:{DIGEST}"\n'


def test_from_a_pipe_no_console_is_opened(run):
    result = run("console")
    assert result.exit_code == 3
    assert "no terminal" in result.stderr


def test_in_a_terminal_its_code_signs_in_once_as_the_user(environment):
    with terminal({**environment, "LOGNAME": "olga"}, "console", "--no-browser") as (process, master):
        written = read_until(master, "works once")
        address = re.findall(r"http://127\.0\.0\.1:\d+", written)[0]
        (code,) = re.findall(r"with the code ([a-z0-9-]+),", written)
        own = {"Sec-Fetch-Site": "same-origin"}
        with httpx.Client(base_url=address, headers=own, timeout=PATIENCE, trust_env=False) as browser:
            assert browser.get("/console").status_code == 303
            assert browser.get("/console", headers={"Host": "rebound.example"}).status_code == 421
            assert browser.post("/console/login", data={"token": code}).status_code == 303
            assert "olga" in browser.get("/console").text
        with httpx.Client(base_url=address, headers=own, timeout=PATIENCE, trust_env=False) as another:
            assert another.post("/console/login", data={"token": code}).status_code == 403
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=PATIENCE) == 130


def test_a_code_is_good_for_one_login_and_for_the_sessions_of_its_process():
    code, another = OnceCode(), OnceCode()
    assert code.find(another.text) is None
    assert code.find(code.text)
    assert code.find(code.text) is None
    assert code.holds(hashlib.sha256(code.text.encode()).digest())
    assert not code.holds(hashlib.sha256(another.text.encode()).digest())


def test_an_operator_is_known_by_the_digest_until_the_token_expires_or_is_removed(tmp_path: Path):
    path = tmp_path / "operators.toml"
    soon = datetime.now(UTC) + timedelta(hours=1)
    path.write_text(f"{ENTRY}expires = {soon.isoformat()}\n")
    operators = read_operators(Settings.load({}, operators_file=path, state_dir=tmp_path))
    assert operators is not None

    assert operators.find("token of alice") == "alice"
    assert operators.holds(bytes.fromhex(DIGEST))
    assert operators.find(DIGEST) is None
    path.write_text(f"{ENTRY}expires = {(soon - timedelta(hours=2)).isoformat()}\n")
    assert operators.find("token of alice") is None
    path.write_text(ENTRY.replace(DIGEST, "0" * 64))
    assert not operators.holds(bytes.fromhex(DIGEST))


INVALID = [None, "token = 1", "[[token]", ENTRY.replace("sha256:", "md5:"), ENTRY.replace("alice", "a b"), "\udcff"]
INVALID += [f"{ENTRY}expires = 2027-01-31T00:00:00\n", f"{ENTRY}scope = 1\n"]


@pytest.mark.parametrize("content", INVALID)
def test_an_invalid_file_of_operators_is_refused(tmp_path: Path, content: str | None):
    path = tmp_path / "operators.toml"
    if content is not None:
        path.write_bytes(content.encode("utf-8", "surrogateescape"))
    settings = Settings.load({}, operators_file=path, state_dir=tmp_path)
    with pytest.raises(Misconfigured, match=re.escape(str(path))) as caught:
        read_operators(settings)
    assert DIGEST not in caught.value.message


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ({"operators_file": None}, None),
        ({}, "http://127.0.0.1:8765/console"),
        ({"port": 0}, "/console"),
        ({"host": "0.0.0.0"}, "/console"),  # noqa: S104 - nothing is bound
        ({"public_url": "https://mcp.example.com/"}, "https://mcp.example.com/console"),
        ({"allowed_origins": "https://mcp.example.com,https://b.example"}, "https://mcp.example.com/console"),
    ],
)
def test_the_address_of_the_console_has_as_much_as_is_known(
    tmp_path: Path, given: dict[str, object], address: str | None
):
    settings = Settings.load({}, operators_file=tmp_path / "o.toml", state_dir=tmp_path)
    settings = Settings.model_validate(settings.model_dump() | given)
    assert console_address(settings) == address
