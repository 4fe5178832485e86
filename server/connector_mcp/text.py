"""Text from outside, made safe to show: on a terminal, on a page, or to an agent.

Anyone who can write to a platform can choose its error messages and names. Invisible characters (control, bidi,
zero-width, tag and filler characters) can hide instructions, forge what a person reads or steer a terminal, so they
are removed. Those that words and emoji are spelled with stay.
"""

from __future__ import annotations

import re
import secrets
import unicodedata
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Final, cast

MESSAGE_LIMIT: Final = 500
DETAIL_LIMIT: Final = 300
DETAIL_ITEMS: Final = 20
DETAIL_DEPTH: Final = 4
CUT: Final = "…"
"""The end of a text that was cut."""

LETTERS: Final = "abcdefghjkmnpqrstuvwxyz23456789"
"""What ids and codes that people read and type are made of: no letter looks like another one."""

PICTURE: Final = re.compile(r"data:image/(?:png|jpeg|gif|webp|svg\+xml)(?:;[\w=-]+)*,[!-~]{1,65536}")
"""A whole picture in a URL. A page may show it by `img`, where no script of it runs."""

# Characters that are drawn as nothing or that change how others are drawn: controls, formats, selectors, fillers,
# halves of surrogate pairs, private use and noncharacters. Line breaks and tabs are not among them.
_HIDDEN_BASIC = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    r"\u2060-\u206f\u2800\u3164\ud800-\uf8ff\ufdd0-\ufdef\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\ufffe\uffff]"
)
_HIDDEN = re.compile(
    _HIDDEN_BASIC.pattern[:-1]
    + r"\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff\U000f0000-\U0010ffff]"
)
# Letters of the scripts that spell words with joiners: from Arabic to Myanmar, Khmer, Mongolian, Balinese and so on.
_JOINED = (
    r"[\u0620-\u109f\u1780-\u17b3\u17b6-\u180a\u1810-\u18af\u1900-\u1cff\ua800-\uabff"
    r"\ufb50-\ufdcf\ufdf0-\ufdff\ufe70-\ufefc\U00010a00-\U00010fff\U00011000-\U00011fff\U0001e900-\U0001e95f]"
)
_EMOJI = (
    r"[\xa9\xae\u203c\u2049\u2122\u2139\u2190-\u21ff\u2300-\u23ff\u24c2\u25a0-\u27bf\u2934\u2935\u2b00-\u2bff"
    r"\u3030\u303d\u3297\u3299\U0001f000-\U0001faff]"
)
# Where words, emoji and line breaks need a hidden character, it stays. Each visible character keeps few of them, and of
# tags only those of the three flags that Unicode defines stay, so that next to nothing can be hidden in what stays.
_NEEDED = (
    r"\r(?=\n)",
    rf"(?<={_JOINED})(?:\u200c(?={_JOINED})|\u200d)",
    r"(?<=[\u1820-\u18aa])(?:[\u180b-\u180d\u180f]|\u180e(?=[\u1820-\u18aa]))",
    rf"(?<={_EMOJI})(?:[\ufe0e\ufe0f]|\u200d(?={_EMOJI}))",
    rf"(?<={_EMOJI}\ufe0f)\u200d(?={_EMOJI})",
    r"(?<=[#*0-9])\ufe0f(?=\u20e3)",
    r"(?<=[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff])[\ufe00-\ufe02\U000e0100-\U000e011f]",
    r"(?<=\U0001f3f4)\U000e0067\U000e0062"
    r"(?:\U000e0065\U000e006e\U000e0067|\U000e0073\U000e0063\U000e0074|\U000e0077\U000e006c\U000e0073)\U000e007f",
)
_SPACE = re.compile(r"\s")


def clean(text: str, limit: int = MESSAGE_LIMIT) -> str:
    """Return the text on one line without invisible characters, cut with an ellipsis at `limit` characters."""
    # Only the head can be part of the result, even if it contains many hidden characters.
    head = text[: limit * 8]
    if not (head.isascii() and head.isprintable()):
        head = strip_hidden(_SPACE.sub(" ", head))
    line = " ".join(head.split())
    return line if len(line) <= limit and len(text) <= limit * 8 else f"{line[: limit - 1]}{CUT}"


def strip_hidden(text: str) -> str:
    """Return the whole text without the invisible characters that no word or emoji needs. Line breaks and tabs stay."""
    if has_hidden(text):
        return _hidden_or_needed().sub(r"\1", text)
    return text


@cache
def _hidden_or_needed() -> re.Pattern[str]:
    # Compiled only if it is needed: most texts have nothing hidden, and it takes a hundredth of a second.
    return re.compile(f"({'|'.join(_NEEDED)})|{_HIDDEN.pattern}")


def has_hidden(text: str) -> bool:
    """Check whether a text contains invisible characters, needed or not. Line breaks and tabs do not count."""
    if text.isascii() and text.isprintable():
        return False
    # Sets of characters up to U+FFFF are searched for ten times as fast. Others take two units of UTF-16.
    is_basic = len(text.encode("utf-16-le", "surrogatepass")) == 2 * len(text)
    return (_HIDDEN_BASIC if is_basic else _HIDDEN).search(text) is not None


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
    visible = _HIDDEN.sub("", _SPACE.sub(" ", text))
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


def random_letters(count: int) -> str:
    """Return an unpredictable text of so many `LETTERS`."""
    return "".join(secrets.choice(LETTERS) for _ in range(count))


def is_visible(character: str) -> bool:
    """Check that a character is drawn, or is a space within a line."""
    return character not in "\n\t\u2028\u2029" and _HIDDEN.match(character) is None
