"""A platform's answer as a result that conforms to the tool's output schema and fits its budget."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from connector_mcp.engine.redaction.redactor import MARKER
from connector_mcp.engine.redaction.scrubber import Scrubber
from connector_mcp.engine.results import (
    PARTIAL,
    TAKEN_OUT,
    Meta,
    check_cursor,
    clean_strings,
    encode,
    encode_bytes,
    failure,
    find_cleaned,
    finish,
    fit,
    shape_data,
    shows_all,
)
from connector_mcp.errors import InvalidArguments, Issue
from connector_mcp.operations.logto.connectors import ConnectorRecord
from connector_mcp.operations.operation import Operation
from connector_mcp.operations.tool import tool_of
from tests.engine.conftest import OPERATIONS, operation
from tests.for_each import for_each


def shaped(made: Operation, data: Any, answer: Any = None) -> tuple[Any, Meta]:
    meta = Meta()
    result = shape_data(made, data, answer, meta)
    conforms(made, result, meta)
    return result, meta


def conforms(made: Operation, data: Any, meta: Meta) -> None:
    Draft202012Validator(tool_of(type(made)).output_schema).validate({"data": data, "meta": meta.as_dict()})


def test_meta_says_only_what_there_is_to_say() -> None:
    assert Meta().as_dict() == {}
    assert Meta(verified=False).as_dict() == {"verified": False}
    full = Meta(
        "p", "default", "t", "r", sandbox=True, verified=True, next="n", unproven="u", cursor="c", warnings=["w"],
        unexpected={"x": 1}, changes=[{"field": "f"}], offset=5, resolved={"id": "i"},
    )  # fmt: skip
    assert full.as_dict() == {
        "platform": "p",
        "profile": "default",
        "tenant": "t",
        "request_id": "r",
        "sandbox": True,
        "next": "n",
        "unproven": "u",
        "cursor": "c",
        "warnings": ["w"],
        "unexpected": {"x": 1},
        "changes": [{"field": "f"}],
        "resolved": {"id": "i"},
        "verified": True,
    }


def test_a_warning_is_given_once() -> None:
    meta = Meta()
    meta.warn("w")
    meta.warn("w")
    assert meta.warnings == ["w"]


SOURCES: list[dict[str, Any]] = [
    {
        "id": f"id-{n}", "type": "AWS_S3", "name": f"Source {n}", "configDoc": {"region": "eu"},
        "createdAt": "2026-01-01", "errorMessage": None,
    }
    for n in range(5)
]  # fmt: skip


def test_rows_are_summaries_unless_more_is_asked_for_and_nulls_are_left_out() -> None:
    rows, _ = shaped(operation("vectorize_get_source_connectors"), SOURCES, {})
    assert rows[0] == {"id": "id-0", "type": "AWS_S3", "name": "Source 0"}
    full, _ = shaped(operation("vectorize_get_source_connectors", detail="full"), SOURCES, {})
    assert full[0] == {key: value for key, value in SOURCES[0].items() if value is not None}
    chosen, meta = shaped(operation("vectorize_get_source_connectors", fields=["configDoc", "nme"]), SOURCES, {})
    assert chosen[0] == {"configDoc": {"region": "eu"}}
    assert meta.warnings == ["There is no nme; the members are configDoc, createdAt, errorMessage, id, name, type."]


def test_a_page_of_the_platforms_own_carries_its_cursor_on() -> None:
    made = operation("vectorize_get_source_connectors", cursor="a")
    _, meta = shaped(made, SOURCES, {"nextToken": "b"})
    assert (meta.cursor, meta.warnings) == ("b", [PARTIAL])
    for end in ({"nextToken": ""}, {"nextToken": None}, {}, {"nextToken": 5}, {"nextToken": "a"}, None, []):
        _, meta = shaped(made, SOURCES, end)
        assert (meta.cursor, meta.warnings) == (None, [])


def test_a_list_that_the_platform_gives_whole_is_paged_here_without_gap_or_overlap() -> None:
    rows = [{"id": f"f{n}", "type": "Social"} for n in range(7)]
    seen: list[Any] = []
    cursor: str | None = None
    for _ in range(4):
        made = operation("logto_list_connector_factories", limit=2, **({"cursor": cursor} if cursor else {}))
        page, meta = shaped(made, rows, rows)
        seen += page
        cursor = meta.cursor
        assert (PARTIAL in meta.warnings) == (cursor is not None)
    assert (seen, cursor) == (rows, None)
    beyond, meta = shaped(operation("logto_list_connector_factories", limit=2, cursor="99"), rows, rows)
    assert (beyond, meta.cursor) == ([], None)


@pytest.mark.parametrize("cursor", ["x", "-1", "1.5", "\uff19", "9" * 5_000, "1 "], ids=range(6))
def test_a_cursor_of_another_make_is_refused_before_anything_is_sent(cursor: str) -> None:
    with pytest.raises(InvalidArguments) as caught:
        check_cursor(operation("logto_list_connectors", cursor=cursor))
    assert caught.value.issues[0].path == "cursor"
    assert len(json.dumps(caught.value.as_dict())) < 700


def test_an_empty_cursor_is_none_and_the_platforms_own_cursors_are_not_judged() -> None:
    check_cursor(operation("logto_list_connectors", cursor=""))
    check_cursor(operation("vectorize_get_source_connectors", cursor="eyJ-anything"))
    check_cursor(operation("logto_get_connector", id="x"))


def test_heavy_members_come_only_when_asked_for() -> None:
    record = {"id": "x", "logo": "<svg>", "readme": "# long", "name": {"en": "X"}}
    assert shaped(operation("logto_get_connector", id="x"), record)[0] == {"id": "x", "name": {"en": "X"}}
    chosen, meta = shaped(operation("logto_get_connector", id="x", fields=["readme", "raedme"]), record)
    assert chosen == {"readme": "# long"}
    assert meta.warnings == ["There is no raedme; the members are id, logo, name, readme."]
    assert shaped(operation("logto_get_connector", id="x", fields=[]), record)[0] == {"id": "x", "name": {"en": "X"}}


def test_members_of_an_undocumented_type_are_moved_out_of_the_way() -> None:
    record = {"id": 5, "config": "text", "syncProfile": "yes", "connectorId": ["x"], "name": {"en": "X"}, "new": 1}
    data, meta = shaped(operation("logto_get_connector", id="x"), record)
    assert data == {"name": {"en": "X"}, "new": 1}
    assert meta.unexpected == {"id": 5, "config": MARKER, "syncProfile": "yes", "connectorId": ["x"]}
    assert len(meta.warnings) == 1


@for_each("name", [n for n, o in OPERATIONS.items() if o.on is not None])
@pytest.mark.parametrize("odd", [None, "text", 5, True, [], [None, "x", [1]], {}, {"id": [5]}], ids=repr)
def test_every_answer_of_a_platform_gives_a_conforming_result(name: str, odd: Any) -> None:
    made = OPERATIONS[name].model_construct(**{"limit": 2} if "limit" in OPERATIONS[name].model_fields else {})
    if isinstance(odd, list) != ("limit" in OPERATIONS[name].model_fields or made.returns_list):
        odd = {"wrong": odd} if isinstance(odd, list) else [odd]
    meta = Meta()
    conforms(made, shape_data(made, odd, odd, meta), meta)


def test_a_row_for_a_failed_part_of_a_write_stays_as_it_is() -> None:
    rows = [{"id": "a", "name": "a"}, {"index": 1, "error": {"code": "rejected"}}]
    made = operation("vectorize_create_source_connector", connectors=[{"name": "a", "type": "AWS_S3"}])
    assert shaped(made, rows)[0] == rows


def test_long_texts_with_line_breaks_come_through_whole() -> None:
    text = "line\n\tindented é\n" * 500
    assert clean_strings({"content": text}) == {"content": text}


@pytest.mark.parametrize("hidden", ["\x00", "\x1b", "\u202e", "\u200b", "\u2066", "\U000e0041", "\ud800", "\r"])
def test_invisible_characters_are_removed_from_values_and_keys(hidden: str) -> None:
    assert clean_strings({f"k{hidden}ey": [f"va{hidden}lue", 1, None]}) == {"key": ["value", 1, None]}


def test_a_result_says_where_characters_were_taken_out_and_only_then() -> None:
    whole = {"name": {"en": "می\u200cرسد ❤\ufe0f"}, "config": {"content": "one\r\ntwo"}, "hid\u200bden": "x"}
    for data in (whole, [whole, {"config": {"a": ["b\u202ec"]}, "note": "d\x1b"}]):
        result = finish({"data": data, "meta": {"warnings": ["w"]}}, Scrubber(tuple), 2_000, ConnectorRecord)
        places = "config, hidden, note" if isinstance(data, list) else "hidden"
        assert result.content["meta"]["warnings"] == ["w", TAKEN_OUT.format(places)]
    kept = {key: whole[key] for key in ("name", "config")}
    plain = finish({"data": kept, "meta": {}}, Scrubber(tuple), 2_000, ConnectorRecord)
    assert plain.content == {"data": kept, "meta": {}}


@pytest.mark.parametrize(
    ("stored", "given", "is_loss"),
    [
        ("a\u200bb", "ab", True),
        ("a\u200bb", "a\u200bb", False),
        ("a\u200bb", "abc", False),
        ("ab", "ab", False),
        (["x", "a\u202eb"], ["ab", "x"], True),
        ([{"subject": "a\rb", "content": "c"}], [{"subject": "ab", "content": "new"}], True),
        (["a\u200bb", "ab"], ["a\u200bb", "ab"], False),
        ({"a": {"b": "c\u200b"}}, {"a": {"b": "c"}}, True),
        (None, "ab", False),
        (5, 5, False),
    ],
)
def test_writing_back_a_cleaned_text_is_a_loss(stored: Any, given: Any, is_loss: bool) -> None:
    losses = list(find_cleaned({("config", "a.b"): given}, {"config": {"a.b": stored}}))
    assert bool(losses) == is_loss
    if is_loss:
        assert losses[0].sentence == "Takes invisible characters out of config.a.b"


def content_of(rows: Any, **meta: Any) -> dict[str, Any]:
    return {"data": rows, "meta": {"platform": "p", **meta}}


def size(content: Any) -> int:
    return len(encode(content).encode())


def test_what_fits_is_left_alone() -> None:
    content = content_of([{"a": 1}])
    assert fit(content, 1024) is content


def test_a_list_is_cut_at_a_whole_row_with_a_cursor_to_the_rest_where_there_is_one() -> None:
    rows = [{"id": n, "text": "é" * 40} for n in range(100)]
    cut = fit(content_of(rows), 2_000, offset=20)
    kept = len(cut["data"])
    assert 0 < kept < 100
    assert cut["data"] == rows[:kept]
    assert size(cut) <= 2_000
    assert cut["meta"]["cut"].startswith(f"Shows {kept} of 100 rows: ")
    assert (cut["meta"]["cursor"], cut["meta"]["warnings"]) == (str(20 + kept), [PARTIAL])
    one = fit(content_of([{"id": 1, "text": "x" * 3_000}]), 2_000)["meta"]["cut"]
    assert one == "Shows 0 of 1 rows: the first alone is too long, so pass fields with what you need."


def test_a_platforms_cursor_is_not_shown_when_it_would_lead_past_rows_that_were_cut() -> None:
    rows = [{"id": n, "text": "x" * 90} for n in range(100)]
    cut = fit(content_of(rows, cursor="next", warnings=["other", PARTIAL]), 2_000)
    assert "cursor" not in cut["meta"]
    assert cut["meta"]["warnings"] == ["other"]


def test_a_record_loses_its_largest_members_first_and_names_them() -> None:
    cut = fit(content_of({"id": "x", "readme": "r" * 5_000, "logo": "l" * 4_000, "name": "n"}), 2_000)
    assert cut["data"] == {"id": "x", "name": "n"}
    assert cut["meta"]["cut"] == "Leaves out readme, logo: too long for one result; ask for less if the tool allows it."
    assert size(cut) <= 2_000


def test_a_meta_that_is_too_large_is_cut_too() -> None:
    meta = {"unexpected": {"a": "x" * 5_000}, "changes": [{"field": "f", "after": "x" * 5_000}], "warnings": ["w"]}
    cut = fit(content_of({"id": "x"}, **meta), 2_000)
    assert cut["data"] == {"id": "x"}
    assert cut["meta"]["warnings"] == ["w"]
    assert "meta.unexpected" in cut["meta"]["cut"]
    assert "meta.changes" in cut["meta"]["cut"]
    assert size(cut) <= 2_000


VALUES = st.recursive(
    st.none() | st.integers() | st.text(max_size=400),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=40), inner, max_size=5),
    max_leaves=15,
)


@settings(max_examples=50, deadline=None)
@given(
    data=st.dictionaries(st.text(max_size=300), VALUES, max_size=8) | st.lists(st.dictionaries(st.text(), VALUES)),
    meta=st.fixed_dictionaries(
        {"platform": st.just("p"), "request_id": st.just("r" * 128)},
        optional={
            "warnings": st.lists(st.text(max_size=400), max_size=8),
            "unexpected": st.dictionaries(st.text(max_size=50), VALUES, max_size=4),
            "changes": st.lists(st.dictionaries(st.text(max_size=20), VALUES, max_size=3), max_size=4),
            "cursor": st.text(max_size=100),
        },
    ),
    offset=st.none() | st.integers(0, 10**8),
)
def test_no_result_is_over_the_cap_and_what_is_left_is_unchanged(data: Any, meta: Any, offset: int | None) -> None:
    content = clean_strings({"data": data, "meta": meta})
    cut = fit(content, 1_500, offset=offset)
    assert size(cut) <= 1_500
    whole = content["data"]
    if isinstance(whole, list):
        assert cut["data"] == whole[: len(cut["data"])]
    else:
        assert cut["data"] == {key: whole[key] for key in cut["data"]}


HIDING = st.lists(st.sampled_from(["a", "\\", '"', "\n", "\t", "\b", "\x00", "\x7f", "\u202e", "ü", "u", "x7f"]))


@settings(max_examples=120, deadline=None)
@given(value=st.dictionaries(HIDING.map("".join), HIDING.map("".join), max_size=3))
def test_a_text_that_shows_all_has_nothing_that_cleaning_takes_out(value: dict[str, str]) -> None:
    if shows_all(encode_bytes(value)):
        assert clean_strings(value) == value
    else:
        assert not "".join([*value, *value.values()]).isprintable() or "ü" in str(value)


@pytest.mark.parametrize("name", ["plain", "line\nbreak", "über", "hid\u202eden", "half \ud800"])
def test_a_finished_result_comes_with_its_text(name: str) -> None:
    result = finish({"data": {"name": name}, "meta": {}}, Scrubber(tuple), 2_000, ConnectorRecord)
    assert result.content["data"] == clean_strings({"name": name})
    assert result.encoded == encode_bytes(result.content)
    assert json.loads(result.encoded.decode()) == result.content


def test_a_result_that_was_scrubbed_or_cut_comes_without_a_text() -> None:
    known = Scrubber(lambda: ("the-secret-value",))
    scrubbed = finish({"data": {"note": "x the-secret-value"}, "meta": {}}, known, 2_000, ConnectorRecord)
    assert (scrubbed.content["data"], scrubbed.encoded) == ({"note": f"x {MARKER}"}, None)
    cut = finish({"data": {"name": "x" * 3_000}, "meta": {}}, known, 2_000, ConnectorRecord)
    assert (cut.content["data"], cut.encoded) == ({}, None)


NAMED = st.lists(st.sampled_from([*OPERATIONS, "logto_google_secret", "call", "secret://vectorize_key."]), max_size=9)


@settings(max_examples=60, deadline=None)
@given(words=NAMED, served=st.sets(st.sampled_from([*OPERATIONS]), max_size=3))
def test_a_failure_names_no_tool_that_is_not_served_and_keeps_what_only_looks_like_one(
    words: list[str], served: set[str]
) -> None:
    text = " ".join(words)
    error = InvalidArguments("mine", [Issue("config", text, text)], fix=f"{text}. Call again.")
    shown = failure(error, Scrubber(tuple), {}, 100_000, may_have_changed=None, served=served).content["error"]
    named = {each["wanted"] for each in shown["issues"]} | {shown["message"], shown["fix"]}
    assert not (set(OPERATIONS) - served) & set(" ".join(named).replace(",", " ").split())
    kept = [word for word in words if word in served or word not in OPERATIONS]
    (issue,) = shown["issues"]
    assert issue["wanted"].replace("a tool that is not served", "").split() == kept
    assert shown["fix"].endswith("Call again.")
