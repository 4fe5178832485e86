"""References, and credentials recognized by their format."""

from __future__ import annotations

import pytest

from connector_mcp.secrets.reference import key_format, keys_in, mentions_reference, referenced_name

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dBjftJeZ4CVP-mB92K27uhbUJU1p1r"
PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\n-----END RSA PRIVATE KEY-----"


@pytest.mark.parametrize("name", ["A", "AWS_KEY", "db.password", "a-b_c.d", "0x", "n" * 64])
def test_a_reference_gives_its_name(name: str) -> None:
    assert referenced_name(f"secret://{name}") == name


@pytest.mark.parametrize(
    "text",
    ["secret://", "secret://../../etc/passwd", "secret:///etc/passwd", "secret://a/b", "secret://a..b", "secret://.a",
     "secret://a.", "secret://a b", "secret://a\n", " secret://a", "Bearer secret://a", "secret://ä", "secret://a%2f",
     "SECRET://a", f"secret://{'n' * 65}", "secret://a\\b", "secret://a\x00", "secret://AKIAABCDEFGHIJKLMNOP"],
)  # fmt: skip
def test_a_malformed_reference_is_no_reference_but_is_noticed(text: str) -> None:
    assert referenced_name(text) is None
    assert mentions_reference(text)


KEYS = [
    *(f"{prefix}ABCDEFGHIJKLMNOP" for prefix in ("AKIA", "ASIA")), JWT, PEM,
    *(f"{prefix}_{'a1' * 18}" for prefix in ("ghp", "gho", "ghu", "ghs", "ghr", "github_pat")),
    *(f"xox{letter}-123456789012-abcdef" for letter in "abeoprs"), "sk-" + "proj1a" * 6, "AIza" + "x" * 35,
]  # fmt: skip


@pytest.mark.parametrize("key", KEYS)
def test_a_credential_is_recognized_by_its_format_inside_a_text(key: str) -> None:
    assert key_format(key)
    assert keys_in(f"see {key} there") == [key]


def test_the_examples_cover_every_format() -> None:
    assert len(set(map(key_format, KEYS))) == 7


@pytest.mark.parametrize(
    "text",
    ["", "skeleton-of-a-very-long-name-without-digits", "sk-short1", "eyJ.eyJ.x", "https://a.example/AKIA", "ghp_"],
)
def test_an_ordinary_text_is_not_a_credential(text: str) -> None:
    assert key_format(text) is None
