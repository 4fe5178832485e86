"""From profiles and variables to accounts: credentials, policy and limits, and which platforms lack what."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from connector_mcp.config.settings import Settings
from connector_mcp.config.validation import either, unknown_name
from connector_mcp.engine.accounts import Account
from connector_mcp.engine.policy import Policy
from connector_mcp.errors import Misconfigured
from connector_mcp.input_text import check_expanded, trim
from connector_mcp.operations.catalog import PLATFORMS, catalog, platform_folder
from connector_mcp.operations.platform import ApiKey, ClientCredentials, Platform, SignedAssertion, Variable, key_of
from connector_mcp.secrets.collection import Secrets
from connector_mcp.secrets.reference import SCHEME, Unresolved, Use
from connector_mcp.suggest import closest
from connector_mcp.telemetry.observer import NULL_OBSERVER, Observer
from connector_mcp.upstream.client import DEFAULT_LIMITS, ClientLimits, UpstreamClient
from connector_mcp.upstream.rate import SharedRateLimit

if TYPE_CHECKING:
    from connector_mcp.config.file import Profile
    from connector_mcp.sandbox.app import Sandbox


def make_accounts(
    settings: Settings,
    environ: Mapping[str, str],
    sandbox_of: Callable[[str], Sandbox] | None,
    secrets: Secrets,
    policy: Policy,
    observer: Observer = NULL_OBSERVER,
    shared_rate: SharedRateLimit | None = None,
) -> tuple[Account, ...]:
    """Return the accounts of every served platform: one for each profile, or one from the environment.

    `sandbox_of` opens the sandbox of a profile by its name; None uses the real platforms. `shared_rate` is the rate
    limit that replicas share; None with a single process.

    Raises:
        Misconfigured: A profile or a named platform lacks something, or a policy names something that does not exist.
    """
    accounts: list[Account] = []
    for name in configured_platforms(settings, environ):
        platform = platform_folder(name).platform
        secret = {variable.name for variable in platform.variables if variable.secret}
        for profile in profiles_of(settings, platform) or (None,):
            profile_name, transport = profile.name if profile else "default", None
            if sandbox_of is not None:
                sandbox = sandbox_of(profile_name)
                chosen = {option.name: environ[option.name] for option in platform.options if environ.get(option.name)}
                values, transport = {**sandbox.variables(name), **chosen}, sandbox.transport(name)
            elif profile is not None:
                values, problems = read_profile(profile, environ, secrets)
                if problems:
                    raise problems[0]
            else:
                values = platform_values(platform, environ)
            account = Account(
                platform=platform,
                client=UpstreamClient(
                    platform,
                    values,
                    transport=transport,
                    limits=_limits(settings, profile),
                    shared_rate_limit=shared_rate,
                    account=f"{platform.name}:{profile_name}",
                    observer=observer,
                ),
                options={key: value for key, value in values.items() if key not in secret},
                sandbox=sandbox_of is not None,
            )
            if profile is not None:
                names = profile.options.secrets
                account = replace(
                    account,
                    profile=profile.name,
                    default=profile.options.default,
                    policy=profile_policy(profile, policy),
                    secrets=None if names is None else frozenset(names),
                )
            accounts.append(account)
    return tuple(accounts)


def _limits(settings: Settings, profile: Profile | None) -> ClientLimits:
    own = profile.options if profile else None
    return replace(
        DEFAULT_LIMITS,
        deadline=(own and own.deadline) or settings.deadline,
        answer_bytes=settings.max_answer_bytes,
        in_flight=(own and own.upstream_concurrency) or settings.upstream_concurrency,
        requests_per_second=(own and own.requests_per_second) or settings.requests_per_second,
    )


def configured_platforms(settings: Settings, environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the names of the platforms that would be served.

    Raises:
        Misconfigured: A named platform lacks a variable, or a variable makes a second account.
    """
    states = readiness(settings, environ)
    for state in states:
        if not state.wanted and state.platform.name in settings.platforms:
            lacking = ", ".join(state.lacking)
            raise Misconfigured(
                f"{state.platform.title} is one of the platforms to serve, but lacks {lacking}.",
                fix=f"Set {lacking}, or remove {state.platform.name} from the platforms.",
            )
    return tuple(dict.fromkeys(state.platform.name for state in states if state.wanted))


def profiles_of(settings: Settings, platform: Platform) -> tuple[Profile, ...]:
    """Return the platform's profiles in the file."""
    return tuple(profile for profile in settings.profiles if profile.platform.name == platform.name)


def known_values(profile: Profile, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of a profile that are set; for one that is a secret, its reference."""
    texts = {
        name: f"{SCHEME}{given.secret}" if given.secret else environ.get(given.env, "") if given.env else given.text
        for name, given in profile.given.items()
    }
    return {name: value for name, text in texts.items() if (value := trim(text))}


def read_profile(
    profile: Profile, environ: Mapping[str, str], secrets: Secrets
) -> tuple[dict[str, str], list[Misconfigured]]:
    """Return the variables of a profile with secrets resolved, and all its problems. A problem repeats no value."""
    values, problems = known_values(profile, environ), list[Misconfigured]()
    for variable in profile.platform.variables:
        given, key = profile.given.get(variable.name), key_of(profile.platform, variable)
        place = str(profile.where.at(key))
        if given is None:
            continue
        if given.env and variable.name not in values:
            problems.append(
                Misconfigured(f"{place} is read from {given.env}, which is not set.", fix=f"Set {given.env}.")
            )
        elif given.env and variable.choices and values[variable.name] not in variable.choices:
            expected = either(variable.choices)
            problems.append(Misconfigured(f"{given.env}, for {place}, is invalid.", fix=f"Use {expected}."))
        elif given.secret:
            try:
                values[variable.name] = secrets.find(given.secret, Use(profile.platform.name, profile.name, key)).value
            except Unresolved as unresolved:
                fix = f"Run `connector-mcp secrets set {given.secret}` in a terminal, or correct {place}."
                problems.append(Misconfigured(f"{place} is {unresolved.got}; wanted {unresolved.wanted}.", fix=fix))
            except Misconfigured as problem:
                problems.append(problem)
        try:
            check_expanded(given.env or place, values.get(variable.name, ""))
        except Misconfigured as problem:
            problems.append(problem)
    lacking = [variable for variable in missing(profile.platform, values) if variable.name not in profile.given]
    if lacking:
        keys = ", ".join(key_of(profile.platform, variable) for variable in lacking)
        problems.append(Misconfigured(f"{profile.where} lacks {keys}.", fix=f"Add {keys}, or remove the profile."))
    return values, problems


def refuse_stray_variables(settings: Settings, platform: Platform, environ: Mapping[str, str]) -> None:
    """Raise if the environment holds an account in addition to the platform's profiles.

    Raises:
        Misconfigured: It does, so it would be unclear which account a call means.
    """
    profiles = profiles_of(settings, platform)
    taken = {given.env for profile in profiles for given in profile.given.values()}
    stray = platform_values(platform, {name: value for name, value in environ.items() if name not in taken})
    if profiles and stray:
        first = next(iter(stray))
        raise Misconfigured(
            f"{', '.join(stray)} set in addition to the profiles of {platform.title} in {settings.config}.",
            fix=f'Unset it, or use it in a profile: {{ env = "{first}" }}.',
        )


def profile_policy(profile: Profile, server: Policy) -> Policy:
    """Return the profile's policy, bounded by the server's. Its rules can only name the platform's tools.

    Raises:
        Misconfigured: A rule is malformed or matches nothing.
    """
    options = profile.options
    tools: Collection[str] | None = catalog([profile.platform.name]) if options.policy else None
    setting = str(profile.where.at("policy"))
    own = Policy.parse(
        options.policy, read_only=options.read_only, transport=server.transport, tools=tools, setting=setting
    )
    return own.within(server, profile.name)


def platform_values(platform: Platform, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the platform's variables that are set, without surrounding white space.

    Raises:
        Misconfigured: A variable is a misspelling of one of the platform's, a value is not one of its choices, or a
            launcher did not expand or unquote it.
    """
    prefix = f"{platform.name.upper()}_"
    known = {variable.name: variable for variable in platform.variables}
    values: dict[str, str] = {}
    for name, raw in environ.items():
        value = trim(raw)
        if not value or not name.upper().startswith(prefix):
            continue
        variable = known.get(name)
        if variable is None:
            # Other programs use this prefix too; only a name close to one of the platform's is a mistake.
            if name not in platform.foreign_variables and closest(name, known, cutoff=0.75):
                raise unknown_name(name, name, known, "variable")
            continue
        check_expanded(name, value)
        if variable.choices and value not in variable.choices:
            got = "invalid" if variable.secret else repr(value)
            raise Misconfigured(
                f"{name} is {got}; expected: {either(variable.choices)}.",
                fix=f"Set {name} to one of these, or unset it.",
            )
        values[name] = value
    return values


def missing(platform: Platform, values: Mapping[str, str]) -> list[Variable]:
    """Return the variables that are still needed to call the platform, in the order of its declaration."""
    credentials = platform.credentials
    match credentials:
        case ApiKey(key=key):
            needed = [key]
        case ClientCredentials(client_id=client_id, client_secret=client_secret):
            needed = [client_id, client_secret]
        case SignedAssertion(client_id=client_id, client_secret=client_secret, access_token=access_token):
            needed = [] if access_token.name in values else [client_id, client_secret]
    lacking = [variable for variable in needed if variable.name not in values]
    if platform.base_url.name in values or platform.base_url.default is not None:
        return lacking
    derive = platform.base_url_from
    if derive is None:
        return [*lacking, platform.base_url]
    # The address can follow from the id; while that is missing, the address is not reported as missing too.
    known_to_lack = not any(variable in lacking for variable in needed[:1]) and derive(values) is None
    return [*lacking, platform.base_url] if known_to_lack else lacking


@dataclass(frozen=True)
class Readiness:
    """An account: its variables that are set, and those that are missing. Names only, never values."""

    platform: Platform
    given: tuple[str, ...]
    lacking: tuple[str, ...]
    profile: str = ""
    """Its name in the file; empty for the account of the environment."""

    @property
    def configured(self) -> bool:
        return not self.lacking

    @property
    def wanted(self) -> bool:
        """True if the server must serve it: a profile of the file is never left out silently."""
        return self.configured or bool(self.profile)

    @property
    def title(self) -> str:
        """The platform, with the profile if it has a name."""
        return f"{self.platform.title} ({self.profile})" if self.profile else self.platform.title


def readiness(settings: Settings, environ: Mapping[str, str]) -> list[Readiness]:
    """Return the state of each account, platform by platform. In the sandbox every platform is configured.

    Raises:
        Misconfigured: A platform's variable is unknown or invalid, or makes a second account.
    """
    states: list[Readiness] = []
    for name in settings.platforms or PLATFORMS:
        platform = platform_folder(name).platform
        profiles = profiles_of(settings, platform)
        if settings.sandbox:
            names = [profile.name for profile in profiles] or [""]
            states += [Readiness(platform, (), (), each) for each in names]
            continue
        refuse_stray_variables(settings, platform, environ)
        accounts = {profile.name: known_values(profile, environ) for profile in profiles}
        for profile, values in (accounts or {"": platform_values(platform, environ)}).items():
            given = tuple(variable.name for variable in platform.variables if variable.name in values)
            lacking = tuple(variable.name for variable in missing(platform, values))
            states.append(Readiness(platform, given, lacking, profile))
    return states


def require_platforms(settings: Settings, environ: Mapping[str, str]) -> None:
    """Raise unless at least one platform is configured.

    Raises:
        Misconfigured: None is; the fix names the missing variables of each.
    """
    states = readiness(settings, environ)
    if any(state.wanted for state in states):
        return
    width = max(len(state.platform.title) for state in states)
    lines = "\n".join(f"  {state.platform.title.ljust(width)}  {', '.join(state.lacking)}" for state in states)
    raise Misconfigured(
        "No platform is configured, so there is nothing to serve.",
        fix=f"Set the missing variables of at least one platform:\n{lines}\n"
        "or try it without credentials: --sandbox (CONNECTOR_MCP_SANDBOX=true).",
    )


def left_out(settings: Settings, environ: Mapping[str, str], *, begun: bool = False) -> Iterator[str]:
    """Yield why each platform is not served; with `begun` only for those that have some of their variables."""
    for state in readiness(settings, environ):
        if state.lacking and (state.given or not begun):
            yield f"{state.title} is not served: {', '.join(state.lacking)} not set."
    if settings.platforms and not begun:
        for platform in (platform_folder(name).platform for name in PLATFORMS if name not in settings.platforms):
            yield f"{platform.title} is not served: {settings.place('platforms')} leaves it out."
