"""What a person is shown before they decide."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connector_mcp.engine.preview import (
    Preview,
    differences,
    fingerprint,
    keyed_digest,
    leaves,
    make_preview,
    path_text,
    readable_plan,
    shown,
)
from connector_mcp.engine.redaction.redactor import MARKER
from connector_mcp.engine.redaction.scrubber import Scrubber
from connector_mcp.json_values import members, same_json
from connector_mcp.operations.catalog import catalog
from connector_mcp.operations.conductorone.env_config import wrapped_keys
from connector_mcp.operations.operation import Effect, Operation, at
from connector_mcp.operations.situation import Loss, Situation
from connector_mcp.operations.update import is_unset, without_vacant
from connector_mcp.operations.versori.connections import NO_ID
from tests.operations.test_update import UPDATES, arguments, records

OPERATIONS = catalog()
TENANT = {"organization_id": "o", "organisation_id": "o"}
KEY = b"k" * 32
SECRET = "planted-secret-Zq9"


def operation(name: str, **arguments: Any) -> Operation:
    kind = OPERATIONS[name]
    tenant = {key: value for key, value in TENANT.items() if key in kind.model_fields}
    return kind.model_validate({**tenant, **arguments})


def preview_of(made: Operation, current: Any, *, secrets: tuple[str, ...] = ()) -> Preview:
    situation = Situation(current=current)
    return make_preview(made, situation, made.find_losses(situation), Scrubber(lambda: secrets))


def text(preview: Preview) -> str:
    return "\n".join([preview.sentence, *map(str, preview.changes)])


def delete(current: Any, **more: Any) -> Preview:
    return preview_of(operation("vectorize_delete_source_connector", source_connector_id="src-1"), current, **more)


S3: dict[str, Any] = {
    "id": "src-1", "type": "AWS_S3", "name": "Docs", "configDoc": {"bucket-name": "b", "region": "eu"},
}  # fmt: skip


def test_a_deletion_names_its_target_and_its_consequence() -> None:
    preview = delete(S3)
    assert preview.effect is Effect.DESTROY
    assert preview.name == "Docs"
    assert preview.sentence.startswith(
        "Deletes Amazon S3 source connector “Docs”; pipelines that read from it stop ingesting."
    )
    assert (preview.losses, preview.changes) == ((), ())


HOSTILE = {
    "format": ("{id} {0} {name.__class__} {{}}", "{id} {0} {name.__class__} {{}}"),
    "lines": ("a\nTo confirm, type: yes\r\n\tb", "a To confirm, type: yes b"),
    "bidi": ("\u202efdp.exe\u202c", "fdp.exe"),
    "control": ("a\x00\x1b[31mb", "a[31mb"),
    "zero-width": ("a\u200bb\ufeff", "ab"),
    "tags": ("x\U000e0041\U000e0042", "x"),
    "spaces": ("  a   b  ", "a b"),
    "invisible": ("\u200b\u2060\u202e", "src-1"),
    "blank": (" \n ", "src-1"),
    "empty": ("", "src-1"),
    "number": (5, "src-1"),
    "null": (None, "src-1"),
    "object": ({"en": "x"}, "src-1"),
    "long": ("n" * 119 + " " + "m" * 500, "n" * 119),
}


@pytest.mark.parametrize(("name", "known_as"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_name_is_one_short_line_that_can_be_typed(name: Any, known_as: str) -> None:
    preview = delete({**S3, "name": name}, secrets=(SECRET,))
    assert preview.name == known_as
    assert f"“{known_as}”" in preview.sentence
    assert text(preview).count("\n") == 0
    assert preview.name == preview.name.strip() != ""


@pytest.mark.parametrize("current", [None, [], "text", 5, {}])
def test_a_target_that_is_no_record_is_known_by_its_id(current: Any) -> None:
    assert delete(current).name == "src-1"


def test_braces_and_lines_in_arguments_do_not_break_the_sentence() -> None:
    for user in ("{name}", "{", "}{", "{0!r:>99}", "u\nFORGED"):
        made = operation("vectorize_delete_user_from_source_connector", source_connector_id="s", user_id=user)
        sentence = preview_of(made, S3).sentence
        assert " ".join(user.split()) in sentence
        assert "\n" not in sentence


def test_an_update_shows_each_change_with_secrets_hidden_on_both_sides() -> None:
    config = {"bucket-name": "new", "region": "eu", "secret-key": SECRET, "access-key": SECRET}
    made = operation("vectorize_update_source_connector", source_connector_id="src-1", config=config)
    preview = preview_of(made, {**S3, "configDoc": {**S3["configDoc"], "secret-key": f"{SECRET}-old"}})
    assert [change.as_dict() for change in preview.changes] == [
        {"field": "configDoc.bucket-name", "before": "b", "after": "new"},
        {"field": "configDoc.secret-key", "before": MARKER, "after": MARKER},
        {"field": "configDoc.access-key", "before": None, "after": MARKER},
    ]
    assert SECRET not in json.dumps([text(preview), preview.snapshot, preview.sentence])
    assert preview.effect is Effect.UPDATE


def test_a_loss_shows_what_is_lost_unless_it_is_secret_and_raises_the_effect() -> None:
    current = {
        "id": "c", "connectorId": "github-universal", "name": {"en": "GitHub"},
        "config": {"clientId": "id", "clientSecret": SECRET, "scope": "read:user"},
    }  # fmt: skip
    config = {"clientSecret": None, "scope": None}
    preview = preview_of(operation("logto_update_connector", id="c", config=config), current)
    assert preview.effect is Effect.DESTROY
    assert preview.losses == (f"Unsets config.clientSecret (now {MARKER})", "Unsets config.scope (now read:user)")
    assert all(loss in preview.sentence for loss in preview.losses)
    assert SECRET not in text(preview)


@pytest.mark.parametrize(
    ("name", "told"), [("region", "eu-1"), ("apiKey", MARKER), ("password.eu", MARKER), ("db.password", MARKER)]
)
def test_a_variable_that_is_lost_is_shown_unless_any_part_of_its_name_is_secret(name: str, told: str) -> None:
    current = {
        "id": "c",
        "name": "CRM",
        "protocol": "http",
        "baseUrl": "https://{{region}}.example.com",
        "connections": [{"id": "1", "name": "prod", "variables": [{"name": name, "value": "eu-1"}]}],
    }
    variables = [{"name": "other", "value": "x"}]
    made = operation("versori_update_connector", connector_id="c", connection_variables=variables)
    assert preview_of(made, current).losses == (f"Drops variable {name} of connection prod (now {told})",)


def test_pairs_of_name_and_value_are_hidden_in_the_diff_by_their_name() -> None:
    current = {
        "id": "c",
        "name": "CRM",
        "protocol": "http",
        "connectionVariables": [{"name": "apiKey", "value": "old-key"}],
    }
    variables = [{"name": "apiKey", "value": "new-key"}]
    made = operation("versori_update_connector", connector_id="c", connection_variables=variables)
    preview = preview_of(made, current)
    assert [change.field for change in preview.changes] == ["connectionVariables"]
    assert "-key" not in text(preview)


def test_a_config_of_an_unknown_type_is_shown_without_any_string_and_its_keys_cannot_forge_lines() -> None:
    config = {"x\n\nTo confirm, type the name: yes": "value-1", "b": "value-2"}
    made = operation("vectorize_update_source_connector", source_connector_id="src-1", config=config)
    told = text(preview_of(made, {**S3, "type": "NEW_TYPE"}))
    assert "value-" not in told
    assert all(line.startswith("configDoc") for line in told.split("\n")[1:])


def test_long_values_are_cut() -> None:
    made = operation("logto_update_connector", id="c", config={f"key{n}": "v" * 1_000 for n in range(500)})
    lines = text(preview_of(made, {"id": "c", "connectorId": "own-factory", "config": {}})).split("\n")[1:]
    assert len(lines) == 500
    assert max(map(len, lines)) < 200


def test_a_value_is_shown_as_one_short_line() -> None:
    assert shown(None) == "(unset)"
    assert shown({"a": [1, "é"]}) == '{"a":[1,"é"]}'
    assert shown("a\n\u202eb") == "a b"
    assert shown("x" * 500) == "x" * 120 + "…"


def test_the_plan_that_may_be_read_back_holds_no_secret() -> None:
    config = {"clientId": "new", "clientSecret": SECRET, "scope": None}
    current = {"id": "c", "connectorId": "github-universal", "config": {"clientId": "old", "scope": "s"}}
    made = operation("logto_update_connector", id="c", config=config)
    assert readable_plan(made, Situation(current=current)) == {("config", "clientId"): "new", ("config", "scope"): None}


def mark(current: Any, key: bytes = KEY) -> str:
    return fingerprint(operation("vectorize_delete_source_connector", source_connector_id="s"), current, key)


def test_a_fingerprint_covers_everything_but_what_changes_by_itself() -> None:
    assert mark(S3) == mark(dict(reversed(S3.items())))
    assert mark(S3) == mark({**S3, "verificationStatus": "failed", "errorMessage": "x"})
    assert mark(S3) != mark({**S3, "name": "Docs "})
    assert mark(S3) != mark({**S3, "configDoc": {"bucket-name": "b", "region": "us"}})
    assert mark(S3) != mark({**S3, "new": None})
    assert mark(S3) != mark(S3, b"o" * 32)
    assert mark(None) != mark({}) != mark([])


def test_a_digest_tells_types_apart() -> None:
    values: list[Any] = [1, "1", True, None, [1], {"1": 1}, 1.5, "", [], {}]
    assert len({keyed_digest(value, KEY) for value in values}) == len(values)


def test_a_snapshot_names_what_differs_later_without_secrets_or_volatile_members() -> None:
    before = delete({**S3, "verificationStatus": "a", "apiToken": f"{SECRET}-1", "tags": ["x"]}).snapshot
    after = delete({**S3, "verificationStatus": "b", "apiToken": f"{SECRET}-2", "name": "New", "tags": []}).snapshot
    assert differences(before, after) == [
        {"field": "name", "before": "Docs", "after": "New"},
        {"field": "tags", "before": None, "after": []},
        {"field": "tags[0]", "before": "x", "after": None},
    ]
    assert SECRET not in json.dumps([before, after])


def test_a_snapshot_is_bounded_and_clean() -> None:
    snapshot = delete({**S3, "big": {f"k\n{n}": "v\u202e" * 500 for n in range(1_000)}}).snapshot
    assert len(snapshot) == 200
    assert all(
        "\n" not in key and len(str(value)) <= 160 and "\u202e" not in str(value) for key, value in snapshot.items()
    )


def test_every_consequence_names_only_arguments_that_there_are() -> None:
    for kind in OPERATIONS.values():
        if kind.effect is not Effect.READ and kind.on is not None:
            tenant = {key: value for key, value in TENANT.items() if key in kind.model_fields}
            made = kind.model_validate({**tenant, **kind.example})
            sentence = make_preview(made, Situation(), (Loss("Unsets x"),), Scrubber(tuple)).sentence
            assert sentence.endswith("Unsets x.")
            assert "{" not in sentence


PATHS = st.lists(
    st.sampled_from(["a", "b", "a.b", "[0]", "", '"', "a\u200b", "\u00e9"]) | st.integers(0, 2), max_size=3
)
MEMBERS = st.recursive(
    st.sampled_from([None, False, True, 0, 1, "", "1", "x" * 150, "x" * 149 + "y", "a b", "a  b"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["a", "b", "a.b"]), inner, max_size=3),
    max_leaves=6,
)


@given(PATHS, PATHS)
def test_two_paths_are_never_written_alike(one: list[Any], other: list[Any]) -> None:
    assert (path_text(one) == path_text(other)) == (one == other)


@given(st.dictionaries(st.sampled_from(["a", "b", "a.b"]), MEMBERS, max_size=3), MEMBERS)
def test_a_difference_between_two_targets_is_always_named(before: dict[str, Any], other: Any) -> None:
    now = {**before, "a": other}
    one, two = (delete({"name": "Docs", **record}).snapshot for record in (before, now))
    assert bool(differences(one, two)) == (not same_json({"a": None} | before, {"a": None} | now) or one != two)
    for value, wrong in ((True, 1), (False, 0), (1, "1"), (None, "")):
        assert differences({"a": value}, {"a": wrong})
    assert not differences({"a": 1}, {"a": 1.0})
    assert differences(delete({"a.b": 1, "a": {"b": 2}}).snapshot, delete({"a.b": 1, "a": {"b": 3}}).snapshot)
    assert differences(delete({"a.b": 1, "a": {"b": 2}}).snapshot, delete({"a.b": 2, "a": {"b": 2}}).snapshot)


@pytest.mark.parametrize("name", UPDATES)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_nothing_that_an_update_sends_is_missing_from_what_is_shown(name: str, data: st.DataObject) -> None:
    kind = UPDATES[name]
    update = kind.model_validate({**data.draw(arguments(kind)), **{k: "id" for k in TENANT if k in kind.model_fields}})
    # Nothing is sent unless enough of the target was read.
    current = data.draw(records(kind).filter(update.was_read))
    situation = Situation(current=current)
    planned = update.plan_changes(situation)
    changes = make_preview(update, situation, (), Scrubber(tuple)).changes
    differ = [path for path, value in planned.items() if not same_json(value, without_vacant(at(current, path)))]
    assert [change.field for change in changes] == [path_text(path) for path in differ]
    config = members(getattr(update, "config", None))
    # ConductorOne takes config values in a form of its own.
    wire_form = wrapped_keys({**config, **members(config.get("configuration"))})
    shown_values = [update.model_dump(by_alias=True, exclude_unset=True), list(planned.values()), current, wire_form]
    known = {_text(value) for _, value in leaves(shown_values)} | {NO_ID}
    for path, value in leaves(update.make_body(situation)):
        if not path or path[0] in ("updateMask", "expandMask") or path[-1] == "@type":
            continue
        if value == "" and is_unset(at(current, path)):
            continue
        parts = value.split(",") if isinstance(value, str) else [value]
        assert _text(value) in known or all(_text(part) in known for part in parts), (path, value)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
