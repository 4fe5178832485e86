"""`connector-mcp tools` and `connector-mcp call`: list the served tools, and call one through the same engine."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

import anyio
import click

from connector_mcp.cli.options import load_settings, with_overrides
from connector_mcp.cli.output import INTERRUPTED, Failure, exit_status_of, json_text, show_failure, table
from connector_mcp.cli.terminal import CliCaller, is_terminal
from connector_mcp.composition.accounts import require_platforms
from connector_mcp.composition.engine import open_engine, server_policy
from connector_mcp.config.settings import Settings
from connector_mcp.engine.caller import CallResult
from connector_mcp.engine.engine import Engine
from connector_mcp.engine.results import encode_bytes
from connector_mcp.input_text import decode, drop_mark
from connector_mcp.json_values import JsonObject, is_object
from connector_mcp.operations.operation import Effect
from connector_mcp.operations.tool import PROFILE, Tool
from connector_mcp.program import program, runnable
from connector_mcp.transport.process import logging_to_stderr

_REMEMBERED = (Effect.READ, "invalid_arguments", "blocked", "refused")
"""Effects and codes of calls that leave nothing to keep, and do not miss what an earlier command made."""


@click.command()
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON with the schemas, as clients get them.")
@with_overrides
def tools(overrides: dict[str, Any], name: str | None, as_json: bool) -> None:
    """List the tools that this configuration serves, or show the one with this NAME."""
    settings = load_settings(**overrides)
    require_platforms(settings, os.environ)
    served = anyio.run(_list, settings, name)
    if name is not None:
        click.echo(json_text(served[0].as_dict()) if as_json else describe(served[0], settings))
        return
    if as_json:
        click.echo(json_text([tool.as_dict() for tool in served]))
        return
    rows = [
        (tool.name, effect_words(tool), "yes" if tool.annotations.destructive else "", _first_sentence(tool))
        for tool in served
    ]
    click.echo(table(rows, header=("tool", "effect", "destructive", "what it does")))
    click.echo()
    click.echo(table(_toolset_rows(served), header=("toolset", "tools", "bytes in tools/list")))
    click.echo(f"{len(served)} tools", err=True)


def _toolset_rows(served: Sequence[Tool]) -> list[tuple[str, str, str]]:
    """The toolsets of the served tools, each with the number of its tools and their size."""
    sizes: dict[str, list[int]] = {}
    for tool in served:
        sizes.setdefault(tool.operation.toolset or "always served", []).append(len(encode_bytes(tool.as_dict())))
    return [(name, str(len(each)), str(sum(each))) for name, each in sorted(sizes.items())]


async def _list(settings: Settings, name: str | None) -> tuple[Tool, ...]:
    async with open_engine(settings, os.environ, "cli") as engine:
        return engine.tools() if name is None else (_find(name, engine),)


def describe(tool: Tool, settings: Settings) -> str:
    """Return what a person needs for a call: description, arguments, what the policy says, and an example."""
    properties: Mapping[str, JsonObject] = tool.input_schema.get("properties", {})
    effect, can_destroy = tool.operation.effect, tool.operation.can_destroy
    lines = [f"{click.style(tool.name, bold=True)} ({effect_words(tool)})", _wrap(tool.description)]
    lines += ["", f"toolset: {tool.operation.toolset or 'always served'}", "", "arguments"]
    for name, schema in properties.items():
        required = ", required" if name in tool.input_schema.get("required", ()) else ""
        lines += [f"  {name}: {_type_words(schema)}{required}", _wrap(str(schema.get("description", "")), "      ")]
    lines += ["", "policy"]
    for each in dict.fromkeys((effect, Effect.DESTROY) if can_destroy else (effect,)):
        for policy in (server_policy(settings, "stdio"), server_policy(settings, "http")):
            ruling = policy.ruling(tool.name, each)
            lines.append(f"  {each} over {policy.transport}: {ruling.decision} ({ruling.because})")
    if any(profile.options.policy or profile.options.read_only for profile in settings.profiles):
        lines.append(runnable("  Profiles have rules of their own: `connector-mcp config show`."))
    given = {name: value for name, value in tool.operation.example.items() if name in properties}
    texts = [f"{name}={v if isinstance(v, str) else json_text(v, indent=None)}" for name, v in given.items()]
    if not all(map(str.isprintable, texts)):
        # A line break would end the line that is shown; JSON can write it in one.
        texts = ["--json", json.dumps(given)]
    words = [program(), "call", tool.name, *map(shlex.quote, texts), *(["--sandbox"] if settings.sandbox else [])]
    return "\n".join([*lines, "", "example", f"  {' '.join(words)}"])


def _wrap(text: str, indent: str = "") -> str:
    width = shutil.get_terminal_size().columns
    return fill(text, width, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)


def _type_words(schema: JsonObject) -> str:
    """Return the type of an argument in words, with its choices, its bounds and its default."""
    kind = str(schema.get("type", "any"))
    words = [f"{kind} of {schema['items'].get('type', 'any')}" if "items" in schema else kind]
    words += [f"one of {', '.join(map(str, schema['enum']))}"] if "enum" in schema else []
    words += [f"at least {schema[key]}" for key in ("minimum", "minItems") if key in schema]
    words += [f"at most {schema[key]}" for key in ("maximum", "maxItems") if key in schema]
    words += [f"default {json_text(schema['default'], indent=None)}"] if "default" in schema else []
    return ", ".join(words)


def _first_sentence(tool: Tool) -> str:
    sentence, stop, _ = tool.description.partition(". ")
    return sentence + "." if stop else sentence


def effect_words(tool: Tool) -> str:
    """Return the effect of the tool's operation, and whether some calls of it can destroy."""
    effect = tool.operation.effect.value
    return f"{effect}, can destroy" if tool.operation.can_destroy and effect != "destroy" else effect


@click.command()
@click.argument("tool")
@click.argument("given", nargs=-1, metavar="[NAME=VALUE]...")
@click.option("--arg", "pairs", multiple=True, metavar="NAME=VALUE", help="The same as NAME=VALUE behind TOOL.")
@click.option("--json", "text", metavar="TEXT|@FILE|-", help="All arguments as a JSON object; '-' reads stdin.")
@click.option("--profile", metavar="NAME", help="The account to use, if the platform has several.")
@with_overrides
def call(
    overrides: dict[str, Any],
    tool: str,
    given: tuple[str, ...],
    pairs: tuple[str, ...],
    text: str | None,
    profile: str | None,
) -> None:
    """Call TOOL and print its result as JSON.

    A value is JSON, unless the tool expects a string. A destructive call is confirmed on the terminal, or waits for
    `connector-mcp approvals` if there is none. The exit status tells the kind of failure: 2 arguments or settings,
    3 refused or not decided, 4 the platform, 5 the state, 1 any other.

    \b
    connector-mcp call logto_list_connectors --sandbox
    connector-mcp call vectorize_get_source_connector source_connector_id=... --sandbox
    """
    settings = load_settings(**overrides)
    require_platforms(settings, os.environ)
    try:
        result, effect = anyio.run(_call, settings, tool, (*given, *pairs), text, profile)
    except KeyboardInterrupt:
        told = "Interrupted. Before you repeat a call that changes something, look whether it did: "
        raise Failure(f"{told}{runnable('`connector-mcp audit show`')}.", fix="", exit_status=INTERRUPTED) from None
    click.echo(json_text(result.content))
    error: JsonObject = result.content["error"] if result.is_error else {}
    if settings.sandbox and settings.sandbox_data is None and error.get("code", effect) not in _REMEMBERED:
        click.echo("The sandbox forgets changes when this command ends; --data FILE keeps them.", err=True)
    if error:
        # A person who does not see the result is told of the error; one who does has read it there.
        if is_terminal(sys.stderr) and not is_terminal(sys.stdout):
            show_failure(str(error["message"]), str(error["fix"]))
        sys.exit(exit_status_of(str(error["code"])))


async def _call(
    settings: Settings, name: str, pairs: tuple[str, ...], text: str | None, profile: str | None
) -> tuple[CallResult, Effect]:
    async with open_engine(settings, os.environ, "cli") as engine:
        tool = _find(name, engine)
        arguments = parse_arguments(text, pairs, tool.input_schema)
        if profile is not None:
            arguments |= _profile_argument(profile, tool, engine)
        with logging_to_stderr(engine.scrub, settings.log_level, settings.log_format):
            return await engine.call(tool.name, arguments, CliCaller()), tool.operation.effect


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


def _find(name: str, engine: Engine) -> Tool:
    tool = engine.tool(name)
    if tool is None:
        unknown = engine.unknown_tool(name, CliCaller())
        raise Failure(unknown.message, fix="Run `connector-mcp tools` to list the tools.", exit_status=2)
    return tool


def parse_arguments(text: str | None, pairs: Sequence[str], schema: JsonObject) -> JsonObject:
    """Return the arguments of a call: the object of `--json`, updated by each `name=value`.

    A value is used as it is if the tool's schema expects a string, and is parsed as JSON otherwise. If it
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
            raise click.BadParameter("write each as name=value.", param_hint="an argument")
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
