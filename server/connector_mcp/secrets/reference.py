"""References to secrets, `secret://NAME`, and credentials that are recognized by their format."""

from __future__ import annotations

import re

SCHEME = "secret://"
LONGEST_NAME = 64

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*")

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
