"""`connector-mcp config`: all that is wrong with the settings and profiles, or what they come to."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from connector_mcp.cli.options import find_config, given_of, load_settings, with_overrides
from connector_mcp.cli.output.text import json_text, one_line, table
from connector_mcp.composition.accounts import (
    configured_platforms,
    policy_of,
    profiles_of,
    read_profile,
    refuse_stray_variables,
)
from connector_mcp.composition.engine import served_operations
from connector_mcp.composition.storage import open_secrets
from connector_mcp.config.platform_variables import is_configured, missing, platform_values
from connector_mcp.config.settings import Settings, is_secret
from connector_mcp.engine.policy import Policy
from connector_mcp.errors import Misconfigured
from connector_mcp.json_values import JsonObject
from connector_mcp.operations.catalog import PLATFORMS, catalog, platform_folder
from connector_mcp.operations.local import LIST_SECRETS
from connector_mcp.operations.platform import Platform, key_of
from connector_mcp.secrets.collection import Secrets

if TYPE_CHECKING:
    from connector_mcp.config.file import Profile

_Made = TypeVar("_Made")


@click.group()
def config() -> None:
    """Check the settings and profiles, and show where each is from."""


@config.command()
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@with_overrides
def check(overrides: dict[str, Any], as_json: bool) -> None:
    """Say all that is wrong with variables, options and the file, and not only the first of it.

    Follows every reference of a profile, and sends nothing. The exit status is 0 when nothing is wrong and 2 otherwise;
    `connector-mcp doctor` then finds out whether the platforms take the credentials.
    """
    given = given_of(overrides)
    file = find_config(os.environ, given.get("config"))
    settings, problems = Settings.examine(os.environ, file, **given)
    problems += all_problems(settings, os.environ)
    if as_json:
        told = [{"message": problem.message, "fix": problem.fix} for problem in problems]
        click.echo(json_text({"ok": not problems, "file": str(file.path) if file else None, "problems": told}))
    else:
        for problem in problems:
            click.echo(f"{click.style('wrong:', fg='red', bold=True)} {one_line(problem.message)}")
            click.echo(f"  fix: {one_line(problem.fix)}")
        where = f" in {file.path}" if file else "; there is no file"
        click.echo(f"Wrong: {len(problems)}." if problems else f"Nothing is wrong{where}.")
    sys.exit(Misconfigured.exit_status if problems else 0)


@config.command()
@click.option("--json", "as_json", is_flag=True, help="Print settings and profiles as JSON.")
@with_overrides
def show(overrides: dict[str, Any], as_json: bool) -> None:
    """Show every setting with where it is from, and the profiles of each platform. Never a credential."""
    settings = load_settings(**overrides)
    shown = as_shown(settings, os.environ)
    if as_json:
        click.echo(json_text(shown))
        return
    click.echo(f"File: {shown['file'] or 'none'}\n")
    rows = [(name, _text(each["value"]), each["from"]) for name, each in shown["settings"].items()]
    click.echo(table(rows, header=("setting", "value", "from")))
    for profile in shown["profiles"]:
        click.echo(f"\n{profile['platform']}, profile {profile['profile']}{' (default)' if profile['default'] else ''}")
        members = {**profile["variables"], **profile["options"]}
        for key, value in members.items():
            click.echo(f"  {key}: {_text(value)}")


def all_problems(settings: Settings, environ: Mapping[str, str]) -> list[Misconfigured]:
    """What is wrong with these settings, although each of them is understood."""
    found = _Problems()
    found.of(lambda: settings.secret("http_token"))
    server = Policy((), read_only=settings.read_only, transport="stdio")
    if settings.policy:
        tools = (*catalog(PLATFORMS), LIST_SECRETS)
        found.of(lambda: Policy.parse(settings.policy, read_only=False, transport="stdio", tools=tools))
    secrets = found.of(lambda: open_secrets(settings, environ))
    for name in PLATFORMS:
        _look_at_platform(settings, platform_folder(name).platform, environ, found)
    for profile in settings.profiles:
        found.of(partial(policy_of, profile, server))
        if secrets is not None and not settings.sandbox:
            found.problems += read_profile(profile, environ, secrets)[1]
            _look_at_names(profile, secrets, found)
    if secrets is not None and not found.problems:
        found.of(lambda: served_operations(settings, configured_platforms(settings, environ), secrets))
    return found.problems


class _Problems:
    """What steps that are tried one after the other complain of."""

    def __init__(self) -> None:
        self.problems: list[Misconfigured] = []

    def of(self, step: Callable[[], _Made]) -> _Made | None:
        try:
            return step()
        except Misconfigured as problem:
            self.problems.append(problem)
            return None


def _look_at_platform(settings: Settings, platform: Platform, environ: Mapping[str, str], found: _Problems) -> None:
    if settings.sandbox:
        return
    if profiles_of(settings, platform):
        found.of(lambda: refuse_stray_variables(settings, platform, environ))
        return
    values = found.of(lambda: platform_values(platform, environ))
    lacking = ", ".join(variable.name for variable in missing(platform, values or {}))
    if lacking and (values or platform.name in settings.platforms):
        found.problems.append(
            Misconfigured(f"{platform.title} is not served: {lacking} not set.", fix=f"Set {lacking}.")
        )


def _look_at_names(profile: Profile, secrets: Secrets, found: _Problems) -> None:
    known = found.of(secrets.names)
    for name in profile.options.secrets or ():
        if known is not None and name not in known:
            wrong = f"{profile.where}.secrets names {name}, which is not stored."
            fix = f"Run `connector-mcp secrets set {name}` in a terminal, or take it off the list."
            found.problems.append(Misconfigured(wrong, fix=fix))


def as_shown(settings: Settings, environ: Mapping[str, str]) -> JsonObject:
    """The settings and profiles as `config show --json` prints them."""
    plain = settings.model_dump(mode="json", exclude={"config"})
    told = {
        name: {
            "value": "set" if is_secret(name) and value is not None else value,
            "from": settings.origins.get(name, "default"),
        }
        for name, value in plain.items()
    }
    profiles: list[JsonObject] = [_profile_of_file(profile) for profile in settings.profiles]
    for name in PLATFORMS:
        platform = platform_folder(name).platform
        values = {} if settings.sandbox or profiles_of(settings, platform) else platform_values(platform, environ)
        if values and is_configured(platform, values):
            profiles.append(_profile_of_environment(platform, values))
    path = settings.config
    return {"file": None if path is None else str(path), "settings": told, "profiles": profiles}


def _profile_of_file(profile: Profile) -> JsonObject:
    secret = {variable.name for variable in profile.platform.variables if variable.secret}
    variables = {
        key_of(profile.platform, variable): given.origin if variable.name in secret or not given.text else given.text
        for variable in profile.platform.variables
        if (given := profile.given.get(variable.name)) is not None
    }
    options = profile.options.model_dump(mode="json", exclude_unset=True, exclude={"default"})
    return _shown(profile.platform, profile.name, variables, options, default=profile.options.default)


def _profile_of_environment(platform: Platform, values: Mapping[str, str]) -> JsonObject:
    variables = {
        key_of(platform, variable): f"set from {variable.name}" if variable.secret else values[variable.name]
        for variable in platform.variables
        if variable.name in values
    }
    return _shown(platform, "default", variables, {}, default=False)


def _shown(
    platform: Platform, name: str, variables: Mapping[str, str], options: Mapping[str, Any], *, default: bool
) -> JsonObject:
    return {
        "platform": platform.name,
        "profile": name,
        "default": default,
        "variables": dict(variables),
        "options": dict(options),
    }


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, cast("list[Any]", value)))
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else one_line(str(value))
