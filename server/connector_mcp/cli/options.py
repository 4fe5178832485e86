"""The options of every command that opens an engine. Each overrides its `CONNECTOR_MCP_*` variable."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from connector_mcp.config.settings import Settings
from connector_mcp.input_text import trim

if TYPE_CHECKING:
    from connector_mcp.config.file import ConfigFile

OVERRIDES = ("config", "sandbox", "sandbox_data", "read_only", "platforms", "toolsets", "tools", "policy")
"""The settings of these options; a command passes its own, such as `port`, to `load_settings`."""

CONFIG_NAME = "connector-mcp.toml"
_DURATION = re.compile(r"([1-9]\d{0,5})([dhm])")
_UNITS = {"d": "days", "h": "hours", "m": "minutes"}


def option_group(
    keyword: str, names: Sequence[str], options: Sequence[Callable[[Any], Any]]
) -> Callable[[Callable[..., Any]], Any]:
    """Return a decorator that adds the options to a command, which receives their values as one dict, `keyword`."""

    def decorate(command: Callable[..., Any]) -> Any:
        @wraps(command)
        def run(**given: Any) -> Any:
            group = {name: given.pop(name) for name in names}
            return command(**given, **{keyword: group})

        for option in reversed(options):
            run = option(run)
        return run

    return decorate


_OPTIONS = (
    click.option(
        "--config",
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE",
        help=f"Settings and profiles; by default {CONFIG_NAME} in the user's configuration directory.",
    ),
    click.option("--sandbox", is_flag=True, default=None, help="Use the emulated platforms instead of the real ones."),
    click.option(
        "--data",
        "sandbox_data",
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE",
        help="Keep the sandbox's data in this file; by default in memory.",
    ),
    click.option("--read-only", is_flag=True, default=None, help="Serve reads only, whatever the policy says."),
    click.option("--platforms", multiple=True, metavar="A,B", help="Serve only these platforms."),
    click.option("--toolsets", multiple=True, metavar="A,B", help="Serve these toolsets: default, all, or names."),
    click.option("--tools", multiple=True, metavar="PATTERN", help="Serve only matching tools, such as 'vectorize_*'."),
    click.option("--policy", metavar="TEXT", help="Rules such as 'destroy=approve,logto_*=block'."),
)
with_overrides = option_group("overrides", OVERRIDES, _OPTIONS)
"""Gives a command the common options; it receives them as `overrides`."""


def parse_duration(text: str) -> timedelta | None:
    """Return the duration of a text such as 90d, 12h or 30m, or None for other text."""
    match = _DURATION.fullmatch(text)
    return timedelta(**{_UNITS[match[2]]: int(match[1])}) if match else None


def load_settings(**overrides: Any) -> Settings:
    """Return the settings of the options, this process's environment and the file.

    Raises:
        Misconfigured: A setting is unknown or invalid.
    """
    given = options_given(overrides)
    return Settings.load(os.environ, find_config(os.environ, given.get("config")), **given)


def options_given(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that were given."""
    return {name: value for name, value in overrides.items() if value not in (None, ())}


def as_typed(overrides: Mapping[str, Any]) -> str:
    """Return the common options as they were given, to go behind a command that is to be run next."""
    words: list[str] = []
    for name, value in options_given(overrides).items():
        flag = "--data" if name == "sandbox_data" else f"--{name.replace('_', '-')}"
        values = cast("tuple[Any, ...]", value) if isinstance(value, tuple) else (value,)
        for each in values:
            words += [flag] if each is True else [flag, str(each)]
    return "".join(f" {shlex.quote(word)}" for word in words)


def find_config(environ: Mapping[str, str], named: Path | None = None) -> ConfigFile | None:
    """Return the file of the flag, the variable or the user's configuration directory, or None if there is none.

    The working directory is not searched: the author of files that an assistant works on could add a policy there.
    Errors are not raised, but are in the file's `problems`.
    """
    variable = trim(environ.get("CONNECTOR_MCP_CONFIG", ""))
    path = named or (Path(variable) if variable else None)
    if path is None:
        from platformdirs import user_config_path

        path = user_config_path("connector-mcp", appauthor=False) / CONFIG_NAME
        # A file that exists and cannot be read is an error: without it, its policy would be missing.
        if not os.path.lexists(path):
            return None
    # Imported only if needed: it takes milliseconds, and most servers have no file.
    from connector_mcp.config.file import read_config

    return read_config(path.expanduser())
