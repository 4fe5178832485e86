"""`connector-mcp config`: all problems of the settings and profiles, or the values in force."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast, get_args

import click

from connector_mcp.cli.options import find_config, options_given, with_overrides
from connector_mcp.cli.output import json_text, show_failure, table
from connector_mcp.composition.accounts import (
    configured_platforms,
    missing,
    platform_values,
    profile_policy,
    profiles_of,
    read_profile,
    refuse_stray_variables,
)
from connector_mcp.composition.engine import make_announcements, served_operations, server_policy
from connector_mcp.composition.health import check_state_directory
from connector_mcp.composition.storage import open_database, open_secrets
from connector_mcp.config.file import FilePlace, Given, Profile, ProfileOptions
from connector_mcp.config.settings import SecretName, Settings, is_secret
from connector_mcp.engine.policy import Policy
from connector_mcp.errors import Misconfigured
from connector_mcp.input_text import trim
from connector_mcp.json_values import JsonObject
from connector_mcp.operations.catalog import PLATFORMS, platform_folder
from connector_mcp.operations.platform import Platform, key_of
from connector_mcp.secrets.collection import Secrets
from connector_mcp.secrets.reference import SCHEME
from connector_mcp.text import clean
from connector_mcp.upstream.urls import read_roots

_Made = TypeVar("_Made")


@click.group()
def config() -> None:
    """Check the settings and profiles, and show where each value is from."""


@config.command()
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@with_overrides
def check(overrides: dict[str, Any], as_json: bool) -> None:
    """Report all problems of variables, options and the file.

    Resolves every reference of a profile, and sends nothing. The exit status is 0 if there is no problem and 2
    otherwise. `connector-mcp doctor` checks whether the platforms accept the credentials.
    """
    given = options_given(overrides)
    file = find_config(os.environ, given.get("config"))
    settings, problems = Settings.examine(os.environ, file, **given)
    problems += _find_problems(settings, os.environ)
    if as_json:
        told = [{"message": problem.message, "fix": problem.fix} for problem in problems]
        click.echo(json_text({"ok": not problems, "file": str(file.path) if file else None, "problems": told}))
    else:
        for problem in problems:
            click.echo(f"{click.style('wrong:', fg='red', bold=True)} {clean(problem.message)}")
            click.echo(f"  fix: {clean(problem.fix)}")
        where = f" in {file.path}" if file else "; there is no file"
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        click.echo(f"{count} to correct." if problems else f"Nothing is wrong{where}.")
    sys.exit(Misconfigured.exit_status if problems else 0)


@config.command()
@click.option("--json", "as_json", is_flag=True, help="Print settings and profiles as JSON.")
@with_overrides
def show(overrides: dict[str, Any], as_json: bool) -> None:
    """Show every setting and its origin, and the profiles of each platform. Credentials are not shown.

    Problems are printed to stderr; the exit status is 2 then.
    """
    given = options_given(overrides)
    settings, problems = Settings.examine(os.environ, find_config(os.environ, given.get("config")), **given)
    shown = _report(settings, os.environ, problems)
    _print_settings(shown) if not as_json else click.echo(json_text(shown))
    for problem in problems:
        show_failure(problem.message, problem.fix)
    sys.exit(Misconfigured.exit_status if problems else 0)


def _print_settings(shown: JsonObject) -> None:
    click.echo(f"File: {shown['file'] or 'none'}\n")
    rows = [(name, _text(each["value"]), each["from"]) for name, each in shown["settings"].items()]
    click.echo(table(rows, header=("setting", "value", "from")))
    for profile in shown["profiles"]:
        click.echo(f"\n{profile['platform']}, profile {profile['profile']}{' (default)' if profile['default'] else ''}")
        members = {**profile["variables"], **profile["options"]}
        for key, value in members.items():
            click.echo(f"  {key}: {_text(value)}")


def _find_problems(settings: Settings, environ: Mapping[str, str]) -> list[Misconfigured]:
    """Find the problems of settings that are valid one by one."""
    problems: list[Misconfigured] = []
    for name in get_args(SecretName):
        _attempt(problems, partial(settings.secret, name))
    _check_serving(settings, environ, problems)
    server = Policy((), read_only=settings.read_only, transport="stdio")
    _attempt(problems, lambda: server_policy(settings, "stdio"))
    secrets = _attempt(problems, lambda: open_secrets(settings, environ))
    for name in PLATFORMS if not settings.sandbox else ():
        platform = platform_folder(name).platform
        values = _check_platform(settings, platform, environ, problems)
        problems += _check_way(platform, values, problems)
    for profile in settings.profiles:
        _attempt(problems, partial(profile_policy, profile, server))
        if secrets is not None and not settings.sandbox:
            values, wrong = read_profile(profile, environ, secrets)
            problems += wrong
            problems += _check_way(profile.platform, values, problems)
            _check_secret_names(profile, secrets, problems)
    if secrets is not None and not problems:
        _attempt(problems, lambda: served_operations(settings, configured_platforms(settings, environ), secrets))
    return problems


def _check_serving(settings: Settings, environ: Mapping[str, str], problems: list[Misconfigured]) -> None:
    """Find what would end a start: settings of the database, the webhook, callers, operators and the export."""
    # Imported here because they bring the web server and OpenTelemetry.
    from connector_mcp.composition.http_access import make_access, read_callback_key, read_operators
    from connector_mcp.telemetry.export import exported_signals
    from connector_mcp.transport.http.app import require_authorization
    from connector_mcp.transport.http.host_guard import Reach

    _attempt(problems, lambda: open_database(settings).close())
    if settings.state is None and not (found := check_state_directory(settings.state_dir))["writable"]:
        wrong = f"The state directory {settings.state_dir} {found['detail']}."
        problems.append(Misconfigured(wrong, fix=found["fix"]))
    # The rest needs no database, so a wrong address of one hides nothing.
    alone = settings.model_copy(update={"state": None})
    _attempt(problems, lambda: make_announcements(alone, open_database(alone)))
    _attempt(problems, lambda: read_callback_key(alone))
    _attempt(problems, lambda: read_operators(alone))
    if access := _attempt(problems, lambda: make_access(alone)):
        host, port = settings.host, settings.port
        _attempt(problems, lambda: Reach.for_address(host, port, hosts=access.hosts, origins=access.origins))
        _attempt(problems, lambda: require_authorization(host, access.callers))
    if settings.otel:
        _attempt(problems, lambda: exported_signals(environ))


def _attempt(problems: list[Misconfigured], step: Callable[[], _Made]) -> _Made | None:
    """Return what the step returns, or None after adding the problem that it raises, unless it is known."""
    try:
        return step()
    except Misconfigured as problem:
        if problem.message not in {known.message for known in problems}:
            problems.append(problem)
        return None


def _check_platform(
    settings: Settings, platform: Platform, environ: Mapping[str, str], problems: list[Misconfigured]
) -> Mapping[str, str]:
    """Return the values of the platform's account in the environment, if there is one."""
    if profiles_of(settings, platform):
        _attempt(problems, lambda: refuse_stray_variables(settings, platform, environ))
        return {}
    values = _attempt(problems, lambda: platform_values(platform, environ))
    lacking = ", ".join(variable.name for variable in missing(platform, values or {}))
    if lacking and (values or platform.name in settings.platforms):
        problems.append(Misconfigured(f"{platform.title} is not served: {lacking} not set.", fix=f"Set {lacking}."))
    return values or {}


def _check_way(platform: Platform, values: Mapping[str, str], problems: Sequence[Misconfigured]) -> list[Misconfigured]:
    """Find problems of an account's address, its credentials and the machine's settings on the way, each once."""
    if not values or missing(platform, values):
        return []
    # Imported only if an account is complete: they bring the HTTP client.
    from connector_mcp.upstream.auth.credentials import make_authorizer
    from connector_mcp.upstream.proxy import check_way

    found: list[Misconfigured] = []
    roots = _attempt(found, lambda: read_roots(platform, values))
    if roots:
        _attempt(found, lambda: make_authorizer(platform, values, roots[None], time.monotonic, time.time))
        found += check_way(roots[None])
    known = {problem.message for problem in problems}
    return [problem for problem in found if problem.message not in known]


def _check_secret_names(profile: Profile, secrets: Secrets, problems: list[Misconfigured]) -> None:
    known = _attempt(problems, secrets.names)
    for name in profile.options.secrets or ():
        if known is not None and name not in known:
            wrong = f"{profile.where.at('secrets')} names {name}, which is not stored."
            fix = f"Run `connector-mcp secrets set {name}` in a terminal, or remove it from the list."
            problems.append(Misconfigured(wrong, fix=fix))


def _report(settings: Settings, environ: Mapping[str, str], problems: list[Misconfigured]) -> JsonObject:
    values = settings.model_dump(mode="json", exclude={"config"})
    shown = {
        name: {
            "value": "set" if is_secret(name) and value is not None else value,
            "from": settings.origins.get(name, "default"),
        }
        for name, value in values.items()
    }
    profiles = list(settings.profiles)
    for name in PLATFORMS:
        platform = platform_folder(name).platform
        apart = settings.sandbox or profiles_of(settings, platform)
        texts = {} if apart else _attempt(problems, partial(platform_values, platform, environ)) or {}
        if texts and not missing(platform, texts):
            given = {name: Given(text, env=name) for name, text in texts.items()}
            profiles.append(Profile(platform, "default", FilePlace(Path()), given, ProfileOptions()))
    secrets = _attempt(problems, lambda: open_secrets(settings, environ))
    stored = secrets and _attempt(problems, secrets.names)
    file = str(settings.config) if settings.config else None
    return {"file": file, "settings": shown, "profiles": [_profile(each, environ, stored) for each in profiles]}


def _profile(profile: Profile, environ: Mapping[str, str], stored: Collection[str] | None) -> JsonObject:
    """Return a profile with the text of each variable that has one and is not secret, or else its origin."""

    def origin(value: Given) -> str:
        if value.secret:
            reference = f"{SCHEME}{value.secret}"
            if stored is None:
                return f"{reference} (not checked)"
            return f"set from {reference}" if value.secret in stored else f"not set: {reference} is not stored"
        if value.env:
            return f"set from {value.env}" if trim(environ.get(value.env, "")) else f"not set: {value.env} is not set"
        return "set" if value.text else "not set"

    given = [(each, profile.given[each.name]) for each in profile.platform.variables if each.name in profile.given]
    return {
        "platform": profile.platform.name,
        "profile": profile.name,
        "default": profile.options.default,
        "variables": {
            key_of(profile.platform, variable): value.text if value.text and not variable.secret else origin(value)
            for variable, value in given
        },
        "options": profile.options.model_dump(mode="json", exclude_unset=True, exclude={"default"}),
    }


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, cast("list[Any]", value)))
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else clean(str(value))
