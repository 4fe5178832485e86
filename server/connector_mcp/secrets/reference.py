"""The form of a reference, `secret://NAME`, and what is told of one that cannot be followed."""

from __future__ import annotations

import re

from connector_mcp.secrets.key_formats import key_format

SCHEME = "secret://"
LONGEST_NAME = 64

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*")


def is_name(text: str) -> bool:
    """Whether this can be a secret's name: letters, digits, `_`, `-`, single dots inside; nothing like a key itself."""
    return len(text) <= LONGEST_NAME and _NAME.fullmatch(text) is not None and key_format(text) is None


def referenced_name(text: str) -> str | None:
    """The name in a well-formed reference, or None for any other text."""
    name = text.removeprefix(SCHEME)
    return name if name != text and is_name(name) else None


def mentions_reference(text: str) -> bool:
    """Whether the text holds what was meant to be a reference, well-formed or not."""
    return SCHEME in text.lower()


class Unresolved(Exception):
    """A reference that is not followed: what it is, what would do instead, and the next step. No value is in it."""

    def __init__(self, got: str, wanted: str, fix: str | None = None) -> None:
        super().__init__(got)
        self.got = got
        self.wanted = wanted
        self.fix = fix


class NotStored(Unresolved):
    """A reference to a secret that no place has, and that could be used here if one had."""
