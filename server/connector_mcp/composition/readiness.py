"""Which accounts this configuration serves, and what is missing for the others; names of variables, never values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from connector_mcp.composition.accounts import known_values, profiles_of, refuse_stray_variables
from connector_mcp.config.platform_variables import missing, platform_values
from connector_mcp.config.settings import Settings
from connector_mcp.errors import Misconfigured
from connector_mcp.operations.catalog import PLATFORMS, platform_folder
from connector_mcp.operations.platform import Platform


@dataclass(frozen=True)
class Readiness:
    """An account and its variables: those that are set and those the platform cannot be called without."""

    platform: Platform
    given: tuple[str, ...]
    lacking: tuple[str, ...]
    profile: str = ""
    """Its name in the file; empty where the account is that of the environment."""

    @property
    def configured(self) -> bool:
        return not self.lacking

    @property
    def wanted(self) -> bool:
        """Whether the server has to serve it: a profile of the file is never left out in silence."""
        return self.configured or bool(self.profile)

    @property
    def title(self) -> str:
        """The platform and, where it has a name, the profile."""
        return f"{self.platform.title} ({self.profile})" if self.profile else self.platform.title


def readiness(settings: Settings, environ: Mapping[str, str]) -> Iterator[Readiness]:
    """Each account that the configuration lets be served, platform by platform.

    Raises:
        Misconfigured: A variable of a platform has an unknown name or an impossible value, or makes a second account.
    """
    for name in settings.platforms or PLATFORMS:
        platform = platform_folder(name).platform
        refuse_stray_variables(settings, platform, environ)
        profiles = profiles_of(settings, platform)
        for profile in profiles:
            yield _readiness(platform, known_values(profile, environ), profile.name)
        if not profiles:
            yield _readiness(platform, platform_values(platform, environ))


def _readiness(platform: Platform, values: Mapping[str, str], profile: str = "") -> Readiness:
    lacking = tuple(variable.name for variable in missing(platform, values))
    return Readiness(platform, tuple(v.name for v in platform.variables if v.name in values), lacking, profile)


def platform_states(settings: Settings, environ: Mapping[str, str]) -> list[Readiness]:
    """The same; in the sandbox every platform is configured."""
    if settings.sandbox:
        platforms = [platform_folder(name).platform for name in settings.platforms or PLATFORMS]
        return [
            Readiness(platform, (), (), name)
            for platform in platforms
            for name in [profile.name for profile in profiles_of(settings, platform)] or [""]
        ]
    return list(readiness(settings, environ))


def require_platforms(settings: Settings, environ: Mapping[str, str]) -> None:
    """Do nothing where there is a platform to serve.

    Raises:
        Misconfigured: There is none; the fix names the variables of each.
    """
    if settings.sandbox:
        return
    known: list[Readiness] = []
    for each in readiness(settings, environ):
        if each.wanted:
            return
        known.append(each)
    width = max(len(each.platform.title) for each in known)
    wanted = "\n".join(f"  {each.platform.title.ljust(width)}  {', '.join(each.lacking)}" for each in known)
    raise Misconfigured(
        "No platform is configured, so there is nothing to serve.",
        fix=f"Set what is missing for at least one platform:\n{wanted}\n"
        "or try it without credentials: --sandbox (CONNECTOR_MCP_SANDBOX=true).",
    )


def left_out(settings: Settings, environ: Mapping[str, str]) -> Iterator[str]:
    """A sentence for each platform that has some of its variables and is not served."""
    if settings.sandbox:
        return
    for each in readiness(settings, environ):
        if each.lacking and each.given:
            yield f"{each.title} is not served: {', '.join(each.lacking)} not set."
