"""Scrubbing: find known secret values in everything that leaves the process, in any encoding.

Redaction by schema and by name knows where a credential belongs. Scrubbing knows the credential itself, so it also
finds one that a platform repeats in an error message or a name.
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

from connector_mcp.engine.redaction.redactor import MARKER
from connector_mcp.engine.results import encode_bytes
from connector_mcp.text import CUT, strip_hidden

_SHORTEST = 6
"""Shorter values are not searched for: they occur in everything. Redaction still hides them."""
_URL_SAFE = str.maketrans("+/", "-_")
_NESTED = 3
"""Levels of JSON inside a JSON string that are searched."""
_TOGETHER = 32
"""Values that are searched for in one pass. A new value means preparing that many again."""


class Scrubber:
    """Replaces known secret values.

    Credentials of the configuration are always known; those seen in arguments, as long as they are recent.
    """

    def __init__(self, permanent: Callable[[], Iterable[str]], *, recent: int = 512) -> None:
        self._permanent = permanent
        self._configured = _KnownValues(())
        self._seen: deque[_KnownValues] = deque(maxlen=max(1, recent // _TOGETHER))
        self._base: Scrubber | None = None

    def extended(self, values: Iterable[str]) -> Scrubber:
        """Make a scrubber that knows these values and everything this one knows, now or later."""
        made = Scrubber(tuple)
        made._base = self
        made.remember(values)
        return made

    def remember(self, values: Iterable[str]) -> None:
        """Add values to those known."""
        for value in dict.fromkeys(values):
            # A value in the newer half of those seen stays known for a good while.
            recent = list(self._seen)[-max(1, (self._seen.maxlen or 1) // 2) :]
            if len(value) < _SHORTEST or any(value in known.values for known in recent):
                continue
            newest = self._seen.pop() if self._seen and len(self._seen[-1].values) < _TOGETHER else _KnownValues(())
            self._seen.append(_KnownValues((*newest.values, value)))

    def text(self, text: str) -> str:
        """Replace every known value, also in its JSON, URL and base64 encodings."""
        return _replace(text, self._known())

    def value(self, value: Any) -> Any:
        """Replace every known value in the strings and keys of a JSON value."""
        encoded = encode_bytes(value)
        # An ellipsis, which is not ASCII, may mark where a known value was cut off.
        if encoded.isascii() and not self.finds(encoded.decode()):
            return value
        return _replace_all(value, self._known())

    def finds(self, encoded: str) -> bool:
        """Check whether JSON text may contain a known value."""
        searched = encoded.encode("utf-8", "replace")
        return any(known.in_json(searched) for known in self._known())

    def _known(self) -> list[_KnownValues]:
        permanent = tuple(self._permanent())
        if permanent != self._configured.values:
            self._configured = _KnownValues(permanent)
        own = [self._configured, *self._seen]
        return own if self._base is None else [*self._base._known(), *own]


class _KnownValues:
    """A few values with all their encodings, in text and in JSON."""

    def __init__(self, values: tuple[str, ...]) -> None:
        self.values = values

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Return where values occur in a text, overlaps included."""
        if not self._plain:
            return []
        return [(start, end) for _, start, end in self._in_texts.find_matches_as_indexes(text, overlapping=True)]

    def in_json(self, encoded: bytes) -> bool:
        return bool(self._plain) and bool(self._in_json.find_matches_as_indexes(encoded))

    def cut_off(self, text: str) -> int | None:
        """Return where a value begins that is cut off at the end of the text."""
        starts = sorted({text.rfind(encoding[:_SHORTEST]) for encoding in self._plain} - {-1})
        return next((start for start in starts if any(each.startswith(text[start:]) for each in self._plain)), None)

    @cached_property
    def _plain(self) -> tuple[str, ...]:
        # A part of the marker itself would be found in every redacted text.
        values = {value for value in self.values if len(value) >= _SHORTEST and value not in MARKER}
        return tuple({_searchable(encoding) for value in values for encoding in _encodings(value)})

    @cached_property
    def _in_texts(self) -> AhoCorasick:
        return AhoCorasick(self._plain, matchkind=MatchKind.Standard)

    @cached_property
    def _in_json(self) -> BytesAhoCorasick:
        # Only whether there is a match matters. Searching bytes for the leftmost match is the library's fastest way.
        encodings = {encoding.encode() for text in self._plain for encoding in (text, *_as_json(text))}
        return BytesAhoCorasick(encodings, matchkind=MatchKind.LeftmostFirst)


def _replace_all(value: Any, known: list[_KnownValues]) -> Any:
    if isinstance(value, str):
        return _replace(value, known)
    if isinstance(value, Mapping):
        members = cast("Mapping[str, Any]", value)
        return {_replace(key, known): _replace_all(member, known) for key, member in members.items()}
    if isinstance(value, list):
        return [_replace_all(member, known) for member in cast("list[Any]", value)]
    return value


def _replace(text: str, known: list[_KnownValues]) -> str:
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
    # Values may overlap or touch: each covered stretch becomes one marker.
    parts: list[str] = []
    kept = 0
    for start, end in sorted(spans):
        if start > kept or not parts:
            parts.append(text[kept:start])
        kept = max(kept, end)
    return MARKER.join([*parts, text[kept:]])


def _searchable(text: str) -> str:
    """Replace halves of surrogate pairs, which cannot be searched. The length stays the same."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _encodings(value: str) -> Iterator[str]:
    yield value
    if len(seen := strip_hidden(value)) >= _SHORTEST:
        yield seen
    yield from _as_json(value, _NESTED)
    yield quote(value, safe="", errors="replace")
    yield quote_plus(value, errors="replace")
    yield from _in_base64(value.encode("utf-8", "replace"))


def _as_json(value: str, depth: int = 1) -> Iterator[str]:
    for ensure_ascii in (True, False):
        encoded = value
        for _ in range(depth):
            encoded = json.dumps(encoded, ensure_ascii=ensure_ascii)[1:-1]
            yield encoded


def _in_base64(value: bytes) -> Iterator[str]:
    """Encode the value in base64, alone and inside a longer text, in both alphabets."""
    for before in range(3):
        text = b64encode(bytes(before) + value).decode()
        # A character encodes six bits. Characters that also encode bits of the surrounding text are left out.
        own = text[(8 * before + 5) // 6 : 8 * (before + len(value)) // 6]
        yield own
        yield own.translate(_URL_SAFE)
