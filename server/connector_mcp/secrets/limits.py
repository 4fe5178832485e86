"""Limits on where a secret may be used: platforms, profiles, fields."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from connector_mcp.errors import Misconfigured
from connector_mcp.json_values import is_object, is_strings
from connector_mcp.secrets.reference import is_name
from connector_mcp.suggest import did_you_mean

KINDS = ("platforms", "profiles", "fields")


@dataclass(frozen=True)
class Use:
    """One field of one call in which a secret is used."""

    platform: str
    profile: str
    field: str
    """Dotted path of the argument without indexes: `config.auth.pass`, `refresh_token`."""


@dataclass(frozen=True)
class SecretLimits:
    """Where a secret may be used. Empty means anywhere.

    A field is a path or the end of one: `secret-key` covers `config.secret-key` too.
    """

    platforms: tuple[str, ...] = ()
    profiles: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()

    def refusal(self, use: Use) -> str | None:
        """Return the limit that does not allow this use, or None if all do."""
        if self.platforms and use.platform not in self.platforms:
            return f"platform {' or '.join(self.platforms)}"
        if self.profiles and use.profile not in self.profiles:
            return f"profile {' or '.join(self.profiles)}"
        if self.fields and not any(use.field == end or use.field.endswith(f".{end}") for end in self.fields):
            return f"field {' or '.join(self.fields)}"
        return None

    def as_dict(self) -> dict[str, list[str]]:
        """Return the limits that are set."""
        return {kind: list(getattr(self, kind)) for kind in KINDS if getattr(self, kind)}


def parse_limits(given: Mapping[str, Any], where: str, platforms: Collection[str]) -> SecretLimits:
    """Make limits from untyped data. `where` names the place in error messages.

    Raises:
        Misconfigured: A key or a platform is unknown, or a value is not a list of names.
    """
    for key, values in given.items():
        if key not in KINDS:
            raise _unknown(key, KINDS, f"{where}: unknown key")
        if not is_strings(values) or not values or not all(values):
            raise Misconfigured(
                f"{where}: {key} is not a list of names.", fix=f'Write {key} = ["..."], or leave it out for no limit.'
            )
        if key == "platforms":
            for name in values:
                if name not in platforms:
                    raise _unknown(name, platforms, f"{where}: unknown platform")
    return SecretLimits(**{key: tuple(values) for key, values in given.items()})


def read_limits(path: Path | None, platforms: Collection[str]) -> dict[str, SecretLimits]:
    """Read limits by secret from a TOML file: one table per secret, with lists `platforms`, `profiles` and `fields`.

    Raises:
        Misconfigured: The file cannot be read, or holds anything else.
    """
    if path is None:
        return {}
    # Most servers have no such file.
    import tomllib

    try:
        tables = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as failure:
        reason = failure.strerror if isinstance(failure, OSError) else "it is not valid TOML"
        raise Misconfigured(
            f"The limits of secrets in {path} cannot be read: {reason}.",
            fix="Correct the file, or name another with CONNECTOR_MCP_SECRETS_LIMITS.",
        ) from None
    limits: dict[str, SecretLimits] = {}
    for name, table in tables.items():
        if not is_name(name) or not is_object(table):
            raise Misconfigured(
                f"{path}: an entry is not a table with the limits of a secret.",
                fix='Write a table for each secret: [NAME], then platforms = ["logto"].',
            )
        limits[name] = parse_limits(table, f"{path}: {name}", platforms)
    return limits


def _unknown(name: str, known: Collection[str], problem: str) -> Misconfigured:
    return Misconfigured(
        f"{problem} {name!r}.{did_you_mean(name, known, cutoff=0.0)}", fix=f"Write one of {', '.join(known)}."
    )
