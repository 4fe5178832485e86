"""The file of named tokens: what it accepts and refuses, and that changes take effect at once."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest

from connector_mcp.errors import Misconfigured
from connector_mcp.transport.auth.static_tokens import (
    StaticToken,
    TokenFile,
    append_token,
    new_secret,
    parse_tokens,
    token_entry,
)
from tests.transport.conftest import FakeEngine, serving

TOOL = "vectorize_get_source_connectors"
DIGEST = "sha256:" + "0" * 64


def entry(secret: str, name: str = "ci", *, expires: datetime | None = None, **_: Any) -> str:
    token = StaticToken.from_secret(secret, name=name, scopes=["connectors:read"])
    return token_entry(StaticToken(token.name, token.digest, token.scopes, expires))


def write(path: Path, text: str, *, age: float = 60.0) -> None:
    """The file as if it had been written so many seconds ago."""
    path.write_text(text)
    path.chmod(0o600)
    then = time.time() - age
    os.utime(path, (then, then))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tokens.toml"


def test_a_token_is_found_by_its_value_with_name_and_scopes(path: Path) -> None:
    first, second = new_secret(), new_secret()
    write(path, entry(first, "ci") + entry(second, "agent"))
    file = TokenFile(path)
    assert (found := file.find(second)) is not None
    assert (found.name, found.scopes) == ("agent", frozenset({"connectors:read"}))
    assert [file.find(near) for near in ("", first[:-1], first + "x", first.upper(), DIGEST)] == [None] * 5


def test_new_tokens_are_recognizable_and_different() -> None:
    assert new_secret().startswith("cmcp_")
    assert len(new_secret()) == len("cmcp_") + 43
    assert new_secret() != new_secret()


@pytest.mark.parametrize(("hours", "found"), [(1, True), (-1, False)])
def test_a_token_is_accepted_until_it_expires(path: Path, hours: int, found: bool) -> None:
    write(path, entry("secret", expires=datetime.now(UTC) + timedelta(hours=hours)))
    file = TokenFile(path)
    assert (file.find("secret") is not None) is found
    assert [token.name for token in file.tokens()] == ["ci"]


def test_tokens_of_operators_have_no_scopes_and_neither_kind_is_advised_to_become_the_other(path: Path) -> None:
    write(path, f'[[token]]\nname = "alice"\ndigest = "{DIGEST}"\n')
    assert [token.scopes for token in TokenFile(path, scoped=False).tokens()] == [None]
    with pytest.raises(Misconfigured, match="no scopes, as an operator's") as operators:
        TokenFile(path)
    write(path, entry("secret"))
    with pytest.raises(Misconfigured, match="has scopes, as a caller's") as callers:
        TokenFile(path, scoped=False)
    assert callers.value.fix == operators.value.fix
    assert "scopes" not in callers.value.fix
    assert "To list those of operators, run `connector-mcp tokens list --operators --file FILE`." in callers.value.fix


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[[token]]\nname = ci\n", "line 2, column 8"),
        ("[[tokens]]\n", "unknown 'tokens'. Did you mean 'token'"),
        ("token = 7", "not a list of entries"),
        ("token = [7]", "not a list of entries"),
        (entry("s") + "scope = []\n", "entry 1: unknown 'scope'. Did you mean 'scopes'"),
        (entry("a") + entry("b"), "entry 2: the name 'ci' is taken"),
        (entry("a", "one") + entry("a", "two"), "entry 2: 'two' has the digest"),
        (entry("a", "local"), "is reserved"),
        (entry("a", "anonymous"), "is reserved"),
        (entry("a").replace('"ci"', '"https://issuer#ci"'), "name is missing or invalid"),
        (entry("a").replace('"ci"', '""'), "name is missing or invalid"),
        (entry("a").replace('"ci"', '"ci\\n"'), "name is missing or invalid"),
        (entry("a").replace("sha256:", "md5:"), r"\(ci\): digest"),
        (entry("a").replace('"sha256:', '"sha256:0'), r"\(ci\): digest"),
        ('[[token]]\nname = "ci"\ndigest = "cmcp_the-token-itself"\n', r"\(ci\): digest"),
        (entry("a").replace(":read", ":reed"), "unknown 'connectors:reed'. Did you mean 'connectors:read'"),
        (entry("a").replace('["connectors:read"]', "[]"), "not a list of scopes"),
        (entry("a").replace('["connectors:read"]', '"connectors:read"'), "not a list of scopes"),
        (entry("a") + "profiles = []\n", "profiles is not a list"),
        (entry("a") + 'profiles = "team-a"\n', "profiles is not a list"),
        (entry("a") + "expires = 2027-01-01\n", "expires"),
        (entry("a") + "expires = 2027-01-01T00:00:00\n", "expires"),
        (entry("a") + 'expires = "2027-01-01T00:00:00Z"\n', "expires"),
        ("a = " + "[" * 5000, "not valid TOML"),
    ],
)
def test_an_invalid_file_is_refused_with_the_place(path: Path, text: str, told: str) -> None:
    write(path, text)
    with pytest.raises(Misconfigured, match=told) as caught:
        TokenFile(path)
    assert str(path) in caught.value.message
    assert "cmcp_" not in caught.value.message + caught.value.fix


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_may_change_is_refused(path: Path, mode: int) -> None:
    write(path, entry("secret"))
    path.chmod(mode)
    with pytest.raises(Misconfigured, match="other than its owner") as caught:
        TokenFile(path)
    assert f"chmod go-w {path}" in caught.value.fix


@pytest.mark.parametrize("content", [None, b"\xff", b"#" * 1_048_577])
def test_a_file_that_cannot_be_read_is_refused(path: Path, content: bytes | None) -> None:
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(Misconfigured):
        TokenFile(path)


def test_removed_tokens_are_refused_and_added_ones_accepted_at_once(path: Path) -> None:
    write(path, entry("first", "one") + entry("second", "two"))
    file = TokenFile(path)
    write(path, entry("second", "two") + entry("third", "three"), age=30)
    assert [file.find(secret) is not None for secret in ("first", "second", "third")] == [False, True, True]


def test_a_change_of_the_same_size_and_time_takes_effect(path: Path) -> None:
    write(path, entry("first"), age=0)
    file = TokenFile(path)
    before = path.stat()
    write(path, entry("other"), age=0)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    assert file.find("first") is None
    assert file.find("other") is not None


@pytest.mark.parametrize("broken", ["[[token]", "", None])
def test_an_invalid_file_accepts_no_token(path: Path, broken: str | None, caplog: pytest.LogCaptureFixture) -> None:
    write(path, entry("secret"))
    file = TokenFile(path)
    if broken is None:
        path.unlink()
    else:
        write(path, broken or entry("secret"), age=30)
        path.chmod(0o600 if broken else 0o666)
    for _ in range(3):
        with pytest.raises(Misconfigured):
            file.find("secret")
    assert len(caplog.records) == 1
    write(path, entry("secret"), age=20)
    assert file.find("secret") is not None


def test_an_entry_is_appended(path: Path) -> None:
    one, two = (StaticToken.from_secret(name, name=name, scopes=["connectors:read"]) for name in ("one", "two"))
    append_token(path, one)
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_text(path.read_text().rstrip("\n"))
    append_token(path, two)
    assert TokenFile(path).tokens() == (one, two)
    before = path.read_text()
    with pytest.raises(Misconfigured, match="taken"):
        append_token(path, StaticToken.from_secret("three", name="one", scopes=["connectors:read"]))
    with pytest.raises(Misconfigured, match="scopes"):
        append_token(path, StaticToken.from_secret("four", name="operator"))
    assert path.read_text() == before


def test_an_entry_reads_back_as_it_was_written() -> None:
    expires, profiles = datetime(2027, 1, 1, tzinfo=UTC), frozenset({"team-a", "team-b"})
    token = StaticToken("ci", b"\x01" * 32, frozenset({"connectors:write"}), expires, profiles)
    assert parse_tokens(token_entry(token), "here", scoped=True) == (token,)


@pytest.mark.anyio
async def test_a_running_server_follows_its_file(path: Path) -> None:
    engine = FakeEngine()
    write(path, entry("first", "one"))
    body = {"jsonrpc": "2.0", "id": 1, "method": "ping"}

    async def status(http: httpx2.AsyncClient, secret: str) -> int:
        headers = {"Authorization": f"Bearer {secret}", "Accept": "application/json, text/event-stream"}
        return (await http.post("/mcp", json=body, headers=headers)).status_code

    async with (
        serving(engine, tokens=[StaticToken.from_secret("alone")], token_file=TokenFile(path)) as address,
        httpx2.AsyncClient(base_url=address) as http,
    ):
        before = [await status(http, secret) for secret in ("first", "second", "alone")]
        write(path, entry("second", "two"), age=30)
        after = [await status(http, secret) for secret in ("first", "second", "alone")]
        write(path, "broken", age=20)
        broken = [await status(http, secret) for secret in ("second", "alone")]
        path.unlink()
        gone = [await status(http, secret) for secret in ("second", "alone")]
    # 400: let in, and then told that it has no session.
    assert (before, after) == ([400, 401, 400], [401, 400, 400])
    assert (broken, gone) == ([503, 400], [503, 400])
