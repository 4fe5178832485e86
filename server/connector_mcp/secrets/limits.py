"""Where a secret may be used: on which platforms, under which profiles, in which fields."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, cast

from connector_mcp.errors import Misconfigured
from connector_mcp.secrets.reference import is_name

KINDS = ("platforms", "profiles", "fields")


@dataclass(frozen=True)
class Use:
    """One place in one call."""

    platform: str
    profile: str
    field: str
    """Dotted path of the argument without indexes: `config.auth.pass`, `refresh_token`."""


@dataclass(frozen=True)
class Limits:
    """Empty means anywhere. A field is a path or the end of one: `secret-key` covers `config.secret-key` too."""

    platforms: tuple[str, ...] = ()
    profiles: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()

    def refusal(self, use: Use) -> str | None:
        """What this secret is limited to, where the use is none of it."""
        if self.platforms and use.platform not in self.platforms:
            return f"platform {' or '.join(self.platforms)}"
        if self.profiles and use.profile not in self.profiles:
            return f"profile {' or '.join(self.profiles)}"
        if self.fields and not any(use.field == end or use.field.endswith(f".{end}") for end in self.fields):
            return f"field {' or '.join(self.fields)}"
        return None

    def as_dict(self) -> dict[str, list[str]]:
        """The limits that there are."""
        return {kind: list(getattr(self, kind)) for kind in KINDS if getattr(self, kind)}


def make_limits(given: Mapping[str, Any], where: str, platforms: Collection[str]) -> Limits:
    """Limits from untyped data; `where` says in errors where it stands.

    Raises:
        Misconfigured: A key, a platform or a value is not one that there is.
    """
    for key, values in given.items():
        if key not in KINDS:
            raise _unknown(key, KINDS, f"{where} holds")
        listed = cast("list[Any]", values) if isinstance(values, list) else []
        if not listed or not all(isinstance(value, str) and value for value in listed):
            raise Misconfigured(
                f"{where}: {key} is no list of names.", fix=f'Write {key} = ["..."], or leave it out for no limit.'
            )
        if key == "platforms":
            for name in listed:
                if name not in platforms:
                    raise _unknown(name, platforms, f"{where} names the platform")
    return Limits(**{key: tuple(values) for key, values in given.items()})


def read_limits(path: Path | None, platforms: Collection[str]) -> dict[str, Limits]:
    """The limits in a TOML file by secret: a table for each, with lists under `platforms`, `profiles` and `fields`.

    Raises:
        Misconfigured: The file cannot be read, or holds anything else.
    """
    if path is None:
        return {}
    # Takes 4 ms to import, and most servers have no such file.
    import tomllib

    try:
        held = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as failure:
        reason = failure.strerror if isinstance(failure, OSError) else "it is no TOML"
        raise Misconfigured(
            f"The limits of secrets in {path} cannot be read: {reason}.",
            fix="Correct the file, or name another with CONNECTOR_MCP_SECRETS_LIMITS.",
        ) from None
    limits: dict[str, Limits] = {}
    for name, table in held.items():
        if not is_name(name) or not isinstance(table, dict):
            raise Misconfigured(
                f"{path} holds something that is no table of a secret's limits.",
                fix='Write a table for each secret: [NAME], then platforms = ["logto"].',
            )
        limits[name] = make_limits(cast("dict[str, Any]", table), f"{path}: {name}", platforms)
    return limits


def _unknown(name: str, known: Iterable[str], where: str) -> Misconfigured:
    names = list(known)
    nearest = get_close_matches(name, names, n=1, cutoff=0.0)[0]
    return Misconfigured(
        f"{where} {name!r}, which there is not; the nearest is {nearest}.", fix=f"Write one of {', '.join(names)}."
    )
