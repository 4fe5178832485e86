"""`connector-mcp tools`: what this configuration serves."""

from __future__ import annotations

import os
from typing import Any

import anyio
import click

from connector_mcp.cli.options import load_settings, with_overrides
from connector_mcp.cli.output.contract import contract, effect_words
from connector_mcp.cli.output.text import json_text, one_line, table
from connector_mcp.composition.engine import assembled
from connector_mcp.composition.readiness import require_platforms
from connector_mcp.config.settings import Settings
from connector_mcp.operations.tool import Tool


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array with the schemas, as clients get them.")
@with_overrides
def tools(overrides: dict[str, Any], as_json: bool) -> None:
    """List the tools that this configuration serves."""
    settings = load_settings(**overrides)
    require_platforms(settings, os.environ)
    served = anyio.run(_served, settings)
    if as_json:
        click.echo(json_text([contract(tool) for tool in served]))
        return
    rows = [
        (tool.name, effect_words(tool), "yes" if tool.annotations.destructive else "", first_sentence(tool.description))
        for tool in served
    ]
    click.echo(table(rows, header=("tool", "effect", "destructive", "what it does")))
    click.echo(f"{len(served)} tools", err=True)


async def _served(settings: Settings) -> tuple[Tool, ...]:
    async with assembled(settings, os.environ, "cli") as engine:
        return engine.tools()


def first_sentence(text: str) -> str:
    """The text up to its first full stop that ends a sentence."""
    sentence, stop, _ = one_line(text).partition(". ")
    return sentence + "." if stop else sentence
