"""Finds known secret values in whatever is about to leave the process, however they are spelt there.

Redaction by schema and by name knows where a credential belongs; this knows the credential itself, so that an echo of
it in an error message or a name is found as well.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any, cast
from urllib.parse import quote, quote_plus

from ahocorasick_rs import AhoCorasick, BytesAhoCorasick, MatchKind

from connector_mcp.engine.compact_json import encode_bytes
from connector_mcp.engine.redaction.redactor import MARKER
from connector_mcp.text import CUT, strip_hidden

_SHORTEST = 6
"""Shorter values are not searched for in texts: they occur in everything. Names and schemas still hide them."""
_URL_SAFE = str.maketrans("+/", "-_")
_NESTED = 3
"""How often JSON may stand in a string of JSON around a value."""
_TOGETHER = 32
"""Values whose spellings are searched for in one pass. A value that is new costs the preparation of so many anew."""


class Scrubber:
    """Finds known secret values in anything that is about to leave the process.

    Credentials of the configuration are known for good, those seen in arguments for as long as they are recent.
    """

    def __init__(self, permanent: Callable[[], Iterable[str]], *, recent: int = 512) -> None:
        self._permanent = permanent
        self._for_good = _Known(())
        self._seen: deque[_Known] = deque(maxlen=max(1, recent // _TOGETHER))
        self._base: Scrubber | None = None

    def and_also(self, values: Iterable[str]) -> Scrubber:
        """A scrubber that knows these values too, and what this one will learn; this one does not learn them."""
        made = Scrubber(tuple)
        made._base = self
        made.remember(values)
        return made

    def remember(self, values: Iterable[str]) -> None:
        """Know these values from now on."""
        new = [value for value in dict.fromkeys(values) if len(value) >= _SHORTEST and not self._is_recent(value)]
        for value in new:
            newest = self._seen.pop() if self._seen and len(self._seen[-1].values) < _TOGETHER else _Known(())
            self._seen.append(_Known((*newest.values, value)))

    def text(self, text: str) -> str:
        """The text with every known value, also as JSON, an address or base64 spells it, replaced."""
        return _replace(text, self._known())

    def value(self, value: Any) -> Any:
        """The JSON value with every known value in its strings and keys replaced; itself where it holds none."""
        encoded = encode_bytes(value)
        # Of what is not ASCII, the end of a text may say that it was cut off inside of a known value.
        if encoded.isascii() and not self.finds(encoded.decode()):
            return value
        return _replace_all(value, self._known())

    def finds(self, encoded: str) -> bool:
        """Whether a known value may stand in a JSON text; cheap, so that clean results need no walk."""
        searched = encoded.encode("utf-8", "replace")
        return any(known.in_json(searched) for known in self._known())

    def _is_recent(self, value: str) -> bool:
        """Whether a value is known for a good while yet."""
        newest = list(self._seen)[-max(1, (self._seen.maxlen or 1) // 2) :]
        return any(value in known.values for known in newest)

    def _known(self) -> list[_Known]:
        permanent = tuple(self._permanent())
        if permanent != self._for_good.values:
            self._for_good = _Known(permanent)
        own = [self._for_good, *self._seen]
        return own if self._base is None else [*self._base._known(), *own]


class _Known:
    """A few values, and how they are spelt: in a text, and in the JSON of such a text."""

    def __init__(self, values: tuple[str, ...]) -> None:
        self.values = values

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Where a value stands in a text, overlaps included."""
        if not self._plain:
            return []
        return [(start, end) for _, start, end in self._in_texts.find_matches_as_indexes(text, overlapping=True)]

    def in_json(self, encoded: bytes) -> bool:
        return bool(self._plain) and bool(self._in_json.find_matches_as_indexes(encoded))

    def cut_off(self, text: str) -> int | None:
        """Where the beginning of a value stands that the end of a text cuts off."""
        starts = {text.rfind(beginning) for beginning in self._beginnings} - {-1}
        return min((start for start in starts if self._begins(text[start:])), default=None)

    def _begins(self, rest: str) -> bool:
        return any(spelling.startswith(rest) for spelling in self._plain)

    @cached_property
    def _plain(self) -> tuple[str, ...]:
        # What is part of the marker itself would be found in every redacted text.
        values = {value for value in self.values if len(value) >= _SHORTEST and value not in MARKER}
        return tuple({_searchable(spelling) for value in values for spelling in _spelt(value)})

    @cached_property
    def _beginnings(self) -> frozenset[str]:
        return frozenset(spelling[:_SHORTEST] for spelling in self._plain)

    @cached_property
    def _in_texts(self) -> AhoCorasick:
        return AhoCorasick(self._plain, matchkind=MatchKind.Standard)

    @cached_property
    def _in_json(self) -> BytesAhoCorasick:
        # Only whether there is a match is asked. Of bytes no character is counted for the place of one, and where the
        # leftmost is wanted the library skips through what cannot match: together a fifteenth of the time.
        spellings = {spelling.encode() for text in self._plain for spelling in (text, *_as_json(text))}
        return BytesAhoCorasick(spellings, matchkind=MatchKind.LeftmostFirst)


def _replace_all(value: Any, known: list[_Known]) -> Any:
    if isinstance(value, str):
        return _replace(value, known)
    if isinstance(value, Mapping):
        members = cast("Mapping[str, Any]", value)
        return {_replace(key, known): _replace_all(member, known) for key, member in members.items()}
    if isinstance(value, list):
        return [_replace_all(member, known) for member in cast("list[Any]", value)]
    return value


def _replace(text: str, known: list[_Known]) -> str:
    if len(text) < _SHORTEST:
        return text
    searched = _searchable(text)
    spans = [span for some in known for span in some.spans(searched)]
    if searched.endswith(CUT):
        end = len(searched) - len(CUT)
        starts = (some.cut_off(searched[:end]) for some in known)
        spans.extend((start, end) for start in starts if start is not None)
    if not spans:
        return text
    # Values may overlap: what any of them covers goes, and what touches becomes one marker.
    parts: list[str] = []
    kept = 0
    for start, end in sorted(spans):
        if start > kept or not parts:
            parts.append(text[kept:start])
        kept = max(kept, end)
    return MARKER.join([*parts, text[kept:]])


def _searchable(text: str) -> str:
    """The text, character for character, without half surrogate pairs, which no search takes."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _spelt(value: str) -> Iterator[str]:
    yield value
    if len(seen := strip_hidden(value)) >= _SHORTEST:
        yield seen
    yield from _as_json(value, _NESTED)
    yield quote(value, safe="", errors="replace")
    yield quote_plus(value, errors="replace")
    yield from _in_base64(value.encode("utf-8", "replace"))


def _as_json(value: str, depth: int = 1) -> Iterator[str]:
    for ensure_ascii in (True, False):
        spelt = value
        for _ in range(depth):
            spelt = json.dumps(spelt, ensure_ascii=ensure_ascii)[1:-1]
            yield spelt


def _in_base64(value: bytes) -> Iterator[str]:
    """What base64 makes of the value alone, or of a text with the value somewhere inside, in both alphabets."""
    for before in range(3):
        text = b64encode(bytes(before) + value).decode()
        # A character holds six bits. Those that share theirs with what stands around the value are left out.
        own = text[(8 * before + 5) // 6 : 8 * (before + len(value)) // 6]
        yield own
        yield own.translate(_URL_SAFE)
