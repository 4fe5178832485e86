"""Known credentials are found in whatever is about to leave, however they are spelt there."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connector_mcp.engine.redaction.redactor import MARKER, MOST_GIVEN, strings
from connector_mcp.engine.redaction.scrubber import Scrubber


def scrubber(*values: str, permanent: tuple[str, ...] = ()) -> Scrubber:
    return Scrubber(lambda: permanent).extended(values)


HARD = 'a"b\\c/d\n-----é😀 &%'


@pytest.mark.parametrize(
    "spelt",
    [HARD, json.dumps(HARD), json.dumps(HARD, ensure_ascii=False), json.dumps({"k": HARD}), quote(HARD, safe="")],
    ids=["plain", "json", "json-unicode", "in-an-object", "address"],
)
def test_every_spelling_of_a_value_is_found(spelt: str) -> None:
    known = scrubber(HARD)
    text = f"before {spelt} after"
    assert HARD not in known.text(text)
    assert MARKER in known.text(text)
    assert "\\\\c" not in known.text(text)
    assert known.finds(json.dumps({"message": text}).encode())
    assert known.finds(json.dumps({"message": text}, ensure_ascii=False).encode())


@given(
    value=st.text(min_size=6, max_size=40).filter(lambda text: len(text.encode("utf-8", "replace")) >= 6),
    before=st.binary(max_size=7),
    after=st.binary(max_size=7),
    encode=st.sampled_from([base64.b64encode, base64.urlsafe_b64encode]),
)
@settings(max_examples=60, deadline=None)
def test_a_value_inside_base64_is_found(
    value: str, before: bytes, after: bytes, encode: Callable[[bytes], bytes]
) -> None:
    text = encode(before + value.encode("utf-8", "replace") + after).decode()
    shown = scrubber(value).text(text)
    assert MARKER in shown
    left, _, right = shown.rpartition(MARKER)
    # What is left holds what stood around the value, and at most a character of six bits more on each side.
    assert len(left) <= 4 * (len(before) + 2) / 3 + 1
    assert len(right) <= 4 * (len(after) + 2) / 3 + 3


def test_overlapping_values_leave_no_rest_of_any_of_them() -> None:
    known = scrubber("a1b2c3", "2c3d4e", "a1b2c3d4-long", permanent=("a1b2c3d",))
    assert known.text("x a1b2c3d4e y") == f"x {MARKER} y"
    assert known.text("a1b2c3d4-long") == MARKER
    assert known.text("a1b2c3a1b2c3") == MARKER
    assert scrubber("1a1a1a").text("1a1a1a1a!") == f"{MARKER}!"


def test_short_values_and_the_marker_itself_are_not_searched_for() -> None:
    known = scrubber("ab", "12345", "redacted", "[redacted]")
    text = f"about 12345 {MARKER} redacted"
    assert known.text(text) == text
    assert not known.finds(text.encode())


def test_values_that_one_call_gives_act_in_no_other_and_push_nothing_out() -> None:
    own = ["value-of-server-1x2y"]
    known = Scrubber(lambda: own)
    one = known.extended(f"value-of-one-{number:04}x" for number in range(MOST_GIVEN))
    other = known.extended(["value-of-another-3z"])
    own.append("value-of-later-4w")
    text = "value-of-server-1x2y value-of-later-4w value-of-one-0000x value-of-one-1999x value-of-another-3z"
    assert one.text(text) == f"{MARKER} {MARKER} {MARKER} {MARKER} value-of-another-3z"
    assert other.text(text) == f"{MARKER} {MARKER} value-of-one-0000x value-of-one-1999x {MARKER}"
    assert known.text(text) == f"{MARKER} {MARKER} value-of-one-0000x value-of-one-1999x value-of-another-3z"


@pytest.mark.parametrize("length", range(6, 20))
def test_a_value_that_the_end_of_a_text_cuts_off_is_found(length: int) -> None:
    told = scrubber("marked-value-of-twenty").text(f"Cannot take {'marked-value-of-twenty'[:length]}…")
    assert told == f"Cannot take {MARKER}…"


def test_a_text_that_ends_like_a_value_begins_is_kept_where_nothing_was_cut() -> None:
    assert scrubber("marked-value").text("It is marked") == "It is marked"
    assert scrubber("marked-value").text("It is marked-vase…") == "It is marked-vase…"


@pytest.mark.parametrize("depth", range(4))
def test_a_value_is_found_in_json_within_json(depth: int) -> None:
    text = HARD
    for _ in range(depth):
        text = json.dumps({"inner": text})
    assert MARKER in scrubber(HARD).text(text)


def test_half_a_surrogate_pair_hinders_no_search() -> None:
    assert scrubber("marked-value").text("\ud800 marked-value \udfff") == f"\ud800 {MARKER} \udfff"
    assert scrubber("marked-\ud800-value").text("a marked-\ud800-value") == f"a {MARKER}"


def test_a_credential_that_is_renewed_is_known_at_once() -> None:
    current = ["first-token"]
    known = Scrubber(lambda: current)
    assert known.text("first-token second-token") == f"{MARKER} second-token"
    current[0] = "second-token"
    assert known.text("first-token second-token") == f"first-token {MARKER}"
    assert known.finds(b"second-token")


def test_a_value_is_found_after_its_invisible_characters_were_taken_out() -> None:
    assert scrubber("-----BEGIN-----\r\nabc").text("x -----BEGIN-----\nabc") == f"x {MARKER}"


def test_a_short_word_is_a_secret_by_itself_and_not_within_a_longer_word() -> None:
    assert scrubber("Infini").text("0Infini Infini, Infinity") == f"0Infini {MARKER}, Infinity"
    assert scrubber("1nf!ni").text("01nf!ni 1nf!nity") == f"0{MARKER} {MARKER}ty"


# Words and short numbers, with at most two other characters between them.
WORDS = re.compile(r"(?:[^\W\d_]+\d{0,4}|\d{1,6})(?:[\W_]{1,2}(?:[^\W\d_]+\d{0,4}|\d{1,6}))*")


def is_left(secret: str, text: str) -> bool:
    """Whether a secret is still in a text: one of words counts only where it is not within a longer word."""
    if WORDS.fullmatch(secret) is None:
        return secret in text
    return re.search(rf"(?<![\w/.-]){re.escape(secret)}(?![\w/.-])", text) is not None


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@settings(max_examples=80, deadline=None)
@given(
    secrets=st.lists(
        st.text(st.characters(exclude_categories=["Cs"]), min_size=6, max_size=12), min_size=1, max_size=5
    ),
    around=st.lists(TEXT, min_size=6, max_size=6),
)
def test_no_secret_is_left_in_any_text(secrets: list[str], around: list[str]) -> None:
    known = scrubber(*secrets)
    text = " ".join(part for pair in zip(around, secrets + [""] * 6, strict=False) for part in pair)
    value = {"text": text, "json": json.dumps({"in": text}), "list": [*secrets]}
    shown = known.value(value)
    for secret in secrets:
        if secret in MARKER:
            continue
        for left in strings(shown):
            assert not any(is_left(secret, part) for part in left.split(MARKER))
    assert known.finds(json.dumps(value).encode()) or all(secret in MARKER for secret in secrets)


def scrubbed(known: Scrubber, value: Any) -> Any:
    """Every text by itself, one after the other."""
    if isinstance(value, dict):
        return {known.text(key): scrubbed(known, member) for key, member in value.items()}
    if isinstance(value, list):
        return [scrubbed(known, member) for member in value]
    return known.text(value) if isinstance(value, str) else value


SECRETS = ("marked-value", 'a"b\\c\n\x7f\x01d', "schlüssel-😀", "half-\ud800-pair", "-----BEGIN KEY-----\r\nabc")
SPELLINGS = [*SECRETS, *map(json.dumps, SECRETS), *(quote(secret, errors="replace") for secret in SECRETS)]
PARTS = st.sampled_from([*SPELLINGS, "plain", "", "…", "\ud800", "ü"])
SPELT = st.lists(PARTS, max_size=3).map(" ".join) | st.integers(6, 11).map(lambda length: f"x {SECRETS[0][:length]}…")


@settings(max_examples=120, deadline=None)
@given(
    value=st.recursive(
        SPELT | st.integers() | st.none(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(SPELT, inner, max_size=3),
        max_leaves=6,
    )
)
def test_a_value_is_scrubbed_as_its_texts_are_and_comes_back_itself_where_it_is_clean(value: Any) -> None:
    known = scrubber(*SECRETS[1:], permanent=SECRETS[:1])
    shown = known.value(value)
    assert shown == scrubbed(known, value)
    if shown != value:
        assert known.finds(json.dumps(value).encode()) or "…" in json.dumps(value, ensure_ascii=False)
    elif json.dumps(value, ensure_ascii=False).isascii():
        assert shown is value
