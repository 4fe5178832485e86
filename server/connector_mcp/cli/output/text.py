"""Text on a terminal: nothing that came from elsewhere may steer it."""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Any

# Control and format characters (escape sequences, bidirectional overrides, zero-width and tag characters), surrogates,
# private use and unassigned ones, and the two separators that terminals may take for a line's end.
_UNPRINTABLE_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def printable(text: str) -> str:
    """The text on as many lines as it has, without any character that does not show or that steers a terminal."""
    return "".join(
        character
        for character in text
        if character in "\n\t" or unicodedata.category(character) not in _UNPRINTABLE_CATEGORIES
    )


def one_line(text: str, *, width: int | None = None) -> str:
    """The printable text on one line, cut with an ellipsis where it is longer than `width`."""
    line = " ".join(printable(text).split())
    return line if width is None or len(line) <= width else line[: max(0, width - 1)].rstrip() + "…"


def json_text(value: Any, *, indent: int | None = 2) -> str:
    """The value as JSON that is readable, and safe on a terminal: what does not print is escaped."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    return re.sub(r"[^\n\x20-\x7e]", _escape_unprintable, text)


def _escape_unprintable(match: re.Match[str]) -> str:
    character = match.group()
    if unicodedata.category(character) not in _UNPRINTABLE_CATEGORIES:
        return character
    return json.dumps(character)[1:-1]


def table(rows: list[tuple[str, ...]], *, header: tuple[str, ...]) -> str:
    """Columns padded to their widest cell; the last one is left as it is."""
    cells = [header, *rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header) - 1)]
    padded = [[cell.ljust(width) for cell, width in zip(row, [*widths, 0], strict=True)] for row in cells]
    return "\n".join("  ".join(row).rstrip() for row in padded)
