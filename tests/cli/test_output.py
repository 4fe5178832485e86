"""Text on a terminal, arguments as they are typed, failures as they end a command, and questions."""

import json

import click
import pytest
from click.testing import CliRunner

from connector_mcp.cli.commands.tools import parse_arguments
from connector_mcp.cli.output import Failure, as_failure, exit_status_of, json_text, show_failure, table
from connector_mcp.cli.terminal import CliCaller, ask_form
from connector_mcp.engine.caller import CannotAsk, Question
from connector_mcp.errors import Blocked, Internal, NotFound, StoreUnavailable
from connector_mcp.text import strip_hidden

PROPERTIES = {"name": {"type": "string"}, "limit": {"type": "integer"}, "config": {"type": "object"}}
SCHEMA = {"type": "object", "properties": PROPERTIES}


def test_terminal_control_characters_are_not_printed():
    assert strip_hidden("a\x1b[31mb\x9b2J\u202e\u2066\u200b\U000e0041\r\nc\td\re") == "a[31mb2J\r\nc\tde"
    assert json_text("a\u2028b\u3164") == '"a\\u2028b\\u3164"'


def test_json_stays_json_and_escapes_what_does_not_print():
    value = {"name": "Zoë\u202e\x1b\x9b\U000e0041"}
    text = json_text(value)
    assert json.loads(text) == value
    assert "Zoë" in text
    assert strip_hidden(text) == text


def test_the_columns_of_a_table_line_up():
    assert table([("a", "b"), ("long", "c")], header=("x", "y")) == "x     y\na     b\nlong  c"


@pytest.mark.parametrize("columns", [30, 60, 90, 200])
def test_a_table_fits_the_terminal_and_cuts_the_first_column_last(columns, monkeypatch):
    rows = [("an-id-to-copy", "word", "a sentence of many words " * 4), ("id", "w" * 40, "short")]
    whole = table(rows, header=("id", "word", "sentence")).split("\n")
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = table(rows, header=("id", "word", "sentence")).split("\n")
    assert max(map(len, lines)) <= columns
    assert lines[1].startswith("an-id-to-copy  ") == (columns > 30)
    assert ("…" in "".join(lines)) == (max(map(len, whole)) > columns)


@pytest.mark.parametrize("odd", ["\n", "\r", "\r\n", "\v", "\x1c", "\x85", "\u2028", "\u2029", "\x1b[2K\x1b[1A\r"])
def test_no_text_begins_a_line_of_the_output_or_steers_the_terminal(odd, capsys):
    show_failure(f"said{odd}fix: run me", f"do{odd}error: no")
    error, *fix = capsys.readouterr().err.split("\n")[:-1]
    assert error.startswith("error: said")
    assert "fix: run me" in error
    assert [line[:2] for line in fix] == ["fi", "  "][: len(fix)]
    lines = [error, *fix, *table([(f"a{odd}b", odd)], header=("x", "y")).split("\n")]
    assert len(lines) == 1 + len(fix) + 2
    assert all(line.isprintable() for line in lines)


def test_an_argument_is_a_string_where_the_schema_expects_one_and_json_elsewhere():
    given = parse_arguments(None, ["name=42", "limit=42", 'config={"a": [1]}', "other=true", "more=x=y"], SCHEMA)
    assert given == {"name": "42", "limit": 42, "config": {"a": [1]}, "other": True, "more": "x=y"}


def test_text_that_is_not_json_stays_a_string_for_the_engine_to_refuse():
    assert parse_arguments(None, ["limit=many"], SCHEMA) == {"limit": "many"}


@pytest.mark.parametrize("text", ["{", "[1]", "@/nowhere/arguments.json"])
def test_arguments_that_are_no_json_object_are_refused(text):
    with pytest.raises(click.BadParameter):
        parse_arguments(text, [], SCHEMA)


def test_a_connector_error_is_a_failure_also_inside_of_task_groups():
    error = Blocked("No.", fix="Ask.")
    for raised in (error, BaseExceptionGroup("tasks", [ExceptionGroup("more", [error])])):
        failure = as_failure(raised)
        assert failure is not None
        assert (failure.message, failure.fix, failure.exit_status) == ("No.", "Ask.", 3)


def test_any_other_error_is_no_failure():
    assert as_failure(ValueError("x")) is None
    assert as_failure(ExceptionGroup("tasks", [Failure("a", fix="b"), ValueError("x")])) is None


def test_every_code_has_the_exit_status_of_its_class():
    for error in (Blocked, NotFound, StoreUnavailable, Internal):
        assert exit_status_of(error.code) == error.exit_status
    assert exit_status_of("no_such_code") == 1


@pytest.mark.anyio
async def test_a_caller_without_a_terminal_cannot_be_asked():
    caller = CliCaller()
    assert caller.can_ask is False
    with pytest.raises(CannotAsk):
        await caller.ask(Question("Delete?", {"properties": {"confirm": {"type": "boolean"}}}), "ticket")


@pytest.mark.parametrize(
    ("schema", "typed", "action", "content"),
    [
        ({"type": "boolean", "title": "Go on?"}, "y\n", "accept", {"confirm": True}),
        ({"type": "boolean", "title": "Go on?"}, "\n", "decline", {}),
        ({"type": "boolean", "title": "Go on?"}, "n\n", "decline", {}),
        ({"type": "string", "title": "Name"}, "yes\n", "accept", {"confirm": "yes"}),
        ({"type": "string", "title": "Name"}, "\n", "decline", {}),
        ({"type": "string", "title": "Name"}, "", "cancel", {}),
    ],
)
def test_only_what_is_typed_becomes_an_answer(schema, typed, action, content):
    with CliRunner().isolation(input=typed):
        reply = ask_form(Question("Delete “Acme”?", {"properties": {"confirm": schema}}))
    assert (reply.action, dict(reply.content)) == (action, content)
