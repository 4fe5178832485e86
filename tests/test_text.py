import pytest

from connector_mcp.suggest import closest, did_you_mean
from connector_mcp.text import clean, clean_value, same_text, strip_hidden


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
    assert strip_hidden("a\tb\r\nc\u2028d\u202ee\u3164") == "a\tb\nc\u2028de"


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
