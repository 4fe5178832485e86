"""`connector-mcp call`: one call through the same engine as an agent's."""

import json
from pathlib import Path

import pytest

from connector_mcp.errors import ApprovalRequired, InvalidArguments, NotFound
from connector_mcp.sandbox import seed

DELETE = ("call", "logto_delete_connector", "--arg", f"id={seed.LOGTO_GITHUB}", "--sandbox")


@pytest.fixture
def data(tmp_path: Path) -> tuple[str, str]:
    """A sandbox that outlives the call."""
    return "--data", str(tmp_path / "sandbox.db")


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


def test_a_wrong_argument_ends_with_the_status_of_its_code_and_the_way_out(run):
    result = run("call", "logto_get_connector", "--arg", "idd=x", "--sandbox")
    assert result.exit_code == InvalidArguments.exit_status
    assert json.loads(result.stdout)["error"]["code"] == "invalid_arguments"
    assert result.stderr.startswith("error: logto_get_connector: ")
    assert "\nfix: " in result.stderr


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
    assert "error: " in result.stderr


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
