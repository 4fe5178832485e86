"""The options that every command with an engine takes. Each equals a `CONNECTOR_MCP_*` variable and wins over it."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from connector_mcp.settings import Settings

OVERRIDES = ("sandbox", "sandbox_data", "read_only", "platforms", "tools", "policy")
"""Settings that these options may give; what a command adds itself, such as `port`, it passes to `load_settings`."""

_OPTIONS = (
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
    """The settings of this process's environment and of the options; one that was not given does not count.

    Raises:
        Misconfigured: A setting is unknown or wrong.
    """
    return Settings.load(os.environ, **{name: value for name, value in overrides.items() if value not in (None, ())})
