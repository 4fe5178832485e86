"""`connector-mcp tools` and `connector-mcp call`: list the served tools, and call one through the same engine."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import anyio
import click

from connector_mcp.cli.options import load_settings, with_overrides
from connector_mcp.cli.output import Failure, exit_status_of, json_text, show_failure, table
from connector_mcp.cli.terminal import CliCaller
from connector_mcp.composition.accounts import require_platforms
from connector_mcp.composition.engine import open_engine
from connector_mcp.config.settings import Settings
from connector_mcp.engine.caller import CallResult
from connector_mcp.engine.engine import Engine
from connector_mcp.input_text import decode, drop_mark
from connector_mcp.json_values import JsonObject, is_object
from connector_mcp.operations.catalog import catalog
from connector_mcp.operations.tool import PROFILE, Tool
from connector_mcp.suggest import did_you_mean
from connector_mcp.transport.process import logging_to_stderr


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array with the schemas, as clients get them.")
@with_overrides
def tools(overrides: dict[str, Any], as_json: bool) -> None:
    """List the tools that this configuration serves."""
    settings = load_settings(**overrides)
    require_platforms(settings, os.environ)
    served = anyio.run(_list, settings)
    if as_json:
        click.echo(json_text([contract(tool) for tool in served]))
        return
    rows = [
        (tool.name, effect_words(tool), "yes" if tool.annotations.destructive else "", _first_sentence(tool))
        for tool in served
    ]
    click.echo(table(rows, header=("tool", "effect", "destructive", "what it does")))
    click.echo(f"{len(served)} tools", err=True)


async def _list(settings: Settings) -> tuple[Tool, ...]:
    async with open_engine(settings, os.environ, "cli") as engine:
        return engine.tools()


def _first_sentence(tool: Tool) -> str:
    sentence, stop, _ = tool.description.partition(". ")
    return sentence + "." if stop else sentence


def contract(tool: Tool) -> JsonObject:
    """Return the tool with the protocol's member names, as in tools/list."""
    return {
        "name": tool.name,
        "title": tool.title,
        "description": tool.description,
        "inputSchema": tool.listed_schema,
        "outputSchema": tool.output_schema,
        "annotations": {
            "readOnlyHint": tool.annotations.read_only,
            "destructiveHint": tool.annotations.destructive,
            "idempotentHint": tool.annotations.idempotent,
            "openWorldHint": tool.annotations.open_world,
        },
    }


def effect_words(tool: Tool) -> str:
    """Return the effect of the tool's operation, and whether some calls of it can destroy."""
    effect = tool.operation.effect.value
    return f"{effect}, can destroy" if tool.operation.can_destroy and effect != "destroy" else effect


@click.command()
@click.argument("tool")
@click.option("--arg", "pairs", multiple=True, metavar="NAME=VALUE", help="One argument; JSON unless it is a string.")
@click.option("--json", "text", metavar="TEXT|@FILE|-", help="All arguments as a JSON object; '-' reads stdin.")
@click.option("--profile", metavar="NAME", help="The account to use, if the platform has several.")
@with_overrides
def call(overrides: dict[str, Any], tool: str, pairs: tuple[str, ...], text: str | None, profile: str | None) -> None:
    """Call TOOL and print its result as JSON.

    A destructive call is confirmed on the terminal, or waits for `connector-mcp approvals` if there is none. The exit
    status tells the kind of failure: 2 arguments or settings, 3 refused or not decided, 4 the platform, 5 the state,
    1 any other.

    \b
    connector-mcp call logto_list_connectors --sandbox
    connector-mcp call vectorize_get_source_connector --arg source_connector_id=... --sandbox
    """
    settings = load_settings(**overrides)
    require_platforms(settings, os.environ)
    result = anyio.run(_call, settings, tool, pairs, text, profile)
    click.echo(json_text(result.content))
    if result.is_error:
        error = result.content["error"]
        show_failure(str(error["message"]), str(error["fix"]))
        sys.exit(exit_status_of(str(error["code"])))


async def _call(
    settings: Settings, name: str, pairs: tuple[str, ...], text: str | None, profile: str | None
) -> CallResult:
    async with open_engine(settings, os.environ, "cli") as engine:
        tool = engine.tool(name)
        if tool is None:
            raise _unknown_tool(name, engine)
        arguments = parse_arguments(text, pairs, tool.input_schema)
        if profile is not None:
            arguments |= _profile_argument(profile, tool, engine)
        with logging_to_stderr(engine.scrub, settings.log_level, settings.log_format):
            return await engine.call(name, arguments, CliCaller())


def _profile_argument(profile: str, tool: Tool, engine: Engine) -> JsonObject:
    """Return the argument that names the profile; a tool of a platform with a single profile has none."""
    if PROFILE in tool.input_schema["properties"]:
        return {PROFILE: profile}
    on = tool.operation.on
    own = [account.profile for account in engine.accounts if on and account.platform.name == on.name]
    if profile not in own:
        reason = f"its only profile is {own[0]}" if own else "it uses no account"
        raise Failure(f"{tool.name} has no profile {profile!r}: {reason}.", fix="Omit --profile.", exit_status=2)
    return {}


def _unknown_tool(name: str, engine: Engine) -> Failure:
    if name in catalog():
        return Failure(
            f"{name} is not served by this configuration.",
            fix="Run `connector-mcp doctor` to see which platforms are configured and which policy is in force.",
            exit_status=2,
        )
    suggestion = did_you_mean(name, [tool.name for tool in engine.tools()], cutoff=0.4)
    return Failure(
        f"There is no tool {name!r}.{suggestion}", fix="Run `connector-mcp tools` to list them.", exit_status=2
    )


def parse_arguments(text: str | None, pairs: Sequence[str], schema: JsonObject) -> JsonObject:
    """Return the arguments of a call: the object of `--json`, updated by each `--arg`.

    A value of `--arg` is used as it is if the tool's schema expects a string, and is parsed as JSON otherwise. If it
    is not JSON it stays a string, and the engine reports what is wrong with it.

    Raises:
        click.BadParameter: A pair has no `=`, or `--json` is not a JSON object or cannot be read. Values are not shown.
    """
    arguments = _json_object(text) if text is not None else {}
    properties: Mapping[str, JsonObject] = schema.get("properties", {})
    for pair in pairs:
        name, equals, value = pair.partition("=")
        name = name.strip()
        if not equals or not name:
            raise click.BadParameter("write it as name=value.", param_hint="--arg")
        arguments[name] = value
        if properties.get(name, {}).get("type") != "string":
            try:
                arguments[name] = json.loads(value)
            except ValueError:
                continue
    return arguments


def _json_object(text: str) -> JsonObject:
    source = "the text"
    if text == "-":
        source = "standard input"
    elif text.startswith("@"):
        source = text[1:]
    try:
        if source != "the text":
            text = decode(sys.stdin.buffer.read() if text == "-" else Path(source).read_bytes())
    except OSError as error:
        raise click.BadParameter(f"cannot read {source}: {error.strerror}.", param_hint="--json") from None
    except UnicodeDecodeError:
        raise click.BadParameter(f"{source} is not UTF-8 text.", param_hint="--json") from None
    try:
        value = json.loads(drop_mark(text))
    except ValueError as error:
        where = f" (line {error.lineno}, column {error.colno})" if isinstance(error, json.JSONDecodeError) else ""
        raise click.BadParameter(f"{source} is not JSON{where}.", param_hint="--json") from None
    if not is_object(value):
        raise click.BadParameter(f"{source} is not a JSON object.", param_hint="--json")
    return value
