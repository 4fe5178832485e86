"""`connector-mcp call`: one call, through the same engine as an agent's."""

from __future__ import annotations

import os
import sys
from difflib import get_close_matches
from typing import Any

import anyio
import click

from connector_mcp.cli.arguments import arguments_given
from connector_mcp.cli.options import load_settings, with_overrides
from connector_mcp.cli.output.failures import Failure, exit_status_of, show_failure
from connector_mcp.cli.output.terminal import CliCaller
from connector_mcp.cli.output.text import json_text
from connector_mcp.composition.engine import assembled
from connector_mcp.composition.readiness import require_platforms
from connector_mcp.config.settings import Settings
from connector_mcp.engine.caller import CallResult
from connector_mcp.engine.engine import Engine
from connector_mcp.json_values import JsonObject
from connector_mcp.operations.catalog import catalog
from connector_mcp.operations.tool import PROFILE, Tool


@click.command()
@click.argument("tool")
@click.option("--arg", "pairs", multiple=True, metavar="NAME=VALUE", help="One argument; JSON unless it is a string.")
@click.option("--json", "text", metavar="TEXT|@FILE|-", help="All arguments as a JSON object; '-' reads stdin.")
@click.option("--profile", metavar="NAME", help="The account to call under, where the platform has several.")
@with_overrides
def call(overrides: dict[str, Any], tool: str, pairs: tuple[str, ...], text: str | None, profile: str | None) -> None:
    """Call TOOL and print its result as JSON.

    What destroys is asked about on the terminal, or waits for `connector-mcp approvals` where there is none. The exit
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
    async with assembled(settings, os.environ, "cli") as engine:
        tool = engine.tool(name)
        if tool is None:
            raise _unknown(name, engine)
        arguments = arguments_given(text, pairs, tool.input_schema)
        if profile is not None:
            arguments |= _under(profile, tool, engine)
        return await engine.call(name, arguments, CliCaller())


def _under(profile: str, tool: Tool, engine: Engine) -> JsonObject:
    """The argument that names the profile; none where there is only that one."""
    on = tool.operation.on
    own = [account.profile for account in engine.accounts if on and account.platform.name == on.name]
    if PROFILE in tool.input_schema["properties"]:
        return {PROFILE: profile}
    if profile not in own:
        has = f"its only profile is {own[0]}" if own else "it is called under none"
        raise Failure(f"{tool.name} has no profile {profile!r}: {has}.", fix="Leave out --profile.", exit_status=2)
    return {}


def _unknown(name: str, engine: Engine) -> Failure:
    served = [tool.name for tool in engine.tools()]
    if name in catalog():
        return Failure(
            f"{name} is not served by this configuration.",
            fix="Run `connector-mcp doctor` to see which platforms are configured and which policy is in force.",
            exit_status=2,
        )
    near = get_close_matches(name, served, n=1, cutoff=0.4)
    return Failure(
        f"There is no tool {name!r}." + (f" Did you mean {near[0]}?" if near else ""),
        fix="Run `connector-mcp tools` to list them.",
        exit_status=2,
    )
