"""Text that people and programs hand in: files, standard input, environment variables.

A byte order mark in front is never part of the text; editors and shells on Windows write one. A launcher that does not
expand a placeholder, or keeps quotation marks, hands in something else than the operator wrote.
"""

from __future__ import annotations

import codecs
import re
from typing import Final

from connector_mcp.errors import Misconfigured

MARK: Final = "\ufeff"

_PLACEHOLDER_INSIDE: Final = re.compile(r"\$\{[^{}]*\}|\{\{[^{}]*\}\}|<[a-z][a-z _-]{2,}>")
_PLACEHOLDER: Final = re.compile(
    r"\$(env:)?([A-Z][A-Z0-9_]*|\w*_\w*)|\$\([\w.]+\)|%[A-Za-z_]\w*%|<[^<>]+>|\{[A-Za-z_][\w.:-]*\}"
)
_QUOTES: Final = frozenset({'""', "''", "``", "\u201c\u201d", "\u2018\u2019"})


def decode(content: bytes) -> str:
    """Return the text without a byte order mark. It is UTF-8, or UTF-16 if its mark says so.

    Raises:
        UnicodeDecodeError: It is neither.
    """
    is_utf_16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return drop_mark(content.decode("utf-16" if is_utf_16 else "utf-8"))


def drop_mark(text: str) -> str:
    """Return the text without a byte order mark in front."""
    return text.lstrip(MARK)


def trim(text: str) -> str:
    """Return the text without a byte order mark and without white space around it."""
    return drop_mark(text.strip()).strip()


def check_expanded(place: str, text: str) -> None:
    """Refuse a value that a launcher did not expand or unquote. `place` names it in the error, which never shows it.

    Raises:
        Misconfigured: The value is a placeholder, contains one such as `${NAME}`, or is in quotation marks.
    """
    if len(text) > 1 and text[0] + text[-1] in _QUOTES:
        raise Misconfigured(
            f"{place} has quotation marks around its value; `docker --env-file`, for example, keeps them.",
            fix=f"Write {place} without the quotation marks.",
        )
    if _PLACEHOLDER_INSIDE.search(text) or _PLACEHOLDER.fullmatch(text):
        raise Misconfigured(
            f"{place} holds a placeholder that was not expanded, not a value.",
            fix=f"Set {place} to the value itself, or let the program that starts this server expand it.",
        )
