"""The platforms' own variables: which are set, and which are missing before a platform can be called."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches

from connector_mcp.errors import Misconfigured
from connector_mcp.operations.platform import ApiKey, ClientCredentials, Platform, SignedAssertion, Variable


def platform_values(platform: Platform, environ: Mapping[str, str]) -> dict[str, str]:
    """The platform's variables that are set, without surrounding white space.

    Raises:
        Misconfigured: A variable is a misspelling of one of the platform's, or a value is not one of its choices.
    """
    prefix = f"{platform.name.upper()}_"
    known = {variable.name: variable for variable in platform.variables}
    values: dict[str, str] = {}
    for name, raw in environ.items():
        value = raw.strip()
        if not value or not name.upper().startswith(prefix):
            continue
        variable = known.get(name)
        if variable is None:
            # Other programs have variables with this prefix too; only what looks like one of ours is a mistake.
            if name not in platform.foreign_variables and get_close_matches(name.upper(), known, n=1, cutoff=0.75):
                raise unknown_variable(name, known)
            continue
        if variable.choices and value not in variable.choices:
            got = "set to something else" if variable.secret else repr(value)
            raise Misconfigured(
                f"{name} is {got}; wanted {either(variable.choices)}.",
                fix=f"Set {name} to one of these, or unset it.",
            )
        values[name] = value
    return values


def is_configured(platform: Platform, values: Mapping[str, str]) -> bool:
    """Whether the platform can be called with these values."""
    return not missing(platform, values)


def missing(platform: Platform, values: Mapping[str, str]) -> list[Variable]:
    """The variables without which the platform cannot be called, in the order of its declaration."""
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
    # As long as the id that may name the address is missing, it is not known whether the address is.
    known_to_lack = not any(variable in lacking for variable in needed[:1]) and derive(values) is None
    return [*lacking, platform.base_url] if known_to_lack else lacking


def unknown_variable(name: str, known: Iterable[str]) -> Misconfigured:
    """The error of a variable that has our or a platform's prefix and does not exist."""
    names = list(known)
    nearest = get_close_matches(name.upper(), names, n=1, cutoff=0.0)
    return Misconfigured(
        f"{name} is set, but there is no such setting; the nearest is {nearest[0]}.",
        fix=f"Set {nearest[0]} instead, or unset {name}. There are: {', '.join(names)}.",
    )


def either(names: Iterable[str]) -> str:
    """The names as a choice between them, in words."""
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last
