"""The platforms' own environment variables: which are set, and which are missing."""

from __future__ import annotations

from collections.abc import Mapping

from connector_mcp.config.validation import either, unknown_name
from connector_mcp.errors import Misconfigured
from connector_mcp.input_text import check_expanded, trim
from connector_mcp.operations.platform import ApiKey, ClientCredentials, Platform, SignedAssertion, Variable
from connector_mcp.suggest import closest


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
