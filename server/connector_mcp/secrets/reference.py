"""References to secrets (`secret://NAME`), the limits on their use, and credentials recognized by their format."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from connector_mcp.errors import Misconfigured
from connector_mcp.input_text import decode
from connector_mcp.json_values import is_object, is_strings
from connector_mcp.suggest import did_you_mean

SCHEME = "secret://"
LONGEST_NAME = 64
KINDS = ("platforms", "profiles", "fields", "hosts")
"""The kinds of limits."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*")

_HOST = re.compile(r"(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*|[0-9a-f:.]+")

_FORMATS = {
    "an AWS access key id": r"(?<![A-Z0-9])(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Z0-9])",
    "a JSON web token": r"(?<![\w-])eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{8,}",
    "a private key": r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----(?:[\s\S]*?-----END [A-Z0-9 ]*PRIVATE KEY-----)?",
    "a GitHub token": r"(?<!\w)(?:gh[pousr]_[A-Za-z0-9]{30,}|github_pat_\w{30,})",
    "a Slack token": r"(?<!\w)xox[abeoprs]-[A-Za-z0-9-]{10,}",
    "an API key of the sk- form": r"(?<![\w-])sk-(?=[\w-]*\d)[A-Za-z0-9_-]{20,}",
    "a Google API key": r"(?<![\w-])AIza[\w-]{35}(?![\w-])",
}
_PATTERNS = {name: re.compile(pattern) for name, pattern in _FORMATS.items()}
# Every credential of these formats contains one of these parts, and few other texts do: a fast first check.
_SIGNS = ("AKIA", "ASIA", "eyJ", "-----BEGIN", "gh", "_pat_", "xox", "sk-", "AIza")


def is_name(text: str) -> bool:
    """Whether a text can be a secret's name: letters, digits, `_`, `-` and single dots inside; never a credential."""
    return len(text) <= LONGEST_NAME and _NAME.fullmatch(text) is not None and key_format(text) is None


def referenced_name(text: str) -> str | None:
    """Return the name in a well-formed reference, or None for any other text."""
    name = text.removeprefix(SCHEME)
    return name if name != text and is_name(name) else None


def mentions_reference(text: str) -> bool:
    """Whether a text contains a reference, well-formed or not."""
    return SCHEME in text.lower()


def key_format(text: str) -> str | None:
    """Name the first kind of credential found in a text, or return None."""
    if not any(map(text.__contains__, _SIGNS)):
        return None
    return next((name for name, pattern in _PATTERNS.items() if pattern.search(text)), None)


def keys_in(text: str) -> list[str]:
    """Return the parts of a text that are credentials by their format."""
    return [match[0] for pattern in _PATTERNS.values() for match in pattern.finditer(text)]


class Unresolved(Exception):
    """A reference that cannot be resolved: what was given, what was expected, and the next step. It holds no value."""

    def __init__(self, got: str, wanted: str, fix: str | None = None) -> None:
        super().__init__(got)
        self.got = got
        self.wanted = wanted
        self.fix = fix


class NotStored(Unresolved):
    """A reference to a secret that does not exist, but that the limits would allow here."""


@dataclass(frozen=True)
class Use:
    """One field of one call in which a secret is used."""

    platform: str
    profile: str
    field: str
    """Dotted path of the argument without indexes: `config.auth.pass`, `refresh_token`."""
    hosts: tuple[str, ...] | None = None
    """The hosts that it goes to, as far as arguments and stored config name them; None while that is not known."""


@dataclass(frozen=True)
class SecretLimits:
    """Where a secret may be used. Empty means anywhere.

    A field is a path or the end of one: `secret-key` covers `config.secret-key` too. The host `*.example.com` covers
    those below `example.com`. A secret with hosts is used only where the config names the host, and no other.
    """

    platforms: tuple[str, ...] = ()
    profiles: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()

    def refusal(self, use: Use) -> str | None:
        """Return the limit that does not allow this use, or None if all do."""
        if self.platforms and use.platform not in self.platforms:
            return f"platform {' or '.join(self.platforms)}"
        if self.profiles and use.profile not in self.profiles:
            return f"profile {' or '.join(self.profiles)}"
        if self.fields and not any(use.field == end or use.field.endswith(f".{end}") for end in self.fields):
            return f"field {' or '.join(self.fields)}"
        if self.hosts and use.hosts is not None and not (use.hosts and all(map(self._covers, use.hosts))):
            return f"host {' or '.join(self.hosts)}"
        return None

    def _covers(self, host: str) -> bool:
        below = [each[1:] for each in self.hosts if each.startswith("*.")] if _HOST.fullmatch(host) else []
        return host in self.hosts or any(map(host.endswith, below))

    def as_dict(self) -> dict[str, list[str]]:
        """Return the limits that are set."""
        return {kind: list(getattr(self, kind)) for kind in KINDS if getattr(self, kind)}


def check_hosts(hosts: Iterable[str], where: str) -> None:
    """Check that each is the name of a host, or `*.` and a name.

    Raises:
        Misconfigured: One is not; an address, for example, would never match.
    """
    for host in hosts:
        if not _HOST.fullmatch(host):
            raise Misconfigured(
                f"{where}: {host!r} is not the name of a host in lower case.",
                fix="Write a name such as smtp.example.com, or *.example.com, without scheme, port or path.",
            )


def read_limits(path: Path | None, platforms: Collection[str]) -> dict[str, SecretLimits]:
    """Read limits by secret from a TOML file: one table per secret, with a list for each of `KINDS`.

    Raises:
        Misconfigured: The file cannot be read, or holds anything else.
    """
    if path is None:
        return {}
    # Most servers have no such file.
    import tomllib

    try:
        tables = tomllib.loads(decode(path.read_bytes()))
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


def parse_limits(given: Mapping[str, Any], where: str, platforms: Collection[str]) -> SecretLimits:
    """Make limits from untyped data. `where` names the place in errors. Raises what `read_limits` raises."""
    for key, values in given.items():
        if key not in KINDS:
            raise _unknown(key, KINDS, f"{where}: unknown key")
        if not is_strings(values) or not values or not all(values):
            raise Misconfigured(
                f"{where}: {key} is not a list of names.", fix=f'Write {key} = ["..."], or leave it out for no limit.'
            )
        for name in values if key == "platforms" else ():
            if name not in platforms:
                raise _unknown(name, platforms, f"{where}: unknown platform")
        if key == "hosts":
            check_hosts(values, where)
    return SecretLimits(**{key: tuple(values) for key, values in given.items()})


def _unknown(name: str, known: Collection[str], problem: str) -> Misconfigured:
    return Misconfigured(f"{problem} {name!r}.{did_you_mean(name, known)}", fix=f"Write one of {', '.join(known)}.")
