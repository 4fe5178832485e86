"""From profiles and variables to accounts: whose credentials, which policy, which limits."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from connector_mcp.config.platform_variables import is_configured, missing, platform_values
from connector_mcp.config.settings import Settings
from connector_mcp.config.validation import either
from connector_mcp.engine.account import Account
from connector_mcp.engine.policy import Policy
from connector_mcp.errors import Misconfigured
from connector_mcp.operations.catalog import PLATFORMS, catalog, platform_folder
from connector_mcp.operations.platform import Platform, key_of
from connector_mcp.secrets.collection import Secrets
from connector_mcp.secrets.reference import SCHEME, Unresolved, Use
from connector_mcp.telemetry.observer import NULL_OBSERVER, Observer
from connector_mcp.upstream.client import DEFAULT_LIMITS, UpstreamClient
from connector_mcp.upstream.rate import SharedRateLimit

if TYPE_CHECKING:
    from connector_mcp.config.file import Profile
    from connector_mcp.sandbox.app import Sandbox


def make_accounts(
    settings: Settings,
    environ: Mapping[str, str],
    sandbox: Sandbox | None,
    secrets: Secrets,
    policy: Policy,
    observer: Observer = NULL_OBSERVER,
    turns: SharedRateLimit | None = None,
) -> tuple[Account, ...]:
    """The accounts of every platform that is served. Where the file names none, the variables make the only one.

    `turns` are those of all replicas, where there are several: they keep one rate towards each platform together.

    Raises:
        Misconfigured: A profile or a platform that is named lacks something, or a policy names what does not exist.
    """
    accounts: list[Account] = []
    for name in configured_platforms(settings, environ):
        platform = platform_folder(name).platform
        profiles = profiles_of(settings, platform)
        if not profiles:
            values = sandbox.variables(name) if sandbox else platform_values(platform, environ)
            accounts.append(_account(platform, settings, environ, sandbox, values, observer, turns))
        for profile in profiles:
            values = sandbox.variables(name) if sandbox else _values(profile, environ, secrets)
            account = _account(platform, settings, environ, sandbox, values, observer, turns, profile)
            names = profile.options.secrets
            accounts.append(
                replace(
                    account,
                    profile=profile.name,
                    default=profile.options.default,
                    policy=policy_of(profile, policy),
                    secrets=None if names is None else frozenset(names),
                )
            )
    return tuple(accounts)


def configured_platforms(settings: Settings, environ: Mapping[str, str]) -> tuple[str, ...]:
    """The platforms that would be served, without building anything."""
    named = settings.platforms or PLATFORMS
    if settings.sandbox:
        return named
    return tuple(name for name in named if _is_served(platform_folder(name).platform, settings, environ))


def profiles_of(settings: Settings, platform: Platform) -> tuple[Profile, ...]:
    """The platform's profiles in the file."""
    return tuple(profile for profile in settings.profiles if profile.platform.name == platform.name)


def known_values(profile: Profile, environ: Mapping[str, str]) -> dict[str, str]:
    """The variables of a profile that are set; of those that secrets hold, the reference."""
    texts = {
        name: f"{SCHEME}{given.secret}" if given.secret else environ.get(given.env, "") if given.env else given.text
        for name, given in profile.given.items()
    }
    return {name: text.strip() for name, text in texts.items() if text.strip()}


def read_profile(
    profile: Profile, environ: Mapping[str, str], secrets: Secrets
) -> tuple[dict[str, str], list[Misconfigured]]:
    """The variables of a profile, and all that keeps it from being used. No value is told in the latter."""
    values, problems = known_values(profile, environ), list[Misconfigured]()
    for variable in profile.platform.variables:
        given, key = profile.given.get(variable.name), key_of(profile.platform, variable)
        place = f"{profile.where}.{key}"
        if given is None:
            continue
        if given.env and variable.name not in values:
            problems.append(Misconfigured(f"{place} is in {given.env}, which is not set.", fix=f"Set {given.env}."))
        elif given.env and variable.choices and values[variable.name] not in variable.choices:
            wanted = either(variable.choices)
            problems.append(Misconfigured(f"{given.env}, for {place}, is none of its choices.", fix=f"Use {wanted}."))
        elif given.secret:
            try:
                values[variable.name] = secrets.resolve(given.secret, Use(profile.platform.name, profile.name, key))
            except Unresolved as unresolved:
                fix = f"Run `connector-mcp secrets set {given.secret}` in a terminal, or correct {place}."
                problems.append(Misconfigured(f"{place} is {unresolved.got}; wanted {unresolved.wanted}.", fix=fix))
            except Misconfigured as problem:
                problems.append(problem)
    lacking = [v for v in missing(profile.platform, values) if v.name not in profile.given]
    if lacking:
        keys = ", ".join(key_of(profile.platform, variable) for variable in lacking)
        problems.append(Misconfigured(f"{profile.where} lacks {keys}.", fix=f"Give {keys}, or remove the profile."))
    return values, problems


def refuse_stray_variables(settings: Settings, platform: Platform, environ: Mapping[str, str]) -> None:
    """Do nothing where the platform has no profiles, or the environment nothing of it that no profile takes.

    Raises:
        Misconfigured: There is another account in the environment: which one a call means could only be guessed.
    """
    profiles = profiles_of(settings, platform)
    taken = {given.env for profile in profiles for given in profile.given.values()}
    stray = platform_values(platform, {name: value for name, value in environ.items() if name not in taken})
    if profiles and stray:
        first = next(iter(stray))
        raise Misconfigured(
            f"{', '.join(stray)} set beside the profiles of {platform.title} in {settings.config}.",
            fix=f'Unset it, or let a profile take it: {{ env = "{first}" }}.',
        )


def policy_of(profile: Profile, server: Policy) -> Policy:
    """The profile's policy within the server's. Its rules are about the platform's tools alone.

    Raises:
        Misconfigured: A rule is malformed or names nothing.
    """
    options = profile.options
    tools: Collection[str] | None = catalog([profile.platform.name]) if options.policy else None
    setting = f"{profile.where}.policy"
    own = Policy.parse(
        options.policy, read_only=options.read_only, transport=server.transport, tools=tools, setting=setting
    )
    return own.within(server, profile.name)


def _values(profile: Profile, environ: Mapping[str, str], secrets: Secrets) -> dict[str, str]:
    values, problems = read_profile(profile, environ, secrets)
    if problems:
        raise problems[0]
    return values


def _is_served(platform: Platform, settings: Settings, environ: Mapping[str, str]) -> bool:
    refuse_stray_variables(settings, platform, environ)
    if profiles_of(settings, platform):
        return True
    values = platform_values(platform, environ)
    if is_configured(platform, values):
        return True
    if platform.name in settings.platforms:
        lacking = ", ".join(variable.name for variable in missing(platform, values))
        raise Misconfigured(
            f"{platform.title} is to be served, but lacks {lacking}.",
            fix=f"Set {lacking}, or leave {platform.name} out of the platforms.",
        )
    return False


def _account(
    platform: Platform,
    settings: Settings,
    environ: Mapping[str, str],
    sandbox: Sandbox | None,
    values: Mapping[str, str],
    observer: Observer,
    turns: SharedRateLimit | None,
    profile: Profile | None = None,
) -> Account:
    own = profile.options if profile else None
    limits = replace(
        DEFAULT_LIMITS,
        deadline=(own and own.deadline) or settings.deadline,
        answer_bytes=settings.max_answer_bytes,
        in_flight=(own and own.upstream_concurrency) or settings.upstream_concurrency,
        requests_per_second=(own and own.requests_per_second) or settings.requests_per_second,
    )
    transport = None
    if sandbox is not None:
        chosen = {option.name: environ[option.name] for option in platform.options if environ.get(option.name)}
        values, transport = {**values, **chosen}, sandbox.transport(platform.name)
    secret = {variable.name for variable in platform.variables if variable.secret}
    return Account(
        platform=platform,
        client=UpstreamClient(
            platform,
            values,
            transport=transport,
            limits=limits,
            shared_rate_limit=turns,
            account=f"{platform.name}:{profile.name if profile else 'default'}",
            observer=observer,
        ),
        options={key: value for key, value in values.items() if key not in secret},
        sandbox=sandbox is not None,
    )
