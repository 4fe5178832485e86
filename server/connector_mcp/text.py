"""Text from outside, made safe to show: on a terminal, on a page, or to an agent.

Anyone who can write to a platform can choose its error messages and names. Invisible characters (control, bidi,
zero-width, tag and filler characters) can hide instructions, forge what a person reads or steer a terminal, so they
are removed.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

MESSAGE_LIMIT: Final = 500
DETAIL_LIMIT: Final = 300
DETAIL_ITEMS: Final = 20
DETAIL_DEPTH: Final = 4
CUT: Final = "…"
"""The end of a text that was cut."""

_HIDDEN_CATEGORIES: Final = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"})

# Unicode has these as letters, marks and symbols, but they are drawn as nothing.
_HIDDEN_LETTERS: Final = frozenset(
    chr(point)
    for first, last in (
        (0x034F, 0x034F),
        (0x115F, 0x1160),
        (0x17B4, 0x17B5),
        (0x180B, 0x180F),
        (0x2800, 0x2800),
        (0x3164, 0x3164),
        (0xFE00, 0xFE0F),
        (0xFFA0, 0xFFA0),
        (0xE0100, 0xE01EF),
    )
    for point in range(first, last + 1)
)


def clean(text: str, limit: int = MESSAGE_LIMIT) -> str:
    """Return the text on one line without invisible characters, cut with an ellipsis at `limit` characters."""
    # Only the head can be part of the result, even if it contains many hidden characters.
    head = text[: limit * 8]
    if not (head.isascii() and head.isprintable()):
        spaced = (" " if character.isspace() else character for character in head)
        head = "".join(character for character in spaced if is_visible(character))
    line = " ".join(head.split())
    return line if len(line) <= limit and len(text) <= limit * 8 else f"{line[: limit - 1]}{CUT}"


def strip_hidden(text: str) -> str:
    """Return the whole text without invisible characters. Line breaks and tabs stay."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(character for character in text if character in "\n\t\u2028\u2029" or is_visible(character))


def same_text(typed: str, shown: str) -> bool:
    """Check that two texts are the same to a reader: a name that a person typed, and that name as it was shown.

    Invisible characters, the form of composed characters (NFC) and the number and kind of blanks do not count. Case
    and look-alike letters do. Texts with nothing to read are never the same.
    """
    return bool(read := _as_read(typed)) and read == _as_read(shown)


def _as_read(text: str) -> str:
    # Normal forms take quadratic time for long runs of marks, and no name is this long.
    if len(text) > MESSAGE_LIMIT:
        return text
    spaced = (" " if character.isspace() else character for character in text)
    visible = "".join(character for character in spaced if is_visible(character))
    return unicodedata.normalize("NFC", " ".join(visible.split()))


def clean_value(value: Any, depth: int = DETAIL_DEPTH) -> Any:
    """Return a JSON value with every string and key cleaned, cut to a size that an error can carry."""
    match value:
        case str():
            return clean(value, DETAIL_LIMIT)
        case Mapping() | list() | tuple() if depth == 0:
            return CUT
        case Mapping():
            members = list(cast(Mapping[Any, Any], value).items())[:DETAIL_ITEMS]
            return {clean(str(key), DETAIL_LIMIT): clean_value(member, depth - 1) for key, member in members}
        case list() | tuple():
            items = cast(Sequence[Any], value)[:DETAIL_ITEMS]
            return [clean_value(item, depth - 1) for item in items]
        case _:
            return value


def is_visible(character: str) -> bool:
    """Check that a character is drawn, or is a space within a line."""
    return character not in _HIDDEN_LETTERS and unicodedata.category(character) not in _HIDDEN_CATEGORIES
