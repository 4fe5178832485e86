"""The arguments of a tool as they are typed: `--arg name=value` and `--json`."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import click

from connector_mcp.json_values import JsonObject


def arguments_given(text: str | None, pairs: Sequence[str], schema: JsonObject) -> JsonObject:
    """The arguments of a call: the object of `--json`, and over it each `--arg`.

    A value of `--arg` is taken as it is where the tool's schema wants a string, and as JSON elsewhere; what is no JSON
    stays a string, so that the engine says what is wrong with it.

    Raises:
        click.BadParameter: A pair has no `=`, or `--json` is no JSON object or cannot be read. Values are not repeated.
    """
    arguments = _object(text) if text is not None else {}
    properties: Mapping[str, JsonObject] = schema.get("properties", {})
    for pair in pairs:
        name, equals, value = pair.partition("=")
        name = name.strip()
        if not equals or not name:
            raise click.BadParameter("write it as name=value.", param_hint="--arg")
        arguments[name] = _typed(value, properties.get(name, {}).get("type"))
    return arguments


def _typed(value: str, wanted: Any) -> Any:
    if wanted == "string":
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value


def _object(text: str) -> JsonObject:
    source = "the text"
    if text == "-":
        source, text = "standard input", sys.stdin.read()
    elif text.startswith("@"):
        source = text[1:]
        try:
            text = Path(source).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise click.BadParameter(f"cannot read {source}: {error}.", param_hint="--json") from error
    try:
        value = json.loads(text)
    except ValueError as error:
        where = f" (line {error.lineno}, column {error.colno})" if isinstance(error, json.JSONDecodeError) else ""
        raise click.BadParameter(f"{source} is not JSON{where}.", param_hint="--json") from None
    if not isinstance(value, dict):
        raise click.BadParameter(f"{source} is not a JSON object.", param_hint="--json")
    return cast("JsonObject", value)
