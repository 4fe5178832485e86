"""Credentials that are known by their form, wherever they stand."""

from __future__ import annotations

import re

_FORMATS = {
    "an AWS access key id": r"(?<![A-Z0-9])(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Z0-9])",
    "a JSON web token": r"(?<![\w-])eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{8,}",
    "a private key": r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----(?:[\s\S]*?-----END [A-Z0-9 ]*PRIVATE KEY-----)?",
    "a GitHub token": r"(?<!\w)(?:gh[pousr]_[A-Za-z0-9]{30,}|github_pat_\w{30,})",
    "a Slack token": r"(?<!\w)xox[abeoprs]-[A-Za-z0-9-]{10,}",
    "an API key of the sk- form": r"(?<![\w-])sk-(?=[\w-]*\d)[A-Za-z0-9_-]{20,}",
    "a Google API key": r"(?<![\w-])AIza[\w-]{35}(?![\w-])",
}
_KNOWN = {name: re.compile(pattern) for name, pattern in _FORMATS.items()}
# Every credential of these forms has one of these in it, and few other texts do: looking takes a third of the time.
_SIGNS = ("AKIA", "ASIA", "eyJ", "-----BEGIN", "gh", "_pat_", "xox", "sk-", "AIza")


def key_format(text: str) -> str | None:
    """What kind of credential stands in the text, in words, or None where none is known by its form."""
    if not any(map(text.__contains__, _SIGNS)):
        return None
    return next((name for name, pattern in _KNOWN.items() if pattern.search(text)), None)


def keys_in(text: str) -> list[str]:
    """The parts of the text that are credentials by their form."""
    return [match[0] for pattern in _KNOWN.values() for match in pattern.finditer(text)]
