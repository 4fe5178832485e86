"""`connector-mcp call`: one call through the same engine as an agent's."""

import json
from pathlib import Path
from typing import Any

import pytest

from connector_mcp.errors import ApprovalRequired, InvalidArguments, NotFound
from connector_mcp.sandbox import seed

DELETE = ("call", "logto_delete_connector", "--arg", f"id={seed.LOGTO_GITHUB}", "--sandbox")


@pytest.fixture
def data(tmp_path: Path) -> tuple[str, str]:
    """A sandbox that outlives the call."""
    return "--data", str(tmp_path / "sandbox.db")


def error_of(result) -> dict[str, Any]:
    """The error of a call. It is printed once: as the result."""
    assert result.stderr.count("error: ") == 0
    return json.loads(result.stdout)["error"]


def connectors(run, data) -> set[str]:
    return {row["id"] for row in json.loads(run("call", "logto_list_connectors", "--sandbox", *data).stdout)["data"]}


def test_the_result_is_printed_as_json_and_names_the_sandbox(run):
    result = run("call", "logto_get_connector", "--arg", f"id={seed.LOGTO_GITHUB}", "--sandbox")
    answer = json.loads(result.stdout)
    assert result.exit_code == 0
    assert answer["data"]["connectorId"] == "github-universal"
    assert answer["meta"]["sandbox"] is True


def test_arguments_come_from_text_a_file_or_standard_input_and_single_ones_win(run, tmp_path):
    arguments = json.dumps({"limit": 1, "fields": ["id"]})
    file = tmp_path / "arguments.json"
    file.write_text(arguments)
    for given, stdin in ((arguments, ""), (f"@{file}", ""), ("-", arguments)):
        result = run("call", "logto_list_connectors", "--sandbox", "--json", given, "--arg", "limit=2", stdin=stdin)
        assert json.loads(result.stdout)["data"] == [{"id": seed.LOGTO_SMTP}, {"id": seed.LOGTO_TWILIO}]


def test_arguments_follow_the_tool_as_they_are_typed(run):
    result = run("call", "logto_list_connectors", "limit=1", 'fields=["id","type"]', "--sandbox", "--arg", "limit=2")
    assert [set(row) for row in json.loads(result.stdout)["data"]] == [{"id", "type"}] * 2
    refused = run("call", "logto_list_connectors", "--sandbox", "the-secret")
    assert refused.exit_code == 2
    assert "name=value" in refused.stderr
    assert "the-secret" not in refused.output


@pytest.mark.parametrize(("out", "err", "told"), [(True, True, 0), (False, True, 1), (False, False, 0)])
def test_only_a_person_who_does_not_see_the_result_is_told_of_the_error_beside_it(run, monkeypatch, out, err, told):
    terminals = {"<stdout>": out, "<stderr>": err}
    monkeypatch.setattr("connector_mcp.cli.commands.tools.is_terminal", lambda stream: terminals[stream.name])
    result = run("call", "logto_get_connector", "id=nothing", "--sandbox")
    assert "not_found" in result.stdout
    assert result.stderr.count("error: Logto has no such") == told


@pytest.mark.parametrize(
    ("arguments", "hinted"),
    [
        ("logto_list_connectors", False),
        ("logto_get_connector id=made-before", True),
        ("logto_update_connector id=github-signin sync_profile=true", True),
        ("logto_update_connector id=github-signin sync_profil=true", False),
    ],
)
def test_a_call_that_the_sandbox_forgets_names_the_option_that_keeps_it(run, data, arguments, hinted):
    words = ("call", *arguments.split(), "--sandbox")
    assert ("--data" in run(*words).stderr) == hinted
    assert run(*words, *data).stderr == ""


def test_the_file_of_the_sandbox_is_its_owners_and_one_that_cannot_be_used_is_told(run, data, tmp_path):
    assert connectors(run, data)
    assert Path(data[1]).stat().st_mode & 0o077 == 0
    (tmp_path / "no.db").write_text("no database at all")
    for wrong in (tmp_path / "none" / "x.db", tmp_path / "no.db"):
        for command in (("tools", "--sandbox"), ("sandbox", "--port", "0")):
            ended = run(*command, "--data", str(wrong))
            assert ended.exit_code in (1, 2)
            assert ended.stderr.startswith(f"error: The sandbox's data cannot be kept in {wrong}")


def test_a_wrong_argument_ends_with_the_status_of_its_code_and_the_way_out(run):
    result = run("call", "logto_get_connector", "--arg", "idd=x", "--sandbox")
    error = error_of(result)
    assert result.exit_code == InvalidArguments.exit_status
    assert error["code"] == "invalid_arguments"
    assert error["message"].startswith("logto_get_connector: ")
    assert error["fix"]


def test_a_failure_of_the_platform_ends_with_the_status_of_its_code(run):
    assert run("call", "logto_get_connector", "--arg", "id=nothing", "--sandbox").exit_code == NotFound.exit_status


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("logto_get_conector", "--sandbox"), "Did you mean logto_get_connector?"),
        (("logto_list_connectors",), "No platform is configured"),
    ],
    ids=["mistyped", "without any platform"],
)
def test_an_unknown_tool_is_refused(run, arguments, told):
    result = run("call", *arguments)
    assert result.exit_code == 2
    assert told in result.stderr


@pytest.mark.parametrize("narrowing", [("--read-only",), ("--platforms", "versori"), ("--policy", "destroy=block")])
def test_a_tool_that_is_not_served_is_not_called(run, narrowing):
    result = run(*DELETE, *narrowing)
    assert result.exit_code in (2, 3)
    # An error of the call is its result; a call that is not made has none.
    assert result.output.count("error") == 1


def test_without_a_terminal_a_deletion_waits_for_an_operator(run, data):
    result = run(*DELETE, *data)
    assert result.exit_code == ApprovalRequired.exit_status
    assert json.loads(result.stdout)["error"]["code"] == "approval_required"
    assert seed.LOGTO_GITHUB in connectors(run, data)


def test_in_a_terminal_the_person_is_asked_and_types_the_name(run, in_terminal, data):
    ended = in_terminal(*DELETE, *data, typed="GitHub\n")
    assert ended.status == 0, ended.out
    assert "To confirm, type the name: GitHub" in ended.out
    assert seed.LOGTO_GITHUB not in connectors(run, data)


@pytest.mark.parametrize("typed", ["\n", "github\n", "\x04"])
def test_in_a_terminal_anything_but_the_name_changes_nothing(run, in_terminal, data, typed):
    ended = in_terminal(*DELETE, *data, typed=typed)
    assert ended.status == 3, ended.out
    assert seed.LOGTO_GITHUB in connectors(run, data)


def test_a_piped_yes_is_not_the_answer_of_a_person(run, spawn, data):
    ended = spawn(*DELETE, *data, stdin="GitHub\n")
    assert ended.status == ApprovalRequired.exit_status
    assert seed.LOGTO_GITHUB in connectors(run, data)
