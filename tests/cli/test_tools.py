"""`connector-mcp tools`."""

import json
import re
import shlex

import click

from connector_mcp.cli.commands.tools import contract, describe, parse_arguments
from connector_mcp.config.settings import Settings
from connector_mcp.operations.catalog import catalog
from connector_mcp.operations.tool import tool_of


def test_with_every_platform_on_it_lists_the_whole_catalog(run):
    result = run("tools", "--sandbox", "--json", CONNECTOR_MCP_TOOLSETS="all")
    assert [tool["name"] for tool in json.loads(result.stdout)] == list(catalog())


def test_the_json_of_a_tool_is_its_contract_without_configured_arguments(run):
    served = {tool["name"]: tool for tool in json.loads(run("tools", "--sandbox", "--json").stdout)}
    published = {tool.name: contract(tool) for tool in map(tool_of, catalog().values())}
    assert served["logto_get_connector"] == published["logto_get_connector"]
    ours, theirs = served["versori_get_connector"], published["versori_get_connector"]
    assert set(theirs["inputSchema"]["properties"]) - set(ours["inputSchema"]["properties"]) == {"organisation_id"}


def test_the_table_says_effect_and_danger_of_each_tool(run):
    lines = run("tools", "--sandbox", "--platforms", "logto").stdout.splitlines()
    assert lines[0].split() == ["tool", "effect", "destructive", "what", "it", "does"]
    assert any(line.split()[:3] == ["logto_delete_connector", "destroy", "yes"] for line in lines)
    assert any(line.split()[:3] == ["logto_get_connector", "read", "Get"] for line in lines)


def test_one_tool_is_shown_with_arguments_policy_and_a_call_that_the_server_takes():
    settings = Settings.load({}, sandbox=True, policy="destroy=approve")
    for tool in map(tool_of, catalog().values()):
        shown, operation = describe(tool, settings), tool.operation
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
        given = parse_arguments(None, words[2:-1], tool.input_schema)
        assert given == {name: operation.example[name] for name in given}


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
