"""`connector-mcp tools`."""

import json
import re
import shlex
from unittest import mock

import click
from hypothesis import given, settings
from hypothesis.strategies import integers, text

from connector_mcp.cli.commands.tools import describe, parse_arguments
from connector_mcp.config.settings import Settings
from connector_mcp.operations.catalog import catalog
from connector_mcp.operations.tool import tool_of


def test_with_every_platform_on_it_lists_the_whole_catalog(run):
    result = run("tools", "--sandbox", "--json", CONNECTOR_MCP_TOOLSETS="all")
    assert [tool["name"] for tool in json.loads(result.stdout)] == list(catalog())


def test_the_json_of_a_tool_is_its_contract_without_configured_arguments(run):
    served = {tool["name"]: tool for tool in json.loads(run("tools", "--sandbox", "--json").stdout)}
    published = {tool.name: tool.as_dict() for tool in map(tool_of, catalog().values())}
    assert served["logto_get_connector"] == published["logto_get_connector"]
    ours, theirs = served["versori_get_connector"], published["versori_get_connector"]
    assert set(theirs["inputSchema"]["properties"]) - set(ours["inputSchema"]["properties"]) == {"organisation_id"}


def test_the_table_says_effect_and_danger_of_each_tool(run):
    lines = run("tools", "--sandbox", "--platforms", "logto").stdout.splitlines()
    assert lines[0].split() == ["tool", "effect", "destructive", "what", "it", "does"]
    assert any(line.split()[:3] == ["logto_delete_connector", "destroy", "yes"] for line in lines)
    assert any(line.split()[:3] == ["logto_get_connector", "read", "Get"] for line in lines)


def test_one_tool_is_shown_with_arguments_policy_and_a_call_that_the_server_takes():
    configured = Settings.load({}, sandbox=True, policy="destroy=approve")
    for tool in map(tool_of, catalog().values()):
        shown, operation = describe(tool, configured), tool.operation
        assert click.unstyle(shown).startswith(f"{tool.name} ({operation.effect}")
        assert tool.description in " ".join(shown.split())
        for argument, schema in tool.input_schema["properties"].items():
            required = ", required" if argument in tool.input_schema.get("required", ()) else ""
            assert re.search(rf"^  {argument}: {schema['type']}.*{required}$", shown, re.MULTILINE)
            assert schema["description"] in " ".join(shown.split())
        if operation.can_destroy:
            assert "destroy over stdio: approve (the policy rule destroy=approve)" in shown
        program, *words = shlex.split(shown.splitlines()[-1])
        assert (program, words[:2], words[-1]) == ("connector-mcp", ["call", tool.name], "--sandbox")
        called = _parse_call(words[2:-1], tool)
        assert called == {name: operation.example[name] for name in called}


@given(text=text(), number=integers())
@settings(max_examples=50)
def test_whatever_an_example_holds_the_call_shown_is_one_line_that_a_shell_takes(text, number):
    tool = tool_of(catalog()["logto_create_connector"])
    example = {"connector_id": text, "config": {text: [number, text]}}
    with mock.patch.object(tool.operation, "example", example):
        *_, head, line = describe(tool, Settings.load({}, sandbox=True)).split("\n")
    assert head == "example"
    assert line.isprintable()
    assert _parse_call(shlex.split(line)[3:-1], tool) == example


def _parse_call(words, tool):
    """The arguments of a call as it is shown."""
    if words[:1] == ["--json"]:
        return parse_arguments(words[1], words[2:], tool.input_schema)
    return parse_arguments(None, words, tool.input_schema)


def test_the_toolsets_are_listed_with_the_number_and_the_size_of_their_tools(run):
    for options in ((), ("--platforms", "logto"), ("--toolsets", "all"), ("--toolsets", "versori", "--read-only")):
        served = json.loads(run("tools", "--sandbox", "--json", *options).stdout)
        groups = {}
        for each in served:
            groups.setdefault(catalog()[each["name"]].toolset or "always served", []).append(each)
        result = run("tools", "--sandbox", *options)
        _, shown = result.stdout.split("\n\n")
        header, *rows = (re.split(r" {2,}", line.strip()) for line in shown.splitlines())
        assert header == ["toolset", "tools", "bytes in tools/list"]
        assert rows == [[name, str(len(each)), str(_bytes(each))] for name, each in sorted(groups.items())]
        assert result.stderr == f"{len(served)} tools\n"


def _bytes(tools):
    return sum(len(json.dumps(each, ensure_ascii=False, separators=(",", ":")).encode()) for each in tools)


def test_a_tool_is_shown_by_its_name(run):
    assert "\narguments\n  id: string, required\n" in run("tools", "logto_get_connector", "--sandbox").stdout
    assert (
        json.loads(run("tools", "logto_get_connector", "--sandbox", "--json").stdout)["name"] == "logto_get_connector"
    )


def test_a_tool_that_is_not_served_is_not_shown(run):
    for name, told in (
        ("logto_get_conector", "logto_get_connector"),
        ("versori_get_connector", "versori_get_connector"),
    ):
        refused = run("tools", name, "--sandbox", "--platforms", "logto")
        assert refused.exit_code == 2
        assert told in refused.stderr


def test_platforms_patterns_and_read_only_narrow_what_is_served(run):
    def names(*options, **variables):
        variables = {"CONNECTOR_MCP_TOOLSETS": "all", **variables}
        return {tool["name"] for tool in json.loads(run("tools", "--sandbox", "--json", *options, **variables).stdout)}

    assert names("--platforms", "versori") == set(catalog(["versori"]))
    assert names("--tools", "*_delete_*") == {name for name in catalog() if "_delete_" in name}
    assert names("--read-only") == {name for name, operation in catalog().items() if operation.effect == "read"}
    assert names(CONNECTOR_MCP_PLATFORMS="versori") == names("--platforms", "versori")
    assert names("--policy", "logto_*=block") == {name for name in catalog() if not name.startswith("logto_")}


def test_without_any_platform_it_says_so(run):
    result = run("tools")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "No platform is configured" in result.stderr
