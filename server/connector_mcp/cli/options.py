"""The options that every command with an engine takes. Each equals a `CONNECTOR_MCP_*` variable and wins over it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from connector_mcp.config.settings import Settings

if TYPE_CHECKING:
    from connector_mcp.config.file import ConfigFile

OVERRIDES = ("config", "sandbox", "sandbox_data", "read_only", "platforms", "tools", "policy")
"""Settings that these options may give; what a command adds itself, such as `port`, it passes to `load_settings`."""

CONFIG_NAME = "connector-mcp.toml"
_OPTIONS = (
    click.option(
        "--config",
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE",
        help=f"Settings and profiles; {CONFIG_NAME} in the user's configuration directory otherwise.",
    ),
    click.option("--sandbox", is_flag=True, default=None, help="Use the emulated platforms, not the real ones."),
    click.option(
        "--data",
        "sandbox_data",
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE",
        help="Keep the sandbox in this file; in memory otherwise.",
    ),
    click.option("--read-only", is_flag=True, default=None, help="Serve reads only, whatever the policy says."),
    click.option("--platforms", multiple=True, metavar="A,B", help="Serve these platforms only."),
    click.option("--tools", multiple=True, metavar="PATTERN", help="Serve only matching tools, such as 'vectorize_*'."),
    click.option("--policy", metavar="TEXT", help="Such as 'destroy=approve,logto_*=block'."),
)


def with_overrides(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the common options; it receives what was given of them as `overrides`."""

    @wraps(command)
    def run(**given: Any) -> Any:
        overrides = {name: given.pop(name) for name in OVERRIDES}
        return command(overrides=overrides, **given)

    for option in reversed(_OPTIONS):
        run = option(run)
    return run


def load_settings(**overrides: Any) -> Settings:
    """The settings of this process's environment, of the options and of the file; what was not given does not count.

    Raises:
        Misconfigured: A setting is unknown or wrong.
    """
    given = given_of(overrides)
    return Settings.load(os.environ, find_config(os.environ, given.get("config")), **given)


def given_of(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were given."""
    return {name: value for name, value in overrides.items() if value not in (None, ())}


def find_config(environ: Mapping[str, str], named: Path | None = None) -> ConfigFile | None:
    """The file of the flag, of the variable, or of the user's configuration directory; None where there is none.

    The working directory is not searched: there, whoever wrote the files that an assistant works on could put a policy
    of their own. Nothing is raised: what is wrong with the file is in its `problems`.
    """
    variable = environ.get("CONNECTOR_MCP_CONFIG", "").strip()
    path = named or (Path(variable) if variable else None)
    if path is None:
        from platformdirs import user_config_path

        path = user_config_path("connector-mcp", appauthor=False) / CONFIG_NAME
        # One that may not be read is an error, and no reason to go on without its policy.
        if not os.path.lexists(path):
            return None
    # Takes some milliseconds to import, and most servers have no file.
    from connector_mcp.config.file import read_config

    return read_config(path.expanduser())
