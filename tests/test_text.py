import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connector_mcp.suggest import closest, did_you_mean
from connector_mcp.text import clean, clean_value, is_visible, same_text, strip_hidden


def test_plain_text_stays_as_it_is() -> None:
    assert clean("Connector 'Größe 東京' not found.") == "Connector 'Größe 東京' not found."


@pytest.mark.parametrize(
    "hidden", list("\x1b\x00\x9b\u202e\u2066\u200b\ufeff\u00ad\U000e0041\ufe0f\U000e0101\u3164\u2800\u115f\ue000\ud800")
)
def test_a_hidden_character_is_removed(hidden: str) -> None:
    assert clean(f"a{hidden}b") == "ab"


def test_lines_become_one() -> None:
    assert clean("one\r\n\ttwo\u2028three\u00a0four") == "one two three four"


def test_long_text_is_cut_with_an_ellipsis() -> None:
    cut = clean("x" * 501)
    assert len(cut) == 500
    assert cut.endswith("x…")
    assert clean("x" * 500) == "x" * 500


def test_text_with_a_hidden_start_says_that_it_was_cut() -> None:
    assert clean("\u200b" * 5000 + "tail") == "…"


def test_values_are_cleaned_to_the_leaves_and_keep_their_types() -> None:
    assert clean_value({"a\u200b": ["x\u202ey", 1, 2.5, True, None]}) == {"a": ["xy", 1, 2.5, True, None]}


def test_values_are_cut_in_depth_and_breadth() -> None:
    assert clean_value([[[[["deep"]]]]]) == [[[["…"]]]]
    assert len(clean_value(list(range(100)))) == 20
    assert len(clean_value({str(n): n for n in range(100)})) == 20
    assert len(clean_value("y" * 1000)) == 300


def test_line_breaks_and_tabs_of_whole_texts_stay() -> None:
    assert strip_hidden("a\tb\r\nc\u2028d\u202ee\u3164\rf") == "a\tb\r\nc\u2028def"


SPELT = {
    "persian": "می\u200cرسد",
    "persian-abbreviation": "\u0647\u200d.",
    "devanagari": "क्\u200dष र्\u200cय",
    "malayalam": "ന്\u200d",
    "khmer": "ខ្\u200cម",
    "mongolian": "\u1824\u180b \u1832\u180e\u1820",
    "ideograph": "葛\U000e0100城",
    "heart": "❤\ufe0f ❤\ufe0e",
    "family": "👨\u200d👩\u200d👧",
    "heart-on-fire": "❤\ufe0f\u200d🔥",
    "doctor": "👩🏽\u200d⚕\ufe0f",
    "nodding": "🙂\u200d↔\ufe0f",
    "keycap": "1\ufe0f\u20e3",
    "scotland": "🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f",
    "arabic-number-sign": "\u0600\u06dd",
    "newer-than-python": "\U0001fae9\U0001f9d1",
    "line-break": "one\r\ntwo",
}


@pytest.mark.parametrize("text", SPELT.values(), ids=SPELT)
def test_characters_that_words_and_emoji_are_spelled_with_stay(text: str) -> None:
    assert strip_hidden(text) == text
    assert clean(text) == " ".join(text.split())
    # Between other characters they are hidden, and removed.
    for hidden in filter(lambda character: not is_visible(character) and character != "\n", text):
        assert strip_hidden(f"a{hidden}b") == "ab"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("می\u200c\u200cرسد", "میرسد"),
        ("\u200dم", "م"),
        ("😀\ufe0f\ufe0f\ufe01\U000e0130", "😀\ufe0f"),
        ("葛\U000e0100\U000e0101\U000e01ef", "葛\U000e0100"),
        ("🏴\U000e0068\U000e0069\U000e007f", "🏴"),
        ("😀\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f", "😀"),
        ("1\ufe0f #\ufe0e", "1 #"),
        ("م\u202e\u2067\u200f\u061cم", "مم"),
        ("a\u200d🔥\ufe0f\u200db", "a🔥\ufe0fb"),
    ],
)
def test_characters_that_no_word_or_emoji_needs_are_removed(text: str, left: str) -> None:
    assert strip_hidden(text) == left


def test_every_control_format_and_private_character_is_hidden_unless_it_is_drawn() -> None:
    drawn = {*range(0x600, 0x606), 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD}
    hidden = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
    shown = [
        hex(point) for point in range(0x110000) if unicodedata.category(chr(point)) in hidden and is_visible(chr(point))
    ]
    assert shown == [hex(point) for point in sorted(drawn)]


MIXED = st.text(
    st.sampled_from("aم葛1😀❤🏴\u1820\u200c\u200d\ufe0f\ufe0e\u20e3\u180e\u202e\u200b\r\n\U000e0067\U000e0100"),
    max_size=12,
)


@settings(max_examples=300, deadline=None)
@given(text=MIXED)
def test_a_text_without_hidden_characters_has_none_to_remove(text: str) -> None:
    left = strip_hidden(text)
    assert strip_hidden(left) == left
    assert [each for each in left if is_visible(each)] == [each for each in text if is_visible(each)]


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        ("Docs ❤️", "Docs ❤"),
        ("می‌رسد", "میرسد"),
        ("Cafe\u0301", "Café"),
        ("Cafe\u034f\u0301", "Café"),
        ("  Docs A\r\n", "Docs A"),
        ("Docs\u00a0\u2009A", "Docs  A"),
        ("Docs\tA", "Docs\nA"),
        ("\ufeffDocs A", "Docs A"),
    ],
)
def test_a_typed_name_is_the_same_if_it_reads_the_same(typed: str, shown: str) -> None:
    assert same_text(typed, shown)
    assert same_text(shown, typed)


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        ("docs a", "Docs A"),
        ("DocsA", "Docs A"),
        ("D\u043ecs", "Docs"),
        ("ﬁle", "file"),
        ("Docs A", "Docs A2"),
        ("", ""),
        (" ", "\u200b"),
        ("\u200b", "Docs"),
        ("x" * 501, "x" * 502),
    ],
)
def test_a_typed_name_that_reads_differently_is_another(typed: str, shown: str) -> None:
    assert not same_text(typed, shown)
    assert not same_text(shown, typed)


def test_the_closest_name_is_suggested_in_any_case_if_one_is_close_enough() -> None:
    assert closest("READ_ONYL", ["read_only", "policy"]) == "read_only"
    assert did_you_mean("polcy", ["read_only", "policy"]) == " Did you mean 'policy'?"
    assert did_you_mean("zzz", ["read_only", "policy"]) == ""
    assert closest("zzz", ["read_only"], cutoff=0) == "read_only"
